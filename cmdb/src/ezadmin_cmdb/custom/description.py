"""The descriptions of tags and of the definitions of custom fields; must be imported after all models were described."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import func, select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.custom import definitions, kinds
from ezadmin_cmdb.custom.models import CustomField, CustomValue, Tag, TagLink
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, known, register
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_cmdb.rights.models import HostGroup

COLORS = {
    "grey": _l("Grey"), "red": _l("Red"), "orange": _l("Orange"), "green": _l("Green"), "teal": _l("Teal"),
    "blue": _l("Blue"), "purple": _l("Purple"), "pink": _l("Pink"),
}  # fmt: skip
KINDS = {
    "text": _l("Text"), "number": _l("Number"), "boolean": _l("Yes or no"), "date": _l("Date"),
    "url": _l("Web address"), "select": _l("One of some values"), "multiselect": _l("Some of some values"),
    "reference": _l("Reference"),
}  # fmt: skip


class _Models(Mapping[str, object]):
    """The described models: those that can be extended, or all with a name to refer to. Known only when all are described."""

    def __init__(self, extensible: bool) -> None:
        self.extensible = extensible

    def _found(self) -> dict[str, object]:
        return {
            one.name: one.title
            for one in known()
            if (one.extensible if self.extensible else one.extensible or one.name == "user")
        }

    def __getitem__(self, name: str) -> object:
        return self._found()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())


def _check(actor: Actor, row: Any, new: bool) -> None:
    """The parts of a definition fit together. What is stored already is read by them, so some never change."""
    wrong: dict[str, str] = {}
    if not new:
        stored = db.session.execute(
            select(CustomField.object_type, CustomField.name, CustomField.kind, CustomField.refers_to).where(
                CustomField.id == row.id
            )
        ).one()
        for name, before in stored._mapping.items():
            if getattr(row, name) != before:
                wrong[name] = _("This cannot be changed any more; delete the field and make another one.")
    if row.kind == "reference" and not row.refers_to:
        wrong["refers_to"] = _("Say what it refers to.")
    if row.kind != "reference" and row.refers_to:
        wrong["refers_to"] = _("Only a reference has it.")
    choices = definitions.parse_choices(row.choices)
    if row.kind in ("select", "multiselect"):
        values = [value for value, _en, _ko in choices]
        if not values or len(set(values)) != len(values) or any("," in value or len(value) > 64 for value in values):
            wrong["choices"] = _("Write one value a line, each once, without commas, 64 characters at most.")
    elif choices:
        wrong["choices"] = _("Only fields with given values have it.")
    if row.pattern:
        try:
            re.compile(row.pattern)
        except re.error as error:
            wrong["pattern"] = _("This is no regular expression: %(error)s", error=error)
        if row.kind != "text":
            wrong["pattern"] = _("Only text has it.")
    if row.kind != "number" and (row.least is not None or row.most is not None or row.digits):
        wrong["least"] = _("Only a number has it.")
    if row.least is not None and row.most is not None and row.least > row.most:
        wrong["most"] = _("It is below the least.")
    if row.initial and not wrong:
        if row.kind == "reference":
            wrong["initial"] = _("A reference has none.")
        else:
            try:
                one = kinds.field_of(definitions.of(row))
                one.check(one.parse(row.initial))
            except Invalid as error:
                wrong["initial"] = str(error)
    if wrong:
        raise Invalid(" ".join(wrong.values()), fields=wrong)


def _asking(text: str) -> list[str]:
    """The names of groups whose filter asks for a field."""
    asked = re.compile(rf"(^|&){re.escape(text)}(__[a-z]+)?=")
    rows = db.session.execute(select(HostGroup.name, HostGroup.filter).where(HostGroup.filter.is_not(None)))
    return [name for name, given in rows if given and asked.search(given)]


def _not_asked(actor: Actor, row: Any) -> None:
    if row.object_type == "host" and (groups := _asking(kinds.PREFIX + row.name)):
        raise Conflict(
            _("The filters of these groups ask for it: %(names)s. Change those first.", names=", ".join(groups))
        )


def _values_lost(row: Any) -> list[str]:
    count = db.session.scalar(
        select(func.count(func.distinct(func.coalesce(CustomValue.number_id, CustomValue.host_id)))).where(
            CustomValue.field_id == row.id
        )
    )
    return [_("%(n)d objects have a value, which is deleted too. Their history keeps it.", n=count or 0)]


def _tagged(row: Any) -> int:
    return db.session.scalar(select(func.count()).select_from(TagLink).where(TagLink.tag_id == row.id)) or 0


def _tags_lost(row: Any) -> list[str]:
    return [_("%(n)d objects have it, and lose it. Their history keeps it.", n=_tagged(row))]


def _counts(tags: Sequence[Any]) -> Mapping[str, Any]:
    """How many objects of which kind have the tags of a page."""
    query = select(TagLink.tag_id, TagLink.object_type, func.count()).group_by(TagLink.tag_id, TagLink.object_type)
    counts: dict[int, list[tuple[Description, int]]] = {}
    by_name = {one.name: one for one in known()}
    for tag_id, object_type, count in db.session.execute(query.where(TagLink.tag_id.in_([tag.id for tag in tags]))):
        if object_type in by_name:
            counts.setdefault(tag_id, []).append((by_name[object_type], count))
    return {"counts": counts}


TAG = register(
    Description(
        name="tag",
        path="tags",
        model=Tag,
        title=_l("Tag"),
        titles=_l("Tags"),
        icon="tag",
        menu="administration",
        template="custom/_cells.html",
        beside=_counts,
        losing=_tags_lost,
        empty_hint=_l("A word with a colour that hosts, sites and whatever else can have; lists filter by it."),
        fields=[
            fields.Text(
                name="name", label=_l("Name"), length=64, required=True, unique=True, searched=True, cell="tag",
                pattern=r"[^,\n]+", pattern_help=_l("No commas."),
            ),
            fields.Select(name="color", label=_l("Colour"), required=True, choices=COLORS),
            fields.Text(name="description", label=_l("Description"), searched=True, sortable=False),
            fields.Computed(name="objects", label=_l("Given to"), compute=_tagged, cell="counts"),
        ],
    )
)  # fmt: skip

CUSTOM_FIELD = register(
    Description(
        name="custom_field",
        path="custom-fields",
        model=CustomField,
        title=_l("Custom field"),
        titles=_l("Custom fields"),
        icon="list-columns-reverse",
        menu="administration",
        order=("object_type", "position", "name"),
        checks=[_check],
        removable=[_not_asked],
        losing=_values_lost,
        empty_hint=_l("What your company keeps of a host, a site or a customer, and ezadmin does not know by itself."),
        fields=[
            fields.Select(name="object_type", label=_l("Of"), required=True, choices=_Models(True)),
            fields.Text(
                name="name", label=_l("Name"), length=40, required=True, searched=True,
                pattern=r"[a-z]([a-z0-9]|_(?!_))*", pattern_help=_l("Small letters, digits, single _; a letter first."),
                help=_l("In addresses and CSV it is called cf_ and this name."),
            ),
            fields.Text(name="label_en", label=_l("English label"), length=128, required=True, searched=True),
            fields.Text(name="label_ko", label=_l("Korean label"), length=128, required=True, searched=True),
            fields.Text(name="hint", label=_l("Help"), listed=False, sortable=False),
            fields.Select(name="kind", label=_l("Kind"), required=True, choices=KINDS),
            fields.Select(
                name="refers_to", label=_l("Refers to"), choices=_Models(False), listed=False,
                help=_l("Only for a reference."),
            ),
            fields.Text(
                name="choices", label=_l("Values"), length=8000, lines=True, listed=False, sortable=False,
                help=_l("One a line: value | English | Korean. Only for kinds with given values."),
            ),
            fields.Boolean(name="required", label=_l("Required")),
            fields.Text(
                name="initial", label=_l("Default"), length=500, listed=False, sortable=False,
                help=_l("What a new object has, as one would write it in the form."),
            ),
            fields.Text(
                name="pattern", label=_l("Pattern"), length=255, listed=False, sortable=False,
                help=_l("A regular expression that the whole text must match."),
            ),
            fields.Number(name="least", label=_l("Least"), digits=6, listed=False),
            fields.Number(name="most", label=_l("Most"), digits=6, listed=False),
            fields.Number(name="digits", label=_l("Digits behind the point"), least=0, most=6, listed=False),
            fields.Text(
                name="section", label=_l("Section"), length=128, listed=False,
                help=_l("The heading under which form and page show it."),
            ),
            fields.Number(name="position", label=_l("Order"), least=0, most=10000),
            fields.Boolean(name="listed", label=_l("Column of the list")),
            fields.Boolean(name="searched", label=_l("Searched"), listed=False),
        ],
    )
)  # fmt: skip


def referring(description: Description, obj: Any) -> list[tuple[Description, fields.Field, int]]:
    """The custom references to an object: (description, field, how many)."""
    by_name = {one.name: one for one in known()}
    query = (
        select(CustomField, func.count(CustomValue.id))
        .join(CustomValue, CustomValue.field_id == CustomField.id)
        .where(CustomField.kind == "reference", CustomField.refers_to == description.name)
        .where(CustomValue.text == str(obj.id))
        .group_by(CustomField.id)
    )
    return [
        (by_name[row.object_type], kinds.field_of(definitions.of(row)), count)
        for row, count in db.session.execute(query)
        if row.object_type in by_name
    ]

"""The description of change records: the list of all changes. What was changed in one object stands on its own page too."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from marshmallow import fields as wire
from sqlalchemy import ColumnElement, func, or_

from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import ABOUT_FIELDS, Description, known, register
from ezadmin_cmdb.errors import Invalid

_NAME = re.compile(r"[a-z][a-z0-9_. -]{0,79}")


@dataclass(frozen=True, kw_only=True)
class _Fields(fields.Computed):
    """The fields that a change changed."""

    operators: ClassVar[tuple[str, ...]] = (fields.EQUALS, fields.NOT)
    kind: ClassVar[str] = "fields"
    filterable: bool = True

    @property
    def choices(self) -> dict[str, str]:
        """All fields of all models by what people call them; of one name once."""
        found: dict[str, set[str]] = {}
        for description in known():
            for one in description.all_fields():
                if one.editable or one.policy:
                    found.setdefault(one.name, set()).add(str(one.label))
        titles = {name: " / ".join(sorted(labels)) for name, labels in found.items()}
        return dict(sorted(titles.items(), key=lambda item: item[1].casefold()))

    def parse(self, text: str) -> str:
        """A name."""
        if not _NAME.fullmatch(text.strip()):
            raise Invalid(_("Write the name of a field."))
        return text.strip()

    def shown(self, value: Any) -> str | None:
        """What people call it."""
        return str(self.choices.get(value, value)) if isinstance(value, str) else super().shown(value)

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """Whether one of them was changed, or what was declared of it."""
        names = [f"{about} {name}".strip() for name in map(self.parse, values) for about in ("", *ABOUT_FIELDS)]
        there = or_(*(func.json_contains_path(model.fields, "one", f"$.{json.dumps(name)}") == 1 for name in names))
        return ~there if operator == fields.NOT else there


CHANGE = register(
    Description(
        name="change",
        path="changes",
        model=Change,
        title=_l("Change"),
        titles=_l("Changes"),
        icon="clock-history",
        menu="administration",
        key="id",
        order=("-time",),
        creatable=False,
        changeable=False,
        deletable=False,
        template="changes/_cells.html",
        panels=["changes/_change.html"],
        empty_hint=_l("Every change by a page, the API, a command, an import or an agent stands here."),
        fields=[
            fields.Moment(name="time", label=_l("Time"), required=True, editable=False),
            fields.Text(name="actor", label=_l("Who"), required=True, editable=False, searched=True),
            fields.Select(
                name="source", label=_l("By"), required=True, editable=False,
                choices={
                    "ui": _l("Page"), "api": "API", "cli": _l("Command"), "import": _l("Import"), "agent": _l("Agent"),
                    "rule": _l("Rule"), "worker": _l("Worker"),
                },
            ),
            fields.Select(
                name="action", label=_l("What"), required=True, editable=False,
                choices={"create": _l("added"), "update": _l("changed"), "delete": _l("deleted")},
            ),
            fields.Text(
                name="object_type", label=_l("Kind of object"), required=True, editable=False, cell="kind"
            ),
            fields.Text(
                name="object_name", label=_l("Object"), required=True, editable=False, searched=True, cell="object"
            ),
            fields.Text(name="object_id", label=_l("Id"), required=True, editable=False, listed=False, searched=True),
            _Fields(
                name="fields_changed", label=_l("Fields"), compute=lambda change: sorted(change.fields), cell="fields",
                form=lambda: wire.List(wire.String()),
            ),
            fields.Text(name="address", label=_l("From address"), editable=False, listed=False, searched=True),
            fields.Text(name="token", label=_l("Token"), editable=False, listed=False),
            fields.Text(name="request_id", label=_l("Request"), editable=False, listed=False, searched=True),
        ],
    )
)  # fmt: skip

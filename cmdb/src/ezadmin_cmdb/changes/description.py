"""The description of change records: the list of all changes. What was changed in one object stands on its own page too."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from marshmallow import fields as wire

from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register

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
                    "rule": _l("Rule"),
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
            fields.Computed(
                name="fields_changed", label=_l("Fields"), compute=lambda change: sorted(change.fields), cell="fields",
                form=lambda: wire.List(wire.String()),
            ),
            fields.Text(name="address", label=_l("From address"), editable=False, listed=False, searched=True),
            fields.Text(name="token", label=_l("Token"), editable=False, listed=False),
            fields.Text(name="request_id", label=_l("Request"), editable=False, listed=False, searched=True),
        ],
    )
)  # fmt: skip

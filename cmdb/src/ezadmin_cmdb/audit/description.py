"""The description of the audit log: its list, page, export and API."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l

from ezadmin_cmdb.audit import services
from ezadmin_cmdb.audit.models import AuditEntry
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register

assert services  # noqa: S101 - whoever knows the description also has entries made

AUDIT = register(
    Description(
        name="audit_entry",
        path="audit",
        model=AuditEntry,
        title=_l("Entry of the audit log"),
        titles=_l("Audit log"),
        icon="shield-lock",
        menu="administration",
        key="id",
        order=("-time",),
        creatable=False,
        changeable=False,
        deletable=False,
        template="audit/_cells.html",
        panels=["audit/_entry.html"],
        empty_hint=_l("Every change, every denial and every sign-in stands here, in a chain that shows if one was altered."),
        fields=[
            fields.Moment(name="time", label=_l("Time"), required=True, editable=False),
            fields.Text(name="actor", label=_l("Who"), required=True, editable=False, searched=True),
            fields.Select(
                name="kind", label=_l("Kind"), required=True, editable=False,
                choices={
                    "change": _l("Change"), "denial": _l("Denial"), "sign_in": _l("Sign-in"), "account": _l("Account"),
                    "database": _l("Database"), "enrolment": _l("Enrolment"),
                },
            ),
            fields.Text(name="action", label=_l("What"), required=True, editable=False, searched=True, cell="action"),
            fields.Select(
                name="outcome", label=_l("Outcome"), required=True, editable=False,
                choices={services.SUCCESS: _l("done"), services.FAILURE: _l("refused")}, cell="outcome",
            ),
            fields.Text(name="object_type", label=_l("Kind of object"), editable=False, cell="kind"),
            fields.Text(name="object_name", label=_l("Object"), editable=False, searched=True, cell="object"),
            fields.Text(name="object_id", label=_l("Id"), editable=False, listed=False, searched=True),
            fields.Text(name="source", label=_l("By"), required=True, editable=False, listed=False),
            fields.Text(name="address", label=_l("From address"), editable=False, searched=True),
            fields.Text(name="request_id", label=_l("Request"), editable=False, listed=False, searched=True),
            fields.Text(
                name="details", label=_l("Details"), length=1 << 24, required=True, editable=False, listed=False,
                sortable=False, lines=True,
            ),
            fields.Text(name="hash", label=_l("Hash"), length=64, required=True, editable=False, listed=False, sortable=False),
        ],
    )
)  # fmt: skip

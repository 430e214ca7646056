"""The description of enrolment tokens. They are made on a page of their own, for what they are is shown once."""

from __future__ import annotations

from dataclasses import dataclass

from flask_babel import lazy_gettext as _l

from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.enrolment import tokens
from ezadmin_cmdb.enrolment.models import EnrolmentToken
from ezadmin_cmdb.rights import permissions

STATES = {
    tokens.GOOD: _l("Good"), tokens.USED_UP: _l("Used up"), tokens.EXPIRED: _l("Expired"), tokens.REVOKED: _l("Revoked"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _State(fields.Computed):
    """A word for programs, a text for people."""

    def shown(self, value: str) -> str:
        """The text."""
        return str(STATES[value])


ENROLMENT_TOKEN = register(
    Description(
        name="enrolment_token",
        path="enrolment-tokens",
        model=EnrolmentToken,
        title=_l("Enrolment token"),
        titles=_l("Enrolment tokens"),
        icon="door-open",
        menu="administration",
        order=("-created",),
        creatable=False,
        changeable=False,
        above="enrolment/_make.html",
        panels=["enrolment/_token.html"],
        empty_hint=_l("A new host shows a token to become known; make one, and run on the host what is shown with it."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, searched=True),
            _State(name="state", label=_l("State"), compute=tokens.state),
            fields.Number(name="uses", label=_l("Hosts that came"), digits=0, editable=False, required=True),
            fields.Number(name="uses_max", label=_l("Hosts at most"), digits=0, required=True),
            fields.Reference(name="site", label=_l("Site"), to="site"),
            fields.Reference(name="group", label=_l("Group of hosts"), to="host_group"),
            fields.Boolean(
                name="quarantine", label=_l("In quarantine first"), listed=False,
                help=_l("The hosts are not listened to until a person accepts them."),
            ),
            fields.Boolean(
                name="replace", label=_l("Known machines take their old place"), listed=False,
                help=_l(
                    "A machine that was installed again is the host that it was, if nobody has heard that host for a while."
                ),
            ),
            fields.Moment(name="expires", label=_l("Good until"), required=True),
            fields.Text(name="created_by", label=_l("Made by"), editable=False, searched=True),
            fields.Moment(name="created", label=_l("Since"), editable=False, required=True, listed=False),
            fields.Moment(name="last_used", label=_l("Last used"), editable=False, listed=False),
            fields.Text(name="last_address", label=_l("From address"), editable=False, listed=False),
        ],
    )
)  # fmt: skip
permissions.declare(
    tokens.TOKEN_CHANGE,
    _l("%(titles)s: %(action)s", titles=ENROLMENT_TOKEN.titles, action=permissions.ACTION_TITLES[permissions.CHANGE]),
)

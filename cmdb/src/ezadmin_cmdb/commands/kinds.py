"""The kinds of commands as people meet them: titles, what will happen, who may, how long one may wait for its host."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flask_babel import lazy_gettext as _l

from ezadmin_cmdb.rights.permissions import declare
from ezadmin_wire import commands as wire

COMMAND_VIEW = declare("command.view", _l("Commands: see"), hosts=True)


@dataclass(frozen=True)
class Kind:
    """A kind. ``happens``: what it does, as a sentence. ``asked``: the arguments that a person gives, with their defaults;
    ``severe``: it takes something away from the host, and is confirmed in red."""

    name: str
    title: object
    happens: object
    permission: str
    waits: timedelta
    icon: str
    asked: tuple[tuple[str, object, int | str], ...] = ()
    severe: bool = False


_STOP = declare("command.stop", _l("Commands: stop and resume agents"), hosts=True)

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            wire.INVENTORY, _l("Collect inventory now"), _l("The agent looks at its host and reports at once."),
            declare("command.inventory", _l("Commands: collect inventory"), hosts=True), timedelta(hours=1),
            "arrow-counterclockwise",
        ),
        Kind(
            wire.SAMPLE, _l("Sample faster"), _l("The agent takes its figures more often for a while, then as before."),
            declare("command.sample", _l("Commands: sample faster"), hosts=True), timedelta(minutes=15), "speedometer2",
            asked=(("interval", _l("Seconds between two samples"), 1), ("seconds", _l("For how many seconds"), 600)),
        ),
        Kind(
            wire.CONFIGURE, _l("Send configuration"),
            _l("The agent takes the managed configuration of its host in place of the one it has."),
            declare("command.configure", _l("Commands: send configuration"), hosts=True), timedelta(days=7), "journal-text",
        ),
        Kind(
            wire.ROTATE_KEY, _l("Rotate key"), _l("The agent makes a new key for itself; the old one is revoked later."),
            declare("command.rotate_key", _l("Commands: rotate keys"), hosts=True), timedelta(days=1), "key",
        ),
        Kind(
            wire.STOP, _l("Stop"),
            _l("The agent ends what commands began and takes no other command until it is resumed. It goes on reporting."),
            _STOP, timedelta(days=7), "pause-circle-fill", asked=(("reason", _l("Reason"), ""),), severe=True,
        ),
        Kind(
            wire.RESUME, _l("Resume"), _l("The agent takes commands again."), _STOP, timedelta(days=1), "check-circle-fill",
            asked=(("reason", _l("Reason"), ""),),
        ),
    )
}  # fmt: skip
TITLES = {name: kind.title for name, kind in KINDS.items()}

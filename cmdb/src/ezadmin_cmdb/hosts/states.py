"""The states of hosts, and the rules that change them.

``new`` (its agent has never reported), ``active`` and ``silent`` (it reports no more) follow from reports alone. ``retired``
is a person's choice, or a rule's after a long silence; ``quarantined`` and ``revoked`` are a person's. The rules never
touch what a person chose: a host that he retired stays so, and one that he made active has its whole time anew.

The pipeline and agents know less (:data:`ezadmin_wire.config.HOST_STATES`): a host that a rule made silent or retired is
active to them, so that it is listened to when it comes back.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

from flask import current_app
from flask_babel import lazy_gettext as _l
from sqlalchemy import ColumnElement, and_, case, func, or_, select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.settings import Hosts

NEW, ACTIVE, SILENT, RETIRED = "new", "active", "silent", "retired"
STATES = {
    NEW: _l("New"), ACTIVE: _l("Active"), SILENT: _l("Silent"), "quarantined": _l("Quarantined"), "revoked": _l("Revoked"),
    RETIRED: _l("Retired"),
}  # fmt: skip
REPORTED = (NEW, ACTIVE, SILENT)
"""States that follow from reports."""
CLOCK_SLACK = timedelta(minutes=10)
RULE = Actor("rule of states", "rule")
CHUNK = 200


def settings() -> Hosts:
    """What the rules go by."""
    found: Hosts = current_app.extensions["ezadmin_settings"].hosts
    return found


def listened_to(state: str, by_rule: bool) -> bool:
    """Whether what a host sends is believed."""
    return state in REPORTED or (state == RETIRED and by_rule)


def listened() -> ColumnElement[bool]:
    """:func:`listened_to` in SQL."""
    return or_(Host.state.in_(REPORTED), and_(Host.state == RETIRED, Host.state_by_rule))


def on_the_wire(host: Host) -> str:
    """The state as pipeline and agents know it."""
    return ACTIVE if listened_to(host.state, host.state_by_rule) else host.state


def choose(host: Host, state: str) -> None:
    """A person's choice. Of ``new`` and ``silent`` he says no more than that the rules shall decide. Raises Invalid."""
    if state not in STATES:
        raise Invalid(f"state {state!r}: one of {', '.join(STATES)}", "state")
    if state in (NEW, SILENT) and host.state in REPORTED:
        return
    _set(host, ACTIVE if state in REPORTED else state, by_rule=False)


def _set(host: Host, state: str, by_rule: bool) -> None:
    host.state, host.state_by_rule, host.state_since = state, by_rule, utc_now()


def wakes(host: Host, collected: datetime) -> bool:
    """Whether a report makes the host active: the first one does, after a silence one that is not old itself."""
    if host.state == NEW:
        return True
    asleep = host.state == SILENT or (host.state == RETIRED and host.state_by_rule)
    return asleep and collected >= utc_now() - settings().silent_after


def wake(host: Host) -> None:
    """It reports."""
    _set(host, ACTIVE, by_rule=True)


def _heard(now: datetime) -> ColumnElement[datetime]:
    """When the host was heard of last, or when its state was chosen; a time ahead of our clock was a wrong clock's."""
    since = func.coalesce(Host.state_since, Host.created)
    limit = now + CLOCK_SLACK
    reports = [
        case((column <= limit, column), else_=since) for column in (Host.agent_collected, Host.inventory_collected)
    ]
    return func.greatest(since, *reports)


def apply(now: datetime | None = None) -> int:
    """Make hosts silent that reported no more for a while, and retire those that were silent for long.

    Commits each portion; returns how many were changed. Hosts that others lock wait for the next time.
    """
    now, rules, done = now or utc_now(), settings(), 0
    rule = replace(RULE, request_id=str(uuid.uuid4()))  # one round is one entry of the list of changes
    for state, then, after in ((ACTIVE, SILENT, rules.silent_after), (SILENT, RETIRED, rules.retired_after)):
        while after is not None:
            due = select(Host).where(Host.state == state, _heard(now) < now - after).order_by(Host.id).limit(CHUNK)
            hosts = db.session.scalars(due.with_for_update(skip_locked=True)).all()
            for host in hosts:
                before = {"state": host.state, "state_by_rule": host.state_by_rule}
                _set(host, then, by_rule=True)
                changes.record(rule, "host", host.id, host.name, before, {"state": then, "state_by_rule": True})
            db.session.commit()
            done += len(hosts)
            if len(hosts) < CHUNK:
                break
    return done

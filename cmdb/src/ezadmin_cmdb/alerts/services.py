"""What can be asked of alerts, and done with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import Select, func, select
from sqlalchemy.orm import joinedload

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.alerts import texts
from ezadmin_cmdb.alerts.models import OK, Alert, AlertEvent
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import Conflict, Invalid, NotFound
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import declare
from ezadmin_wire.times import format_time

VIEW = "alert.view"
ACKNOWLEDGE = declare("alert.acknowledge", _l("Alerts: acknowledge and comment"), hosts=True)
LONGEST = timedelta(days=90)
TEXT_MAX = 2000
EVENTS_SHOWN = 200


@dataclass(frozen=True)
class OpenAlert:
    """An alert that is not good. ``state`` is one of the five that people see, ``raised`` what the figure says.

    ``since``: when this state began; ``limit_id`` is also ``host_down`` or ``surge``.
    """

    id: int
    state: str
    raised: str
    field: str
    item: str
    value: float | None
    since: datetime
    limit_id: str
    acknowledged_until: datetime | None
    suppressed: bool
    alert: Alert

    @property
    def message(self) -> str:
        """What it says."""
        return texts.of_alert(self.alert)


def open_states(session: Any, host_ids: Collection[str]) -> dict[str, list[OpenAlert]]:
    """The alerts of hosts that are not good, the worst and newest first; hosts without any are missing. One query."""
    rows = session.scalars(
        select(Alert)
        .where(Alert.host_id.in_(host_ids), Alert.state != OK)
        .order_by(Alert.severity.desc(), Alert.since.desc(), Alert.id)
    )
    found: dict[str, list[OpenAlert]] = defaultdict(list)
    for one in rows:
        found[one.host_id].append(
            OpenAlert(
                one.id, one.shown_state, one.state, one.field, one.item, one.value, one.since, one.rule,
                one.acknowledged_until, one.suppressed, one,
            )
        )  # fmt: skip
    return dict(found)


def visible(actor: Actor, permission: str = VIEW) -> Select[Alert]:
    """The alerts of the hosts for which the actor has a permission."""
    query = select(Alert)
    if actor.rights.scope(permission).everywhere:
        return query
    return query.where(Alert.host_id.in_(hosts.visible(actor, permission).with_only_columns(Host.id)))


def count_waiting(actor: Actor) -> int:
    """How many are open that nobody cares for, neither in maintenance nor suppressed. Raises Forbidden."""
    rights.require(actor, VIEW)
    waiting = visible(actor).where(
        Alert.state != OK, Alert.window_id.is_(None), Alert.acknowledged_until.is_(None), ~Alert.suppressed
    )
    return db.session.scalar(select(func.count()).select_from(waiting.subquery())) or 0


def history(alert: Alert) -> Sequence[AlertEvent]:
    """What happened to an alert, the newest first."""
    query = select(AlertEvent).where(AlertEvent.alert_id == alert.id)
    return db.session.scalars(query.order_by(AlertEvent.time.desc(), AlertEvent.id.desc()).limit(EVENTS_SHOWN)).all()


def find(actor: Actor, alert_id: int, permission: str = VIEW) -> Alert:
    """An alert. Raises Forbidden, NotFound for one of a host for which he lacks the permission."""
    rights.require(actor, permission)
    found = db.session.scalar(visible(actor).where(Alert.id == alert_id).options(joinedload(Alert.host)))
    if found is None:
        raise NotFound(_("There is no alert %(id)s.", id=alert_id))
    if permission != VIEW and not hosts.may(actor, permission, found.host):
        raise rights.refusal(actor, permission, "alert", alert_id)
    return found


def find_to_acknowledge(actor: Actor, alert_id: int) -> Alert:
    """An alert that the actor may acknowledge, locked. Raises as :func:`find`."""
    found = find(actor, alert_id, ACKNOWLEDGE)
    db.session.refresh(found, with_for_update={"of": Alert})
    return found


def may_acknowledge(actor: Actor, alert: Alert) -> bool:
    """Whether the actor may acknowledge an alert."""
    return rights.may(actor, ACKNOWLEDGE) and hosts.may(actor, ACKNOWLEDGE, alert.host)


def acknowledge(actor: Actor, alert: Alert, until: datetime, text: str = "") -> None:
    """Care for an alert until a moment: nobody is told again before. Raises Invalid; Conflict for one that is over."""
    now = utc_now()
    if not now < until <= now + LONGEST:
        raise Invalid(_("Acknowledge for at most %(n)d days from now on.", n=LONGEST.days), "until")
    if alert.state == OK:
        raise Conflict(_("It is over: there is nothing to acknowledge."))
    text, before = _text(text), _snapshot(alert)
    alert.acknowledged_until, alert.acknowledged_by, alert.unsettled = until, actor.name, True
    db.session.add(
        AlertEvent(alert_id=alert.id, kind="acknowledged", time=now, actor=actor.name, until=until, text=text or None)
    )
    said = {"text": text} if text else {}
    changes.record(actor, "alert", str(alert.id), alert.name, before, _snapshot(alert) | said)
    db.session.flush()


def reopen(actor: Actor, alert: Alert) -> None:
    """Nobody cares for it any more."""
    if not alert.acknowledged:
        return
    before = _snapshot(alert)
    end_acknowledgement(alert, actor.name)
    changes.record(actor, "alert", str(alert.id), alert.name, before, _snapshot(alert))
    db.session.flush()


def end_acknowledgement(alert: Alert, actor: str | None) -> None:
    """Take it back; None: its time is over."""
    alert.acknowledged_until, alert.acknowledged_by, alert.unsettled = None, None, True
    kind = "expired" if actor is None else "reopened"
    db.session.add(AlertEvent(alert_id=alert.id, kind=kind, time=utc_now(), actor=actor))


def comment(actor: Actor, alert: Alert, text: str) -> None:
    """Write something to an alert. Raises Invalid for nothing."""
    text = _text(text)
    if not text:
        raise Invalid(_("Write something."), "text")
    db.session.add(AlertEvent(alert_id=alert.id, kind="comment", time=utc_now(), actor=actor.name, text=text))
    changes.record(actor, "alert", str(alert.id), alert.name, {"comment": None}, {"comment": text})
    db.session.flush()


def _text(text: str) -> str:
    text = text.replace("\r\n", "\n").strip()
    if len(text) > TEXT_MAX:
        raise Invalid(_("At most %(n)d characters.", n=TEXT_MAX), "text")
    return text


def _snapshot(alert: Alert) -> dict[str, str | None]:
    until = alert.acknowledged_until
    return {
        "acknowledged_until": None if until is None else format_time(until), "acknowledged_by": alert.acknowledged_by
    }  # fmt: skip

"""What changes the state of alerts: what the pipeline says, hosts that are down, and other rules by name."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import delete, select

from ezadmin_cmdb.alerts.models import (
    CRITICAL,
    HOST_DOWN,
    ITEM_MAX,
    MAINTENANCE,
    OK,
    SEARCH,
    SEVERITY,
    UNKNOWN,
    WARNING,
    Alert,
    AlertEvent,
)
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.states import SILENT
from ezadmin_wire import WireError
from ezadmin_wire.times import format_time, parse_time

RAISED = (OK, UNKNOWN, WARNING, CRITICAL)
"""States that a rule can say; maintenance follows from windows."""
KEPT = timedelta(days=400)
"""What happened is deleted after so long."""
FORGET_AT_ONCE = 1000
_DOWN_FIELD = "host.state"


class Said(msgspec.Struct, frozen=True):
    """A change of state, as ``docs/contracts.md`` describes it."""

    time: str = msgspec.field(name="@timestamp")
    host: str = msgspec.field(name="host.id")
    dataset: str = msgspec.field(name="event.dataset")
    rule: str = msgspec.field(name="rule.id")
    item: str = msgspec.field(name="alert.item")
    state: str = msgspec.field(name="alert.state")
    reason: str = msgspec.field(name="alert.reason")
    field: str = msgspec.field(name="alert.field")
    message: str
    value: float | None = msgspec.field(name="alert.value", default=None)
    limit: float | None = msgspec.field(name="alert.limit", default=None)


_read = msgspec.json.Decoder(Said).decode


def decode(value: bytes) -> Said:
    """A message of the topic of alerts. Raises WireError."""
    try:
        said = _read(value)
        parse_time(said.time)
    except (msgspec.DecodeError, WireError) as error:
        raise WireError("bad_value", f"no alert: {error}") from error
    if said.state not in RAISED:
        raise WireError("bad_value", f"no state of an alert: {said.state!r}")
    return said


def take(said: Said, event_id: str | None) -> Alert | None:
    """Note a change of state; returns its alert, None where it was known or its host is gone. Does not commit.

    One that is older than the alert's state is kept in its history and changes nothing.
    """
    if event_id is not None and db.session.scalar(select(AlertEvent.id).where(AlertEvent.event_id == event_id)):
        return None
    if db.session.scalar(select(Host.id).where(Host.id == said.host)) is None:
        return None
    time, item = parse_time(said.time), said.item[:ITEM_MAX]
    which = select(Alert).where(Alert.host_id == said.host, Alert.rule == said.rule, Alert.item == item)
    alert = db.session.scalar(which.with_for_update())
    before = OK if alert is None else alert.state
    if alert is None:
        alert = Alert(
            host_id=said.host, rule=said.rule, item=item, dataset=said.dataset, field=said.field, state=OK,
            severity=SEVERITY[OK], previous=OK, reason=said.reason, message=said.message, since=time,
        )  # fmt: skip
        db.session.add(alert)
        db.session.flush()
    if time >= alert.since:
        _set(alert, said, time)
    db.session.add(
        AlertEvent(
            alert_id=alert.id, event_id=event_id, kind="state", time=time, state=said.state, previous=before,
            reason=said.reason, value=said.value, limit_value=said.limit, text=said.message,
        )
    )  # fmt: skip
    db.session.flush()
    return alert


def _set(alert: Alert, said: Said, time: datetime) -> None:
    worse = SEVERITY[said.state] > SEVERITY[alert.state]
    if alert.acknowledged and (worse or said.state == OK):  # whoever cares did not know of this
        alert.acknowledged_until = alert.acknowledged_by = None
        if worse:
            db.session.add(AlertEvent(alert_id=alert.id, kind="reopened", time=time))
    if said.state == OK:
        alert.opened = None
    elif alert.opened is None:
        alert.opened = time
    if said.state != alert.state:
        alert.previous, alert.since = alert.state, time
    alert.state, alert.severity = said.state, SEVERITY[said.state]
    alert.dataset, alert.field, alert.reason = said.dataset, said.field, said.reason
    alert.value, alert.limit_value, alert.message = said.value, said.limit, said.message
    alert.unsettled = True


def say(
    host_id: str, rule: str, state: str, message: str, *, item: str = "", field: str = "", reason: str = "rule",
    value: float | None = None, limit: float | None = None, at: datetime | None = None, dataset: str = SEARCH,
) -> bool:  # fmt: skip
    """Say the state of a named rule for a host, as often as one likes: only a change is noted; returns whether it was one.

    For rules that the pipeline does not judge, such as saved searches (rule ``search-…``). An alert is always a host's: a
    search that finds events of several hosts says so for each of them, and :data:`OK` for those of which it finds none
    any longer. ``state``: one of :data:`RAISED`. Does not commit.
    """
    stored = select(Alert.state).where(Alert.host_id == host_id, Alert.rule == rule, Alert.item == item[:ITEM_MAX])
    if (db.session.scalar(stored) or OK) == state:
        return False
    moment = format_time(at or utc_now())
    said = Said(moment, host_id, dataset, rule, item, state, reason, field or rule, message, value, limit)
    return take(said, None) is not None


def note_hosts_down() -> int:
    """Raise an alert for each host that is silent, and clear those of hosts that are not; returns how many changed.

    While its host is down, the host's other alerts are suppressed. Does not commit.
    """
    done = 0
    raised = select(Alert.host_id).where(Alert.rule == HOST_DOWN, Alert.state != OK)
    down = select(Host.id, Host.name).where(Host.state == SILENT)
    for host_id, name in db.session.execute(down.where(Host.id.not_in(raised)).limit(FORGET_AT_ONCE)).all():
        text = f"{name} is down: its agent reports no more"
        done += say(
            host_id, HOST_DOWN, CRITICAL, text, field=_DOWN_FIELD, reason="no_report", dataset="alert.host_down"
        )
    up = select(Host.id, Host.name, Host.state).where(Host.id.in_(raised), Host.state != SILENT)
    for host_id, name, state in db.session.execute(up.limit(FORGET_AT_ONCE)).all():
        text = f"{name} is not down: it is {state}"
        done += say(host_id, HOST_DOWN, OK, text, field=_DOWN_FIELD, reason="reports", dataset="alert.host_down")
    now_down = set(db.session.scalars(select(Alert.host_id).where(Alert.rule == HOST_DOWN, Alert.state != OK)))
    others = select(Alert).where(Alert.rule != HOST_DOWN, Alert.state != OK)
    wrong = others.where(Alert.suppressed.is_(False), Alert.host_id.in_(now_down)) if now_down else None
    for alert in db.session.scalars(wrong.with_for_update()).all() if wrong is not None else ():
        alert.suppressed, alert.unsettled = True, True
        done += 1
    freed = select(Alert).where(Alert.suppressed, Alert.host_id.not_in(now_down))
    for alert in db.session.scalars(freed.with_for_update()).all():
        alert.suppressed, alert.unsettled = False, True
        done += 1
    db.session.flush()
    return done


def note_windows() -> int:
    """Let each open alert know the maintenance window that its host is in; returns how many changed. Does not commit."""
    from ezadmin_cmdb.maintenance import services as maintenance

    now, done = utc_now(), 0
    open_alerts = db.session.execute(select(Alert.id, Alert.host_id, Alert.window_id).where(Alert.state != OK)).all()
    windows = maintenance.active(db.session, {host_id for _id, host_id, _window in open_alerts}, now)
    for alert_id, host_id, window_id in open_alerts:
        window = windows.get(host_id)
        found = None if window is None else window.id
        if found == window_id:
            continue
        alert = db.session.scalar(select(Alert).where(Alert.id == alert_id).with_for_update())
        if alert is None:
            continue
        if (alert.window_id is None) != (found is None):
            db.session.add(
                AlertEvent(
                    alert_id=alert.id, kind=MAINTENANCE if found else "resumed", time=now, text=window and window.name
                )
            )
        alert.window_id, alert.unsettled = found, True
        done += 1
    db.session.flush()
    return done


def end_acknowledgements() -> int:
    """End what people care for where its time is over; returns how many. Does not commit."""
    from ezadmin_cmdb.alerts import services

    over = select(Alert).where(Alert.acknowledged_until <= utc_now()).with_for_update(skip_locked=True)
    found = db.session.scalars(over).all()
    for alert in found:
        services.end_acknowledgement(alert, None)
    db.session.flush()
    return len(found)


def forget(now: datetime | None = None) -> int:
    """Delete what happened long ago, and alerts that have been good for so long, some at once; returns how many rows."""
    before = (now or utc_now()) - KEPT
    old = select(AlertEvent.id).where(AlertEvent.time < before).limit(FORGET_AT_ONCE)
    ids = db.session.scalars(old).all()
    db.session.execute(delete(AlertEvent).where(AlertEvent.id.in_(ids)))
    good = select(Alert.id).where(Alert.state == OK, Alert.since < before).limit(FORGET_AT_ONCE)
    alerts = db.session.scalars(good).all()
    db.session.execute(delete(Alert).where(Alert.id.in_(alerts)))
    return len(ids) + len(alerts)

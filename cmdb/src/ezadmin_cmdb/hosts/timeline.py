"""What happened on a host, on one axis of time: events of its logs, alerts, and changes that people and agent made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import select

from ezadmin_cmdb.alerts import texts
from ezadmin_cmdb.alerts.models import Alert, AlertEvent
from ezadmin_cmdb.changes import history
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db
from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.events import services as events
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_cmdb.web.formats import moment
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

EVENT, ALERT, CHANGE = "event", "alert", "change"
SHOWN = 50
AROUND = timedelta(minutes=5)
FIELDS_SAID = 6


@dataclass(frozen=True)
class Happening:
    """Something that happened. ``level``: of an event its level, of an alert its state; ``source``: who wrote or did it.

    ``alert``: the alert's id; ``title``: what happened to it, where its state is what it was.
    """

    time: datetime
    kind: str
    level: str
    source: str
    text: str
    dataset: str = ""
    alert: int | None = None
    title: Any = ""

    @property
    def around(self) -> dict[str, str]:
        """The time before and after it, as addresses of searches say it."""
        return {"from": format_time(self.time - AROUND), "to": format_time(self.time + AROUND)}


def of_host(elastic: Elastic, names: Names, host_id: str, alerts: bool, logs: bool) -> list[Happening]:
    """The newest of what happened, the newest first: changes, and where asked for alerts and events. Raises ElasticUnavailable.

    Events are many where alerts are few: all that is not older than the oldest event shown is shown, and the rest up to SHOWN.
    """
    found = stored(host_id, alerts)
    if logs:
        found += [
            Happening(one.time, EVENT, one.level, one.source or one.dataset, one.message, one.dataset)
            for one in events.recent(elastic, names, host_id, SHOWN)
        ]
    return _fair(_newest_first(found))


def stored(host_id: str, alerts: bool) -> list[Happening]:
    """What the database knows of it, the newest first: changes, and where asked for alerts."""
    return _newest_first([*changes(host_id), *(alerts_of(host_id) if alerts else ())])


def _newest_first(found: list[Happening]) -> list[Happening]:
    return sorted(found, key=lambda one: one.time, reverse=True)


def _fair(found: Sequence[Happening]) -> list[Happening]:
    oldest = min((one.time for one in found if one.kind == EVENT), default=None)
    many = sum(one.kind == EVENT for one in found) >= SHOWN
    return [one for one in found if not many or oldest is None or one.time >= oldest]


def changes(host_id: str) -> list[Happening]:
    """The newest changes of the host's record."""
    return [_change(one) for one in history.of_object("host", host_id, size=SHOWN).items]


def _change(one: Change) -> Happening:
    labels = [HOST.label_of(name) for name in one.fields][:FIELDS_SAID]
    said = ", ".join(str(label) for label in labels) + (" …" if len(one.fields) > FIELDS_SAID else "")
    words = {"create": _("added"), "update": _("changed"), "delete": _("deleted")}
    return Happening(one.time, CHANGE, "", one.actor, f"{words.get(one.action, one.action)}: {said}")


def alerts_of(host_id: str) -> list[Happening]:
    """The newest of what happened to its alerts: their states, maintenance, and what people did with them."""
    rows = db.session.execute(
        select(AlertEvent, Alert)
        .join(Alert, AlertEvent.alert_id == Alert.id)
        .where(Alert.host_id == host_id)
        .order_by(AlertEvent.time.desc(), AlertEvent.id.desc())
        .limit(SHOWN)
    )
    return [_alert(alert, event) for event, alert in rows]


def _alert(alert: Alert, event: AlertEvent) -> Happening:
    said = texts.of_event(alert, event)
    if event.kind == "state":
        return Happening(event.time, ALERT, event.state or "", alert.rule, said, alert.dataset, alert.id)
    about = " ".join(f"{alert.field} {alert.item}".split())
    until = "" if event.until is None else _("until %(time)s", time=moment(event.until))
    text = " · ".join(part for part in (about, until, said) if part)
    return Happening(event.time, ALERT, "", event.actor or "", text, alert.dataset, alert.id, texts.KINDS[event.kind])

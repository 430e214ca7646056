"""The part of the worker that tells what ends soon: an event (dataset ``cmdb.reminder``) at each threshold, once."""

from __future__ import annotations

import json

from ezadmin_cmdb.actor import cli_actor
from ezadmin_cmdb.datacenter import reminders
from ezadmin_cmdb.datacenter.reminders import Reminder, ReminderStream
from ezadmin_cmdb.outbox.events import EventSender
from ezadmin_wire.times import format_time

DATASET = "cmdb.reminder"
SUBJECTS = {
    "contract": "contract {} ends on {}", "notice": "contract {} must be cancelled by {}",
    "customer": "the contract of customer {} ends on {}", "host": "the warranty of host {} ends on {}",
    "device": "the warranty of device {} ends on {}",
}  # fmt: skip


class Reminding(EventSender[Reminder]):
    """Looks each half a minute, and tells what is new."""

    rows = Reminder
    state = ReminderStream
    dataset = DATASET
    stream = "reminder"
    poll_seconds = 30.0

    def prepare(self) -> None:
        """A reminder is a row before it is an event."""
        reminders.note(reminders.endings(cli_actor("worker"), max(reminders.THRESHOLDS)))

    def line(self, row: Reminder) -> bytes:
        """The event of a reminder."""
        return line(row)


def line(one: Reminder) -> bytes:
    """The event of a reminder."""
    moment = format_time(one.time)
    message = SUBJECTS[one.kind].format(one.object_name, one.day.isoformat())
    when = "it is due or over" if one.threshold == 0 else f"within {one.threshold} days"
    said = {
        "reminder.kind": one.kind, "reminder.day": one.day.isoformat(), "reminder.threshold_days": one.threshold,
        "object.type": "contract" if one.kind == "notice" else one.kind, "object.id": one.object_id,
        "object.name": one.object_name,
    }  # fmt: skip
    document = {
        "@timestamp": moment,
        "event.dataset": DATASET,
        "event.created": moment,
        "log.level": "warning" if one.threshold <= 30 else "notice",
        "log.logger": "ezadmin_cmdb.reminders",
        "message": f"{message}: {when}",
        "process.name": "ezadmin-cmdb",
        "fields": {name: str(value) for name, value in said.items()},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

"""The part of the worker that makes an event (dataset ``cmdb.audit``) of each entry of the audit log."""

from __future__ import annotations

import json

from ezadmin_cmdb.audit.models import AuditEntry, AuditStream
from ezadmin_cmdb.audit.services import FAILURE
from ezadmin_cmdb.outbox.events import EventSender
from ezadmin_wire.times import format_time

DATASET = "cmdb.audit"
MAX_DETAILS = 1_000
"""Of an event, characters; the entry has all, and its hash stands in the event."""


class AuditSender(EventSender[AuditEntry]):
    """Sends the entries."""

    rows = AuditEntry
    state = AuditStream
    dataset = DATASET
    stream = "audit"
    poll_seconds = 0.5

    def line(self, row: AuditEntry) -> bytes:
        """The event of an entry."""
        return line(row)


def line(entry: AuditEntry) -> bytes:
    """The event of an entry."""
    moment = format_time(entry.time)
    what = entry.object_name or entry.object_id
    about = (
        f" {entry.object_type} {what}"
        if entry.object_type and what
        else f" {entry.object_type}"
        if entry.object_type
        else ""
    )
    place = f" from {entry.address}" if entry.address else ""
    said = {
        "audit.number": entry.id, "audit.hash": entry.hash, "audit.kind": entry.kind, "event.action": entry.action,
        "event.outcome": entry.outcome, "user.name": entry.actor, "source": entry.source, "source.ip": entry.address,
        "object.type": entry.object_type, "object.id": entry.object_id, "object.name": entry.object_name,
        "http.request.id": entry.request_id, "details": entry.details[:MAX_DETAILS],
    }  # fmt: skip
    document = {
        "@timestamp": moment,
        "event.dataset": DATASET,
        "event.created": moment,
        "log.level": "warning" if entry.outcome == FAILURE else "info",
        "log.logger": "ezadmin_cmdb.audit",
        "message": f"{entry.actor}: {entry.kind} {entry.action}{about}{place}: {entry.outcome}",
        "process.name": "ezadmin-cmdb",
        "fields": {name: str(value) for name, value in said.items() if value is not None},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

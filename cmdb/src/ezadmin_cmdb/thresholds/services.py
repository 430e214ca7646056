"""What holds for hosts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from ezadmin_cmdb.hosts import labels
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.limits.models import Limit, LimitAssignment
from ezadmin_cmdb.thresholds import inheritance
from ezadmin_cmdb.thresholds.inheritance import Candidate, EffectiveLimit
from ezadmin_wire.config import LimitRecord
from ezadmin_wire.fields import build


def effective(
    session: Any, host_ids: Sequence[str], fields: Collection[str] | None = None
) -> dict[str, list[EffectiveLimit]]:
    """The limits that hold for each of the hosts, of all figures or of ``fields``; three queries, however many."""
    loaded = (*labels.loads(), selectinload(Host.labels))
    hosts = session.scalars(select(Host).where(Host.id.in_(host_ids)).options(*loaded)).unique().all()
    limits = session.scalars(select(Limit)).all()
    records = {limit.id: build(LimitRecord, limit.definition) for limit in limits}
    assignments = session.scalars(select(LimitAssignment).options(joinedload(LimitAssignment.group))).all()
    found = {}
    for host in hosts:
        candidates = [
            candidate
            for one in assignments
            if (fields is None or records[one.limit_id].field in fields)
            and (candidate := _candidate(host, labels.effective(host), one, records[one.limit_id])) is not None
        ]
        holding, _off = inheritance.resolve(candidates)
        found[host.id] = [inheritance.effective(winner, trace) for winner, trace in holding]
    return found


def _candidate(host: Host, known: dict[str, str], one: LimitAssignment, record: LimitRecord) -> Candidate | None:
    level, place = "global", "all hosts"
    if one.host_id is not None:
        if one.host_id != host.id:
            return None
        level, place = "host", f"host {host.name}"
    elif one.group_id is not None:
        if str(one.group_id) not in (host.member_of or {}):
            return None
        level, place = "group", f"group {one.group.name if one.group else one.group_id}"
    elif one.label is not None:
        if known.get(one.label, "").casefold() != (one.value or "").casefold():
            return None
        level, place = "group", f"label {one.label}={one.value}"
    return Candidate(level, place, one.limit_id, one.limit_id, record)

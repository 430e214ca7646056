"""What can be done with limits. Every change writes its change record, and the config records of limit and hosts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.errors import Conflict, Invalid, NotFound
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.limits.models import Limit, LimitAssignment
from ezadmin_cmdb.metrics.fields import datasets
from ezadmin_cmdb.outbox import services as outbox
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.models import HostGroup
from ezadmin_cmdb.rights.permissions import LIMITS_CHANGE, LIMITS_VIEW
from ezadmin_cmdb.thresholds import services as thresholds
from ezadmin_cmdb.thresholds.places import Places
from ezadmin_wire import WireError
from ezadmin_wire.config import LimitRecord, limit_key
from ezadmin_wire.fields import build, dump
from ezadmin_wire.limits import check_limit

_FIGURES = ("gauge", "counter")


@dataclass(frozen=True)
class Target:
    """Whom a limit is for: a host (id or name), the hosts with ``label`` = ``value``, those of a ``group`` (by name or
    number), or, with none of it, all hosts."""

    host: str | None = None
    label: str | None = None
    value: str | None = None
    group: str | None = None


Place = tuple[str | None, str | None, str | None, int | None]
"""Whom an assignment is for, as its columns: host, label, its value, group."""


def everything(actor: Actor) -> Sequence[Limit]:
    """All limits by id, with their assignments. Raises Forbidden."""
    rights.require(actor, LIMITS_VIEW)
    loaded = selectinload(Limit.assignments).selectinload(LimitAssignment.host)
    return db.session.scalars(select(Limit).options(loaded).order_by(Limit.id)).all()


def add(
    actor: Actor,
    limit_id: str,
    record: LimitRecord,
    comment: str = "",
    targets: Iterable[Target] = (),
    change: bool = False,
) -> Limit:
    """Add a limit, or with ``change`` say anew what one that is there looks for; its hosts stay.

    The dataset is that of the field. Raises Forbidden, Invalid, Conflict for an id that is there, NotFound.
    """
    rights.require(actor, LIMITS_CHANGE)
    record = replace(record, dataset=_dataset(record.field))
    figure = datasets()[record.dataset][record.field]
    if record.no_data is not None and record.no_data < figure.least_no_data:
        raise Invalid(
            f"agents send {figure.name} every {figure.seconds} seconds: give no_data {figure.least_no_data} or more",
            "no_data",
        )
    try:
        check_limit(limit_id, record)
    except WireError as error:
        raise Invalid(str(error)) from error
    if len(comment) > 255:
        raise Invalid("the comment is 255 characters long at most", "comment")
    limit = db.session.get(Limit, limit_id, with_for_update=True, populate_existing=True)
    if limit is None and change:
        raise _missing(limit_id)
    if limit is not None and limit.template_id is not None:
        raise _of_template(limit)
    if limit is not None and not change:
        raise Conflict(f"there is a limit {limit_id} already; change it with --change, or choose another id")
    before = None if limit is None else _snapshot(limit)
    with _publishing():
        if limit is None:
            limit = Limit(id=limit_id, definition={}, comment=comment)
            db.session.add(limit)
        limit.definition = json.loads(dump(record))
        limit.comment = comment or limit.comment
        for target in targets:
            _assign(limit, target)
        db.session.flush()
        changes.record(actor, "limit", limit.id, limit.id, before, _snapshot(limit))
        outbox.put(limit_key(limit.id), record)
    return limit


def remove(actor: Actor, limit_id: str) -> None:
    """Remove a limit: what it raised is closed by the pipeline. Raises Forbidden, NotFound."""
    rights.require(actor, LIMITS_CHANGE)
    limit = _find(limit_id)
    before = _snapshot(limit)
    with _publishing():
        db.session.delete(limit)
        db.session.flush()
        changes.record(actor, "limit", limit_id, limit_id, before, None)
        outbox.put(limit_key(limit_id), None)


def assign(actor: Actor, limit_id: str, targets: Iterable[Target]) -> Limit:
    """Let a limit be for further hosts. Raises Forbidden, NotFound, Conflict for a host with too many limits."""
    rights.require(actor, LIMITS_CHANGE)
    limit = _find(limit_id)
    before = _snapshot(limit)
    with _publishing():
        for target in targets:
            _assign(limit, target)
        db.session.flush()
        changes.record(actor, "limit", limit_id, limit_id, before, _snapshot(limit))
    return limit


def unassign(actor: Actor, limit_id: str, targets: Iterable[Target]) -> Limit:
    """The reverse of :func:`assign`. Raises Forbidden, NotFound, also for a target that the limit is not for."""
    rights.require(actor, LIMITS_CHANGE)
    limit = _find(limit_id)
    before = _snapshot(limit)
    gone = []
    for target in targets:
        wanted = _place(target)
        found = next((one for one in limit.assignments if _place_of(one) == wanted), None)
        if found is None:
            raise NotFound(
                f"limit {limit_id} is not for {_described(wanted)}; it is for: {', '.join(described(limit))}"
            )
        gone.append(found)
    with _publishing():
        for one in gone:
            limit.assignments.remove(one)
        db.session.flush()
        changes.record(actor, "limit", limit_id, limit_id, before, _snapshot(limit))
    return limit


def wire_record(limit: Limit) -> LimitRecord:
    """The limit as the pipeline gets it."""
    return build(LimitRecord, limit.definition)


def described(limit: Limit) -> list[str]:
    """Whom a limit is for, in words."""
    if limit.template_id is not None:
        return ["whom its threshold template is for"]
    return [
        f"host {one.host.name}" if one.host is not None
        else f"group {one.group.name}" if one.group is not None
        else _described(_place_of(one))
        for one in limit.assignments
    ] or ["no host"]  # fmt: skip


def _place_of(one: LimitAssignment) -> Place:
    return one.host_id, one.label, one.value, one.group_id


def _described(place: Place) -> str:
    host_id, label, value, group_id = place
    if host_id is not None:
        return f"host {host_id}"
    if group_id is not None:
        return f"group {group_id}"
    return "all hosts" if label is None else f"label {label}={value}"


def _dataset(field: str) -> str:
    for dataset, fields in datasets().items():
        if field in fields:
            if fields[field].kind not in _FIGURES:
                raise Invalid(f"field {field} is no figure but a {fields[field].kind}: a limit needs a number", "field")
            return dataset
    raise Invalid(f"no field {field!r}; `docs/fields.md` lists the figures, such as system.cpu.total.norm.pct", "field")


def _missing(limit_id: str) -> NotFound:
    return NotFound(f"no limit {limit_id}; `ezadmin-cmdb limits list` shows them")


def _find(limit_id: str) -> Limit:
    limit = db.session.get(Limit, limit_id, with_for_update=True, populate_existing=True)
    if limit is None:
        raise _missing(limit_id)
    if limit.template_id is not None:
        raise _of_template(limit)
    return limit


def _of_template(limit: Limit) -> Conflict:
    return Conflict(f"limit {limit.id} is one of a threshold template: change that on its page, or by the API")


def _place(target: Target) -> Place:
    if target.group is not None:
        group = db.session.scalar(select(HostGroup).where(HostGroup.name == target.group))
        if group is None and target.group.isdecimal():
            group = db.session.get(HostGroup, int(target.group))
        if group is None:
            raise NotFound(f"no group of hosts {target.group}")
        return None, None, None, group.id
    if target.host is None:
        return None, target.label, target.value, None
    found = db.session.get(Host, target.host)
    if found is None:
        named = db.session.scalars(select(Host).where(Host.name == target.host).limit(2)).all()
        if len(named) > 1:
            raise Conflict(f"more than one host is named {target.host}: give its id")
        if not named:
            raise NotFound(f"no host {target.host}")
        found = named[0]
    return found.id, None, None, None


def _assign(limit: Limit, target: Target) -> LimitAssignment:
    wanted = _place(target)
    found = next((one for one in limit.assignments if _place_of(one) == wanted), None)
    if found is None:
        host_id, label, value, group_id = wanted
        found = LimitAssignment(host_id=host_id, label=label, value=value, group_id=group_id)
        limit.assignments.append(found)
    return found


@contextmanager
def _publishing() -> Iterator[None]:
    """Whose limits differ after it is published anew; raises Conflict where two limits would be equally near."""
    held = thresholds.holding(Places(db.session))
    yield
    db.session.flush()
    places = Places(db.session)
    thresholds.check(places)
    thresholds.publish_changed(held, thresholds.holding(places))


def _snapshot(limit: Limit) -> dict[str, Any]:
    return {"definition": limit.definition, "comment": limit.comment, "hosts": described(limit)}

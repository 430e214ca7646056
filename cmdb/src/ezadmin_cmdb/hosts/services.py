"""What can be done with hosts. Every change of one writes its change record and the next revision of ``host/<id>``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

from marshmallow import ValidationError
from sqlalchemy import Connection, Select, event, false, select, update
from sqlalchemy.orm import selectinload, undefer

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.custom.kinds import added
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import Conflict, Invalid, NotFound
from ezadmin_cmdb.hosts import states, values
from ezadmin_cmdb.hosts.labels import effective as effective_labels
from ezadmin_cmdb.hosts.labels import loads as label_loads
from ezadmin_cmdb.hosts.models import Host, HostKey, HostLabel, Nic
from ezadmin_cmdb.limits.selection import limit_ids, limit_ids_of
from ezadmin_cmdb.outbox import services as outbox
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.rights import services as rights
from ezadmin_wire import WireError
from ezadmin_wire.config import HostKey as WireHostKey
from ezadmin_wire.config import HostRecord, host_key
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.signing import VerifyKey
from ezadmin_wire.times import format_time

PUBLISHED_AT_ONCE = 500
SILENT_AFTER = timedelta(seconds=150)
"""An agent reports its status each minute: one that missed two is silent."""
HOST_VIEW = "host.view"
HOST_CHANGE = "host.change"
_LABEL_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_NOT_A_CHANGE = ("created", "updated", "member_of", "inventory_collected", "observed", "state_since")
"""Columns that say when, not what; ``agent_…`` too, but for the version."""
REFERENCES = ("customer", "site", "primary_manager", "secondary_manager", "rack", "device_type", "contract")
"""Relations to one other object, recorded by id and name."""


def visible(actor: Actor, permission: str = HOST_VIEW) -> Select[Host]:
    """The query of all hosts for which ``actor`` has ``permission``: everything about hosts starts here."""
    from ezadmin_cmdb.rights import groups  # it knows hosts

    query, scope = select(Host), actor.rights.scope(permission)
    if scope.everywhere:
        return query
    return query.where(groups.holds(scope.groups)) if scope else query.where(false())


def find(actor: Actor, reference: str, permission: str = HOST_VIEW) -> Host:
    """The host with this id, or the only one with this name, with its parts.

    Raises Forbidden for an actor who has ``permission`` nowhere, or not for this host though he sees it; NotFound;
    Conflict for a name that several have.
    """
    rights.require(actor, permission)
    host = _find(actor, reference)
    if permission != HOST_VIEW and not may(actor, permission, host):
        raise rights.refusal(actor, permission, "host", host.id)
    return host


def find_to_change(actor: Actor, reference: str) -> Host:
    """As :func:`find`, with the right to change, and locked."""
    host = find(actor, reference, HOST_CHANGE)
    return lock([host.id])[0]


def may(actor: Actor, permission: str, host: Host) -> bool:
    """Whether ``actor`` has a permission for a host."""
    if actor.rights.scope(permission).everywhere:
        return True
    return (
        db.session.scalar(visible(actor, permission).with_only_columns(Host.id).where(Host.id == host.id)) is not None
    )


def _find(actor: Actor, reference: str) -> Host:
    loaded = (selectinload(Host.labels), selectinload(Host.keys), selectinload(Host.nics), selectinload(Host.disks))
    query = visible(actor).options(*loaded)
    host = db.session.scalar(query.where(Host.id == reference))
    if host is not None:
        return host
    named = db.session.scalars(query.where(Host.name == reference).limit(2)).all()
    if len(named) > 1:
        raise Conflict(f"more than one host is named {reference}: give its id")
    if not named:
        if not actor.rights.scope(HOST_VIEW).everywhere and db.session.get(Host, reference) is not None:
            rights.note(actor, HOST_VIEW, "host", reference)
        raise NotFound(f"no host {reference}")
    return named[0]


def _whole() -> tuple[Any, ...]:
    """Options that load all that is recorded of hosts: a few queries, however many they are."""
    parts = (Host.labels, Host.keys, Host.disks, Host.declarations, Host.drifts)
    return (
        *(selectinload(one) for one in parts),
        *(selectinload(getattr(Host, name)) for name in ("custom_values", "tag_links", *REFERENCES)),
        selectinload(Host.nics).selectinload(Nic.addresses), undefer(Host.observed),
    )  # fmt: skip


def lock(ids: Sequence[str]) -> Sequence[Host]:
    """Hosts with all their parts, locked; those that are gone are missing."""
    query = select(Host).where(Host.id.in_(ids)).order_by(Host.id).options(*_whole()).with_for_update()
    return db.session.scalars(query.execution_options(populate_existing=True)).all()


def lock_all(actor: Actor, ids: Sequence[str]) -> Sequence[Host]:
    """As :func:`lock`, hosts that the actor may change. Raises Forbidden if there is another among them."""
    rights.require(actor, HOST_CHANGE)
    mine = visible(actor, HOST_CHANGE).with_only_columns(Host.id).where(Host.id.in_(ids))
    if others := sorted(set(ids) - set(db.session.scalars(mine))):
        raise rights.refusal(actor, HOST_CHANGE, "host", others[0])
    return lock(ids)


def everything(actor: Actor) -> Sequence[Host]:
    """All visible hosts by name."""
    return db.session.scalars(visible(actor).order_by(Host.name, Host.id)).all()


def _require_change(actor: Actor, host: Host) -> None:
    rights.require(actor, HOST_CHANGE)
    if not may(actor, HOST_CHANGE, host):
        raise rights.refusal(actor, HOST_CHANGE, "host", host.id)


def add(
    actor: Actor, host_id: str, name: str, public_key: str, labels: Mapping[str, str], add_key: bool = False
) -> Host:
    """Make a host, or confirm one that is there: the same id and key again changes nothing but the labels given.

    Raises Invalid; Conflict for another key under the same id (unless ``add_key``), a revoked key, or another host's.
    """
    rights.require(actor, HOST_CHANGE)
    if not is_host_id(host_id):
        raise Invalid(
            f"host id {host_id!r}: expected a UUID in lower case, as `ezadmin-agent identity` prints it", "id"
        )
    name = _name(name)
    key = _key(public_key)
    host = db.session.get(Host, host_id, with_for_update=True, populate_existing=True)
    if host is None:
        return _create(actor, host_id, name, key, labels)
    known = next((one for one in host.keys if one.kid == key.kid), None)
    if known is not None and known.revoked:
        raise Conflict(f"key {key.kid} of host {host.name} was revoked; the host needs a new one")
    if known is None and not add_key:
        raise Conflict(
            f"host {host_id} ({host.name}) is there already, with another key "
            f"({', '.join(one.kid for one in host.keys) or 'none'}). "
            "If it is really this machine that got a new key, add it with --add-key"
        )
    _require_change(actor, host)
    with changing(actor, host):
        if known is None:
            _attach(host, key)
        _set_labels(host, labels)
    return host


def _create(actor: Actor, host_id: str, name: str, key: VerifyKey, labels: Mapping[str, str]) -> Host:
    host = Host(id=host_id, name=name, state=states.NEW, state_by_rule=False)
    with changing(actor, host, new=True):
        db.session.add(host)
        _attach(host, key)
        _set_labels(host, labels)
    return host


def _attach(host: Host, key: VerifyKey) -> None:
    public = key.public.hex()
    owner = db.session.scalar(select(HostKey).where(HostKey.public == public))
    if owner is not None:
        raise Conflict(f"key {key.kid} is that of host {owner.host_id}: a key belongs to one host (a cloned disk?)")
    host.keys.append(HostKey(kid=key.kid, public=public, revoked=False))


def set_labels(actor: Actor, host: Host, labels: Mapping[str, str | None]) -> None:
    """Set labels; None takes one away. Raises Forbidden, Invalid."""
    _require_change(actor, host)
    with changing(actor, host):
        _set_labels(host, labels)


def _set_labels(host: Host, labels: Mapping[str, str | None]) -> None:
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name):
            raise Invalid(f"label {name!r}: use lower-case letters, digits, '_', '.' and '-', a letter first", "labels")
        if value is not None and not 1 <= len(value) <= 255:
            raise Invalid(f"label {name}: the value is 1 to 255 characters long", "labels")
        found = next((label for label in host.labels if label.name == name), None)
        if value is None:
            if found is not None:
                host.labels.remove(found)
        elif found is None:
            host.labels.append(HostLabel(name=name, value=value))
        else:
            found.value = value


def set_state(actor: Actor, host: Host, state: str) -> None:
    """Set the state, as :mod:`.states` explains. Raises Forbidden, Invalid."""
    _require_change(actor, host)
    with changing(actor, host):
        states.choose(host, state)


def rename(actor: Actor, host: Host, name: str) -> None:
    """Give a host another name. Raises Forbidden, Invalid."""
    _require_change(actor, host)
    with changing(actor, host):
        host.name = _name(name)


def declare(actor: Actor, host: Host, field: str, value: Any) -> None:
    """Declare a value (as :mod:`.values` explains), None to give the field back to the agent.

    Raises Forbidden, Invalid.
    """
    from ezadmin_cmdb.hosts.description import HOST

    _require_change(actor, host)
    if field not in values.DEFAULTS:
        raise Invalid(f"{field}: no field that agents observe and people declare", "field")
    one = HOST.field(field)
    try:
        checked = one.check(one.schema(allow_none=True).deserialize(value))
    except (Invalid, ValidationError) as error:
        raise Invalid(f"{field}: {error}", "value") from error
    with changing(actor, host):
        if checked is None:
            values.give_back(host, field)
        else:
            values.declare(host, field, checked)


def revoke_key(actor: Actor, host: Host, kid: str) -> None:
    """Revoke a key: nothing signed with it is believed any more. Raises Forbidden, NotFound."""
    _require_change(actor, host)
    key = next((one for one in host.keys if one.kid == kid), None)
    if key is None:
        known = ", ".join(one.kid for one in host.keys) or "none"
        raise NotFound(f"host {host.name} has no key {kid} (it has: {known})")
    with changing(actor, host):
        key.revoked = True


def verify_key(host_id: str, kid: str) -> VerifyKey | None:
    """The key to check a batch with, None if the host has no such key or it was revoked.

    Raises WireError (``host_not_active``) for a host that is not listened to.
    """
    row = db.session.execute(
        select(HostKey.public, HostKey.revoked, Host.state, Host.state_by_rule)
        .join(Host)
        .where(Host.id == host_id, HostKey.kid == kid)
    ).first()
    if row is None or row.revoked:
        return None
    if not states.listened_to(row.state, row.state_by_rule):
        raise WireError("host_not_active", f"host {host_id} is {row.state}")
    return VerifyKey.from_hex(row.public)


@contextmanager
def changing(actor: Actor, host: Host, new: bool = False) -> Iterator[None]:
    """What happens to ``host`` inside becomes one change record, and a revision of its config record if that changed."""
    before = None if new else snapshot(host)
    yield
    values.settle(host, actor)
    db.session.flush()
    if changes.record(actor, "host", host.id, host.name, before, snapshot(host)):
        publish(host)


def publish(host: Host) -> int:
    """Write the config record of a host, if it has changed; returns the number of its limits."""
    outbox.hold([host_key(host.id)])
    record = _wire_record(host, limit_ids(host))
    outbox.put(host_key(host.id), record)
    return len(record.limits)


def publish_many(hosts: Sequence[Host]) -> int:
    """As :func:`publish`, for many hosts with a few queries. They are the caller's: locked, or changed by him.

    Returns how many records were not the same as before.
    """
    outbox.hold([host_key(host.id) for host in hosts])
    limits = limit_ids_of(hosts)
    return outbox.put_many({host_key(host.id): _wire_record(host, limits[host.id]) for host in hosts})


def publish_ids(ids: Sequence[str]) -> int:
    """As :func:`publish_many`, for hosts as they stand in the database, which others may be changing."""
    loaded = (selectinload(Host.labels), selectinload(Host.keys), *label_loads())
    written = 0
    for start in range(0, len(ids), PUBLISHED_AT_ONCE):
        portion = ids[start : start + PUBLISHED_AT_ONCE]
        outbox.hold([host_key(host_id) for host_id in portion])
        query = select(Host).where(Host.id.in_(portion)).order_by(Host.id).options(*loaded)
        written += publish_many(db.session.scalars(query.execution_options(populate_existing=True)).unique().all())
    return written


def _wire_record(host: Host, limits: list[str]) -> HostRecord:
    return HostRecord(
        name=host.name,
        state=states.on_the_wire(host),
        labels=effective_labels(host),
        limits=limits,
        groups=sorted((host.member_of or {}).values()),
        keys=[WireHostKey(key.kid, key.public, key.revoked) for key in host.keys],
    )


@event.listens_for(Host, "after_delete")
def _unpublish(mapper: object, connection: Connection, host: Host) -> None:
    """What is deleted is believed no more: its config record is deleted with it, on whatever way that happens."""
    record = ConfigRecord.__table__
    connection.execute(
        update(ConfigRecord)
        .where(record.c.record_key == host_key(host.id))
        .values(body=None, revision=ConfigRecord.revision + 1)
    )


def snapshot(host: Host) -> dict[str, Any]:
    """All that is recorded of a host when it changes, as JSON values."""
    fields: dict[str, Any] = {}
    for column in Host.__table__.columns.keys():  # noqa: SIM118 - a ColumnCollection iterates over columns
        volatile = column.startswith("agent_") and column != "agent_version"
        if column not in _NOT_A_CHANGE and not volatile and column.removesuffix("_id") not in REFERENCES:
            value = getattr(host, column)
            if isinstance(value, date):
                value = format_time(value) if isinstance(value, datetime) else value.isoformat()
            fields[column] = value
    for name in REFERENCES:
        other = getattr(host, name)
        fields[name] = None if other is None else {"id": other.id, "name": other.name}
    fields |= {one.name: one.plain(one.get(host)) for one in added("host")}
    fields["labels"] = {label.name: label.value for label in host.labels}
    fields["keys"] = {key.kid: "revoked" if key.revoked else "valid" for key in host.keys}
    for declaration in host.declarations:
        fields[f"declared {declaration.field}"] = declaration.value
    for drift in host.drifts:
        if drift.status == values.REJECTED:
            fields[f"rejected {drift.field}"] = drift.observed
    for nic in host.nics:
        addresses = [f"{one.address}/{one.prefix}" if one.prefix is not None else one.address for one in nic.addresses]
        fields[f"nic {nic.name}"] = {
            "mac": nic.mac, "mtu": nic.mtu, "speed_mbps": nic.speed_mbps, "up": nic.up, "addresses": addresses,
        }  # fmt: skip
    for disk in host.disks:
        fields[f"disk {disk.name}"] = {
            "size": disk.size, "model": disk.model, "serial": disk.serial, "rotational": disk.rotational,
        }  # fmt: skip
    return fields


def _name(text: str) -> str:
    name = text.strip()
    if not 1 <= len(name) <= 253 or not name.isprintable():
        raise Invalid("the name is 1 to 253 printable characters long", "name")
    return name


def _key(public_key: str) -> VerifyKey:
    try:
        return VerifyKey.from_hex(public_key)
    except WireError as error:
        raise Invalid(f"public key: {error}", "public_key") from error


def liveness(host: Host) -> str:
    """Whether the host's agent reports: ``reporting``, ``silent`` or ``never``."""
    if host.agent_collected is None:
        return "never"
    return "reporting" if utc_now() - host.agent_collected <= SILENT_AFTER else "silent"

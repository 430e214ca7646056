"""What a change of a place or customer means for the labels of the hosts there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select, update

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe.description import Changed, Changing, Many, find
from ezadmin_cmdb.describe.query import load


def labelled(name: str, parts: Collection[str]) -> Changing:
    """How a model is changed whose fields ``parts`` are in the labels of hosts: those are published anew."""

    @contextmanager
    def changing(actor: Actor, obj: Any, new: bool) -> Iterator[None]:
        from ezadmin_cmdb.describe import services  # it knows descriptions, and this is part of one

        description = find(name)
        before = None if new else services.snapshot(description, obj)
        yield
        if new:
            db.session.add(obj)
        db.session.flush()
        after = services.snapshot(description, obj)
        changes.record(actor, name, str(obj.id), description.object_name(obj), before, after)
        changed = {part for part in parts if before is not None and before.get(part) != after.get(part)}
        if changed & {"site", "room"}:
            _follow(actor, name, obj)
        if changed:
            _publish(name, obj.id)

    return changing


def labelled_many(name: str, parts: Collection[str]) -> Many:
    """As :func:`labelled`, for many objects at once; only those whose labels change cost further queries."""

    def lock(ids: Sequence[Any]) -> Sequence[Any]:
        model = find(name).model
        query = select(model.id).where(model.id.in_(ids)).order_by(model.id).with_for_update()
        return load(find(name), db.session.scalars(query).all(), fresh=True)

    def snapshot(obj: Any) -> dict[str, Any]:
        from ezadmin_cmdb.describe import services

        return services.snapshot(find(name), obj)

    def settle(actor: Actor, objects: Sequence[Any]) -> None:
        """Nothing follows from it before it is written."""

    def publish(actor: Actor, written: Sequence[Changed]) -> None:
        for obj, before, after in written:
            changed = {part for part in parts if before is not None and before.get(part) != after.get(part)}
            if changed & {"site", "room"}:
                _follow(actor, name, obj)
            if changed:
                _publish(name, obj.id)

    return Many(lock, snapshot, settle, publish)


def _publish(name: str, object_id: int) -> None:
    """Write the config records of the hosts there anew: a few queries for each 500 of them."""
    from ezadmin_cmdb.hosts import services

    services.publish_ids(db.session.scalars(hosts_at(name, object_id)).all())


def hosts_at(name: str, object_id: int) -> Any:
    """The query of the ids of the hosts at a site, in a room or rack, or of a customer."""
    from ezadmin_cmdb.datacenter.racks import Rack
    from ezadmin_cmdb.hosts.models import Host

    condition = {
        "site": Host.site_id == object_id,
        "customer": Host.customer_id == object_id,
        "rack": Host.rack_id == object_id,
        "room": Host.rack_id.in_(select(Rack.id).where(Rack.room_id == object_id)),
    }[name]
    return select(Host.id).where(condition).order_by(Host.id)


def _follow(actor: Actor, name: str, obj: Any) -> None:
    """Hosts and devices go along with their rack or room to another site: a few queries for all, a change record each."""
    from ezadmin_cmdb.datacenter.devices import Device
    from ezadmin_cmdb.datacenter.racks import Rack
    from ezadmin_cmdb.datacenter.sites import Site
    from ezadmin_cmdb.hosts.models import Host

    site = obj.site if name == "room" else obj.room.site
    racks = select(Rack.id).where(Rack.room_id == obj.id) if name == "room" else [obj.id]
    for kind, model in (("host", Host), ("device", Device)):
        moved = db.session.execute(
            select(model.id, model.name, Site.id, Site.name)
            .outerjoin(Site, Site.id == model.site_id)
            .where(model.rack_id.in_(racks), model.site_id.is_distinct_from(site.id))
        ).all()
        ids = [row[0] for row in moved]
        db.session.execute(update(model).where(model.id.in_(ids)).values(site_id=site.id))
        db.session.expire_all()
        for object_id, object_name, old_id, old_name in moved:
            before = {"site": None if old_id is None else {"id": old_id, "name": old_name}}
            changes.record(
                actor, kind, str(object_id), object_name, before, {"site": {"id": site.id, "name": site.name}}
            )

"""Lists of hosts: searched, sorted, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, selectinload

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts.models import Address, Host, HostLabel, Nic
from ezadmin_cmdb.hosts.services import visible

PAGE = 50
PAGE_MAX = 500
SORTS: dict[str, InstrumentedAttribute[object]] = {
    "name": Host.name,
    "os": Host.os_name,
    "cpu": Host.cpu_logical,
    "memory": Host.memory,
    "disk": Host.disk_total,
    "seen": Host.agent_collected,
    "state": Host.state,
}
SEARCHED = (
    Host.id, Host.name, Host.hostname, Host.fqdn, Host.os_name, Host.os_version, Host.kernel, Host.vendor, Host.model,
    Host.serial, Host.cpu_model,
)  # fmt: skip
WORDS_MAX = 8


@dataclass(frozen=True)
class Listing:
    """A page of hosts; ``total`` of all that match, ``page`` from 1."""

    hosts: Sequence[Host]
    total: int
    page: int
    size: int

    @property
    def pages(self) -> int:
        """Number of pages, at least 1."""
        return max(1, -(-self.total // self.size))


def search(
    actor: Actor, words: str = "", sort: str = "name", descending: bool = False, page: int = 1, size: int = PAGE
) -> Listing:
    """The visible hosts in which every word is found: in names, system, hardware, addresses or labels (``name=value``).

    An unknown ``sort`` sorts by name; a ``page`` beyond the last one is the last one.
    """
    query = visible(actor)
    for word in words.split()[:WORDS_MAX]:
        query = query.where(_matches(word))
    total = db.session.scalar(select(func.count()).select_from(query.with_only_columns(Host.id).subquery())) or 0
    pages = max(1, -(-total // size))
    page = min(max(page, 1), pages)
    # the ids first: to sort and skip whole rows costs several times more
    ids = db.session.scalars(
        _sorted(query.with_only_columns(Host.id), sort, descending).limit(size).offset((page - 1) * size)
    ).all()
    loaded = db.session.scalars(
        select(Host)
        .where(Host.id.in_(ids))
        .options(selectinload(Host.nics).selectinload(Nic.addresses), selectinload(Host.labels))
    )
    by_id = {host.id: host for host in loaded}
    return Listing([by_id[host_id] for host_id in ids], total, page, size)


def everything(actor: Actor) -> Sequence[Host]:
    """All visible hosts by name."""
    return db.session.scalars(_sorted(visible(actor), "name", False)).all()


def _sorted(query: Select[Any], sort: str, descending: bool) -> Select[Any]:
    column = SORTS.get(sort, Host.name)
    order = [column.desc() if descending else column.asc()]
    if column is Host.name:
        return query.order_by(*order, Host.id)  # an index has this order
    # what is not known stands at the end
    return query.order_by(column.is_(None), *order, Host.name, Host.id)


def _matches(word: str) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [column.contains(word, autoescape=True) for column in SEARCHED]
    address = select(Nic.host_id).join(Address).where(Address.address.startswith(word, autoescape=True))
    mac = select(Nic.host_id).where(Nic.mac.startswith(word.upper().replace(":", "-"), autoescape=True))
    name, sign, value = word.partition("=")
    label = select(HostLabel.host_id).where(
        HostLabel.name == name if sign else HostLabel.value.contains(word, autoescape=True)
    )
    if sign and value:
        label = label.where(HostLabel.value == value)
    return or_(*conditions, *(Host.id.in_(found) for found in (address, mac, label)))

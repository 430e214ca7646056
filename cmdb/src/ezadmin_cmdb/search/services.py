"""Looking for a text in everything that an actor may see, kind by kind. Nothing is noted as refused: nothing was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from sqlalchemy import case

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe.description import Description, find, known
from ezadmin_cmdb.describe.fields import Computed, Reference, References
from ezadmin_cmdb.describe.query import Query, load, narrowed
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.search import words

TEXT_MAX = 200
SHOWN = 5
"""Hits of a kind as one types."""
LISTED = 50
"""Hits of a kind on the page of results, and the most that the API gives."""


@dataclass(frozen=True)
class Hit:
    """Something that was found. ``why``: (label, text) of what matched, if it is not the name."""

    id: Any
    name: str
    why: tuple[object, str] | None = None


@dataclass(frozen=True)
class Group:
    """What was found of a kind; ``more``: there is more of it. ``hosts_by``: the parameter of the list of hosts that finds
    those that belong to a hit."""

    description: Description
    hits: Sequence[Hit]
    more: bool
    hosts_by: str | None


def search(actor: Actor, text: str, limit: int = LISTED, kinds: Sequence[str] = ()) -> list[Group]:
    """What holds all words of ``text``, the best of each kind first; hosts before other kinds.

    ``kinds``: only these, by the names of their descriptions.
    """
    query = Query(words=text.strip()[:TEXT_MAX])
    if not query.words:
        return []
    groups = []
    for description in searchable(actor):
        if kinds and description.name not in kinds:
            continue
        found = _ids(actor, description, query, limit + 1)
        if found:
            hits = [_hit(description, obj, query.words) for obj in load(description, found[:limit])]
            groups.append(Group(description, hits, len(found) > limit, _hosts_by(actor, description)))
    return groups


def searchable(actor: Actor) -> Iterator[Description]:
    """The kinds that an actor can search: what he may see somewhere, but for records of what happened."""
    for description in sorted(known(), key=lambda one: not one.about_hosts):
        record = not (description.creatable or description.changeable or description.deletable)
        words_in_it = description.search is not None or any(one.searched for one in description.fields)
        if words_in_it and not record and rights.may(actor, description.view):
            yield description


def _ids(actor: Actor, description: Description, query: Query, limit: int) -> Sequence[Any]:
    model = description.model
    start = narrowed(description, query, description.visible(actor)).with_only_columns(model.id)
    key: Any = getattr(model, description.key, None)
    if hasattr(key, "startswith") and not isinstance(description.field(description.key), Computed):
        rank = case((key == query.words, 0), (key.startswith(query.words, autoescape=True), 1), else_=2)
        start = start.order_by(rank, key)
    return db.session.scalars(start.order_by(model.id).limit(limit)).all()


def _hit(description: Description, obj: Any, text: str) -> Hit:
    name = description.object_name(obj)
    missing = [word for word in text.split() if not words.is_in(name, word)]
    return Hit(obj.id, name, _why(description, obj, missing[0]) if missing else None)


def _why(description: Description, obj: Any, word: str) -> tuple[object, str] | None:
    """The field in which a word stands that is not in the name."""
    network = words.network(word)
    for one in description.all_fields():
        if one.name == description.key or not (one.searched or isinstance(one, Computed)):
            continue
        for text in _texts(one.get(obj)):
            if network is not None and _inside(text, network):
                return one.label, text
            if words.is_in(text, word) or text == word:
                return one.label, one.shown(one.get(obj)) or text if one.searched else text
    if isinstance(obj, Host) and (wanted := words.mac(word)):
        found = next((nic for nic in obj.nics if (nic.mac or "").startswith(wanted)), None)
        return ("MAC", f"{found.mac} ({found.name})") if found else None
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (f"{name}={text}" for name, text in value.items())
    elif isinstance(value, (list, tuple)):
        yield from map(str, value)
    elif value is not None:
        yield str(value)


def _inside(text: str, network: words.Network) -> bool:
    try:
        return ip_address(text.partition("%")[0].partition("/")[0]) in network
    except ValueError:
        return False


def _hosts_by(actor: Actor, description: Description) -> str | None:
    host = find("host")
    if not rights.may(actor, host.view):
        return None
    return next(
        (
            one.name
            for one in host.fields
            if isinstance(one, (Reference, References)) and one.to == description.name and one.filterable
        ),
        None,
    )

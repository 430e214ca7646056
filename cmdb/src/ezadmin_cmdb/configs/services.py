"""The managed configuration: what it is for a host, where each part of it comes from, and who has another one.

A host's is merged of all active ones for its groups and for all hosts: source by source and key by key, where the higher
priority holds (of equal ones that of a group, then the newer). The same content has one number, under which agents know it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, event, func, select, text, update
from sqlalchemy.orm import Session, SessionTransaction

from ezadmin_cmdb.configs.models import AgentConfig, EffectiveConfig
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.enrolment.models import HostLine
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts.models import Host
from ezadmin_wire import WireError, managed
from ezadmin_wire.fields import dump

MAX_BYTES = 128 * 1024
"""Of one configuration; a command holds what is merged of all (:data:`ezadmin_wire.commands.MAX_BYTES`)."""
_CHANGED = "agent_configs_changed"
_CHUNK = 1000


@dataclass(frozen=True)
class Part:
    """A key of a source, its value, and the configuration that it comes from."""

    key: str
    value: Any
    origin: AgentConfig


@dataclass(frozen=True)
class Effective:
    """What a host is to have. ``parts``: by the source's name."""

    version: int
    content: dict[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Sequence[Part]] = field(default_factory=dict)


def read(content: str) -> dict[str, Any]:
    """The managed configuration that a TOML text describes. Raises Invalid that names what is wrong."""
    if len(content.encode()) > MAX_BYTES:
        raise Invalid(_("At most %(n)d KiB.", n=MAX_BYTES // 1024))
    try:
        table = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(_("This is not TOML: %(error)s", error=str(error))) from error
    try:
        dump(table)  # TOML has dates and times, JSON has none
        managed.check(table)
    except (WireError, TypeError) as error:
        raise Invalid(str(error)) from error
    return table


def write(content: Mapping[str, Any]) -> str:
    """A managed configuration as TOML."""
    blocks = []
    for entry in content.get(managed.LOGS, []):
        blocks.append(
            "\n".join(["[[logs]]", *(f"{key} = {value_text(value)}" for key, value in sorted(entry.items()))])
        )
    return "\n\n".join(blocks) + ("\n" if blocks else "")


def value_text(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {value_text(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(value_text(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What a host's configuration loses (lines with ``-``) and gets (``+``); empty if nothing."""
    lines = difflib.unified_diff(write(before).splitlines(), write(after).splitlines(), n=3, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


# -- of hosts ---


class _Merging:
    """The merged configuration of any set of groups; each is made once."""

    def __init__(self) -> None:
        query = select(AgentConfig).where(AgentConfig.active)
        # what comes later holds
        order = (AgentConfig.priority, AgentConfig.group_id.is_not(None), AgentConfig.id)
        self._configs = db.session.scalars(query.order_by(*order)).all()
        self._made: dict[tuple[int, ...], tuple[dict[str, Any], Mapping[str, Sequence[Part]]]] = {}

    def of(self, member_of: Mapping[str, str] | None) -> tuple[dict[str, Any], Mapping[str, Sequence[Part]]]:
        """Content and parts for a host in these groups (names by ids)."""
        groups = member_of or {}
        chosen = [one for one in self._configs if one.group_id is None or str(one.group_id) in groups]
        key = tuple(one.id for one in chosen)
        if key not in self._made:
            self._made[key] = _merged(chosen)
        return self._made[key]


def _merged(chosen: Iterable[AgentConfig]) -> tuple[dict[str, Any], Mapping[str, Sequence[Part]]]:
    parts: dict[str, dict[str, Part]] = {}
    layers = []
    for one in chosen:
        entries = tomllib.loads(one.content).get(managed.LOGS, [])
        layers.append(entries)
        for entry in entries:
            found = parts.setdefault(managed.name_of(entry), {})
            found.update({key: Part(key, value, one) for key, value in entry.items()})
    merged = managed.combined(layers)
    return ({managed.LOGS: merged} if merged else {}), {name: list(keys.values()) for name, keys in parts.items()}


def _numbers(contents: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The number of each content, by digest; new ones are made."""
    texts = {digest(content): content for content in contents if content}
    if not texts:
        return {}
    query = select(EffectiveConfig.digest, EffectiveConfig.version).where(EffectiveConfig.digest.in_(texts))
    found = {row.digest: row.version for row in db.session.execute(query)}
    missing = [
        {"digest": one, "content": dump(texts[one]).decode(), "created": utc_now().replace(tzinfo=None)}
        for one in texts.keys() - found.keys()
    ]
    if missing:  # another process may make the same one at the same moment
        db.session.execute(
            text(
                "INSERT IGNORE INTO effective_configs (digest, content, created) VALUES (:digest, :content, :created)"
            ),
            missing,
        )
        found = {row.digest: row.version for row in db.session.execute(query)}
    return found


def digest(content: Mapping[str, Any]) -> str:
    """By which a content is known again."""
    return hashlib.sha256(dump(content)).hexdigest()


def effective(host: Host) -> Effective:
    """What a host is to have."""
    content, parts = _Merging().of(host.member_of)
    return Effective(_numbers([content]).get(digest(content), 0), content, parts)


def wanted(host_ids: Collection[str]) -> dict[str, Effective]:
    """What hosts are to have, in a few queries for all."""
    merging = _Merging()
    rows: list[Any] = []
    ids = list(host_ids)
    for first in range(0, len(ids), _CHUNK):
        rows += db.session.execute(
            select(Host.id, Host.member_of).where(Host.id.in_(ids[first : first + _CHUNK]))
        ).all()
    made = {host_id: merging.of(member_of) for host_id, member_of in rows}
    numbers = _numbers(content for content, _parts in made.values())
    return {
        host_id: Effective(numbers.get(digest(content), 0), content, parts)
        for host_id, (content, parts) in made.items()
    }


def content_of(version: int | None) -> dict[str, Any] | None:
    """The content of a number; None for one that is not known here."""
    if not version:
        return {}
    return db.session.scalar(select(EffectiveConfig.content).where(EffectiveConfig.version == version))


def applied() -> ColumnElement[int]:
    """The version that the agent of a host says it has, 0 for none: an expression for queries of hosts."""
    said = select(HostLine.config).where(HostLine.host_id == Host.id).correlate(Host).scalar_subquery()
    return func.coalesce(said, 0)


def differs() -> ColumnElement[bool]:
    """Whether a host is to have another one than it has."""
    return Host.agent_config_wanted != applied()


def refresh_wanted() -> int:
    """Write down which version each host is to have, where that changed; returns for how many."""
    merging = _Merging()
    rows = db.session.execute(select(Host.id, Host.member_of, Host.agent_config_wanted)).all()
    made = {host_id: merging.of(member_of)[0] for host_id, member_of, _before in rows}
    by_content = {id(content): content for content in made.values()}
    numbers = _numbers(by_content.values())
    versions = {key: numbers.get(digest(content), 0) for key, content in by_content.items()}
    changed: dict[int, list[str]] = {}
    for host_id, _member_of, before in rows:
        version = versions[id(made[host_id])]
        if version != before:
            changed.setdefault(version, []).append(host_id)
    for version, ids in changed.items():
        for first in range(0, len(ids), _CHUNK):
            here = Host.id.in_(ids[first : first + _CHUNK])
            # nobody has changed the host
            db.session.execute(update(Host).where(here).values(agent_config_wanted=version, updated=Host.updated))
    return sum(map(len, changed.values()))


@event.listens_for(db.session, "after_flush")
def _note(session: Session, context: object) -> None:
    if any(isinstance(one, AgentConfig) for one in (*session.new, *session.dirty, *session.deleted)):
        session.info[_CHANGED] = True


@event.listens_for(db.session, "before_commit")
def _follow(session: Session) -> None:
    if not session.in_nested_transaction() and session.info.pop(_CHANGED, False):
        session.flush()
        refresh_wanted()


@event.listens_for(db.session, "after_soft_rollback")
def _forget(session: Session, previous: SessionTransaction) -> None:
    if previous.parent is None:
        session.info.pop(_CHANGED, None)

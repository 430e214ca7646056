"""All limits at the places where they are, and what of them holds for hosts: the one place where that is decided.

The config record of a host lists what :meth:`Places.holding` says (:mod:`ezadmin_cmdb.limits.selection`), so the pipeline
judges by it, and the pages show the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import or_, select
from sqlalchemy.orm import selectinload

from ezadmin_cmdb.hosts import labels
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.limits.models import Limit, LimitAssignment
from ezadmin_cmdb.thresholds import inheritance
from ezadmin_cmdb.thresholds.inheritance import Candidate, Step
from ezadmin_wire.config import LimitRecord
from ezadmin_wire.fields import build

Holding = list[tuple[Candidate, list[Step]]]
Key = tuple[str, Any]
"""A level and what there: vendor or model in small letters, id of a site or host, id of a group as text, label."""
LABEL = "label"


@dataclass(frozen=True)
class Standing:
    """What decides which limits a host has; ``labels``: in small letters, as labels are compared."""

    host_id: str
    name: str
    vendor: str | None
    model: str | None
    site_id: int | None
    groups: frozenset[str]
    labels: frozenset[tuple[str, str]] = frozenset()

    def stands_at(self) -> Iterator[Key]:
        """The places where it stands."""
        yield "global", None
        if self.vendor:
            yield "vendor", self.vendor.casefold()
        if self.model:
            yield "model", self.model.casefold()
        if self.site_id is not None:
            yield "site", self.site_id
        for one in self.groups:
            yield "group", one
        for label in self.labels:
            yield LABEL, label
        yield "host", self.host_id


class Places:
    """The limits by their places. Four queries, whatever there is."""

    def __init__(self, session: Any, host_ids: Collection[str] | None = None) -> None:
        """``host_ids``: of limits that are for single hosts only those for these; None for all."""
        from ezadmin_cmdb.thresholds.models import ThresholdTemplate  # its group knows rights, and those know hosts

        self._session = session
        self.at: dict[Key, list[Candidate]] = {}
        self._known: dict[tuple[Key, ...], tuple[Holding, Holding]] = {}
        limits = session.scalars(select(Limit).order_by(Limit.id)).all()
        self.records = {limit.id: build(LimitRecord, limit.definition) for limit in limits}
        by_template: dict[int, list[Limit]] = {}
        for limit in limits:
            if limit.template_id is not None:
                by_template.setdefault(limit.template_id, []).append(limit)
        names: dict[int, str] = {}
        if by_template:
            named = select(ThresholdTemplate.id, ThresholdTemplate.name)
            names = {row.id: row.name for row in session.execute(named)}
        for key, name, priority, template_id in self._assigned(host_ids) if by_template else ():
            for limit in by_template.get(template_id, ()):
                self._put(key, place_words(key[0], name), names[template_id], limit, priority)
        if len(limits) > sum(map(len, by_template.values())):
            for key, name, limit in self._single(limits, host_ids):
                self._put(key, place_words(key[0], name), limit.id, limit, 0)

    def _put(self, key: Key, place: str, title: str, limit: Limit, priority: int) -> None:
        level = "group" if key[0] == LABEL else key[0]
        made = Candidate(
            level, place, title, limit.id, self.records[limit.id], limit.off, priority, limit.template_id
        )  # fmt: skip
        self.at.setdefault(key, []).append(made)

    def _assigned(self, host_ids: Collection[str] | None) -> Iterator[tuple[Key, str, int, int]]:
        from ezadmin_cmdb.datacenter.sites import Site
        from ezadmin_cmdb.rights.models import HostGroup
        from ezadmin_cmdb.thresholds.models import ThresholdAssignment as Row

        query = select(Row, Site.name, HostGroup.name, Host.name).outerjoin(Site, Site.id == Row.site_id)
        query = query.outerjoin(HostGroup, HostGroup.id == Row.group_id).outerjoin(Host, Host.id == Row.host_id)
        if host_ids is not None:
            query = query.where(or_(Row.host_id.is_(None), Row.host_id.in_(host_ids)))
        for row, site, group, host in self._session.execute(query):
            what = {
                "global": None, "vendor": (row.value or "").casefold(), "model": (row.value or "").casefold(),
                "site": row.site_id, "group": str(row.group_id), "host": row.host_id,
            }[row.level]  # fmt: skip
            yield (row.level, what), site or group or host or row.value or "", row.priority, row.template_id

    def _single(self, limits: Iterable[Limit], host_ids: Collection[str] | None) -> Iterator[tuple[Key, str, Limit]]:
        """Limits that stand for themselves, made by the command."""
        from ezadmin_cmdb.rights.models import HostGroup

        by_id = {limit.id: limit for limit in limits}
        query = select(LimitAssignment, HostGroup.name, Host.name)
        query = query.outerjoin(HostGroup, HostGroup.id == LimitAssignment.group_id)
        query = query.outerjoin(Host, Host.id == LimitAssignment.host_id)
        if host_ids is not None:
            query = query.where(or_(LimitAssignment.host_id.is_(None), LimitAssignment.host_id.in_(host_ids)))
        for row, group, host in self._session.execute(query):
            limit = by_id[row.limit_id]
            if row.host_id is not None:
                yield ("host", row.host_id), host, limit
            elif row.group_id is not None:
                yield ("group", str(row.group_id)), group, limit
            elif row.label is not None:
                yield (LABEL, (row.label, (row.value or "").casefold())), f"{row.label}={row.value}", limit
            else:
                yield ("global", None), "", limit

    @property
    def ask_labels(self) -> bool:
        """Whether there are limits for labels, so that those of hosts must be known."""
        return any(level == LABEL for level, _what in self.at)

    def resolved(self, host: Standing) -> tuple[Holding, Holding]:
        """The limits that hold for a host, and those by which one is switched off, each with its trace."""
        keys = tuple(sorted((key for key in host.stands_at() if key in self.at), key=str))
        if keys not in self._known:
            self._known[keys] = inheritance.resolve(one for key in keys for one in self.at[key])
        return self._known[keys]

    def holding(self, host: Standing) -> list[str]:
        """The ids of the limits that hold, as the config record lists them."""
        return sorted(winner.limit_id for winner, _trace in self.resolved(host)[0])

    def tie(self) -> tuple[Candidate, Candidate] | None:
        """Two limits of which none is nearer: at one place, or in groups of the same priority; None if there are none.

        Limits of the command for groups and labels may tie: that with the greater id holds.
        """
        seen: dict[tuple[Any, ...], Candidate] = {}
        for key, candidates in self.at.items():
            for one in candidates:
                if key[0] in ("group", LABEL) and one.template_id is None:
                    continue
                where = ("group", one.priority) if key[0] == "group" else key
                other = seen.setdefault((where, one.about), one)
                if other.limit_id != one.limit_id:
                    return other, one
        return None

    def standings(self, host_ids: Collection[str] | None = None) -> list[Standing]:
        """Hosts as they stand, by id; None for all. One query, a few more where labels count."""
        if self.ask_labels:
            query = select(Host).order_by(Host.id).options(*labels.loads(), selectinload(Host.labels))
            hosts = self._session.scalars(query if host_ids is None else query.where(Host.id.in_(host_ids)))
            return [standing_of(host) for host in hosts.unique()]
        columns = (Host.id, Host.name, Host.vendor, Host.model, Host.site_id, Host.member_of)
        rows = select(*columns).order_by(Host.id)
        if host_ids is not None:
            rows = rows.where(Host.id.in_(host_ids))
        return [
            Standing(host_id, name, vendor, model, site_id, frozenset(member_of or ()))
            for host_id, name, vendor, model, site_id, member_of in self._session.execute(rows)
        ]


def standing_of(host: Host) -> Standing:
    """A host as it stands, of the object: also what is not written yet counts."""
    known = labels.effective(host).items()
    return Standing(
        host.id, host.name, host.vendor, host.model, host.site_id, frozenset(host.member_of or ()),
        frozenset((name, value.casefold()) for name, value in known),
    )  # fmt: skip


def place_words(level: str, name: str) -> str:
    """A place in words, in the language of the request."""
    if level == "global":
        return str(_("all hosts"))
    words = {
        "vendor": _("vendor %(name)s", name=name),
        "model": _("model %(name)s", name=name),
        "site": _("site %(name)s", name=name),
        "group": _("group %(name)s", name=name),
        "label": _("label %(name)s", name=name),
        "host": _("host %(name)s", name=name),
    }
    return str(words[level])

"""Searching events: pages of hits, their histogram, the lines around one, and those that come in.

Beside it: ``values`` (fields, their values, completion), ``export`` (all lines of a search) and ``exports`` (by the worker).
Every request carries the hosts of its :class:`HostScope` as a filter, whatever the query says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal

from elasticsearch import Elasticsearch
from elasticsearch.exceptions import ApiError, NotFoundError, TransportError
from flask_babel import gettext as _
from itsdangerous import BadSignature, URLSafeSerializer

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.elastic import Elastic, ElasticUnavailable, cause
from ezadmin_cmdb.errors import Conflict, Invalid, NotFound
from ezadmin_cmdb.events.services import LISTS
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.services import visible
from ezadmin_cmdb.logsearch import fields as known
from ezadmin_cmdb.logsearch import query as language
from ezadmin_cmdb.logsearch import rollups
from ezadmin_cmdb.logsearch.compile import Dsl, to_query
from ezadmin_cmdb.logsearch.times import Period, period
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import EVENTS_VIEW
from ezadmin_wire.levels import LEVELS, UNKNOWN, known_level
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time, parse_time

VIEW = EVENTS_VIEW
"""The permission for all of this (about hosts), and the scope of a token: whoever sees the events of a host may search them."""
SIZE_MAX = 500
HITS_COUNTED = 10_000
"""Up to so many hits are counted exactly; beyond, a page says "at least"."""
SECONDS = 30
"""After so long Elasticsearch answers with what it has found, and says so."""
KEEP_ALIVE = "5m"
BUCKETS = 120
LINES_MAX = 500
"""Lines before, and after, of a context; new lines of a :func:`tail`."""
HOSTS_MAX = 60_000
"""Elasticsearch takes 65,536 values in one filter."""
TAIL_OVERLAP = timedelta(seconds=5)
"""So much later than others an event may become visible that the pipeline took at the same time."""
_OPAQUE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COUNTED = 2000
"""So many ids of lines of the same moment a cursor holds at most."""


@dataclass(frozen=True)
class HostScope:
    """The hosts whose events may be seen; ``ids`` None: all. Made by :func:`scope_of`, enforced with every request."""

    ids: frozenset[str] | None

    def filter(self) -> Dsl:
        """The condition that no document of another host meets."""
        return {"match_all": {}} if self.ids is None else {"terms": {"host.id": sorted(self.ids)}}

    def narrowed(self, ids: Collection[str]) -> HostScope:
        """Only those of ``ids`` that are within."""
        return HostScope(frozenset(ids) if self.ids is None else self.ids & frozenset(ids))


@dataclass(frozen=True)
class Search:
    """What is searched: hosts, a query (:func:`ezadmin_cmdb.logsearch.query.parse`) and a time. ``zone``: of times in the query
    that name none; ``now``: what relative ones count from, so that all requests of a page mean the same."""

    scope: HostScope
    query: language.Node | None
    period: Period
    now: datetime
    zone: tzinfo = UTC


@dataclass(frozen=True)
class Hit:
    """An event. ``source``: the document, with names as written (``log.level``); ``level``: one of LEVELS.

    ``id`` and ``index`` together name it (``index`` is the day's; for :func:`context`).
    """

    id: str
    index: str
    time: datetime
    level: str
    source: Mapping[str, Any]


@dataclass(frozen=True)
class Health:
    """How whole an answer is: all shards answered in time, or not. ``reasons``: what failed shards say."""

    took_ms: int
    timed_out: bool = False
    shards: int = 0
    shards_failed: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not self.timed_out and not self.shards_failed


@dataclass(frozen=True)
class Page:
    """Some hits. ``next``: what to give as ``after`` for those that follow; None: these are the last."""

    hits: list[Hit]
    total: int
    total_is_lower_bound: bool
    health: Health
    next: str | None


@dataclass(frozen=True)
class Bucket:
    """The events of ``start`` to the next bucket; ``counts`` by level (without those of which there is none)."""

    start: datetime
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Events of all levels."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Histogram:
    """All buckets of the time, also empty ones, exact. ``seconds``: how long one is; the first and the last may be cut by the
    time searched. ``source``: ``rollup`` if (but for the edges) the pipeline's counts were read, else ``raw``."""

    buckets: list[Bucket]
    seconds: int
    total: int
    source: Literal["raw", "rollup"]
    health: Health


@dataclass(frozen=True)
class Context:
    """The lines around one, the oldest first; ``anchor``: its place among them. ``same``: the fields that all share.

    ``more_before``, ``more_after``: whether there are further ones."""

    lines: list[Hit]
    anchor: int
    same: Mapping[str, str]
    more_before: bool
    more_after: bool
    health: Health


@dataclass(frozen=True)
class Tail:
    """What came in, the oldest first. ``skipped``: newer than the last look, but older than these: too many to show.

    ``cursor``: for the next look."""

    lines: list[Hit]
    skipped: int
    cursor: str
    health: Health


# -- what is searched ---


def scope_of(actor: Actor, hosts: Collection[str] | None = None) -> HostScope:
    """The hosts whose events ``actor`` may see; of these only ``hosts`` (ids), if given. Raises Forbidden, Invalid.

    One query of the database, or none if he may see all.
    """
    rights.require(actor, VIEW)
    if actor.rights.scope(VIEW).everywhere:
        scope = HostScope(None)
    else:
        scope = HostScope(frozenset(db.session.scalars(visible(actor, VIEW).with_only_columns(Host.id))))
    if hosts is not None:
        scope = scope.narrowed(hosts)
    if scope.ids is not None and len(scope.ids) > HOSTS_MAX:
        raise Invalid(_("At most %(n)d hosts are searched at once.", n=HOSTS_MAX))
    return scope


def prepare(
    actor: Actor,
    text: str,
    start: str,
    end: str,
    *,
    hosts: Collection[str] | None = None,
    now: datetime | None = None,
    zone: tzinfo = UTC,
) -> Search:
    """A search of the texts of an address: query, ``from`` and ``to`` (``now-1h``, ISO 8601). ``hosts``: ids.

    Raises QueryError, Invalid (``fields`` names ``from``, ``to``), Forbidden.
    """
    now = now or datetime.now(UTC)
    scope = scope_of(actor, hosts)
    return Search(scope, language.parse(text), period(start, end, now, zone), now, zone)


def pattern(names: Names) -> str:
    """The indices of events."""
    return f"{names.prefix}-logs-*"


def condition(elastic: Elastic, names: Names, search: Search) -> Dsl:
    """The whole condition of a search, hosts and time included; this is what ``explain`` shows. Raises QueryError.

    The list of all processes, which agents send each minute, is left out unless the query names ``event.dataset``.
    """
    return within(search, to_query(search.query, known.registry.of(elastic, names), search.now, search.zone))


def within(search: Search, wanted: Dsl) -> Dsl:
    """``wanted``, bound to hosts and time."""
    time = {"gte": format_time(search.period.start), "lt": format_time(search.period.end)}
    bound: Dsl = {"filter": [search.scope.filter(), {"range": {"@timestamp": time}}, wanted]}
    if lists_hidden(search.query):
        bound["must_not"] = [{"terms": {"event.dataset": LISTS}}]
    return {"bool": bound}


def lists_hidden(query: language.Node | None) -> bool:
    """Whether the lists of processes are left out."""
    named = {known.ALIASES.get(one.field or "", one.field) for one in language.leaves(query)}
    return "event.dataset" not in named and not any((one or "").startswith("system.processes") for one in named)


def explain(elastic: Elastic, names: Names, search: Search) -> dict[str, Any]:
    """What Elasticsearch is asked: ``{"index", "query"}``; hosts as their number if they are more than 20. Raises QueryError."""
    shown = search
    if search.scope.ids is not None and len(search.scope.ids) > 20:
        shown = replace(search, scope=HostScope(frozenset([f"({len(search.scope.ids)} hosts)"])))
    return {"index": pattern(names), "query": condition(elastic, names, shown)}


# -- hits ---


def search(
    elastic: Elastic,
    names: Names,
    search: Search,
    *,
    size: int = 100,
    after: str | None = None,
    sort: Literal["desc", "asc"] = "desc",
    key: bytes,
    opaque_id: str | None = None,
) -> Page:
    """A page of hits by time, the newest first (``desc``). ``size`` up to SIZE_MAX; ``after``: ``next`` of the page before.

    No hit is repeated or left out between pages, also of equal times, for they are read from one view of the indices, kept for
    5 minutes from page to page. ``key`` (the application's secret key) signs ``next``. ``opaque_id``: of :func:`opaque`.
    Raises QueryError; Conflict if ``after`` is too old; Invalid if it is none of ours; ElasticUnavailable.
    """
    wanted = condition(elastic, names, search)
    client = elastic.client(SECONDS + 5, opaque_id)
    cursor = _unsigned(key, after) if after is not None else {"pit": open_view(client, names)}
    body: Dsl = {
        "size": max(1, min(size, SIZE_MAX)),
        "query": wanted,
        "sort": [{"@timestamp": {"order": sort}}, {"_shard_doc": {"order": sort}}],
        "pit": {"id": cursor["pit"], "keep_alive": KEEP_ALIVE},
        "track_total_hits": HITS_COUNTED,
        "timeout": f"{SECONDS}s",
    }
    if after is not None:
        body["search_after"] = cursor["after"]
    answer = asked(client, body)
    hits = answer["hits"]["hits"]
    following = None
    if len(hits) == body["size"]:
        following = _signed(key, {"pit": answer.get("pit_id", cursor["pit"]), "after": hits[-1]["sort"]})
    total = answer["hits"]["total"]
    return Page([hit_of(one) for one in hits], total["value"], total["relation"] != "eq", health_of(answer), following)


def open_view(client: Elasticsearch, names: Names, keep_alive: str = KEEP_ALIVE) -> str:
    """A view of the indices that stays as it is (a point in time); its id."""
    try:
        answer = client.open_point_in_time(
            index=pattern(names), keep_alive=keep_alive, ignore_unavailable=True, allow_partial_search_results=True
        )
    except (ApiError, TransportError) as error:
        raise ElasticUnavailable(cause(error)) from error
    return str(answer["id"])


def asked(client: Elasticsearch, body: Dsl, index: str | None = None) -> dict[str, Any]:
    """Search; part of the answer is an answer too (its health says so). Raises ElasticUnavailable; Conflict: the view is gone."""
    more: dict[str, Any] = {} if index is None else {"index": index, "ignore_unavailable": True}
    try:
        answer = client.search(body=body, allow_partial_search_results=True, **more)
    except NotFoundError as error:
        raise Conflict(_("This search is too old to be continued. Search again.")) from error
    except (ApiError, TransportError) as error:
        raise ElasticUnavailable(cause(error)) from error
    return dict(answer.body)


def hit_of(hit: Mapping[str, Any]) -> Hit:
    """A hit as Elasticsearch gives it."""
    source = hit["_source"]
    level = known_level(str(source.get("log.level", UNKNOWN)))
    return Hit(hit["_id"], hit["_index"], parse_time(source["@timestamp"]), level, source)


def health_of(*answers: Mapping[str, Any]) -> Health:
    """How whole answers are, taken together."""
    reasons = {
        str(one.get("reason", {}).get("reason", one))
        for answer in answers
        for one in answer["_shards"].get("failures", ())
    }
    return Health(
        max((one["took"] for one in answers), default=0),
        any(one["timed_out"] for one in answers),
        sum(one["_shards"]["total"] for one in answers),
        sum(one["_shards"]["failed"] for one in answers),
        tuple(sorted(reasons)),
    )


# -- the histogram ---


def histogram(
    elastic: Elastic,
    names: Names,
    search: Search,
    *,
    buckets: int = BUCKETS,
    source: Literal["auto", "raw", "rollup"] = "auto",
    opaque_id: str | None = None,
) -> Histogram:
    """Events per time and level, in at most ``buckets`` buckets (UTC). ``auto``: the pipeline's counts where the time is long
    and the query about nothing but levels, hosts by id and datasets: the same counts, sooner.

    Raises QueryError; Invalid for ``rollup`` where counts cannot answer; ElasticUnavailable.
    """
    seconds = rollups.interval(search.period, buckets)
    possible = rollups.answerable(search.query) and seconds >= 60
    if source == "rollup" and not possible:
        raise Invalid(_("The pipeline's counts know levels, datasets and hosts by id, per minute."))
    by_counts = possible and (source == "rollup" or (source == "auto" and search.period.length >= rollups.LONG))
    wanted = to_query(search.query, known.registry.of(elastic, names), search.now, search.zone)
    parts = rollups.parts(search, seconds) if by_counts else [rollups.Part(search.period, None)]
    bodies = []
    for part in parts:
        inner = replace(search, period=part.period)
        body = rollups.body(part, within(inner, wanted), seconds)
        bodies += [{"index": part.pattern(names), "ignore_unavailable": True, "allow_partial_search_results": True},
                   {**body, "timeout": f"{SECONDS}s"}]  # fmt: skip
    try:
        answers = elastic.client(SECONDS + 5, opaque_id).msearch(searches=bodies).body["responses"]
    except (ApiError, TransportError) as error:
        raise ElasticUnavailable(cause(error)) from error
    for answer in answers:
        if "error" in answer:
            raise ElasticUnavailable(f"{answer['status']}: {answer['error'].get('reason')}")
    sums = rollups.sums(list(zip(parts, answers, strict=True)))
    found, step = [], timedelta(seconds=seconds)
    first = math.floor(search.period.start.timestamp() / seconds) * seconds
    at = datetime.fromtimestamp(first, UTC)
    while at < search.period.end:
        found.append(Bucket(at, _ordered(sums.get(int(at.timestamp()), {}))))
        at += step
    counted = any(part.rollup for part in parts)
    total = sum(one.total for one in found)
    return Histogram(found, seconds, total, "rollup" if counted else "raw", health_of(*answers))


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return {level: counts[level] for level in LEVELS if level in counts}


# -- around a line, and what comes in ---


def context(
    elastic: Elastic,
    names: Names,
    scope: HostScope,
    index: str,
    id: str,
    *,
    before: int = 20,
    after: int = 20,
    widen: Literal["file", "host", "scope"] = "file",
) -> Context:
    """The lines before and after one: of the same host and file (without a file: dataset), of the same host, or of ``scope``.

    ``index``, ``id``: of a :class:`Hit`. At most LINES_MAX each; to widen, ask for more. Raises NotFound; ElasticUnavailable.
    """
    if re.fullmatch(re.escape(f"{names.prefix}-logs-") + r"[0-9]{4}\.[0-9]{2}\.[0-9]{2}", index) is None:
        raise NotFound(_("There is no such event, or it is not yours to see."))
    client = elastic.client(SECONDS + 5)
    view = open_view(client, names, "1m")
    try:
        order = _order("asc")
        one = {"bool": {"filter": [scope.filter(), {"ids": {"values": [id]}}, {"term": {"_index": index}}]}}
        common = {"pit": {"id": view, "keep_alive": "1m"}, "timeout": f"{SECONDS}s"}
        answer = asked(client, {**common, "size": 1, "query": one, "sort": order, "track_total_hits": False})
        if not answer["hits"]["hits"]:
            raise NotFound(_("There is no such event, or it is not yours to see."))
        anchor = answer["hits"]["hits"][0]
        same = _same(anchor["_source"], widen)
        around = [scope.filter(), *({"term": {name: {"value": value}}} for name, value in same.items())]
        query: Dsl = {"bool": {"filter": around}}
        if "event.dataset" not in same and anchor["_source"].get("event.dataset") not in LISTS:
            query["bool"]["must_not"] = [{"terms": {"event.dataset": LISTS}}]
        sides = []
        for direction, number in (("desc", before), ("asc", after)):
            wanted = max(0, min(number, LINES_MAX))
            body = {
                **common, "size": wanted + 1, "query": query, "sort": _order(direction), "track_total_hits": False,
                "search_after": anchor["sort"],
            }  # fmt: skip
            got = asked(client, body)
            sides.append((got, [hit_of(hit) for hit in got["hits"]["hits"][:wanted]], wanted))
    finally:
        close_view(client, view)
    (old, older, old_wanted), (new, newer, new_wanted) = sides
    return Context(
        [*reversed(older), hit_of(anchor), *newer],
        len(older),
        same,
        len(old["hits"]["hits"]) > old_wanted,
        len(new["hits"]["hits"]) > new_wanted,
        health_of(answer, old, new),
    )


def _order(direction: str) -> list[Dsl]:
    """Lines of one file and moment have their places in the file; other ones the order in which the indices hold them."""
    return [
        {"@timestamp": {"order": direction}},
        {"log.offset": {"order": direction, "missing": -1, "unmapped_type": "long"}},
        {"_shard_doc": {"order": direction}},
    ]


def _same(source: Mapping[str, Any], widen: str) -> dict[str, str]:
    if widen == "scope":
        return {}
    found = {"host.id": str(source.get("host.id", ""))}
    if widen == "file":
        name = "log.file.path" if source.get("log.file.path") else "event.dataset"
        found[name] = str(source.get(name, ""))
    return found


def tail(
    elastic: Elastic,
    names: Names,
    scope: HostScope,
    query: language.Node | None,
    *,
    after: str | None = None,
    lines: int = 100,
    key: bytes,
    now: datetime | None = None,
    zone: tzinfo = UTC,
) -> Tail:
    """What the pipeline took since the last look (``after``: its ``cursor``), however old the events themselves are.

    Without ``after``: the newest lines. At most ``lines`` (LINES_MAX) are given, the newest; the others are counted in
    ``skipped``. ``now``: when the tail was begun, for relative times in the query. Raises as :func:`search`.
    """
    client = elastic.client(SECONDS + 5)
    wanted = to_query(query, known.registry.of(elastic, names), now or datetime.now(UTC), zone)
    size = max(1, min(lines, LINES_MAX))
    bound: Dsl = {"filter": [scope.filter(), wanted], "must_not": []}
    if lists_hidden(query):
        bound["must_not"].append({"terms": {"event.dataset": LISTS}})
    seen: dict[str, str] = {}
    if after is None:
        since = format_time((now or datetime.now(UTC)) - timedelta(minutes=15))
        bound["filter"].append({"range": {"event.ingested": {"gte": since}}})
    else:
        cursor = _unsigned(key, after)
        seen, since = dict(cursor["seen"]), cursor["since"]
        bound["filter"].append({"range": {"event.ingested": {"gte": since}}})
        bound["must_not"].append({"ids": {"values": list(seen)}})
    body = {
        "size": size, "query": {"bool": bound}, "track_total_hits": after is not None, "timeout": f"{SECONDS}s",
        "sort": [{"event.ingested": {"order": "desc"}}, {"@timestamp": {"order": "desc"}}],
    }  # fmt: skip
    answer = asked(client, body, pattern(names))
    hits = answer["hits"]["hits"]
    skipped = max(0, answer["hits"]["total"]["value"] - len(hits)) if after is not None else 0
    seen |= {one["_id"]: str(one["_source"]["event.ingested"]) for one in hits}
    newest = max(seen.values(), default=since)
    # what was skipped must not come as new with the next look: then only what is newer does
    floor = newest if after is None or skipped else max(since, format_time(parse_time(newest) - TAIL_OVERLAP))
    kept = {one: time for one, time in seen.items() if time >= floor}
    if len(kept) > _COUNTED:
        floor, kept = newest, {one: time for one, time in seen.items() if time >= newest}
    found = sorted((hit_of(one) for one in hits), key=lambda one: (one.time, one.id))
    return Tail(found, skipped, _signed(key, {"since": floor, "seen": kept}), health_of(answer))


# -- giving up ---


def opaque(actor: Actor, given: str) -> str:
    """The id under which Elasticsearch runs a search, of what the page gave it (letters, digits, ``-``, ``_``). Raises Invalid.

    It holds the user, so that nobody cancels the searches of another.
    """
    if _OPAQUE.fullmatch(given) is None:
        raise Invalid(_("An id of a search has at most 64 letters, digits, - and _."), "id")
    return f"ezadmin-logs/{actor.user_id}/{given}"


def cancel(elastic: Elastic, opaque_id: str) -> int:
    """End the searches that run under an id of :func:`opaque`; returns how many were told so. Raises ElasticUnavailable."""
    client = elastic.client(5)
    try:
        nodes = client.tasks.list(actions="indices:data/read/*", detailed=False).body.get("nodes", {})
        mine = [
            name
            for node in nodes.values()
            for name, task in node["tasks"].items()
            if task.get("headers", {}).get("X-Opaque-Id") == opaque_id and "parent_task_id" not in task
        ]
        for name in mine:
            client.tasks.cancel(task_id=name)
    except (ApiError, TransportError) as error:
        raise ElasticUnavailable(cause(error)) from error
    return len(mine)


def close_view(client: Elasticsearch, view: str) -> None:
    """Give a view back, if Elasticsearch listens; else it does so itself after a while."""
    try:
        client.close_point_in_time(id=view)
    except (ApiError, TransportError):
        return


def _signed(key: bytes, cursor: Mapping[str, Any]) -> str:
    return str(URLSafeSerializer(key, "ezadmin log search").dumps(cursor))


def _unsigned(key: bytes, text: str) -> dict[str, Any]:
    try:
        return dict(URLSafeSerializer(key, "ezadmin log search").loads(text))
    except BadSignature:
        raise Invalid(_("This place in a search is none that we gave."), "after") from None

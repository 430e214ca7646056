"""Searching events: pages of hits, their histogram, the lines around one, and those that come in.

Beside it: ``values`` (fields, their values, completion) and ``export`` (all lines of a search).
Every request carries the hosts of its :class:`HostScope` as a filter, whatever the query says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal

from elasticsearch import Elasticsearch
from elasticsearch.exceptions import ApiError, TransportError
from flask_babel import gettext as _
from itsdangerous import BadSignature, URLSafeSerializer

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.elastic import Elastic, ElasticUnavailable, cause
from ezadmin_cmdb.errors import Invalid, NotFound
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
BUCKETS = 120
LINES_MAX = 500
"""Lines before, and after, of a context; new lines of a :func:`tail`."""
HOSTS_MAX = 60_000
"""Elasticsearch takes 65,536 values in one filter."""
TAIL_OVERLAP = timedelta(seconds=5)
"""So much later than others an event may become visible that the pipeline took at the same time."""
_COUNTS = [
    f"responses.{one}"
    for one in (
        "took", "timed_out", "_shards", "status", "error", "aggregations.times.buckets.key",
        "aggregations.times.buckets.levels.sum_other_doc_count", "aggregations.times.buckets.levels.buckets",
    )
]  # fmt: skip
"""What is read of the answers of a histogram: half of them."""
_JSON = {"accept": "application/json"}
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

    A relative begin of a long time is that of its minute, so that the pipeline's counts, which are per minute, can tell all.
    Raises QueryError, Invalid (``fields`` names ``from``, ``to``), Forbidden.
    """
    now = now or datetime.now(UTC)
    scope = scope_of(actor, hosts)
    asked = period(start, end, now, zone)
    if asked.length >= rollups.LONG and start.strip().startswith("now"):
        asked = replace(asked, start=asked.start.replace(second=0, microsecond=0))
    return Search(scope, language.parse(text), asked, now, zone)


def pattern(names: Names) -> str:
    """All indices of events."""
    return f"{names.prefix}-logs-*"


def indices(names: Names, search: Search) -> str:
    """The indices in which events of the time of a search may stand."""
    return rollups.Part((search.period,), None).pattern(names, search.now)


def condition(elastic: Elastic, names: Names, search: Search) -> Dsl:
    """The whole condition of a search, hosts and time included; this is what ``explain`` shows. Raises QueryError.

    The list of all processes, which agents send each minute, is left out unless the query names ``event.dataset``.
    """
    return within(search, to_query(search.query, known.registry.of(elastic, names), search.now, search.zone))


def within(search: Search, wanted: Dsl) -> Dsl:
    """``wanted``, bound to hosts and time."""
    return _within(search, (search.period,), wanted)


def _within(search: Search, periods: Sequence[Period], wanted: Dsl) -> Dsl:
    times: list[Dsl] = [
        {"range": {"@timestamp": {"gte": format_time(one.start), "lt": format_time(one.end)}}} for one in periods
    ]
    one_of = times[0] if len(times) == 1 else {"bool": {"should": times, "minimum_should_match": 1}}
    bound: Dsl = {"filter": [search.scope.filter(), one_of, wanted]}
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
    return {"index": indices(names, search), "query": condition(elastic, names, shown)}


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

    No hit is repeated or left out between pages, also of equal times, and what comes in meanwhile moves none. ``total`` is always
    that of the first page. ``key`` (the application's secret key) signs ``next``. ``opaque_id``: of :func:`opaque`.
    Raises QueryError; Invalid if ``after`` is none of ours; ElasticUnavailable.
    """
    cursor = {} if after is None else _unsigned(key, after)
    body: Dsl = {
        "size": max(1, min(size, SIZE_MAX)),
        "track_total_hits": HITS_COUNTED if after is None else False,
        "timeout": f"{SECONDS}s",
        **following(condition(elastic, names, search), sort, cursor),
    }
    answer = asked(elastic.client(SECONDS + 5, opaque_id), body, indices(names, search))
    hits = answer["hits"]["hits"]
    total = answer["hits"].get("total") or cursor["total"]
    more = _signed(key, {"total": total, **place_after(hits, cursor)}) if len(hits) == body["size"] else None
    return Page([hit_of(one) for one in hits], total["value"], total["relation"] != "eq", health_of(answer), more)


def following(wanted: Dsl, sort: str, place: Mapping[str, Any]) -> Dsl:
    """Query and order of the hits after a place (:func:`place_after`; empty: from the first on).

    Elasticsearch's own place within a view (``_shard_doc``) would not do: it numbers only the shards that can have hits, so that
    a number means another shard once a search has left a day behind.
    """
    body: Dsl = {"query": wanted, "sort": [{"@timestamp": {"order": sort}}, {"_seq_no": {"order": sort}}]}
    if place.get("ids"):
        body["query"] = {"bool": {"filter": [wanted], "must_not": [{"ids": {"values": place["ids"]}}]}}
    if place.get("after"):
        body["search_after"] = place["after"]
    return body


def place_after(hits: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> dict[str, Any]:
    """The place after hits that were found after the place ``before``: all of a later rank than ``after``, but for ``ids``.

    ``last`` is the rank of the last hit, ``ids`` those that share it (in different indices two events may).
    """
    last = hits[-1]["sort"]
    ids = [one["_id"] for one in hits if one["sort"] == last]
    after = next((one["sort"] for one in reversed(hits) if one["sort"] != last), None)
    if before.get("last") == last:
        return {"after": before["after"], "last": last, "ids": [*before["ids"], *ids]}
    return {"after": after or before.get("last"), "last": last, "ids": ids}


def asked(client: Elasticsearch, body: Dsl, index: str) -> dict[str, Any]:
    """Search; part of the answer is an answer too (its health says so). Raises ElasticUnavailable."""
    try:
        answer = client.search(body=body, index=index, ignore_unavailable=True, allow_partial_search_results=True)
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
    parts = rollups.parts(search, seconds) if by_counts else [rollups.Part((search.period,), None)]
    bodies = []
    for part in parts:
        body = rollups.body(part, _within(search, part.periods, wanted), seconds)
        bodies += [{"index": part.pattern(names, search.now), "ignore_unavailable": True, "allow_partial_search_results": True},
                   {**body, "timeout": f"{SECONDS}s"}]  # fmt: skip
    try:
        answers = elastic.client(SECONDS + 5, opaque_id).msearch(searches=bodies, filter_path=_COUNTS).body["responses"]
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
    client, every = elastic.client(SECONDS + 5), pattern(names)
    order, common = _order("asc"), {"timeout": f"{SECONDS}s", "track_total_hits": False}
    one = {"bool": {"filter": [scope.filter(), {"ids": {"values": [id]}}]}}
    answer = asked(client, {**common, "size": 1, "query": one, "sort": order}, index)
    if not answer["hits"]["hits"]:
        raise NotFound(_("There is no such event, or it is not yours to see."))
    anchor = answer["hits"]["hits"][0]
    same = _same(anchor["_source"], widen)
    around = [scope.filter(), *({"term": {name: {"value": value}}} for name, value in same.items())]
    query: Dsl = {"bool": {"filter": around}}
    if "event.dataset" not in same and anchor["_source"].get("event.dataset") not in LISTS:
        query["bool"]["must_not"] = [{"terms": {"event.dataset": LISTS}}]
    # in another shard one may have the very same rank: such are before it
    query["bool"]["must_not"] = [*query["bool"].get("must_not", ()), {"ids": {"values": [anchor["_id"]]}}]
    *rank, number = anchor["sort"]
    sides = []
    for direction, lines, place in (("desc", before, [*rank, number + 1]), ("asc", after, anchor["sort"])):
        wanted = max(0, min(lines, LINES_MAX))
        body = {
            **common, "size": wanted + 1, "query": query, "sort": _order(direction), "search_after": place,
        }  # fmt: skip
        got = asked(client, body, every)
        sides.append((got, [hit_of(hit) for hit in got["hits"]["hits"][:wanted]], wanted))
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
    """Lines of one file and moment have their places in the file; other ones the order in which they came."""
    return [
        {"@timestamp": {"order": direction}},
        {"log.offset": {"order": direction, "missing": -1, "unmapped_type": "long"}},
        {"_seq_no": {"order": direction}},
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
        "sort": [{"event.ingested": {"order": "desc"}}, {"_seq_no": {"order": "desc"}}],
    }  # fmt: skip
    answer = asked(client, body, pattern(names))
    hits = answer["hits"]["hits"]
    skipped = max(0, answer["hits"]["total"]["value"] - len(hits)) if after is not None else 0
    seen |= {one["_id"]: str(one["_source"]["event.ingested"]) for one in hits}
    newest = max(seen.values(), default=since)
    floor = max(since, format_time(parse_time(newest) - TAIL_OVERLAP))
    if len(hits) == size:  # what was left out, which is older, must not come as new with the next look
        oldest = parse_time(str(hits[-1]["_source"]["event.ingested"]))
        floor = max(floor, format_time(oldest + timedelta(milliseconds=1)))
    kept = {one: time for one, time in seen.items() if time >= floor}
    if len(kept) > _COUNTED:
        floor, kept = newest, {one: time for one, time in seen.items() if time >= newest}
    found = sorted((hit_of(one) for one in reversed(hits)), key=lambda one: one.time)
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
        # the client's own functions of tasks warn that they may change
        listed = client.perform_request("GET", "/_tasks?actions=indices:data/read/*", headers=_JSON)
        nodes = dict(listed.body).get("nodes", {})
        mine = [
            name
            for node in nodes.values()
            for name, task in node["tasks"].items()
            if task.get("headers", {}).get("X-Opaque-Id") == opaque_id and "parent_task_id" not in task
        ]
        for name in mine:
            client.perform_request("POST", f"/_tasks/{name}/_cancel", headers=_JSON)
    except (ApiError, TransportError) as error:
        raise ElasticUnavailable(cause(error)) from error
    return len(mine)


def _signed(key: bytes, cursor: Mapping[str, Any]) -> str:
    return str(URLSafeSerializer(key, "ezadmin log search").dumps(cursor))


def _unsigned(key: bytes, text: str) -> dict[str, Any]:
    try:
        return dict(URLSafeSerializer(key, "ezadmin log search").loads(text))
    except BadSignature:
        raise Invalid(_("This place in a search is none that we gave."), "after") from None

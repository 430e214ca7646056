"""Fields of events, their most frequent values, and the completion of a query that is being written."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

from flask_babel import gettext as _

from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.logsearch import fields as known
from ezadmin_cmdb.logsearch import query as language
from ezadmin_cmdb.logsearch import services
from ezadmin_cmdb.logsearch.fields import LogField
from ezadmin_cmdb.logsearch.services import Health, Search
from ezadmin_cmdb.web.formats import plain
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.names import Names

SAMPLE = 500
"""Newest events that are looked at for the fields that events have."""
COUNTED_WHOLE = 100_000
"""Up to so many events are counted for top values; of more about so many, chosen at random."""
TOP = 10
_SHARD_VALUES = 2000
"""So many values each shard names: with fewer, counts of those that are rare in one would be too low."""
COMPLETIONS = 12
TITLE_MAX = 120
"""Characters of a value that its completion shows."""
_COMPLETION_SECONDS = 2


@dataclass(frozen=True)
class FieldUse:
    """A field, and in how many of ``sampled`` events it stands (``found``)."""

    field: LogField
    found: int
    sampled: int


@dataclass(frozen=True)
class TopValue:
    """A value as text, and how many events have it (of a sample: about); ``share`` of all events, 0 to 1."""

    value: str
    count: int
    share: float


@dataclass(frozen=True)
class TopValues:
    """The most frequent values of a field. ``events``: all of the search; ``sampled``: of how many of them these were counted;
    ``exact``: of all. ``with_field``: events that have the field (of a sample: about)."""

    field: str
    values: list[TopValue]
    events: int
    sampled: int
    exact: bool
    with_field: int
    health: Health


@dataclass(frozen=True)
class Completion:
    """What may stand in the query instead of the characters ``start`` to ``end``: ``text`` is put there, ``title`` is shown."""

    kind: Literal["field", "value", "keyword"]
    text: str
    title: str
    start: int
    end: int


def fields(
    elastic: Elastic, names: Names, search: Search, opaque_id: str | None = None
) -> tuple[list[FieldUse], Health]:
    """All fields, those first that the newest events of a search have. Raises QueryError, ElasticUnavailable.

    Members of flattened fields (``fields.user``) are named only if such an event has them. ``opaque_id``: here and below, of
    :func:`ezadmin_cmdb.logsearch.services.opaque`.
    """
    all_fields = known.registry.of(elastic, names)
    body = {
        "size": SAMPLE, "query": services.condition(elastic, names, search), "sort": [{"@timestamp": "desc"}],
        "track_total_hits": False, "timeout": f"{services.SECONDS}s",
        "_source": {"excludes": ["message", "system.processes.list", "error.stack_trace"]},
    }  # fmt: skip
    answer = services.asked(elastic.client(services.SECONDS + 5, opaque_id), body, services.indices(names, search))
    hits = answer["hits"]["hits"]
    counts: Counter[str] = Counter()
    for hit in hits:
        counts["message"] += 1
        for name, value in hit["_source"].items():
            counts.update(_names_in(name, value, all_fields))
    found = [FieldUse(one, counts[one.name], len(hits)) for one in all_fields.values() if one.type != known.FLATTENED]
    for name in counts.keys() - all_fields.keys():
        if (one := known.find(all_fields, name)) is not None:
            found.append(FieldUse(one, counts[name], len(hits)))
    found.sort(key=lambda one: (one.found == 0, one.field.name))
    return found, services.health_of(answer)


def _names_in(name: str, value: Any, all_fields: known.Fields) -> list[str]:
    """The names of what a member of a document holds: of a flattened field those within it."""
    one = all_fields.get(name)
    if one is None or one.type != known.FLATTENED or not isinstance(value, dict):
        return [name]
    found = []
    for inner, below in value.items():
        path = f"{name}.{inner}"
        found += [f"{path}.{key}" for key in _paths(below)] if isinstance(below, dict) else [path]
    return found


def _paths(value: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for name, below in value.items():
        found += [f"{name}.{key}" for key in _paths(below)] if isinstance(below, dict) else [name]
    return found


def top_values(
    elastic: Elastic, names: Names, search: Search, field: str, *, size: int = TOP, opaque_id: str | None = None
) -> TopValues:
    """The most frequent values of a field among the events of a search; beyond COUNTED_WHOLE events of a random sample.

    Raises Invalid for a field whose values cannot be counted (text), or that is none; QueryError; ElasticUnavailable.
    """
    one = known.find(known.registry.of(elastic, names), field)
    if one is None or not one.countable:
        raise Invalid(_("The values of %(field)s cannot be counted.", field=field), "field")
    client, index = elastic.client(services.SECONDS + 5, opaque_id), services.indices(names, search)
    condition = services.condition(elastic, names, search)
    common = {"size": 0, "query": condition, "timeout": f"{services.SECONDS}s"}
    counted = services.asked(client, {**common, "track_total_hits": True}, index)
    events = counted["hits"]["total"]["value"]
    inner: dict[str, Any] = {
        "top": {"terms": {"field": one.name, "size": max(1, min(size, 100)), "shard_size": _SHARD_VALUES}},
        "with": {"filter": {"exists": {"field": one.name}}},
    }
    exact = events <= COUNTED_WHOLE
    if not exact:
        chance = min(0.5, COUNTED_WHOLE / events)
        inner = {"sample": {"random_sampler": {"probability": chance, "seed": 1}, "aggs": inner}}
    answer = services.asked(client, {**common, "track_total_hits": False, "aggs": inner}, index)
    result = answer.get("aggregations", {})
    sampled = events
    if not exact:
        result = result.get("sample", {})
        sampled = result.get("doc_count", 0)
    values = [
        TopValue(
            str(bucket.get("key_as_string", bucket["key"])), bucket["doc_count"], bucket["doc_count"] / (events or 1)
        )
        for bucket in result.get("top", {}).get("buckets", ())
    ]
    with_field = result.get("with", {}).get("doc_count", 0)
    health = services.health_of(answer)  # both ask the same parts
    health = replace(health, timed_out=health.timed_out or counted["timed_out"])
    return TopValues(one.name, values, events, sampled, exact, with_field, health)


_BEFORE = re.compile(
    r"""(?P<field>[\w@.\-]+)\s*(?::|[<>]=?)\s*(?:\((?:[^()"]|"[^"]*")*)?(?P<value>"[^"]*|[^\s()"\[\]]*)$"""
)
_WORD = re.compile(r"[\w@.\-]*$")


def complete(
    elastic: Elastic, names: Names, search: Search, text: str, at: int | None = None, opaque_id: str | None = None
) -> list[Completion]:
    """What may follow in ``text`` at the caret (``at``; else its end): names of fields, or values that events of ``search`` have.

    Values come of the hosts of the search only. Raises ElasticUnavailable.
    """
    head = text[: len(text) if at is None else max(0, at)][-language.LENGTH_MAX :]
    shift = (len(text) if at is None else min(max(0, at), len(text))) - len(head)
    all_fields = known.registry.of(elastic, names)
    before = _BEFORE.search(head)
    if before is not None and (one := known.find(all_fields, before["field"])) is not None:
        start = before.start("value") + shift
        typed = before["value"].lstrip('"')
        return [
            Completion("value", _written(value), plain(value[:TITLE_MAX]), start, len(head) + shift)
            for value in _values(elastic, names, search, one, typed, opaque_id)
        ]
    match = _WORD.search(head)
    word = match[0] if match is not None else ""
    if head.count('"') % 2 or not word:
        return []
    start, end = len(head) - len(word) + shift, len(head) + shift
    lower = word.lower()
    names_found = [*known.ALIASES, *sorted(all_fields)]
    first = [one for one in names_found if one.startswith(lower)]
    parts = [one for one in names_found if one not in first and f".{lower}" in one]
    found = [
        Completion("field", f"{one}: ", f"{one} ({known.ALIASES[one]})" if one in known.ALIASES else one, start, end)
        for one in [*first, *parts][:COMPLETIONS]
    ]
    joined = len(head) > len(word)
    keywords = [one for one in (("and", "or") if joined else ()) + ("not",) if one.startswith(lower) and one != lower]
    return [*(Completion("keyword", f"{one} ", one, start, end) for one in keywords), *found]


def _written(value: str) -> str:
    plain = language.value_text(language.Value((value,)))
    return plain if plain == value else language.value_text(language.Value((value,), True))


def _values(
    elastic: Elastic, names: Names, search: Search, field: LogField, typed: str, opaque_id: str | None
) -> list[str]:
    if field.name == "log.level":
        return [one for one in LEVELS if one.startswith(typed.lower())]
    if field.type == known.BOOLEAN:
        return [one for one in ("true", "false") if one.startswith(typed.lower())]
    if field.type not in (known.KEYWORD, known.FLATTENED) or not field.countable:
        return []
    anything = replace(search, query=None)
    terms: dict[str, Any] = {"field": field.name, "size": COMPLETIONS}
    condition = services.within(anything, {"match_all": {}})
    if typed:
        condition["bool"]["filter"].append({"prefix": {field.name: {"value": typed}}})
        if field.type == known.KEYWORD:
            terms["include"] = re.sub(r"([^\w])", r"\\\1", typed, flags=re.ASCII) + ".*"
    body = {
        "size": 0, "track_total_hits": False, "timeout": f"{_COMPLETION_SECONDS}s", "query": condition,
        "aggs": {"values": {"terms": terms}},
    }  # fmt: skip
    client = elastic.client(_COMPLETION_SECONDS + 3, opaque_id)
    answer = services.asked(client, body, services.indices(names, search))
    buckets = answer.get("aggregations", {}).get("values", {}).get("buckets", ())
    return [str(one["key"]) for one in buckets if str(one["key"]).startswith(typed)]

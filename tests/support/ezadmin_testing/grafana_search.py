"""What Grafana's Elasticsearch data source asks Elasticsearch for a panel, told from its source code.

Two builders, for the work moved: up to 9.4 the browser builds the search (``QueryBuilder.ts``), later the server does
(``pkg/tsdb/elasticsearch/data_query.go``). They differ in small things that decide whether a panel works: so both are asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Value = str | Sequence[str]
STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
DEFAULT_POINTS = 500
BROWSER = "browser"
SERVER = "server"
GENERATIONS = (BROWSER, SERVER)


@dataclass(frozen=True)
class Range:
    """The dashboard's time range, ms since 1970."""

    start: int
    end: int


def lucene_escape(text: str) -> str:
    """``luceneEscape`` of the format ``lucene``."""
    return re.sub(r"([!*+\-=<>\s&|()\[\]{}^~?:\\/\"])", r"\\\1", text)


class Raw(str):
    """The ``allValue`` of a variable: what stands for "All" goes in as it is, whatever the format."""


def lucene(value: Value) -> str:
    """The format ``lucene`` of a variable's value: escaped, or the alternatives of several."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, str):
        return lucene_escape(value)
    if not value:
        return "__empty__"
    return "(" + " OR ".join(f'"{lucene_escape(part)}"' for part in value) + ")"


def glob(value: Value) -> str:
    """The format of a variable outside of queries."""
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else "{" + ",".join(value) + "}"


def interpolate(text: str, variables: Mapping[str, Value], form: Any) -> str:
    """Put in variables: ``$name``, ``${name}``, ``${name:raw}``; what is unknown stays."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in variables:
            return match[0]
        return glob(variables[name]) if match[3] == "raw" else str(form(variables[name]))

    return re.sub(r"\$(\w+)|\$\{(\w+)(?::(\w+))?\}", value, text)


def auto_interval(period: Range, points: int, least: str) -> str:
    """Width of an interval for about ``points`` of them, ``least`` at least."""
    wanted = max((period.end - period.start) / 1000 / points, seconds(least))
    return f"{next((step for step in STEPS if step >= wanted), STEPS[-1])}s"


def seconds(text: str) -> int:
    """Seconds of ``10s``, ``5m``, ``1h``, ``1d``."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]


def panel_range(panel: Mapping[str, Any], shown: Range) -> Range:
    """The time range of a panel: its own ``timeFrom`` goes before the dashboard's."""
    own = panel.get("timeFrom")
    return Range(shown.end - seconds(own) * 1000, shown.end) if own else shown


def search(
    generation: str, target: Mapping[str, Any], period: Range, variables: Mapping[str, Value], interval: str
) -> dict[str, Any]:
    """The search of one target. ``interval`` stands for ``auto``."""
    known = {**variables, "__from": str(period.start), "__to": str(period.end)}
    query = interpolate(target.get("query") or "", known, lucene)
    rest = {key: value for key, value in target.items() if key != "query"}
    plain = json.loads(interpolate(json.dumps(rest), known, glob))
    body: dict[str, Any] = {"size": 0, "query": {"bool": {"filter": _filters(period, query)}}}
    if plain["metrics"][0]["type"] == "logs":
        return _logs(generation, body, plain, period, interval)
    assert plain["bucketAggs"], "Invalid query"
    body["aggs"] = _levels(generation, plain, period, interval)
    return body


def terms_search(query: Mapping[str, Any], period: Range, variables: Mapping[str, Value]) -> dict[str, Any]:
    """The search of a query variable with ``find: terms`` (``getTermsQuery``): in both generations by the browser."""
    assert query["find"] == "terms"
    text = interpolate(query.get("query", ""), variables, lucene)
    terms = {"field": query["field"], "size": query.get("size", 500), "order": {"_key": "asc"}}
    return {"size": 0, "query": {"bool": {"filter": _filters(period, text)}}, "aggs": {"1": {"terms": terms}}}


def annotation_search(annotation: Mapping[str, Any], period: Range, variables: Mapping[str, Value]) -> dict[str, Any]:
    """The search for the marks of an annotation (``annotationQuery``): in both generations by the browser."""
    assert annotation["timeField"] == "@timestamp"
    assert annotation["target"]["query"] == annotation["query"]  # later ones read the one, 9.4 the other
    text = interpolate(annotation["target"]["query"], variables, lucene)
    limits = {"from": period.start, "to": period.end, "format": "epoch_millis"}
    within = {"bool": {"should": [{"range": {"@timestamp": limits}}], "minimum_should_match": 1}}
    return {"query": {"bool": {"filter": [within, {"query_string": {"query": text}}]}}, "size": 10000}


def header(index: str) -> dict[str, Any]:
    """The line above a search in ``_msearch``."""
    return {"search_type": "query_then_fetch", "ignore_unavailable": True, "index": index}


def _filters(period: Range, query: str) -> list[dict[str, Any]]:
    limits = {"gte": period.start, "lte": period.end, "format": "epoch_millis"}
    filters: list[dict[str, Any]] = [{"range": {"@timestamp": limits}}]
    if query:
        filters.append({"query_string": {"analyze_wildcard": True, "query": query}})
    return filters


def _levels(generation: str, target: Mapping[str, Any], period: Range, interval: str) -> dict[str, Any]:
    metrics = {metric["id"]: metric for metric in target["metrics"]}
    root: dict[str, Any] = {}
    place = root
    for level in target["bucketAggs"]:
        made: dict[str, Any] = {"aggs": {}}
        if level["type"] == "date_histogram":
            made["date_histogram"] = _histogram(generation, level, period, interval)
        elif level["type"] == "terms":
            made["terms"] = _terms(generation, level, metrics, made["aggs"])
        else:
            raise AssertionError(f"bucket aggregation {level['type']} is not used by our dashboards")
        place[level["id"]] = made
        place = made["aggs"]
    for identity, metric in metrics.items():
        if metric["type"] != "count":
            place[identity] = {metric["type"]: {"field": metric["field"], **metric.get("settings", {})}}
    return root


def _histogram(generation: str, level: Mapping[str, Any], period: Range, interval: str) -> dict[str, Any]:
    settings = level["settings"]
    count = settings.get("min_doc_count") or 0
    return {
        "field": level["field"],
        "min_doc_count": int(count) if generation == SERVER else count,
        "extended_bounds": {"min": period.start, "max": period.end},
        "format": "epoch_millis",
        "fixed_interval": interval if settings["interval"] == "auto" else settings["interval"],
    }


def _terms(
    generation: str, level: Mapping[str, Any], metrics: Mapping[str, Any], inner: dict[str, Any]
) -> dict[str, Any]:
    settings = level["settings"]
    terms: dict[str, Any] = {"field": level["field"], "size": int(settings["size"]) or 500}
    if "min_doc_count" in settings:
        terms["min_doc_count"] = int(settings["min_doc_count"])
    order = settings["orderBy"]
    # the browser knows "_term" as well, the server does not
    assert generation == BROWSER or order != "_term"
    terms["order"] = {order: settings["order"]}
    metric = metrics.get(order)
    if metric is not None:
        # sorted by a metric: it is computed on this level, too
        inner[order] = {metric["type"]: {"field": metric["field"]}}
    return terms


def _logs(
    generation: str, body: dict[str, Any], target: Mapping[str, Any], period: Range, interval: str
) -> dict[str, Any]:
    body["size"] = int(target["metrics"][0].get("settings", {}).get("limit", 500))
    body["highlight"] = {
        "fields": {"*": {}},
        "pre_tags": ["@HIGHLIGHT@"],
        "post_tags": ["@/HIGHLIGHT@"],
        "fragment_size": 2147483647,
    }
    histogram = {"id": "1", "field": "@timestamp", "settings": {"interval": "auto"}}
    body["aggs"] = {"1": {"date_histogram": _histogram(generation, histogram, period, interval), "aggs": {}}}
    newest = {"@timestamp": {"order": "desc", "unmapped_type": "boolean"}}
    if generation == BROWSER:
        body |= {"sort": [newest, {"_doc": {"order": "desc"}}], "script_fields": {}}
    else:
        body |= {
            "sort": {**newest, "_doc": {"order": "desc"}},
            "fields": [{"field": "@timestamp", "format": "strict_date_optional_time_nanos"}],
            "docvalue_fields": ["@timestamp"],
            "script_fields": {},
        }
    return body

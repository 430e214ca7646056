"""Queries as Grafana's Elasticsearch data source takes them, for 9.4 (which builds the search in the browser) and later
(which build it in the server).

Only what both understand and every Elasticsearch has is used: date_histogram and terms with avg, max, sum and
cardinality. Not ``filters`` as the last level (Grafana's server drops its buckets), not ``top_metrics`` or pipeline
aggregations (modules that a small Elasticsearch lacks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import elasticsearch as es
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.elasticsearch import TermsOrder

TIME_FIELD = "@timestamp"
METRICS = "ezadmin-metrics"
METRICS_HOUR = "ezadmin-metrics-1h"
LOGS = "ezadmin-logs"
HOST_MINUTE = "ezadmin-rollup-1m"
FLEET_MINUTE = "ezadmin-rollup-fleet-1m"
FLEET_HOUR = "ezadmin-rollup-fleet-1h"
ALERTS = "ezadmin-alerts"

METRIC_IDS = ("1", "5", "6", "7", "8", "9", "10", "11")
"""Ids of metrics; the levels of buckets have 2, 3, 4. A digit each, for Grafana finds the metric to sort by so."""
BUCKET_IDS = ("2", "3", "4")

_BUILDERS: dict[str, Any] = {
    "avg": es.Average,
    "max": es.Max,
    "min": es.Min,
    "sum": es.Sum,
    "cardinality": es.UniqueCount,
}
COUNT = "count"


@dataclass(frozen=True)
class Figure:
    """One number of a bucket: an aggregation of a field."""

    aggregation: str
    field: str


@dataclass(frozen=True)
class Terms:
    """Buckets by the values of a field: the ``size`` largest by the first figure, or all in order of the value."""

    field: str
    size: int
    by_value: bool = False


def avg(field: str) -> Figure:
    """Mean of a field."""
    return Figure("avg", field)


def top(field: str) -> Figure:
    """Largest value of a field."""
    return Figure("max", field)


def total(field: str) -> Figure:
    """Sum of a field."""
    return Figure("sum", field)


def distinct(field: str) -> Figure:
    """How many values a field has (approximate above some thousands)."""
    return Figure("cardinality", field)


def count() -> Figure:
    """How many documents there are."""
    return Figure(COUNT, "")


def source(uid: str) -> model.DataSourceRef:
    """Reference to one of our data sources."""
    return model.DataSourceRef(type_val="elasticsearch", uid=uid)


def over_time(
    ref: str,
    uid: str,
    query: str,
    figures: Sequence[Figure],
    *,
    by: Terms | Sequence[Terms] = (),
    alias: str,
    interval: str = "$interval",
) -> es.Dataquery:
    """Series over time, one for each figure and value of ``by`` (for several: each combination). Empty intervals come as
    null, so that gaps are seen."""
    histogram = es.DateHistogram().id(BUCKET_IDS[0]).field(TIME_FIELD)
    histogram.settings(es.ElasticsearchDateHistogramSettings().interval(interval).min_doc_count("0").trim_edges("0"))
    terms = [by] if isinstance(by, Terms) else by
    levels = [_terms(one, identity, figures) for one, identity in zip(terms, BUCKET_IDS[1:], strict=False)]
    return _query(ref, uid, query, figures, [*levels, histogram]).alias(alias)


def table(ref: str, uid: str, query: str, figures: Sequence[Figure], by: Sequence[Terms]) -> es.Dataquery:
    """A table: a column for each level of ``by``, then one for each figure, named as :func:`column` says."""
    levels = [_terms(terms, identity, figures) for terms, identity in zip(by, BUCKET_IDS, strict=False)]
    return _query(ref, uid, query, figures, levels)


def column(figures: Sequence[Figure], figure: Figure) -> str:
    """The name that Grafana gives the column of a figure: its aggregation, and its field if that alone is not unique."""
    label = {"avg": "Average", "max": "Max", "min": "Min", "sum": "Sum", "cardinality": "Unique Count", COUNT: "Count"}
    alone = sum(other.aggregation == figure.aggregation for other in figures) == 1
    return label[figure.aggregation] if alone else f"{label[figure.aggregation]} {figure.field}"


def events(ref: str, uid: str, query: str, limit: int) -> es.Dataquery:
    """The newest events, as the log panel shows them."""
    logs = es.Logs().id(METRIC_IDS[0]).settings(es.ElasticsearchLogsSettings().limit(str(limit)))
    made = es.Dataquery().ref_id(ref).datasource(source(uid)).query(query).time_field(TIME_FIELD)
    return made.metrics([logs]).bucket_aggs([])


def latest(query: str, seconds: int) -> str:
    """Narrow a query to the last ``seconds`` of the dashboard's time range."""
    return f'{query} AND {TIME_FIELD}:["${{__to}}||-{seconds}s" TO *]'


def _query(
    ref: str, uid: str, query: str, figures: Sequence[Figure], levels: Sequence[es.Terms | es.DateHistogram]
) -> es.Dataquery:
    metrics: list[Builder[Any]] = [
        _metric(figure, identity) for figure, identity in zip(figures, METRIC_IDS, strict=False)
    ]
    made = es.Dataquery().ref_id(ref).datasource(source(uid)).query(query).time_field(TIME_FIELD)
    return made.metrics(metrics).bucket_aggs(list(levels))


def _metric(figure: Figure, identity: str) -> Builder[Any]:
    if figure.aggregation == COUNT:
        counted: Builder[Any] = es.Count().id(identity)
        return counted
    made: Builder[Any] = _BUILDERS[figure.aggregation]().id(identity).field(figure.field)
    return made


def _terms(terms: Terms, identity: str, figures: Sequence[Figure]) -> es.Terms:
    settings = es.ElasticsearchTermsSettings().size(str(terms.size)).min_doc_count("1")
    largest = "_count" if figures[0].aggregation == COUNT else METRIC_IDS[0]
    settings.order_by("_key" if terms.by_value else largest)
    settings.order(TermsOrder.ASC if terms.by_value else TermsOrder.DESC)
    return es.Terms().id(identity).field(terms.field).settings(settings)

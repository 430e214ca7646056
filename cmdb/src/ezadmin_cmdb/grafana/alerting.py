"""Example alert rules for Grafana's own alerting: what ezadmin itself cannot say when it is what fails, and the usual limits.

Limits of ezadmin (``docs/thresholds.md``) are finer: of a host, a site, a mount. These are for whoever wants Grafana to tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ezadmin_cmdb.grafana.sources import FOLDER_TITLE, TIME_FIELD

EXPRESSION = "__expr__"
BY_HOST = "host.name"


@dataclass(frozen=True)
class Rule:
    """A rule: ``figure`` (aggregation, field) of what ``query`` finds in the data source ``source``, by the field ``by``, is
    above ``limit`` for ``hold``. ``no_data``: the state where nothing is found."""

    uid: str
    title: str
    source: str
    query: str
    figure: tuple[str, str]
    by: str
    limit: float
    hold: str
    severity: str
    summary: str
    reducer: str = "mean"
    seconds: int = 600
    no_data: str = "OK"


RULES = (
    Rule(
        "ezadmin-rule-cpu",
        "CPU is busy",
        "ezadmin-metrics",
        "event.dataset:system.host",
        ("avg", "system.cpu.total.norm.pct"),
        BY_HOST,
        0.9,
        "10m",
        "warning",
        "CPU above 90 % for 10 minutes",
    ),
    Rule(
        "ezadmin-rule-memory",
        "Memory is nearly full",
        "ezadmin-metrics",
        "event.dataset:system.host",
        ("avg", "system.memory.actual.used.pct"),
        BY_HOST,
        0.9,
        "10m",
        "warning",
        "programs use more than 90 % of the memory",
    ),
    Rule(
        "ezadmin-rule-filesystem",
        "A filesystem is nearly full",
        "ezadmin-metrics",
        "event.dataset:system.filesystem",
        ("max", "system.filesystem.used.pct"),
        BY_HOST,
        0.9,
        "5m",
        "critical",
        "a filesystem is above 90 %",
        "last",
    ),
    Rule(
        "ezadmin-rule-errors",
        "Many errors",
        "ezadmin-rollup-1m",
        "log.level:(emergency OR alert OR critical OR error)",
        ("sum", "events.seen"),
        BY_HOST,
        1000,
        "0s",
        "warning",
        "more than 1,000 errors in 10 minutes",
        "sum",
    ),
    Rule(
        "ezadmin-rule-lag",
        "The pipeline lags behind",
        "ezadmin-metrics",
        "event.dataset:pipeline.worker",
        ("max", "pipeline.lag.seconds"),
        "pipeline.member",
        300,
        "5m",
        "critical",
        "the oldest message waits for more than 5 minutes",
        "last",
        no_data="Alerting",
    ),
    Rule(
        "ezadmin-rule-spool",
        "Data pile up on a host",
        "ezadmin-metrics",
        "event.dataset:ezadmin.agent",
        ("max", "ezadmin.agent.spool.pct"),
        BY_HOST,
        0.8,
        "5m",
        "warning",
        "the agent cannot send: its spool is above 80 %",
        "last",
    ),
)


def document() -> dict[str, Any]:
    """The file for Grafana's folder ``provisioning/alerting``."""
    group = {
        "orgId": 1,
        "name": "ezadmin",
        "folder": FOLDER_TITLE,
        "interval": "1m",
        "rules": [_rule(rule) for rule in RULES],
    }
    return {"apiVersion": 1, "groups": [group]}


def _rule(rule: Rule) -> dict[str, Any]:
    # elsewhere in these files Grafana puts its environment in for a dollar sign, but it takes annotations as they are
    where = f'{{{{ index $labels "{rule.by}" }}}}'
    return {
        "uid": rule.uid,
        "title": rule.title,
        "condition": "C",
        "data": [_asked(rule), _reduced(rule), _compared(rule)],
        "noDataState": rule.no_data,
        "execErrState": "Error",
        "for": rule.hold,
        "annotations": {"summary": f"{where}: {rule.summary}"},
        "labels": {"severity": rule.severity},
    }


def _asked(rule: Rule) -> dict[str, Any]:
    aggregation, field = rule.figure
    terms = {"size": "500", "min_doc_count": "1", "orderBy": "1", "order": "desc"}
    return {
        "refId": "A",
        "relativeTimeRange": {"from": rule.seconds, "to": 0},
        "datasourceUid": rule.source,
        "model": {
            "refId": "A",
            "datasource": {"type": "elasticsearch", "uid": rule.source},
            "query": rule.query,
            "timeField": TIME_FIELD,
            "alias": "",
            "metrics": [{"id": "1", "type": aggregation, "field": field}],
            "bucketAggs": [
                {"id": "3", "type": "terms", "field": rule.by, "settings": terms},
                {
                    "id": "2",
                    "type": "date_histogram",
                    "field": TIME_FIELD,
                    "settings": {"interval": "1m", "min_doc_count": "1", "trimEdges": "0"},
                },
            ],
            "intervalMs": 60_000,
            "maxDataPoints": 1000,
        },
    }


def _reduced(rule: Rule) -> dict[str, Any]:
    return _expression(
        "B", {"type": "reduce", "expression": "A", "reducer": rule.reducer, "settings": {"mode": "dropNN"}}
    )


def _compared(rule: Rule) -> dict[str, Any]:
    above = {"evaluator": {"type": "gt", "params": [rule.limit]}}
    return _expression("C", {"type": "threshold", "expression": "B", "conditions": [above]})


def _expression(ref: str, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "refId": ref,
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": EXPRESSION,
        "model": {"refId": ref, "datasource": {"type": EXPRESSION, "uid": EXPRESSION}, **model},
    }

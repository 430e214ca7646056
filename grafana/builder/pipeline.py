"""The pipeline: does it keep up, what becomes of what it reads, what does it cost."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard

from builder import panels, scope
from builder.fields import unit_of
from builder.queries import (
    FLEET_MINUTE,
    LOGS,
    METRICS,
    Figure,
    Terms,
    avg,
    distinct,
    events,
    latest,
    over_time,
    table,
    top,
    total,
)

WORKERS = "event.dataset:pipeline.worker"
BY_WORKER = Terms("pipeline.member", 24)
NOW = 60


def build() -> dashboard.Dashboard:
    """The dashboard ``ezadmin-pipeline``."""
    return scope.build(
        "ezadmin-pipeline", "Pipeline health", "파이프라인이 따라오는지, 읽은 것이 어떻게 되었는지, 비용.",
        "Whether the pipeline keeps up, what becomes of what it reads, and what it costs.",
        [("", [
            *_numbers(),
            _graph("Lag", "가장 오래 기다린 메시지의 나이. 1분과 5분에 임계값.",
                   "Age of the oldest message that waits, with thresholds at 1 and 5 minutes.", top("pipeline.lag.seconds"),
                   thresholds=panels.LATE),
            _graph("Lines per second", "초당 처리한 줄.", "Lines decided per second.", avg("pipeline.lines.rate"), stacked=True),
            _graph("Messages that wait", "대기 중인 메시지.", "Messages that wait in the worker's partitions.",
                   top("pipeline.lag.messages")),
            _fates(),
        ]), ("Elasticsearch", [
            _graph("Time of a bulk", "벌크 요청의 평균 시간.", "Mean time of a bulk request.", avg("pipeline.bulk.ms")),
            _graph("Time of a commit", "커밋의 평균 시간.", "Mean time of a commit.", avg("pipeline.commit.ms")),
            _graph("Waiting for Elasticsearch", "Elasticsearch를 기다리는 문서의 바이트.",
                   "Bytes of documents that wait for Elasticsearch.", top("pipeline.waiting.bytes")),
            _graph("Partitions", "맡은 파티션 수.", "Partitions that each worker holds.", top("pipeline.partitions"),
                   stacked=True),
        ]), ("Cost", [
            _graph("CPU", "작업자의 CPU(1 = 코어 하나).", "CPU of each worker; 1 is one core.", avg("pipeline.cpu.pct")),
            _graph("Memory", "작업자의 메모리(RSS).", "Resident set of each worker.", top("pipeline.memory.bytes")),
        ]), ("What it says", [
            panels.event_list("Warnings and errors", "파이프라인의 경고와 오류.", "Warnings and errors of the pipeline.",
                              events("A", LOGS, "event.dataset:pipeline.log", 100), height=9),
        ])],
        source=None,
    )  # fmt: skip


def _numbers() -> list[panels.Number]:
    kind, rollup = [Terms("event.dataset", 1)], [Terms("rollup", 1)]
    dead = table("A", FLEET_MINUTE, "*", [total("events.dead")], rollup)

    def now(title: str, korean: str, english: str, figure: Figure, **how: Any) -> panels.Number:
        query = table("A", METRICS, latest(WORKERS, NOW), [figure], kind)
        return panels.number(title, korean, english, query, unit_of(figure.field), span=5, **how)

    return [
        now("Oldest message", "가장 오래 기다린 메시지의 나이(최근 1분).", "Age of the oldest message that waits, last minute.",
            top("pipeline.lag.seconds"), thresholds=panels.LATE, decimals=1),
        now("Messages that wait", "한 작업자에서 대기 중인 메시지(최대).", "Messages that wait, most of any worker.",
            top("pipeline.lag.messages")),
        now("Slowest bulk", "가장 느린 벌크 평균.", "Mean time of a bulk, slowest worker.", top("pipeline.bulk.ms"), decimals=0),
        panels.number("Workers", "최근 1분에 보고한 작업자 수.", "Workers that reported in the last minute.",
                      table("A", METRICS, latest(WORKERS, NOW), [distinct("pipeline.member")], kind), "short", empty="0",
                      span=5),
        panels.number("Dead letters", "선택한 기간에 버려진 이벤트. `ezadmin-pipeline dlq ls`로 확인.",
                      "Events of the time range that became dead letters: see `ezadmin-pipeline dlq ls`.", dead, "short",
                      thresholds=((None, "text"), (1, "red")), empty="0", span=4),
    ]  # fmt: skip


def _graph(title: str, korean: str, english: str, figure: Figure, **how: Any) -> panels.Graph:
    query = over_time("A", METRICS, WORKERS, [figure], by=BY_WORKER, alias="{{pipeline.member}}")
    return panels.graph(
        title, korean, english, [query], unit_of(figure.field), field=figure.field, **{"calcs": ("mean", "max"), **how}
    )


def _fates() -> panels.Graph:
    figures = [total(f"events.{value}") for value in ("stored", "ignored", "sampled", "dead")]
    return panels.bars(
        "What became of events", "저장, 규칙으로 제외, 급증 때 표본 처리, 버려진 이벤트(모든 호스트).",
        "Events of all hosts: stored, left out by rules, withheld in surges, dead letters.",
        over_time("A", FLEET_MINUTE, "*", figures, alias="{{field}}", interval="auto"), interval="1m",
        renames=[(r"events\.(.*)", "$1")],
    )  # fmt: skip

"""Which indices are ours, what is made ahead, and what may be dropped: decided without Elasticsearch."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_pipeline import families
from ezadmin_pipeline.care import Care, plan
from ezadmin_pipeline.elastic import SignInRefused, Unavailable
from ezadmin_pipeline.families import FAMILIES, KEPT, Index, IndexSettings
from ezadmin_pipeline.settings import Settings
from ezadmin_wire.names import Names

NAMES = Names("ez")
NOW = datetime(2026, 11, 24, 22, 0, tzinfo=UTC)


def settings(**members: Any) -> Settings:
    return Settings(names=NAMES, indices=IndexSettings(**members))


def index(name: str, documents: int = 1) -> Index:
    known = families.parse(name, NAMES)
    assert known is not None, name
    return Index(name, *known, documents, 1000, 1, 0, "open", "green")


FRESH = index("ez-logs-2026.11.24")


@pytest.mark.parametrize(
    "name",
    [
        "ez-state",
        "ez-logs",
        "ez-logs-2026.11",
        "ez-logs-2026.11.24-2",
        "ez-logs-2026.13.01",
        "ez-logs-2026.02.30",
        "ez-logs-0000.01.01",
        "ez-logs-٢٠٢٦.11.24",
        "xez-logs-2026.11.24",
        "ez-other-2026.11.24",
        "ez-logs-metrics-2026.11.24",
        "ez-rollup-logs-fleet-1m-2026.11.24",
        "ez-alerts-2026.11.24",
        ".ds-ez-logs-2026.11.24",
        "EZ-logs-2026.11.24",
        "ez-logs-2026.11.24\n",
    ],
)
def test_what_is_not_named_as_ours_is_not_ours(name: str) -> None:
    assert families.parse(name, NAMES) is None


def test_names_and_periods() -> None:
    for family in FAMILIES:
        for day in (NOW, datetime(2024, 2, 29, tzinfo=UTC), datetime(2026, 12, 31, 23, 59, tzinfo=UTC)):
            found = families.parse(families.name_of(family, day, NAMES), NAMES)
            assert found is not None
            assert found[0] == family
            assert found[1].start <= day < found[1].end
    december = families.parse("ez-alerts-2026.12", NAMES)
    assert december is not None
    assert december[1].end == datetime(2027, 1, 1, tzinfo=UTC)


def test_the_names_are_those_that_the_pipeline_writes_to() -> None:
    day = "2026-11-24T01:02:03.000Z"
    written = {
        NAMES.metrics_index(day),
        NAMES.logs_index(day),
        *(NAMES.rollup_index(rollup, day) for rollup in ("logs-1m", "logs-fleet-1m", "logs-fleet-1h", "metrics-1h")),
        NAMES.alerts_index(day),
        NAMES.audit_index(day),
    }
    assert {families.name_of(family, NOW, NAMES) for family in FAMILIES} == written


def test_indices_are_made_ahead() -> None:
    made = plan(NOW, settings(), [FRESH], 1).make
    assert {name for name in made if "-metrics-" in name} == {
        "ez-metrics-2026.11.24",
        "ez-metrics-2026.11.25",
        "ez-metrics-2026.11.26",
        "ez-rollup-metrics-1h-2026.11",
    }
    assert "ez-logs-2026.11.24" not in made
    assert "ez-alerts-2026.11" in made
    assert "ez-alerts-2026.12" not in made
    assert not [name for name in made if "-audit-" in name], "nobody writes it yet: there is no template"
    late = plan(datetime(2026, 11, 29, 0, 5, tzinfo=UTC), settings(), [], 1).make
    assert "ez-alerts-2026.12" in late


def test_shards_and_replicas_follow_the_cluster() -> None:
    def layout(data_nodes: int, name: str = "ez-metrics-2026.11.25", **members: Any) -> dict[str, object]:
        return plan(NOW, settings(**members), [], data_nodes).make[name]

    assert layout(1) == {"index.number_of_shards": 1, "index.auto_expand_replicas": "0-1"}
    assert layout(3)["index.number_of_shards"] == 3
    assert layout(40)["index.number_of_shards"] == 6
    assert layout(3, "ez-alerts-2026.11")["index.number_of_shards"] == 1
    assert layout(0)["index.number_of_shards"] == 1
    assert layout(3, shards=2, replicas=2) == {
        "index.number_of_shards": 2,
        "index.auto_expand_replicas": "false",
        "index.number_of_replicas": 2,
    }


def test_what_is_old_enough_is_dropped_whole() -> None:
    there = [FRESH]
    there += [index(f"ez-logs-2026.10.{day:02}") for day in (23, 24, 25, 26)]
    there += [index("ez-metrics-2026.10.24"), index("ez-alerts-2025.09"), index("ez-alerts-2025.10")]
    kept = {**KEPT, "logs": 30, "metrics": 0}
    dropped = [found.name for found in plan(NOW, settings(kept=kept), there, 1).drop]
    assert dropped == ["ez-logs-2026.10.23", "ez-logs-2026.10.24", "ez-alerts-2025.09"]


def test_a_clock_that_jumped_drops_nothing() -> None:
    there = [index(f"ez-logs-2026.11.{day:02}") for day in range(1, 25)]
    wrong = NOW + timedelta(days=365)
    assert plan(wrong, settings(), there, 1).drop == []
    empty_ahead = [*there, index("ez-logs-2027.11.24", documents=0)]
    assert plan(wrong, settings(), empty_ahead, 1).drop == [], "an index made ahead proves nothing"
    assert plan(NOW, settings(), [index("ez-alerts-2020.01")], 1).drop == [], "nor does no data at all"


@given(st.lists(st.integers(0, 500), max_size=30), st.integers(0, 60), st.integers(1, 7))
def test_nothing_is_dropped_that_is_young_or_wanted(ages: list[int], days: int, ahead: int) -> None:
    there = [index(f"ez-logs-{NOW - timedelta(days=age):%Y.%m.%d}") for age in set(ages)]
    todo = plan(NOW, settings(kept={**KEPT, "logs": days}, days_ahead=ahead), there, 1)
    for found in todo.drop:
        assert days > 0
        assert found.period.end + timedelta(days=days) <= NOW
    assert not {found.name for found in todo.drop} & set(todo.make)
    assert not {found.name for found in there} & set(todo.make)


class Refusing:
    """An Elasticsearch that is away, or does not let us."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def request(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize("error", [Unavailable("away"), SignInRefused("no right")])
def test_what_goes_wrong_does_not_stop_the_worker(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    elastic = Refusing(error)
    care = Care(settings(), elastic, first_after=0.0, every=0.05)
    care.tick(False)
    assert elastic.asked == 0, "another worker's"
    for _ in range(100):
        care.tick(True)
        if elastic.asked >= 2:
            break
        time.sleep(0.02)
    care.close()
    assert elastic.asked >= 2, "tried again"
    assert "no care of the indices" in caplog.text

"""What a worker says of its own work is what happened."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ezadmin_pipeline.elastic import Unavailable
from ezadmin_pipeline.measure import BOUNDS, Durations, Lag, LagMeter, MeasuredElastic, seconds_left


def test_durations_by_class() -> None:
    durations = Durations()
    for seconds in (0.001, 0.005, 0.006, 100.0):
        durations.add(seconds)
    found = durations.cumulative()
    assert found[0] == (0.005, 2)
    assert found[1] == (0.01, 3)
    assert found[len(BOUNDS) - 1] == (60.0, 3)
    assert found[-1] == (math.inf, 4)
    assert (durations.count, durations.last) == (4, 100.0)
    assert durations.sum == pytest.approx(100.012)


class Answers:
    """An Elasticsearch that answers what it is given."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def request(self, method: str, path: str, **rest: Any) -> tuple[int, Any]:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


def test_bulks_and_what_they_refuse() -> None:
    items = [{"create": {"status": status}} for status in (201, 409, 429, 429, 503, 400)]
    elastic = MeasuredElastic(
        Answers(
            (200, {"errors": True, "items": items}),
            (429, "busy"),
            Unavailable("away"),
            (200, {"errors": False}),
            (404, {}),
        )
    )
    elastic.request("POST", "/_bulk", body=b"12345")
    elastic.request("POST", "/_bulk", body=b"1")
    with pytest.raises(Unavailable):
        elastic.request("POST", "/_bulk", body=b"1")
    elastic.request("POST", "/_bulk", body=b"1")
    elastic.request("GET", "/x")
    assert dict(elastic.refused) == {429: 3, 503: 1, 400: 1}
    assert (elastic.bulks.count, elastic.bulk_bytes, elastic.unanswered) == (3, 7, 1)


def test_a_partition_that_waits_is_as_old_as_what_waits() -> None:
    meter = LagMeter()
    meter.read("t", 0, 10, 1_000_000)
    meter.update([("t", 0, 10, 10), ("t", 1, 0, 5)], 1100.0)
    assert meter.lags == {("t", 0): Lag(0, 0.0), ("t", 1): Lag(5, None)}
    # nothing waited at 1100, so what waits now came later, however old the last message is
    meter.update([("t", 0, 10, 11), ("t", 1, 0, 5)], 1105.0)
    assert meter.lags["t", 0] == Lag(1, 5.0)
    meter.read("t", 0, 11, 1_104_000)
    meter.read("t", 1, 1, 1_050_000)
    meter.update([("t", 0, 11, 20), ("t", 1, 1, 5)], 1110.0)
    assert meter.lags == {("t", 0): Lag(9, 6.0), ("t", 1): Lag(4, 60.0)}


def test_when_it_will_have_caught_up() -> None:
    meter = LagMeter()
    for second, waiting in enumerate([1000, 900, 800]):
        meter.update([("t", 0, 0, waiting)], 10.0 * second)
    assert meter.catch_up == pytest.approx(80.0)
    meter.update([("t", 0, 0, 2000)], 30.0)
    assert meter.catch_up == math.inf
    meter.update([("t", 0, 0, 0)], 40.0)
    assert meter.catch_up == 0.0
    meter.update([("t", 0, 0, 10), ("t", 1, 0, 10)], 50.0)
    assert meter.catch_up == math.inf, "another partition was taken: the pace is not known yet"


@pytest.mark.parametrize(
    ("waiting", "fewer", "expected"), [(0, 5, 0.0), (10, 5, 20.0), (10, 0, math.inf), (10, -1, math.inf)]
)
def test_seconds_left(waiting: float, fewer: float, expected: float) -> None:
    assert seconds_left(waiting, fewer, 10.0) == expected

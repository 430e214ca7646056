"""The trend of a figure: right for a line, not turned by odd samples, the same from a record."""

from __future__ import annotations

import json
import random

import pytest

from ezadmin_wire.trend import NEVER, Trend, hours_until

WINDOW = 6 * 3600
START = 1_795_500_000_000


def series(values: list[float], step: int = 60, restart: bool = False) -> Trend:
    """A trend of samples that came each ``step`` seconds."""
    trend = Trend()
    for i, value in enumerate(values):
        trend.take(START + i * step * 1000, value, WINDOW)
        if restart:
            trend = Trend.from_json(json.loads(json.dumps(trend.to_json())))
    return trend


END = START + 359 * 60_000


def line(per_hour: float, hours: float = 6, start: float = 0.5) -> list[float]:
    return [start + per_hour * minute / 60 for minute in range(int(hours * 60))]


@pytest.mark.parametrize("per_hour", [0.01, 0.05, 0.002])
def test_a_line_is_full_when_it_says(per_hour: float) -> None:
    values = line(per_hour)
    found = series(values).hours(END, values[-1], 1.0, WINDOW)
    assert found == pytest.approx((1.0 - values[-1]) / per_hour, rel=0.01)


def test_what_empties_reaches_nothing() -> None:
    free = [80e9 - 1e9 * minute / 60 for minute in range(360)]
    assert series(free).hours(END, free[-1], 0, WINDOW) == pytest.approx(free[-1] / 1e9, rel=0.01)
    assert series(free).hours(END, free[-1], 100e9, WINDOW) == NEVER


def test_noise_and_a_file_that_comes_and_goes_do_not_turn_it() -> None:
    rng = random.Random(1)
    values = [one + rng.gauss(0, 0.005) for one in line(0.02)]
    for minute in range(200, 290):  # somebody unpacked something for an hour and a half
        values[minute] += 0.3
    honest = (1.0 - values[-1]) / 0.02
    assert series(values).hours(END, values[-1], 1.0, WINDOW) == pytest.approx(honest, rel=0.25)
    flat = [0.6 + rng.gauss(0, 0.002) for _ in range(360)]
    flat[100:160] = [0.9] * 60
    found = series(flat).hours(END, flat[-1], 1.0, WINDOW)
    assert found is not None
    assert found > 24 * 7


def test_a_gap_is_no_line_and_too_little_says_nothing() -> None:
    assert series(line(0.02, hours=2)).hours(END, 0.6, 1.0, WINDOW) is None
    trend = Trend()
    for i, value in enumerate(line(0.02)):
        if not 120 <= i < 200:
            trend.take(START + i * 60_000, value, WINDOW)
    assert trend.hours(END, 0.62, 1.0, WINDOW) == pytest.approx(19, rel=0.02)
    trend.take(START + 12 * 3_600_000, 0.62, WINDOW)
    assert trend.hours(END, 0.62, 1.0, WINDOW) is None, "what lies further back counts no more"


def test_who_goes_on_from_a_record_comes_to_the_same() -> None:
    rng = random.Random(2)
    values = [one + rng.random() / 100 for one in line(0.013)]
    once, often = series(values), series(values, restart=True)
    assert once.to_json() == often.to_json()
    assert once.hours(END, 0.6, 1.0, WINDOW) == often.hours(END, 0.6, 1.0, WINDOW)
    assert len(json.dumps(once.to_json())) < 250


def test_what_is_full_is_full() -> None:
    assert hours_until(1.0, 1.0, 0.0) == 0.0
    assert hours_until(0.5, 1.0, 0.0) == NEVER
    assert hours_until(0.5, 1.0, 1e-30) == NEVER

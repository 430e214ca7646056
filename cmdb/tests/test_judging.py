"""What figures are by limits, and how near to one they are."""

from __future__ import annotations

from typing import Any

import pytest

from ezadmin_cmdb.thresholds import inheritance
from ezadmin_cmdb.thresholds.inheritance import Candidate, EffectiveLimit
from ezadmin_cmdb.thresholds.judging import CRITICAL, OK, UNKNOWN, WARNING, Judge, worst
from ezadmin_wire.config import LimitRecord

FIELD = "system.cpu.total.norm.pct"


def limit(item: str = "*", **values: Any) -> EffectiveLimit:
    candidate = Candidate("global", "all hosts", "x", "x", LimitRecord(FIELD, item=item, **values))
    return inheritance.effective(candidate, [])


@pytest.mark.parametrize(
    ("values", "value", "state", "nearness"),
    [
        ({"warning_raise": 0.8, "critical_raise": 0.9}, 0.4, OK, 0.5),
        ({"warning_raise": 0.8, "critical_raise": 0.9}, 0.8, WARNING, 1.0),
        ({"warning_raise": 0.8, "critical_raise": 0.9}, 0.85, WARNING, 1.5),
        ({"warning_raise": 0.8, "critical_raise": 0.9}, 0.9, CRITICAL, 3.0),
        ({"warning_raise": 0.8}, 50.0, WARNING, 1.0),
        ({"critical_raise": 0.9}, 0.45, OK, 0.5),
        ({"critical_raise": 0.9}, 0.9, CRITICAL, 3.0),
        ({"warning_raise": 0.0}, -1.0, OK, 0.0),
        ({"warning_raise": 0.0}, 0.0, WARNING, 1.0),
        ({"warning_raise": 20.0, "critical_raise": 10.0, "comparison": "below"}, 40.0, OK, 0.5),
        ({"warning_raise": 20.0, "critical_raise": 10.0, "comparison": "below"}, 15.0, WARNING, 1.5),
        ({"warning_raise": 20.0, "critical_raise": 10.0, "comparison": "below"}, 10.0, CRITICAL, 3.0),
        ({"warning_raise": 20.0, "comparison": "below"}, 0.0, WARNING, 1.0),
    ],
)
def test_a_value_against_a_limit(values: dict[str, Any], value: float, state: str, nearness: float) -> None:
    found = Judge([limit(**values)]).judge("system.host", FIELD, value)
    assert found is not None
    assert (found.state, round(found.nearness, 6)) == (state, nearness)


def test_the_worst_of_the_limits_of_an_item() -> None:
    judge = Judge([limit(warning_raise=10.0), limit("/var*", critical_raise=5.0), limit("[ab]", critical_raise=1.0)])
    states = {item: judge.judge("system.host", FIELD, 7.0, item) for item in ("/var/log", "/", "a", "[ab]")}
    found = {item: one and one.state for item, one in states.items()}
    assert found == {"/var/log": CRITICAL, "/": OK, "a": OK, "[ab]": CRITICAL}


def test_what_no_limit_can_say() -> None:
    judge = Judge([limit(warning_raise=1.0, rate=True), limit(no_data=60)])
    assert judge.judge("system.host", FIELD, 5.0) is None, "one value has no rate"
    told = Judge([limit(warning_raise=1.0)])
    assert told.judge("system.host", "system.load.1", 5.0) is None
    assert told.judge("system.host", FIELD, "5") is None
    assert told.judge("system.host", FIELD, True) is None


def test_of_states_the_worst() -> None:
    assert worst([OK, UNKNOWN, WARNING]) == WARNING
    assert worst([WARNING, CRITICAL, OK]) == CRITICAL
    assert worst([]) == OK

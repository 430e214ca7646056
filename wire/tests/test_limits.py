"""What a limit may say."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ezadmin_wire.config import LimitRecord
from ezadmin_wire.errors import WireError
from ezadmin_wire.limits import check_limit, item_name

CPU = "system.cpu.total.norm.pct"


@pytest.mark.parametrize(
    "members",
    [
        {"warning_raise": 0.8},
        {"warning_raise": 0.8, "warning_clear": 0.8, "critical_raise": 0.8},
        {"warning_raise": 0.8, "warning_clear": 0.7, "critical_raise": 0.95, "critical_clear": 0.9, "n": 60, "m": 60},
        {"comparison": "below", "warning_raise": 0.2, "warning_clear": 0.3, "critical_raise": 0.1, "hold": 86_400},
        {"no_data": 30},
        {"trend": 600, "comparison": "below", "warning_raise": 24, "warning_clear": 30, "critical_raise": 4},
    ],
)
def test_what_may_be_said(members: dict[str, Any]) -> None:
    check_limit("cpu.high-1", LimitRecord(CPU, **members))


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({}, "could never say anything"),
        ({"warning_clear": 0.5, "no_data": 60}, "warning_clear is given, but no warning_raise"),
        ({"warning_raise": math.nan}, "warning_raise is nan"),
        ({"warning_raise": 0.5, "warning_clear": 0.6}, "warning_clear 0.6 is above warning_raise 0.5"),
        ({"warning_raise": 0.5, "critical_raise": 0.4}, "warning_raise 0.5 is above critical_raise 0.4"),
        (
            {"warning_raise": 0.8, "warning_clear": 0.7, "critical_raise": 0.9, "critical_clear": 0.6},
            "warning_clear 0.7 is above critical_clear 0.6",
        ),
        (
            {"warning_raise": 0.5, "warning_clear": 0.4, "comparison": "below"},
            "warning_clear 0.4 is below warning_raise 0.5",
        ),
        ({"warning_raise": 1, "n": 3, "m": 2}, "n is 3; from 1 to 2"),
        ({"warning_raise": 1, "m": 61}, "m is 61; from 1 to 60"),
        ({"warning_raise": 1, "hold": -1}, "hold is -1"),
        ({"no_data": 29}, "no_data is 29; from 30"),
        ({"warning_raise": 1, "comparison": ">"}, "none of above, below"),
        ({"warning_raise": 1, "field": "CPU %"}, "no name of a figure"),
        ({"warning_raise": 1, "item": ""}, "1 to 200 characters"),
        ({"warning_raise": 1, "comparison": "below", "trend": 60}, "trend is 60; 0 for none, or from 600"),
        ({"warning_raise": 1, "comparison": "below", "trend": 600, "rate": True}, "rate and trend are both given"),
        ({"warning_raise": 1, "trend": 600}, "comparison must be below"),
        ({"warning_raise": 1, "comparison": "below", "trend": 600, "full_at": math.inf}, "full_at is inf"),
        ({"warning_raise": 1, "dataset": "*"}, "dataset '\\*' is none"),
    ],
)
def test_what_is_refused_is_named(members: dict[str, Any], text: str) -> None:
    with pytest.raises(WireError, match=text) as caught:
        check_limit("cpu", LimitRecord(**{"field": CPU, **members}))
    assert caught.value.reason == "bad_limit"
    assert "'cpu'" in str(caught.value)


def test_the_id_is_checked() -> None:
    with pytest.raises(WireError, match="lower-case"):
        check_limit("CPU high", LimitRecord(CPU, warning_raise=1))


def test_names_of_items() -> None:
    assert item_name("system.host", ()) == ""
    assert item_name("system.core", (3,)) == "3"
    assert item_name("system.filesystem", ("/var",)) == "/var"
    assert item_name("system.process", ("nginx", "7f-3a-812-55")) == "nginx[812]"
    assert item_name("system.process", ("nginx", "x")) == "nginx[x]"

"""Collectors: each module has its FIELDS and a pure ``collect(reader, previous)`` that tests feed with recorded data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional

from ezadmin_agent.fields import Field
from ezadmin_agent.reader import Reader

Document = dict[str, Any]


COUNTER_SECONDS = 60
"""How often counters and slow fields leave."""


class Sample(NamedTuple):
    """What a collector read: documents without the common fields, and what it wants to see as ``previous`` next time."""

    documents: list[Document]
    state: Any = None


@dataclass(frozen=True)
class Collector:
    """A collector: ``collect(reader, previous state or None)``. ``seconds``: least time between two runs (0: each tick).

    ``event``: its documents are events for the topic of logs, not metrics. ``slow``: fields that leave once a minute with
    the counters, because they hardly change or follow from others.
    """

    name: str
    dataset: str
    fields: Sequence[Field]
    collect: Callable[[Reader, Any], Sample]
    seconds: int = 0
    event: bool = False
    slow: Sequence[str] = ()


def rate(now: Optional[float], before: Optional[float], seconds: float) -> Optional[float]:
    """Growth per second of a counter; None for the first sample and after a reset, so that no false peak appears."""
    if now is None or before is None or seconds <= 0 or now < before:
        return None
    return significant((now - before) / seconds)


def significant(value: float, digits: int = 4) -> float:
    """``value`` (>= 0) rounded to so many digits and at most two decimals; more of a rate is noise that costs bytes."""
    if value <= 0:
        return 0
    places = min(2, digits - 1 - math.floor(math.log10(value)))
    rounded = round(value, places)
    return int(rounded) if rounded == int(rounded) else rounded


def put(document: Document, name: str, value: Any) -> None:
    """Set ``name`` unless the value is unknown (None)."""
    if value is not None:
        document[name] = value

"""What Kafka refuses to note is told again; what is somebody else's is not. Kafka's own refusals come by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import CommitFailedError, RebalanceInProgressError

from ezadmin_pipeline import offsets
from ezadmin_pipeline.offsets import Offsets

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


class Consumer:
    """Answers each commit with the next of ``answers``, one that is no exception for good."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.mine = {ONE, TWO}
        self.told: list[dict[TopicPartition, int]] = []

    def assignment(self) -> set[TopicPartition]:
        return set(self.mine)

    def commit_async(self, found: dict[TopicPartition, Any], callback: Callable[[Any, Any], None]) -> None:
        self.told.append({place: offset.offset for place, offset in found.items()})
        callback(found, self.answers.pop(0) if self.answers else None)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "AGAIN_SECONDS", 0.0)


def test_what_is_refused_is_told_until_it_is_noted() -> None:
    told, consumer = Offsets(), Consumer(RebalanceInProgressError(), CommitFailedError(), None)
    told.set(ONE, 7)
    told.tell(consumer)
    for _ in range(4):
        told.tick(consumer)
    assert consumer.told == [{ONE: 7}] * 3


def test_a_newer_offset_is_not_taken_as_noted_with_an_older_one() -> None:
    told, consumer = Offsets(), Consumer()
    told.set(ONE, 7)
    told.tell(consumer)
    told.set(ONE, 9)
    told.tick(consumer)
    told.tick(consumer)
    assert consumer.told == [{ONE: 7}, {ONE: 9}]


def test_only_ones_own_are_told() -> None:
    told, consumer = Offsets(), Consumer(RebalanceInProgressError(), None)
    told.set(ONE, 7)
    told.set(TWO, 8)
    told.tell(consumer)
    told.forget(ONE)
    told.tick(consumer)
    assert consumer.told == [{ONE: 7, TWO: 8}, {TWO: 8}]
    told.set(ONE, 9)
    consumer.mine = {TWO}
    told.tick(consumer)
    assert len(consumer.told) == 2

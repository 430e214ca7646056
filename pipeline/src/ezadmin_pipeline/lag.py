"""``lag``: how far behind the workers are, per partition, and when they will have caught up. Asks Kafka alone.

By the offsets that workers commit for people to see: they stand behind the commit records by at most one commit.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from ezadmin_pipeline.measure import seconds_left
from ezadmin_pipeline.settings import Settings, SettingsError

_PATIENCE_MS = 10_000


@dataclass(frozen=True)
class Standing:
    """A partition: messages that wait, the age of the oldest in seconds, messages per second that came and were done.

    ``seconds`` is None if the message cannot be read; ``catch_up``: seconds until nothing waits, infinite: never so.
    """

    topic: str
    partition: int
    messages: int
    seconds: float | None
    came: float
    done: float
    catch_up: float


def add(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    sub = command("lag", _run, "how far behind the workers are, and when they will have caught up")
    sub.add_argument(
        "--over", type=float, default=5.0, metavar="SECONDS", help="watch the pace for so long (default 5)"
    )
    sub.add_argument("--json", action="store_true", help="for programs")


def _run(settings: Settings, options: argparse.Namespace) -> int:
    if not 0 < options.over <= 3600:
        raise SettingsError(f"--over {options.over:g}: write seconds above 0, up to 3600")
    found = look(settings, options.over)
    total = summed(found)
    if options.json:
        print(json.dumps({"partitions": [_plain(one) for one in found], "total": _plain(total)}))
        return 0
    print(
        f"{'topic':24} {'partition':>9} {'waiting':>10} {'oldest':>9} {'came/s':>8} {'done/s':>8} {'caught up in':>13}"
    )
    for one in [*found, total]:
        number = "all" if one is total else str(one.partition)
        print(
            f"{one.topic:24} {number:>9} {one.messages:10} {_span(one.seconds):>9} {one.came:8.1f} {one.done:8.1f} "
            f"{_span(one.catch_up):>13}"
        )
    return 0


def look(settings: Settings, seconds: float) -> list[Standing]:
    """Look twice, ``seconds`` apart; a foreign topic that does not exist is left out. Raises KafkaError, LookupError."""
    own = [settings.names.metrics, settings.names.logs]
    group = settings.names.consumer_group("pipeline")
    options = settings.kafka.options()
    admin = KafkaAdminClient(**options, bootstrap_timeout_ms=_PATIENCE_MS)
    consumer = KafkaConsumer(
        **options, group_id=None, enable_auto_commit=False, bootstrap_timeout_ms=_PATIENCE_MS, max_poll_records=1
    )
    try:
        places = []
        for topic in [*own, *(foreign.topic for foreign in settings.foreign)]:
            numbers = consumer.partitions_for_topic(topic) or set()
            if not numbers and topic in own:
                raise LookupError(f"topic {topic} does not exist; run: ezadmin-pipeline setup")
            places += [TopicPartition(topic, number) for number in sorted(numbers)]
        start = time.monotonic()
        before, ends_before = _offsets(admin, consumer, group, places)
        time.sleep(max(0.0, seconds - (time.monotonic() - start)))
        after, ends = _offsets(admin, consumer, group, places)
        took = time.monotonic() - start
        found = []
        for place in places:
            waiting = ends[place] - after[place]
            done, came = after[place] - before[place], ends[place] - ends_before[place]
            age = _age(consumer, place, after[place]) if waiting else 0.0
            left = seconds_left(waiting, done - came, took)
            found.append(Standing(place.topic, place.partition, waiting, age, came / took, done / took, left))
        return found
    finally:
        consumer.close()
        admin.close()


def summed(found: list[Standing]) -> Standing:
    """All partitions as one; ``seconds`` is the oldest."""
    waiting = sum(one.messages for one in found)
    came, done = sum(one.came for one in found), sum(one.done for one in found)
    ages = [one.seconds for one in found if one.seconds is not None]
    return Standing("all", -1, waiting, max(ages, default=None), came, done, seconds_left(waiting, done - came, 1.0))


def _offsets(
    admin: Any, consumer: Any, group: str, places: list[TopicPartition]
) -> tuple[dict[TopicPartition, int], Mapping[TopicPartition, int]]:
    committed = admin.list_group_offsets({group: None}).get(group, {})
    begins = consumer.beginning_offsets(places)
    ends = consumer.end_offsets(places)
    return {
        place: min(ends[place], max(begins[place], committed[place].offset if place in committed else 0))
        for place in places
    }, ends


def _age(consumer: Any, place: TopicPartition, offset: int) -> float | None:
    """Seconds since the message at ``offset`` was written."""
    consumer.assign([place])
    consumer.seek(place, offset)
    try:
        messages = consumer.poll(timeout_ms=3_000, max_records=1).get(place, [])
    except KafkaError:  # one that cannot be decoded
        return None
    return max(0.0, time.time() - messages[0].timestamp / 1000) if messages else None


def _plain(one: Standing) -> dict[str, Any]:
    table = asdict(one)
    if math.isinf(one.catch_up):
        table["catch_up"] = None  # JSON has no infinity
    return table


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if math.isinf(seconds):
        return "never"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

"""The rules of Kafka that the contracts lean on, on the real one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource

from ezadmin_pipeline.deadletters import DeadLetters, message_letter
from ezadmin_wire.deadletters import MAX_HEADERS, MAX_VALUE
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names

HOST = "00000000-0000-4000-8000-00000000000a"


@pytest.fixture
def producer(stack: Any) -> Any:
    producer = KafkaProducer(bootstrap_servers=stack.kafka, compression_type="gzip", max_request_size=64 << 20)
    yield producer
    producer.close(timeout=5)


def messages(stack: Any, topic: str, partitions: int = 3) -> list[Any]:
    """All messages of a topic."""
    consumer = KafkaConsumer(bootstrap_servers=stack.kafka, group_id=None, auto_offset_reset="earliest")
    places = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    found: list[Any] = []
    while any(consumer.position(place) < ends[place] for place in places):
        for some in consumer.poll(timeout_ms=500).values():
            found += some
    consumer.close()
    return found


def within(seconds: float) -> Callable[[], None]:
    """A ``keep_alive`` that gives up."""
    deadline = time.monotonic() + seconds

    def keep_alive() -> None:
        assert time.monotonic() < deadline, "not acknowledged"

    return keep_alive


def test_topics_are_made_as_the_contract_says(stack: Any, make_names: Callable[..., Names]) -> None:
    names = make_names(partitions=5)
    admin = KafkaAdminClient(bootstrap_servers=stack.kafka)
    wanted = {topic.name: topic for topic in names.topics(5)}
    found = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(list(wanted))}
    assert found == {name: topic.partitions for name, topic in wanted.items()}
    for name, topic in wanted.items():
        resource = ConfigResource("TOPIC", name)
        described = str(admin.describe_configs([resource]))
        for value in topic.settings.values():
            assert value in described, name
    admin.close()


def test_a_small_message_can_hold_much_and_its_dead_letter_still_fits(stack: Any, names: Names, producer: Any) -> None:
    producer.send(names.logs, key=HOST.encode(), value=b"\0" * (20 << 20), headers=[("a", b"\0" * (5 << 20))]).get(
        timeout=30
    )
    (message,) = messages(stack, names.logs)
    assert len(message.value) == 20 << 20, "the topic's limit counts compressed bytes"
    letters = DeadLetters(KafkaConnection(stack.kafka), names.dlq)
    letters.send(message_letter(names.logs, 0, 0, message.key, message.headers, message.value, "bad_value", "large"))
    letters.flush(within(30))
    letters.close()
    (letter,) = messages(stack, names.dlq)
    assert len(letter.value) == MAX_VALUE
    assert "cut" in dict(letter.headers)


def test_the_largest_letter_of_bytes_that_nothing_compresses(stack: Any, names: Names) -> None:
    letters = DeadLetters(KafkaConnection(stack.kafka), names.dlq)
    value, header = os.urandom(MAX_VALUE), os.urandom(MAX_HEADERS - 500)
    letters.send(message_letter(names.logs, 0, 0, HOST.encode(), [("a", header)], value, "bad_value", "한" * 1000))
    letters.flush(within(30))
    letters.close()
    (letter,) = messages(stack, names.dlq)
    assert letter.value == value
    assert dict(letter.headers)["orig.a"] == header

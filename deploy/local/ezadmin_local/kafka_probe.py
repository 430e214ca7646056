"""Questions to Kafka that need a client: run by the Python of the virtual environment, which has one.

FILE is a TOML file with the table [kafka] of who asks.

kafka_probe.py ready FILE
    ends with 0 when the cluster lists a broker to this user, else says why not and ends with 3
kafka_probe.py groups FILE GROUP ...
    prints {group: {"members": n, "topics": {topic: messages not yet committed}}}
kafka_probe.py wait-key FILE TOPIC KEY SECONDS
    ends with 0 when the topic holds a record of that key, with 3 if none came in time
"""

from __future__ import annotations

import json
import sys
import time
import tomllib
from pathlib import Path

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import CoordinatorNotAvailableError, KafkaError

from ezadmin_wire.kafka import KafkaConnection


def ready(kafka: KafkaConnection) -> str | None:
    """None if the cluster lists a broker, else why not."""
    try:
        admin = KafkaAdminClient(**kafka.options(), client_id="ezadmin-local-status", bootstrap_timeout_ms=3_000)
    except KafkaError as error:
        return kafka.trouble() or str(error)
    try:
        return None if admin.describe_cluster()["brokers"] else "its cluster has no broker yet"
    except KafkaError as error:
        return str(error)
    finally:
        admin.close()


def groups(kafka: KafkaConnection, names: list[str]) -> dict[str, dict[str, object]]:
    """Members of consumer groups, and per topic how many messages lie beyond their committed offsets."""
    admin = KafkaAdminClient(**kafka.options(), client_id="ezadmin-local-status")
    consumer = KafkaConsumer(**kafka.options(), client_id="ezadmin-local-status")
    try:
        found: dict[str, dict[str, object]] = {}
        described = _describe(admin, names)
        committed = admin.list_group_offsets(dict.fromkeys(names))
        for name in names:
            offsets = committed.get(name, {})
            ends = consumer.end_offsets(list(offsets))
            topics: dict[str, int] = {}
            for partition, offset in offsets.items():
                topics[partition.topic] = topics.get(partition.topic, 0) + max(0, ends[partition] - offset.offset)
            found[name] = {"members": len(described[name]["members"]), "topics": topics}
        return found
    finally:
        consumer.close()
        admin.close()


def _describe(admin: KafkaAdminClient, names: list[str]) -> dict[str, dict[str, list[object]]]:
    deadline = time.monotonic() + 5
    while True:
        try:
            answer: dict[str, dict[str, list[object]]] = admin.describe_groups(names)
            return answer
        except CoordinatorNotAvailableError:  # the first question ever makes the broker make its topic of offsets
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def wait_key(kafka: KafkaConnection, topic: str, key: str, seconds: float) -> bool:
    """Reads a topic of one partition from its start until a record of that key comes."""
    deadline = time.monotonic() + seconds
    consumer = KafkaConsumer(**kafka.options(), client_id="ezadmin-local-up", auto_offset_reset="earliest")
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        while time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                if any(record.key == key.encode() and record.value for record in records):
                    return True
        return False
    finally:
        consumer.close()


def main(arguments: list[str]) -> int:
    """Runs one question."""
    question, file, *more = arguments
    kafka = KafkaConnection.parse(tomllib.loads(Path(file).read_text())["kafka"], f"{file}: [kafka]")
    if question == "ready":
        problem = ready(kafka)
        if problem:
            print(problem)
        return 3 if problem else 0
    if question == "groups":
        print(json.dumps(groups(kafka, more)))
        return 0
    topic, key, seconds = more
    return 0 if wait_key(kafka, topic, key, float(seconds)) else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Questions to Kafka that need a client: run by the Python of the virtual environment, which has one.

kafka_probe.py groups BOOTSTRAP GROUP ...
    prints {group: {"members": n, "topics": {topic: messages not yet committed}}}
kafka_probe.py wait-key BOOTSTRAP TOPIC KEY SECONDS
    ends with 0 when the topic holds a record of that key, with 3 if none came in time
"""

from __future__ import annotations

import json
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import CoordinatorNotAvailableError


def groups(bootstrap: str, names: list[str]) -> dict[str, dict[str, object]]:
    """Members of consumer groups, and per topic how many messages lie beyond their committed offsets."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, client_id="ezadmin-local-status")
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, client_id="ezadmin-local-status")
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


def wait_key(bootstrap: str, topic: str, key: str, seconds: float) -> bool:
    """Reads a topic of one partition from its start until a record of that key comes."""
    deadline = time.monotonic() + seconds
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, client_id="ezadmin-local-up", auto_offset_reset="earliest")
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
    if arguments[0] == "groups":
        print(json.dumps(groups(arguments[1], arguments[2:])))
        return 0
    return 0 if wait_key(arguments[1], arguments[2], arguments[3], float(arguments[4])) else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

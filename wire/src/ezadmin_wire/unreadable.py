"""Messages that kafka-python cannot decode.

Any writer can make one: a header whose name is no UTF-8. The client gives what stands before it, then raises
CorruptRecordError, and its next ``poll()`` never returns: so the message is the next one of some partition, and a new
client has to go on behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def unreadable(connect: Callable[..., Any], topic: str, partition: int, offset: int) -> bool:
    """Whether the message at ``offset`` is one that the client cannot decode.

    ``connect`` makes a KafkaConsumer and takes its options. Raises KafkaError if Kafka is away.
    """
    from kafka import TopicPartition  # whoever asks has the client; the rest of this package needs none
    from kafka.errors import CorruptRecordError

    place = TopicPartition(topic, partition)
    probe = connect(group_id=None, enable_auto_commit=False, bootstrap_timeout_ms=5_000)
    try:
        probe.assign([place])
        if offset >= probe.end_offsets([place], timeout_ms=5_000)[place]:
            return False
        probe.seek(place, offset)
        probe.poll(timeout_ms=2_000, max_records=1)
    except CorruptRecordError:
        return True
    finally:
        probe.close(autocommit=False, timeout_ms=1_000)
    return False

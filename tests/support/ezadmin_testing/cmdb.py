"""A cmdb under test on the real stack: its settings, its database, hosts that report to it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from sqlalchemy import create_engine

from ezadmin_testing.processes import Process
from ezadmin_wire import batch, state
from ezadmin_wire import config as wire
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey, VerifyKey
from ezadmin_wire.times import now

EPOCH = "00000000000000aa"


def settings_file(folder: Path, database: str, kafka: str, names: Names, **more: str) -> Path:
    """Write a settings file, and the key that it names if it is not there; ``more`` are lines of TOML by table."""
    key = folder / "config.key"
    if not key.exists():
        SigningKey.generate().save(key)
    file = folder / "cmdb.toml"
    head = f'prefix = "{names.prefix}"\ndatabase = "{database}"\nconfig_signing_key = "{key}"\n{more.pop("top", "")}\n'
    tables = "".join(f"[{table}]\n{lines}\n" for table, lines in more.items())
    file.write_text(f'{head}[kafka]\nbootstrap = "{kafka}"\n{tables}')
    return file


def clear(database: str) -> None:
    """Leave nothing in the tables: a database serves all tests of a module, and a hundredth of its migrations' time suffices."""
    from ezadmin_cmdb import app  # noqa: F401 - knows all tables
    from ezadmin_cmdb.database import Base

    engine = create_engine(database)
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    engine.dispose()


def command(*arguments: str | Path) -> list[str]:
    """The command line of ``ezadmin-cmdb``."""
    return [sys.executable, "-m", "ezadmin_cmdb.main", *map(str, arguments)]


def worker(config: Path, log: Path) -> Process:
    """A worker with these settings."""
    return Process(command("worker", "--config", config), log)


class ReportingHost:
    """A host that signs and sends state documents, or others to another ``topic``."""

    def __init__(self, host_id: str, kafka: str, names: Names, topic: str | None = None) -> None:
        self.id = host_id
        self.key = SigningKey.generate()
        self._topic = topic or names.state
        self._seq = 0
        self._producer: Any = KafkaProducer(bootstrap_servers=kafka, acks="all")

    def message(self, *documents: state.StateDocument | bytes) -> tuple[list[tuple[str, bytes]], bytes]:
        """Headers and value of a batch of documents."""
        lines = [one if isinstance(one, bytes) else state.encode(one) for one in documents]
        seq, self._seq = self._seq, self._seq + len(lines)
        return batch.encode(
            self.key, host=self.id, topic=self._topic, stream="state", epoch=EPOCH, seq=seq, lines=lines,
            dataset="inventory", tmin=now(), tmax=now(), sent=now(), count=False,
        )  # fmt: skip

    def send(self, *documents: state.StateDocument | bytes) -> None:
        """Send a batch of documents and wait for the acknowledgement."""
        headers, value = self.message(*documents)
        self.send_raw(headers, value)

    def send_raw(self, headers: list[tuple[str, bytes]], value: bytes | None) -> None:
        """Send a message as it is."""
        self._producer.send(self._topic, key=self.id.encode(), value=value, headers=headers).get(timeout=10)

    def close(self) -> None:
        """Close the connection."""
        self._producer.close(timeout=5)


def read(kafka: str, topic: str) -> list[Any]:
    """All messages of a topic, partition by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        messages: list[Any] = []
        while any(consumer.position(place) < ends[place] for place in places):
            for found in consumer.poll(timeout_ms=300).values():
                messages += found
        return messages
    finally:
        consumer.close()


def config_records(kafka: str, names: Names, folder: Path) -> dict[str, wire.ConfigRecord]:
    """What a reader of the config topic believes, by key: the highest revision; what was deleted is not there."""
    key = VerifyKey(SigningKey.load(folder / "config.key").public)
    believed: dict[str, wire.ConfigRecord] = {}
    revisions: dict[str, int] = {}
    for message in read(kafka, names.config):
        record = wire.decode(message.key, message.headers, message.value, [key])
        if record.record is None:
            believed.pop(record.key, None)
        elif record.revision > revisions.get(record.key, 0):
            believed[record.key] = record
            revisions[record.key] = record.revision
    return believed

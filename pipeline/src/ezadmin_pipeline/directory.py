"""What the cmdb says, as the pipeline knows it: hosts with keys, names and labels, read from ``<prefix>.config``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError

from ezadmin_pipeline import broker
from ezadmin_pipeline.lines import host_prefix
from ezadmin_wire import WireError
from ezadmin_wire import config as wire
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import VerifyKey

_log = logging.getLogger(__name__)
WAIT = 10.0
"""Seconds that a command, for which a person waits, tries to read the configuration."""
GROUP = "group"
"""Label that holds the groups a host is in, by which dashboards divide; it goes before one of this name that was given."""
MAX_MET = 20_000
"""Hosts of foreign topics whose names are remembered, a kilobyte each: the last that were new, for anyone may make some up."""


class NoConfiguration(Exception):
    """The configuration cannot be read now."""


class Host:
    """A host's record, prepared for use: keys by kid, the start of its documents, members for rollup documents."""

    __slots__ = ("keys", "limits", "members", "prefix", "state")

    def __init__(self, host_id: str, record: wire.HostRecord) -> None:
        self.state = record.state
        self.limits = tuple(record.limits)
        self.keys: dict[str, VerifyKey] = {}
        for key in record.keys:
            if not key.revoked:
                self.keys[key.kid] = VerifyKey.from_hex(key.public)
        labels: dict[str, str | list[str]] = {**record.labels}
        if record.groups:
            labels[GROUP] = record.groups
        self.prefix = host_prefix(host_id, record.name, labels)
        self.members: dict[str, Any] = {"host.name": record.name}
        if labels:
            self.members["labels"] = labels


class Directory:
    """Config records by key; what does not verify is refused and logged, and the older record stays in force."""

    def __init__(self, verify_keys: Sequence[VerifyKey]) -> None:
        self._verify_keys = verify_keys
        self._revisions: dict[str, int] = {}
        self._hosts: dict[str, Host] = {}
        self._met: dict[str, Host] = {}
        self.rules = wire.RulesRecord()
        self.rules_revision = 0
        self.limits: dict[str, tuple[wire.LimitRecord, int]] = {}
        """Limits by id, with their revisions."""
        self.limits_version = 0
        """Grows whenever a limit, or which limits a host has, has changed."""
        self.refused = 0

    def take(self, key: bytes | None, headers: Sequence[tuple[str, bytes]], value: bytes | None) -> None:
        """Take one message of the config topic."""
        try:
            record = wire.decode(key, headers, value, self._verify_keys)
            self._apply(record)
        except WireError as error:
            self.refused += 1
            _log.error("config record refused: %s", error, extra={"fields": {"error.type": error.reason}})

    def _apply(self, record: wire.ConfigRecord) -> None:
        kind, _, identifier = record.key.partition("/")
        if record.record is not None:
            if record.revision <= self._revisions.get(record.key, -1):
                return
            if isinstance(record.record, wire.HostRecord):
                old = self._hosts.get(identifier)
                new = self._hosts[identifier] = Host(identifier, record.record)
                self.limits_version += old is None or (old.limits, old.state) != (new.limits, new.state)
            elif isinstance(record.record, wire.RulesRecord):
                self.rules = record.record
                self.rules_revision = record.revision
            else:
                self.limits[identifier] = (record.record, record.revision)
                self.limits_version += 1
            self._revisions[record.key] = record.revision
        elif kind == "host":
            self._hosts.pop(identifier, None)
            self.limits_version += 1
        elif kind == "limit":
            self.limits.pop(identifier, None)
            self.limits_version += 1

    @property
    def hosts(self) -> int:
        """Number of hosts known."""
        return len(self._hosts)

    def knows(self, host_id: str) -> bool:
        """Whether there is a host of this id, whatever its state."""
        return host_id in self._hosts

    def named(self, reference: str) -> str:
        """The host.id of the host with this id or name. Raises LookupError unless there is exactly one."""
        if reference in self._hosts:
            return reference
        found = [host_id for host_id, host in self._hosts.items() if host.members["host.name"] == reference]
        if len(found) != 1:
            many = f"more than one host is named {reference}: {', '.join(found)}; give its id"
            raise LookupError(many if found else f"no host {reference} is known; `ezadmin-cmdb host list` lists them")
        return found[0]

    def find_key(self, host: str, kid: str) -> VerifyKey | None:
        """The key ``kid`` of ``host``, None if it is unknown. Raises WireError (``host_not_active``)."""
        entry = self._hosts.get(host)
        if entry is None:
            return None
        if entry.state != "active":
            raise WireError("host_not_active", f"host {host} is {entry.state}")
        return entry.keys.get(kid)

    def host(self, host_id: str) -> Host:
        """The host's entry; for one that is not known (signatures off), an entry that names it by its id."""
        entry = self._hosts.get(host_id) or self._met.get(host_id)
        return Host(host_id, wire.HostRecord(name=host_id)) if entry is None else entry

    def limits_of(self, host_id: str) -> tuple[str, ...]:
        """The ids of the limits of a host that is listened to; none for others."""
        entry = self._hosts.get(host_id)
        return entry.limits if entry is not None and entry.state == "active" else ()

    def listened_to(self, host_id: str) -> bool:
        """Whether the host is known and active."""
        entry = self._hosts.get(host_id)
        return entry is not None and entry.state == "active"

    def meet(self, host_id: str, name: str, label: tuple[str, str]) -> None:
        """Remember what a host of a foreign topic calls itself, for its documents.

        Raises WireError (``host_taken``) if the cmdb knows a host of this id: nobody unsigned speaks for it.
        """
        if host_id in self._hosts:
            raise WireError("host_taken", f"{name!r} would have the host.id {host_id}, which is a host of the cmdb's")
        if host_id not in self._met:
            if len(self._met) >= MAX_MET:
                del self._met[next(iter(self._met))]
            self._met[host_id] = Host(host_id, wire.HostRecord(name=name, labels=dict([label])))

    def catch_up(self) -> None:
        """Read what there is to read; a directory without a topic (tests) has nothing to."""


class TopicDirectory(Directory):
    """A directory that reads the config topic by itself: whole at first, then what comes.

    ``keep_alive`` is called while it waits, and may raise to give up.
    """

    def __init__(
        self, kafka: KafkaConnection, topic: str, verify_keys: Sequence[VerifyKey], keep_alive: Callable[[], None]
    ) -> None:
        super().__init__(verify_keys)
        self._partition = TopicPartition(topic, 0)
        self._kafka = kafka
        self._keep_alive = keep_alive
        self._consumer: Any = None
        self._trouble = ""

    @classmethod
    def read(cls, kafka: KafkaConnection, topic: str, verify_keys: Sequence[VerifyKey]) -> TopicDirectory:
        """The directory as it stands now, for a command. Raises NoConfiguration after :data:`WAIT` seconds, KafkaRefused."""
        deadline = time.monotonic() + WAIT

        def keep_alive() -> None:
            if time.monotonic() > deadline:
                raise NoConfiguration(f"topic {topic} cannot be read within {WAIT:.0f} s: {directory._trouble}")

        directory = cls(kafka, topic, verify_keys, keep_alive)
        try:
            directory.catch_up()
        finally:
            directory.close()
        return directory

    def _connect(self) -> Any:
        consumer = KafkaConsumer(
            **self._kafka.options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            bootstrap_timeout_ms=5_000,
            metadata_max_age_ms=30_000,
        )
        consumer.assign([self._partition])
        consumer.seek_to_beginning(self._partition)
        return consumer

    def poll(self) -> None:
        """Take what has come, without waiting."""
        try:
            self._read(0)
        except KafkaError as error:
            self._failed(error)

    def catch_up(self) -> None:
        """Return when everything that stood in the topic at the call has been taken, however long that takes.

        Raises KafkaRefused.
        """
        while True:
            self._keep_alive()
            try:
                if self._consumer is None:
                    self._consumer = self._connect()
                end = self._end()
                if self._consumer.position(self._partition, timeout_ms=5_000) > end:  # the topic was made anew
                    self._consumer.seek_to_beginning(self._partition)
                while self._consumer.position(self._partition, timeout_ms=5_000) < end:
                    self._keep_alive()
                    self._read(100)
                return
            except KafkaError as error:
                self._failed(error)
                time.sleep(0.5)

    def _end(self) -> int:
        try:
            return int(self._consumer.end_offsets([self._partition], timeout_ms=5_000)[self._partition])
        except KafkaTimeoutError as error:
            topic = self._partition.topic
            if self._consumer.partitions_for_topic(topic):
                raise
            text = f"topic {topic} does not exist (yet); ezadmin-pipeline setup makes it"
            raise UnknownTopicOrPartitionError(text) from error

    def _read(self, timeout_ms: int) -> None:
        if self._consumer is None:
            self._consumer = self._connect()
        for records in self._consumer.poll(timeout_ms=timeout_ms).values():
            for record in records:
                self.take(record.key, record.headers, record.value)

    def _failed(self, error: KafkaError) -> None:
        self.close()
        broker.refuse(error, self._kafka, f"read {self._partition.topic}")
        self._trouble = broker.explain(error, self._kafka)
        _log.warning("the config topic cannot be read: %s", self._trouble)

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=1_000)
            self._consumer = None

"""Hosts as the gateway knows them: states and keys, read from ``<prefix>.config``, and nowhere else.

A thread reads; what it changes it tells at once, so that a host that is revoked is cut off while its poll waits. As long as Kafka
is away, what was read before stays in force.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from ezadmin_cmdb.gateway.problems import Problem
from ezadmin_wire import WireError
from ezadmin_wire import config as wire
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import VerifyKey

_log = logging.getLogger(__name__)
POLL_MS = 200
RETRY_SECONDS = 1.0
ACTIVE, QUARANTINED = "active", "quarantined"
_REFUSALS = {"revoked": "was revoked", "retired": "is retired"}


class Host:
    """A host's state and keys; a key is decoded when it is first asked for."""

    __slots__ = ("_keys", "name", "state")

    def __init__(self, record: wire.HostRecord) -> None:
        self.name = record.name
        self.state = record.state
        self._keys: dict[str, tuple[str | VerifyKey, bool]] = {
            one.kid: (one.public, one.revoked) for one in record.keys
        }

    def key(self, kid: str) -> VerifyKey:
        """The key. Raises Problem (``unknown_key``, ``revoked``)."""
        known = self._keys.get(kid)
        if known is None:
            raise Problem(403, "unknown_key", f"{self.name} has no key {kid}")
        public, revoked = known
        if revoked:
            raise Problem(403, "revoked", f"key {kid} of {self.name} was revoked")
        if isinstance(public, str):
            public = VerifyKey.from_hex(public)
            self._keys[kid] = (public, revoked)
        return public

    def knows(self, kid: str) -> bool:
        """Whether it has this key, and it is good."""
        known = self._keys.get(kid)
        return known is not None and not known[1]

    def check_state(self) -> None:
        """Raises Problem (``revoked``, ``retired``) for a host that is no longer talked to."""
        if self.state in _REFUSALS:
            raise Problem(403, self.state, f"host {self.name} {_REFUSALS[self.state]}")

    def check_active(self) -> None:
        """Raises Problem (``quarantined``): what it sends would not be believed yet, so it keeps that."""
        if self.state != ACTIVE:
            raise Problem(403, self.state, f"host {self.name} is in quarantine until a person accepts it", retry=60)


class Directory:
    """Host records by id. :meth:`take` and :meth:`forget` are the reader's, all else may be asked from any thread."""

    def __init__(self, verify_keys: Sequence[VerifyKey]) -> None:
        self._verify_keys = verify_keys
        self._revisions: dict[str, int] = {}
        self._hosts: dict[str, Host] = {}
        self.ready = False
        """Whether the topic was read whole once."""
        self.refused = 0

    def __len__(self) -> int:
        return len(self._hosts)

    def find(self, host_id: str) -> Host:
        """The host. Raises Problem: ``starting`` as long as nothing is known, ``unknown_host``."""
        host = self._hosts.get(host_id)
        if host is None:
            if not self.ready:
                raise Problem(503, "starting", "the gateway has not read its configuration yet", retry=2)
            raise Problem(404, "unknown_host", f"no host {host_id} is known here")
        return host

    def get(self, host_id: str) -> Host | None:
        """The host, if there is one."""
        return self._hosts.get(host_id)

    def take(self, key: bytes | None, headers: Sequence[tuple[str, bytes]], value: bytes | None) -> str | None:
        """Take one message of the topic; returns the id of the host that is another one now."""
        try:
            record = wire.decode(key, headers, value, self._verify_keys)
            kind, _, host_id = record.key.partition("/")
            if kind != "host":
                return None
            if record.record is None:
                return host_id if self._hosts.pop(host_id, None) is not None else None
            if record.revision <= self._revisions.get(host_id, -1) or not isinstance(record.record, wire.HostRecord):
                return None
            self._revisions[host_id] = record.revision
            self._hosts[host_id] = Host(record.record)
            return host_id
        except WireError as error:
            self.refused += 1
            _log.error("config record refused: %s", error, extra={"fields": {"error.type": error.reason}})
            return None

    def forget(self, but: Collection[str]) -> list[str]:
        """Forget all hosts ``but`` those; returns who that was."""
        gone = [host_id for host_id in self._hosts if host_id not in but]
        for host_id in gone:
            del self._hosts[host_id]
        return gone


class Reader(threading.Thread):
    """Keeps a directory as the topic says; ``changed`` is told the ids of hosts, in this thread."""

    def __init__(
        self, directory: Directory, kafka: KafkaConnection, topic: str, changed: Callable[[Collection[str]], None]
    ) -> None:
        super().__init__(name="config-reader", daemon=True)
        self._directory = directory
        self._kafka = kafka
        self._partition = TopicPartition(topic, 0)
        self._changed = changed
        self._stopping = threading.Event()
        self.connected = False

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def run(self) -> None:
        """The thread."""
        waiting = False
        while not self._stopping.is_set():
            consumer: Any = None
            try:
                consumer = self._connect()
                self._read_all(consumer)
                waiting = False
                while not self._stopping.is_set():
                    self._poll(consumer)
                    self.connected = True
            except KafkaError as error:
                if not waiting:
                    why = self._kafka.trouble() or error
                    _log.warning("configuration is not read, tried again each %g s: %s", RETRY_SECONDS, why)
                waiting = True
            except Exception:  # noqa: BLE001 - whatever it is, without reading the gateway would believe revoked keys
                _log.exception("configuration is not read, tried again each %g s", RETRY_SECONDS)
            finally:
                self.connected = False
                if consumer is not None:
                    consumer.close(autocommit=False, timeout_ms=1_000)
            self._stopping.wait(RETRY_SECONDS)

    def _connect(self) -> Any:
        consumer = KafkaConsumer(
            **self._kafka.options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            bootstrap_timeout_ms=3_000,
            request_timeout_ms=15_000,
            metadata_max_age_ms=30_000,
            fetch_max_wait_ms=POLL_MS,
        )
        consumer.assign([self._partition])
        consumer.seek_to_beginning(self._partition)
        return consumer

    def _read_all(self, consumer: Any) -> None:
        """From the beginning: what was deleted while nobody read does not stand there any more."""
        end = consumer.end_offsets([self._partition], timeout_ms=5_000)[self._partition]
        met: set[str] = set()
        while consumer.position(self._partition, timeout_ms=5_000) < end and not self._stopping.is_set():
            self._poll(consumer, met)
        if not self._stopping.is_set():
            gone = self._directory.forget(met)
            self._directory.ready = True
            _log.info("configuration is read: %d hosts", len(self._directory))
            self._changed(gone)

    def _poll(self, consumer: Any, met: set[str] | None = None) -> None:
        changed = set()
        for records in consumer.poll(timeout_ms=POLL_MS, max_records=1000).values():
            for record in records:
                if met is not None and record.key is not None and record.key.startswith(b"host/") and record.value:
                    met.add(record.key[5:].decode("utf-8", "replace"))
                host_id = self._directory.take(record.key, record.headers, record.value)
                if host_id is not None:
                    changed.add(host_id)
        if changed:
            self._changed(changed)

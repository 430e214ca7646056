"""Batches of hosts that do not reach Kafka themselves: checked as the pipeline checks them, then written for all replicas.

What is under way is bounded in bytes; beyond, and while Kafka is away, hosts are told to come again, and keep it themselves.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError

from ezadmin_cmdb.gateway.directory import Directory, Host
from ezadmin_cmdb.gateway.limits import OnceInAWhile
from ezadmin_cmdb.gateway.problems import Problem
from ezadmin_wire import WireError, batch, upload
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import VerifyKey

_log = logging.getLogger(__name__)
IN_FLIGHT_BYTES = 64 << 20
SECONDS = 15.0
"""After which a host is told that Kafka did not take its batches."""
AWAY_SECONDS = 2.0
THREADS = 4
Batches = Sequence[tuple[list[tuple[str, bytes]], bytes]]


class Uploads:
    """One producer for all hosts."""

    def __init__(self, directory: Directory, kafka: KafkaConnection, names: Names, counters: Counter[str]) -> None:
        self._directory = directory
        self._kafka = kafka
        self._topics = frozenset((names.metrics, names.logs, names.state, names.jobs))
        self._counters = counters
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="upload")
        self._told = OnceInAWhile()
        self._making = threading.Lock()
        self._producer: Any = None
        self._away_until = 0.0
        self.bytes = 0
        self.away = False

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Room for ``size`` bytes. Raises Problem (``busy``) if there is none, ``kafka_away`` while that is known."""
        if time.monotonic() < self._away_until:
            raise self._problem()
        if self.bytes + size > IN_FLIGHT_BYTES:
            self._counters["uploads_refused_busy"] += 1
            raise Problem(503, "busy", "too much is on its way already", retry=2)
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size

    def _problem(self) -> Problem:
        return Problem(503, "kafka_away", "Kafka does not take it now", retry=5)

    async def take(self, host_id: str, host: Host, body: bytes) -> list[dict[str, Any]]:
        """What became of each batch of a body, in order. Raises Problem (``bad_upload``, ``kafka_away``)."""
        loop = asyncio.get_running_loop()
        results, sent, producer = await loop.run_in_executor(self._threads, self._send, loop, host_id, host, body)
        try:
            async with asyncio.timeout(SECONDS):
                for place, future in sent:
                    try:
                        await future
                        results[place] = {"ok": True}
                        self._counters["batches_taken"] += 1
                    except MessageSizeTooLargeError as error:
                        results[place] = {"error": "too_large", "message": str(error)}
        except (KafkaError, TimeoutError) as error:
            self._failed(error, producer)
            raise self._problem() from error
        finally:
            for _, future in sent:
                future.cancel()
        refused = [one for one in results if "error" in one]
        self._counters["batches_refused"] += len(refused)
        if refused and self._told.first(f"batches {host_id}"):
            _log.warning(
                "batches of host %s are refused: %s", host.name, refused[0]["message"],
                extra={"fields": {"host.id": host_id, "error.type": refused[0]["error"]}},
            )  # fmt: skip
        if self.away:
            self.away = False
            _log.info("Kafka takes batches again")
        return results

    def _send(
        self, loop: asyncio.AbstractEventLoop, host_id: str, host: Host, body: bytes
    ) -> tuple[list[dict[str, Any]], list[tuple[int, asyncio.Future[None]]], Any]:
        """Check, and begin to write; in a thread. Returns the producer, too."""
        try:
            batches = upload.decode(body)
        except WireError as error:
            raise Problem(400, error.reason, str(error)) from error
        results: list[dict[str, Any]] = [{} for _ in batches]
        sent: list[tuple[int, asyncio.Future[None]]] = []
        key, producer = host_id.encode(), None
        for place, (headers, value) in enumerate(batches):
            try:
                topic = self._check(host_id, host, headers, value)
            except WireError as error:
                results[place] = {"error": error.reason, "message": str(error)}
                continue
            try:
                producer = self._connected()
                kafka = producer.send(topic, key=key, value=value, headers=headers)
            except MessageSizeTooLargeError as error:
                results[place] = {"error": "too_large", "message": str(error)}
                continue
            except KafkaError as error:
                self._failed(error, producer)
                raise self._problem() from error
            future: asyncio.Future[None] = loop.create_future()
            kafka.add_both(_teller(loop, future))
            sent.append((place, future))
        return results, sent, producer

    def _check(self, host_id: str, host: Host, headers: list[tuple[str, bytes]], value: bytes) -> str:
        """The topic of a batch. Raises WireError."""
        topic = dict(headers).get("topic", b"").decode("ascii", "replace")
        if topic not in self._topics:
            raise WireError("wrong_topic", f"hosts do not write into topic {topic!r}")

        def find_key(named: str, kid: str) -> VerifyKey | None:
            return host.key(kid) if host.knows(kid) else None

        if dict(headers).get("host") != host_id.encode():
            raise WireError("wrong_host", f"the batch is not one of host {host_id}, which sends it")
        batch.decode(topic, host_id.encode(), headers, value, find_key)
        return topic

    def _connected(self) -> Any:
        with self._making:
            if self._producer is None:
                self._producer = KafkaProducer(
                    **self._kafka.options(),
                    acks="all",
                    enable_idempotence=True,
                    compression_type="gzip",
                    allow_auto_create_topics=False,
                    batch_size=512 << 10,
                    linger_ms=5,
                    max_request_size=2 << 20,
                    max_block_ms=2_000,
                    request_timeout_ms=5_000,
                    delivery_timeout_ms=12_000,
                    bootstrap_timeout_ms=2_000,
                    reconnect_backoff_max_ms=1_000,
                    client_id="ezadmin-gateway",
                )
            return self._producer

    def _failed(self, error: BaseException, producer: Any) -> None:
        """Remember it for a moment. An idempotent producer may not recover from what it could not deliver: make another one."""
        with self._making:
            if producer is not None and self._producer is producer:
                self._producer = None
                threading.Thread(target=producer.close, kwargs={"timeout": 0}, daemon=True).start()
        self._away_until = time.monotonic() + AWAY_SECONDS
        self._counters["uploads_refused_kafka"] += 1
        if not self.away:
            self.away = True
            _log.warning("Kafka does not take batches: %s", self._kafka.trouble() or error)

    def close(self, seconds: float) -> None:
        """End; what hosts were not told to be taken they send again."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._producer is not None:
            self._producer.close(timeout=seconds)


def _teller(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Any:
    """Lets the event loop know what became of a message."""

    def told(outcome: Any) -> None:
        def tell() -> None:
            if future.done():
                return
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(None)

        if not loop.is_closed():
            loop.call_soon_threadsafe(tell)

    return told

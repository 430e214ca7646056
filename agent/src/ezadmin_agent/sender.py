"""The sender: takes fsynced frames from the spools, signs them as batches and hands them to Kafka until it has them.

By the transport ``https`` it is the gateway that hands them to Kafka; for all that is said here it is the same.

Per stream, frames leave in order and are freed in order: a frame only when it and all before it are acknowledged by all
in-sync replicas. When one fails, nothing more of its stream is sent until all that is under way has come to an end;
then sending goes on from the oldest frame not acknowledged, under the same numbers. What Kafka had taken already comes
twice so, and the pipeline knows it by its number. There is no error after which the sender gives up; only a single line
that Kafka refuses for its size is dropped, counted and logged.

kafka-python 3.0.12, found by trying and reading: its constructor raises when no broker answers, so the producer is made
here, in the sender's thread, and made anew when it fails again and again; ``close(timeout)`` raises from its ``flush``
before it stops the I/O thread while records are under way (see :func:`_close`). And one record that the broker refuses
for its size puts the idempotent producer into a fatal state in which *every* record fails with that same error. So a
batch is judged too large only if it was refused alone, by a producer that had sent nothing refused before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Protocol, Union

from ezadmin_agent import brokers
from ezadmin_agent.backoff import Backoff
from ezadmin_agent.log import Repeated
from ezadmin_agent.spool import Frame, Position, Spools
from ezadmin_wire import batch, times
from ezadmin_wire.batch import ANY_DATASET
from ezadmin_wire.errors import WireError
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import SigningKey

log = logging.getLogger(__name__)

RENEW_AFTER = 3
"""Failures in a row, with no success of any stream between, after which the producer is made anew."""

PRODUCER: Mapping[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "gzip",
    "allow_auto_create_topics": False,  # else a topic deleted for a moment comes back with one partition
    "batch_size": 512 << 10,
    "max_request_size": 2 << 20,  # as max.message.bytes of the data topics
    "linger_ms": 0,
    "bootstrap_timeout_ms": 4_000,
    "max_block_ms": 3_000,
    "request_timeout_ms": 15_000,
    "delivery_timeout_ms": 60_000,
    "reconnect_backoff_max_ms": 3_000,
    "metadata_max_age_ms": 300_000,  # an error asks anew at once
    "metrics_enabled": False,  # a fifth of its CPU per message
}


class Route(Protocol):
    """Where a producer leads; its text is the address.

    ``takes``: who takes the batches there, in words. ``errors``: what its producer raises beside OSError; ``too_large``: what a
    batch fails with that will never be taken for its size.
    """

    takes: str
    errors: tuple[type[BaseException], ...]
    too_large: tuple[type[BaseException], ...]

    def options(self) -> dict[str, Any]:
        """Options of the producer, asked for each time that one is made."""


@dataclass
class _Piece:
    """A batch under way: a frame, or a part of one too large. ``frame`` is set on the last piece of a frame."""

    epoch: str
    seq: int
    n: int
    size: int
    frame: Optional[Frame]
    future: Any
    at: float
    alone: bool
    dropped: bool = False


@dataclass
class _Stream:
    name: str
    topic: str
    cursor: Position
    backoff: Backoff
    in_flight: deque[_Piece] = field(default_factory=deque)
    queue: deque[tuple[Frame, list[bytes], int, bool]] = field(default_factory=deque)  # of the frame before the cursor
    failed: Optional[BaseException] = None
    refused: set[tuple[str, int]] = field(default_factory=set)  # (epoch, seq) of lines that are too large
    ready_at: float = 0.0
    limit: int = batch.MAX_LINE * 2
    lines_sent: int = 0
    bytes_sent: int = 0
    lines_refused: int = 0
    last_ack: Optional[str] = None


class Sender:
    """Sends the frames of ``spools`` as host ``host_id``, signed with ``key``.

    ``kafka`` says how to reach the brokers, or is another :class:`Route`;
    ``options`` override those of :data:`PRODUCER` (time limits); ``clock`` gives
    the wire time of the header ``sent``; ``make_producer(**options)`` makes the producer. At most ``in_flight_bytes`` are
    under way, and at most ``bytes_per_second`` are sent, before compression, so that what an outage left does not come as
    a flood. Several senders, of several hosts, can live in one process.
    """

    def __init__(
        self,
        spools: Spools,
        *,
        host_id: str,
        key: SigningKey,
        kafka: Union[KafkaConnection, Route],
        options: Optional[Mapping[str, Any]] = None,
        clock: Callable[[], str] = times.now,
        in_flight_bytes: int = 8 << 20,
        bytes_per_second: Optional[int] = None,
        make_producer: Optional[Callable[..., Any]] = None,
    ) -> None:
        if isinstance(kafka, KafkaConnection):
            # here: who sends through the gateway does not pay 8 MiB for it
            from kafka import KafkaProducer
            from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

            make_producer = make_producer or KafkaProducer
            self._errors: tuple[type[BaseException], ...] = (KafkaError,)
            self._too_large: tuple[type[BaseException], ...] = (MessageSizeTooLargeError, RecordListTooLargeError)
        else:
            self._errors, self._too_large = kafka.errors, kafka.too_large
        self._no_connection: tuple[type[BaseException], ...] = (*self._errors, OSError, WireError)
        self._not_sent: tuple[type[BaseException], ...] = (*self._errors, ValueError)
        self._spools = spools
        self._host_id = host_id
        self._key = key
        self._options = {**PRODUCER, "client_id": f"ezadmin-{host_id[:8]}", **(options or {})}
        self._kafka = kafka
        self._held = False
        self._clock = clock
        self._budget = in_flight_bytes
        self._rate = bytes_per_second
        self._spare = float(bytes_per_second or 0)  # bytes that may be sent now
        self._spare_at = time.monotonic()
        self._patience = self._options["delivery_timeout_ms"] / 1000 * 2
        self._make_producer = make_producer or _none
        self._producer: Any = None
        self._producer_backoff = Backoff(0.25, 10.0)
        self._producer_at = 0.0
        self._failures = 0  # in a row, of all streams
        self._renew = False
        self._bytes = 0
        self._careful = 0  # so many batches are sent one at a time, to find the one that is too large
        self._trouble = Repeated(log)
        self._streams = [
            _Stream(spool.stream, spools.specs[spool.stream].topic, spool.acked, Backoff(0.1, 10.0)) for spool in spools
        ]
        self._stop_at: Optional[float] = None
        self._thread = threading.Thread(target=self._run, name=f"sender-{host_id[:8]}", daemon=True)

    # ------------------------------------------------------------------ what callers see

    def start(self) -> None:
        """Begin to send, in a thread of its own."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Send what is in the spools for at most ``timeout`` seconds, then end. Whether everything was acknowledged."""
        self._stop_at = time.monotonic() + timeout
        self._spools.wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout + 1.5)
        return all(spool.pending_lines == 0 for spool in self._spools)

    def wait_acked(self, timeout: float) -> bool:
        """Wait until every fsynced frame is acknowledged; False if ``timeout`` seconds passed first."""
        end = time.monotonic() + timeout
        while any(spool.pending_lines for spool in self._spools):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def hold(self, held: bool) -> None:
        """Send nothing new while ``held``; what is under way ends. Any thread may call it."""
        self._held = held
        self._spools.wake.set()

    def use(self, *, key: Optional[SigningKey] = None, kafka: Optional[Union[KafkaConnection, Route]] = None) -> None:
        """Sign with another ``key``, or go another way, from the next batch on. Any thread may call it."""
        if key is not None:
            self._key = key
        if kafka is not None:
            self._kafka = kafka
            self._renew = True
        self._spools.wake.set()

    @property
    def _takes(self) -> str:
        return "Kafka" if isinstance(self._kafka, KafkaConnection) else self._kafka.takes

    @property
    def connected(self) -> bool:
        """Whether a producer stands and the last batches did not fail."""
        return self._producer is not None and self._failures == 0 and not self._held

    def stats(self) -> dict[str, dict[str, Any]]:
        """Per stream: lines_sent, bytes_sent (before compression), lines_refused, in_flight (batches), last_ack (time)."""
        return {
            stream.name: {
                "lines_sent": stream.lines_sent,
                "bytes_sent": stream.bytes_sent,
                "lines_refused": stream.lines_refused,
                "in_flight": len(stream.in_flight),
                "last_ack": stream.last_ack,
            }
            for stream in self._streams
        }

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        wake = self._spools.wake
        while not self._finished():
            wake.clear()
            try:
                busy = self._step()
            except Exception:
                log.exception("the sender failed unexpectedly; it goes on in a second")
                self._renew = True
                time.sleep(1.0)
                continue
            if not busy:
                wake.wait(self._pause())
        if self._producer is not None:
            _close(self._producer, 1.0, self._errors)
            self._producer = None

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        if self._held and not any(stream.in_flight for stream in self._streams):
            return True
        return time.monotonic() >= self._stop_at or all(spool.pending_lines == 0 for spool in self._spools)

    def _step(self) -> bool:
        """One round; whether something moved."""
        moved = False
        for stream in self._streams:
            moved |= self._reap(stream)
        self._give_up_stuck()
        if self._renew and not any(stream.in_flight for stream in self._streams):
            self._drop_producer()
        if self._producer is None and not self._connect():
            return moved
        if self._renew:
            return moved
        for stream in self._streams:
            moved |= self._fill(stream)
        return moved

    def _pause(self) -> float:
        """Seconds until something could be done without being woken."""
        now = time.monotonic()
        moments = [stream.ready_at for stream in self._streams if stream.ready_at > now]
        if self._producer is None and self._producer_at > now:
            moments.append(self._producer_at)
        if self._stop_at is not None:
            moments.append(self._stop_at)
        if self._rate is not None and self._spare <= 0:
            moments.append(now + 0.1)
        return max(0.01, min(1.0, *(moment - now for moment in moments))) if moments else 1.0

    def _connect(self) -> bool:
        if self._held or time.monotonic() < self._producer_at:
            return False
        if all(spool.pending_lines == 0 for spool in self._spools):
            return False
        try:
            # the options are asked for each time: a password or certificate may have been renewed
            self._producer = self._make_producer(**self._options, **self._kafka.options())
        except self._no_connection as error:
            wait = self._producer_backoff.next()
            self._producer_at = time.monotonic() + wait
            reason: object = error
            if isinstance(self._kafka, KafkaConnection) and isinstance(error, Exception):
                reason = brokers.why(error, self._kafka, proxied="proxy_url" in self._options)
            self._trouble.tell("", f"no connection to {self._takes} at {self._kafka}: {reason}")
            return False
        log.info("batches go to %s at %s", self._takes, self._kafka)
        self._trouble.over("")
        return True

    def _drop_producer(self) -> None:
        self._renew = False
        self._failures = 0
        if self._producer is not None:
            _close(self._producer, 1.0, self._errors)
            self._producer = None
            self._producer_at = time.monotonic() + self._producer_backoff.next()

    def _reap(self, stream: _Stream) -> bool:
        """Free what was acknowledged; after a failure, begin again when nothing is under way any more."""
        spool = self._spools[stream.name]
        moved = False
        while stream.in_flight:
            piece = stream.in_flight[0]
            if not piece.dropped:
                if not piece.future.is_done:
                    break
                if piece.future.failed():
                    if stream.failed is None:
                        self._fail(stream, piece, piece.future.exception)
                    break
                self._succeed(stream, piece)
            stream.in_flight.popleft()
            self._bytes -= piece.size
            self._careful = max(0, self._careful - 1)
            if piece.frame is not None:
                spool.ack(piece.frame)
                stream.refused = {line for line in stream.refused if line >= (piece.epoch, piece.frame.end.seq)}
            moved = True
        if stream.failed is not None and all(piece.dropped or piece.future.is_done for piece in stream.in_flight):
            self._begin_again(stream)
            moved = True
        return moved

    def _begin_again(self, stream: _Stream) -> None:
        self._bytes -= sum(piece.size for piece in stream.in_flight)
        stream.in_flight.clear()
        stream.queue.clear()
        stream.failed = None
        stream.cursor = self._spools[stream.name].acked

    def _succeed(self, stream: _Stream, piece: _Piece) -> None:
        stream.lines_sent += piece.n
        stream.bytes_sent += piece.size
        stream.last_ack = self._clock()
        stream.backoff.reset()
        self._producer_backoff.reset()
        self._failures = 0
        if self._trouble.over(stream.name):
            log.info("stream %s: %s takes batches again", stream.name, self._takes)

    def _give_up_stuck(self) -> None:
        """kafka-python promises an end to every record within delivery_timeout; should it break that, start afresh."""
        if not any(s.in_flight and time.monotonic() - s.in_flight[0].at > self._patience for s in self._streams):
            return
        log.error(
            "records are under way for more than %.0f s without an answer; a new producer is made", self._patience
        )
        for stream in self._streams:
            self._begin_again(stream)
        self._drop_producer()

    def _fail(self, stream: _Stream, piece: _Piece, error: BaseException) -> None:
        stream.failed = error
        if isinstance(error, self._too_large):
            if piece.alone or piece.future is None:
                self._refuse(stream, piece)
            self._careful = 1 + sum(len(other.in_flight) for other in self._streams)
            self._renew = self._renew or piece.future is not None
            return
        self._failures += 1
        if self._failures >= RENEW_AFTER:
            self._renew = True
        # one that is asked for a while is given it (the gateway's Retry-After)
        stream.ready_at = time.monotonic() + float(getattr(error, "retry", 0.0)) + stream.backoff.next()
        text = f"stream {stream.name}: {self._takes} did not take a batch: {_text(error)}; it is sent again"
        self._trouble.tell(stream.name, text, type(error).__name__)

    def _refuse(self, stream: _Stream, piece: _Piece) -> None:
        """Kafka refuses the size: cut smaller from now on; a single line cannot be cut and goes."""
        if piece.n > 1:
            stream.limit = max(1, piece.size // 2)
            log.warning(
                "stream %s: %s refuses a batch of %d bytes; they are cut smaller", stream.name, self._takes, piece.size
            )
            return
        stream.refused.add((piece.epoch, piece.seq))
        stream.lines_refused += 1
        log.error(
            "stream %s: line %d of %d bytes is dropped: %s refuses it for its size (max.message.bytes of %s)",
            *(stream.name, piece.seq, piece.size, self._takes, stream.topic),
        )

    def _fill(self, stream: _Stream) -> bool:
        """Send frames behind the cursor while the budget lasts."""
        if self._held or stream.failed is not None or time.monotonic() < stream.ready_at:
            return False
        moved = False
        while self._bytes < self._budget and stream.failed is None and not (self._renew or self._held):
            if not self._may_send():
                break
            if self._careful and any(other.in_flight for other in self._streams):
                break
            if not stream.queue:
                frame = self._spools[stream.name].next_frame(stream.cursor)
                if frame is None:
                    break
                stream.queue.extend((frame, lines, seq, last) for lines, seq, last in _cut(frame, stream.limit))
                stream.cursor = frame.end
            self._send(stream, *stream.queue.popleft())
            moved = True
        return moved

    def _may_send(self) -> bool:
        if self._rate is None:
            return True
        now = time.monotonic()
        self._spare = min(float(self._rate), self._spare + (now - self._spare_at) * self._rate)
        self._spare_at = now
        return self._spare > 0

    def _send(self, stream: _Stream, frame: Frame, lines: list[bytes], seq: int, last: bool) -> None:
        headers, value = batch.encode(
            self._key,
            host=self._host_id,
            topic=stream.topic,
            stream=stream.name,
            epoch=frame.epoch,
            seq=seq,
            lines=lines,
            dataset=frame.dataset,
            tmin=frame.tmin,
            tmax=frame.tmax,
            sent=self._clock(),
            count=frame.dataset != ANY_DATASET and stream.topic.endswith(".logs"),
            compact=frame.dataset == ANY_DATASET,
        )
        piece = _Piece(
            epoch=frame.epoch,
            seq=seq,
            n=len(lines),
            size=len(value),
            frame=frame if last else None,
            future=None,
            at=time.monotonic(),
            alone=self._careful > 0,
            dropped=len(lines) == 1 and (frame.epoch, seq) in stream.refused,
        )
        if not piece.dropped:
            try:
                piece.future = self._producer.send(
                    stream.topic, value=value, key=self._host_id.encode(), headers=headers
                )
            except self._not_sent as error:  # ValueError: the topic vanished from the metadata just now
                self._fail(stream, piece, error)
                return
            piece.future.add_both(lambda *_: self._spools.wake.set())
        stream.in_flight.append(piece)
        self._bytes += piece.size
        self._spare -= piece.size


def _cut(frame: Frame, limit: int) -> Iterable[tuple[list[bytes], int, bool]]:
    """The frame in runs of at most ``limit`` bytes (at least one line): lines, first number, whether it is the last."""
    lines = frame.lines()
    if len(frame.value) <= limit:
        yield lines, frame.seq, True
        return
    start, size = 0, 0
    for index, line in enumerate(lines):
        if index > start and size + len(line) + 1 > limit:
            yield lines[start:index], frame.seq + start, False
            start, size = index, 0
        size += len(line) + 1
    yield lines[start:], frame.seq + start, True


def _text(error: BaseException) -> str:
    text, name = str(error), type(error).__name__
    if hasattr(error, "hint"):  # the gateway's are written for people
        return text
    return text if text.startswith(name) else f"{name}: {text}" if text else name


def _none(**_: Any) -> Any:
    raise ValueError("a way other than Kafka needs its own producer")


def _close(producer: Any, timeout: float, errors: tuple[type[BaseException], ...]) -> None:
    """Close ``producer`` for good, also with records under way: they are in the spool."""
    try:
        producer.close(timeout=timeout)
    except errors:
        # its close() waits for the records first and raises before it stops the I/O thread; there is no public way left
        producer._sender.force_close()
        producer._closed = True

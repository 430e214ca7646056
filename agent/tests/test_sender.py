"""The sender's bookkeeping, with a producer that fails on command (a real one cannot be told when to)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, NodeNotReadyError

from ezadmin_agent.backoff import Backoff
from ezadmin_agent.sender import Sender
from ezadmin_agent.spool import Spools, StreamSpec
from ezadmin_wire import batch
from ezadmin_wire.batch import Batch
from ezadmin_wire.ids import new_host_id
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import SigningKey, VerifyKey

T = "2026-11-24T08:00:00.000Z"
KEY = SigningKey.generate()
HOST = new_host_id()


class Future:
    def __init__(self) -> None:
        self.is_done = False
        self.exception: Optional[BaseException] = None
        self._callback: Callable[..., object] = lambda: None

    def failed(self) -> bool:
        return self.is_done and self.exception is not None

    def add_both(self, callback: Callable[..., object]) -> None:
        self._callback = callback

    def end(self, error: Optional[BaseException] = None) -> None:
        self.exception = error
        self.is_done = True
        self._callback()


class Producer:
    """Records what is sent; ``judge(batch)`` gives the error, None for success, or "wait"."""

    def __init__(self, judge: Callable[[Batch], Any]) -> None:
        self.judge = judge
        self.sent: list[Batch] = []
        self.taken: list[Batch] = []
        self.waiting: list[tuple[Future, Batch]] = []
        self.closed = False
        self.fatal: BaseException | None = None

    def send(self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> Future:
        found = batch.decode(topic, key, headers, value, lambda host, kid: VerifyKey(KEY.public))
        self.sent.append(found)
        future = Future()
        verdict = self.fatal or self.judge(found)
        if isinstance(verdict, MessageSizeTooLargeError):
            self.fatal = verdict  # as kafka-python's idempotent producer: from now on all fail so
        if verdict == "wait":
            self.waiting.append((future, found))
        else:
            if verdict is None:
                self.taken.append(found)
            future.end(verdict)
        return future

    def close(self, timeout: float) -> None:
        self.closed = True


class Rig:
    def __init__(self, directory: Path) -> None:
        self.judge: Callable[[Batch], Any] = lambda _: None
        self.made: list[Producer] = []
        self.refuse_to_connect = 0
        self.spools = Spools(
            directory, [StreamSpec("logs", "t.logs", 5, False), StreamSpec("metrics", "t.metrics", 1, True)]
        )
        self.sender = self.make_sender()

    def make_sender(self, **options: Any) -> Sender:
        return Sender(
            self.spools,
            host_id=HOST,
            key=KEY,
            kafka=KafkaConnection("a:1,b:2"),
            clock=lambda: T,
            make_producer=self._make,
            **options,
        )

    def _make(self, **options: Any) -> Producer:
        assert options["bootstrap_servers"] == ["a:1", "b:2"]
        if self.refuse_to_connect:
            self.refuse_to_connect -= 1
            raise NodeNotReadyError
        self.made.append(Producer(lambda found: self.judge(found)))
        return self.made[-1]

    def append(self, *lines: bytes, stream: str = "logs") -> None:
        self.spools[stream].append(lines, dataset="d" if stream == "logs" else "*", tmin=T, tmax=T)
        self.spools[stream].sync()

    def taken(self, stream: str = "logs") -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for producer in self.made:
            for taken in producer.taken:
                if taken.stream == stream:
                    for i, line in enumerate(taken.lines()):
                        assert found.setdefault(taken.seq + i, line) == line
        return found


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.sender.stop(0.1)
    rig.spools.close()


def test_frames_leave_in_order_and_are_freed(rig: Rig) -> None:
    rig.sender.start()
    for i in range(20):
        rig.append(b'{"log.level":"info","i":%d}' % i, b'{"i":%d}' % i)
    rig.append(b'{"m":1}', stream="metrics")
    assert rig.sender.wait_acked(5)
    (producer,) = rig.made
    logs = [found for found in producer.sent if found.stream == "logs"]
    assert [found.seq for found in logs] == list(range(0, 40, 2))
    assert logs[0].levels == {"info": 1, "unknown": 1}
    assert next(found for found in producer.sent if found.stream == "metrics").levels == {}
    stats = rig.sender.stats()["logs"]
    assert (stats["lines_sent"], stats["in_flight"], stats["last_ack"]) == (40, 0, T)


def test_a_failure_sends_again_from_the_oldest_under_the_same_numbers(rig: Rig) -> None:
    failed: list[int] = []

    def judge(found: Batch) -> Any:
        if found.seq == 3 and len(failed) < 3:
            failed.append(found.seq)
            return KafkaTimeoutError("gone")
        return None

    rig.judge = judge
    for i in range(6):
        rig.append(b'{"i":%d}' % i)
    rig.sender.start()
    assert rig.sender.wait_acked(10)
    assert rig.taken() == {i: b'{"i":%d}' % i for i in range(6)}
    seqs = [found.seq for producer in rig.made for found in producer.sent]
    # nothing behind the failed one was freed: all of it came again
    assert seqs[:6] == [0, 1, 2, 3, 4, 5]
    assert seqs[6:] == [3, 4, 5] * 3
    assert len(rig.made) == 2  # after several failures in a row the producer is made anew
    assert rig.made[0].closed


def test_nothing_is_sent_again_while_the_rest_is_under_way(rig: Rig) -> None:
    rig.judge = lambda found: KafkaTimeoutError() if found.seq == 0 and len(rig.made[0].sent) < 3 else "wait"
    for i in range(3):
        rig.append(b'{"i":%d}' % i)
    rig.sender.start()
    time.sleep(0.5)
    (producer,) = rig.made
    assert [found.seq for found in producer.sent] == [0, 1, 2]
    rig.judge = lambda _: None
    for future, _ in producer.waiting:
        future.end()
    assert rig.sender.wait_acked(5)
    assert [found.seq for found in producer.sent] == [0, 1, 2, 0, 1, 2]


def test_bytes_under_way_are_bounded(rig: Rig) -> None:
    rig.sender = rig.make_sender(in_flight_bytes=10_000)
    rig.judge = lambda _: "wait"
    for _ in range(100):
        rig.append(b"x" * 1000)
    rig.sender.start()
    time.sleep(0.3)
    assert len(rig.made[0].sent) == 10
    rig.judge = lambda _: None
    for future, _ in rig.made[0].waiting:
        future.end()
    assert rig.sender.wait_acked(5)


def test_a_batch_refused_for_its_size_is_cut_and_a_single_line_dropped(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.judge = lambda found: MessageSizeTooLargeError() if len(found.value) > 3000 else None
    lines = [b"%04d" % i + b"x" * 500 for i in range(20)]
    lines[7] = b"0007" + b"y" * 5000
    rig.append(*lines)
    rig.append(b"after")
    rig.sender.start()
    assert rig.sender.wait_acked(10)
    assert rig.taken() == {**{i: line for i, line in enumerate(lines) if i != 7}, 20: b"after"}
    assert rig.sender.stats()["logs"]["lines_refused"] == 1
    assert any("line 7 of 5005 bytes is dropped" in record.getMessage() for record in caplog.records)


def test_no_broker_at_start_is_waited_for(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.refuse_to_connect = 3
    rig.append(b"{}")
    rig.sender.start()
    assert rig.sender.wait_acked(10)
    assert len([r for r in caplog.records if "no connection to Kafka at a:1,b:2" in r.getMessage()]) == 1


def test_an_answer_that_never_comes_is_not_waited_for_for_ever(rig: Rig) -> None:
    rig.sender = rig.make_sender(options={"delivery_timeout_ms": 200})
    rig.judge = lambda _: "wait"
    rig.append(b"{}")
    rig.sender.start()
    time.sleep(0.2)
    rig.judge = lambda _: None
    assert rig.sender.wait_acked(10)
    assert len(rig.made) == 2


def test_stop_flushes_and_is_bounded(rig: Rig) -> None:
    rig.sender.start()
    rig.append(b"1")
    assert rig.sender.stop(5)
    assert rig.taken() == {0: b"1"}
    rig.judge = lambda _: "wait"
    rig.append(b"2")
    sender = rig.make_sender()
    sender.start()
    begin = time.monotonic()
    assert not sender.stop(0.3)
    assert time.monotonic() - begin < 1.5
    assert not any(thread.name.startswith("sender") and thread.is_alive() for thread in threading.enumerate())


def test_backoff_grows_to_its_cap_with_full_jitter() -> None:
    backoff = Backoff(1, 8)
    waits = [backoff.next() for _ in range(200)]
    assert all(wait <= min(8, 2**i) for i, wait in enumerate(waits))
    assert max(waits) > 7
    assert min(waits[10:]) < 1
    backoff.reset()
    assert backoff.next() <= 1

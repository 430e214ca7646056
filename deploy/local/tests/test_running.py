"""What deals with running things: processes, locks, services that answer or do not."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ezadmin_local import health, processes
from ezadmin_local.errors import LocalError
from ezadmin_local.locks import hold
from ezadmin_local.stack import tail


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, processes.MARK: processes.mark(tmp_path, "kafka")}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment) as process:
        deadline = time.monotonic() + 5
        while not processes.find(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)  # a process that has just begun shows no environment yet
        yield process
        process.kill()


def test_processes_are_found_by_their_mark(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.find(tmp_path)
    assert [(one.pid, one.program) for one in found] == [(sleeper.pid, "kafka")]
    assert found[0].rss_bytes() > 0
    assert processes.find(tmp_path / "other") == []


def test_a_killed_process_is_gone_even_before_its_parent_asks(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.find(tmp_path)
    found[0].send(signal.SIGKILL)
    assert processes.wait_gone(lambda: processes.find(tmp_path), 5) == []
    assert not found[0].alive()
    found[0].send(signal.SIGKILL)  # harms nobody


def test_waiting_gives_back_who_is_left(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    assert [one.pid for one in processes.wait_gone(lambda: processes.find(tmp_path), 0.2)] == [sleeper.pid]


def test_a_held_lock_names_its_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path, "deploy/local/up"):  # noqa: SIM117 (the second is the one that raises)
        with (
            pytest.raises(LocalError, match=rf"process {os.getpid()} \(deploy/local/up\) is at work in"),
            hold(path, "x"),
        ):
            pass
    with hold(path, "deploy/local/down"):
        pass


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order = []

    def second() -> None:
        with hold(path, "second", on_wait=lambda who: waiting.set()):
            order.append("second")

    waiting = threading.Event()
    with hold(path, "first"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """A server that answers one request with given bytes: a real broker never gives wrong ones."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def metadata(brokers: int) -> bytes:
    body = struct.pack(">iii", 1, 0, brokers)
    return struct.pack(">i", len(body)) + body


def test_kafka_is_healthy_when_its_metadata_lists_a_broker() -> None:
    with server(metadata(1)) as address:
        assert health.kafka(address) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(metadata(0), "no broker yet"), (struct.pack(">ii", 4, 1), "no metadata"), (b"", "closes the connection")],
)
def test_kafka_that_answers_anything_else_is_not_healthy(answer: bytes, reason: str) -> None:
    with server(answer) as address:
        assert reason in (health.kafka(address) or "")


def test_nobody_listening_is_said() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        assert health.kafka(address) == "does not listen yet"
        assert health.elasticsearch(f"http://{address}") == "does not listen yet"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        ("200 OK", b'{"status":"yellow"}', None),
        ("200 OK", b'{"status":"red"}', "cluster health is red"),
        ("503 Busy", b"no master", "HTTP 503: no master"),
        ("200 OK", b"hello", "no HTTP answer"),
    ],
)
def test_elasticsearch_is_healthy_when_yellow_or_green(status: str, body: bytes, reason: str | None) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with server(head.encode() + body) as address:
        found = health.elasticsearch(f"http://{address}")
    assert found is None if reason is None else reason in (found or "")


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    assert tail(path, 20) == []
    path.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert tail(path, 3) == ["line 4997", "line 4998", "line 4999"]
    path.write_text("one\ntwo")
    assert tail(path, 20) == ["one", "two"]

"""The spool in bad times: an hour without a broker, a full disk, and the replay afterwards.

The hour is 200 events a second of 500 bytes, in compressed time; CI does a tenth of it in a tenth of the spool.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ezadmin_agent.logs.file import FileSource
from ezadmin_agent.logs.own import OwnSource
from ezadmin_agent.logs.reader import LogReader
from ezadmin_agent.sender import Sender
from ezadmin_agent.spool import CAP_BYTES, SpoolError, Spools, StreamSpec
from ezadmin_wire.batch import ANY_DATASET
from ezadmin_wire.ids import new_host_id
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import SigningKey

MINUTES = 60 if os.environ.get("EZADMIN_FULL") else 6
SPECS = [
    StreamSpec("own", "t.logs", priority=8, droppable=True),
    StreamSpec("logs", "t.logs", priority=5, droppable=False),
    StreamSpec("metrics", "t.metrics", priority=1, droppable=True),
]


def messages(spools: Spools, stream: str) -> list[str]:
    spool = spools[stream]
    found, place = [], spool.acked
    while (frame := spool.next_frame(place)) is not None:
        found += [json.loads(line)["message"] for line in frame.lines()]
        place = frame.end
    return found


def test_an_hour_without_a_broker_loses_nothing(tmp_path: Path) -> None:
    chance = random.Random(1)
    words = [f"{chance.getrandbits(40):x}" for _ in range(2000)]
    path = tmp_path / "a.log"
    path.touch()
    cap = CAP_BYTES * MINUTES // 60
    spools = Spools(tmp_path / "spool", SPECS, cap_bytes=cap)
    now = [1_795_508_130.0]
    source = FileSource(path, "log.file", syslog=False, clock=lambda: now[0], monotonic=lambda: now[0])
    reader = LogReader([source], spools, "logs")
    reader.look()
    written = 0
    for _ in range(MINUTES):
        with path.open("a") as file:
            for _ in range(200 * 60):
                text = f"INFO request {written} {' '.join(chance.choices(words, k=16))} "
                file.write(f"{text:<400}\n")
                written += 1
        now[0] += 60
        while reader.look():
            pass
        assert spools.disk_bytes <= cap
    assert source.position()["parts"][0]["offset"] == path.stat().st_size, "all of it was read"
    numbers = [int(message.split()[2]) for message in messages(spools, "logs")]
    assert numbers == list(range(written))
    assert spools["logs"].dropped == {}
    spools.close()
    print(f"{written} events took {spools.disk_bytes / cap:.0%} of the spool's {cap >> 20} MiB")


class Producer:
    """Takes everything at once, and notes when: a real broker would hide the rate behind its own."""

    sent: ClassVar[list[tuple[float, int]]] = []

    def __init__(self, **_: Any) -> None:
        pass

    def send(self, _topic: str, *, value: bytes, **_: Any) -> Any:
        from kafka.future import Future

        self.sent.append((time.monotonic(), len(value)))
        return Future().success(None)

    def close(self, timeout: float = 0) -> None:
        pass


def test_the_replay_is_bounded(tmp_path: Path) -> None:
    spools = Spools(tmp_path / "spool", SPECS)
    for i in range(40):
        spools["logs"].append([f"{i} {'x' * 50_000}".encode()], dataset="a", tmin="", tmax="")
    spools["logs"].sync()
    Producer.sent.clear()
    sender = Sender(
        spools,
        host_id=new_host_id(),
        key=SigningKey.generate(),
        kafka=KafkaConnection("127.0.0.1:1"),
        bytes_per_second=500_000,
        make_producer=Producer,
    )
    sender.start()
    assert sender.wait_acked(20)
    sender.stop()
    spools.close()
    begin = Producer.sent[0][0]
    assert sum(size for _, size in Producer.sent) > 2_000_000
    assert Producer.sent[-1][0] - begin > 2.0
    for moment, _ in Producer.sent:
        taken = sum(size for at, size in Producer.sent if at <= moment)
        assert taken <= 500_000 * (moment - begin + 1.3) + 60_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # also after a failed test, whose files are open yet


def test_a_full_disk_stops_logs_only(small_disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "a.log"
    path.touch()
    spools = Spools(small_disk / "spool", SPECS, cap_bytes=64 << 20)
    own = OwnSource()
    logging.getLogger().addHandler(own.handler)
    reader = LogReader([FileSource(path, "log.file", syslog=False)], spools, "logs", period=0.05)
    own_reader = LogReader([own], spools, "own", period=0.05)
    reader.look()
    reader.start()
    own_reader.start()
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass
    with path.open("a") as file:
        file.writelines(f"line {i} {os.urandom(100).hex()}\n" for i in range(5000))
    for tick in range(100):
        document = json.dumps({"message": f"tick {tick}", "x": os.urandom(1000).hex()}).encode()
        spools["metrics"].append([document], dataset=ANY_DATASET, tmin="", tmax="")
        spools["metrics"].sync()
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(messages(spools, "metrics")) == 100
    assert reader.is_alive()
    events = messages(spools, "own")
    assert sum("full: logs wait in their files; metrics go on" in event for event in events) == 1
    assert len(events) <= 3, events
    assert "Traceback" not in caplog.text
    filler.unlink()
    for _ in range(200):
        if len(messages(spools, "logs")) == 5000:
            break
        time.sleep(0.05)
    assert [int(message.split()[1]) for message in messages(spools, "logs")] == list(range(5000))
    spools.keep_reserve()
    assert (small_disk / "spool/reserve").exists()
    reader.stop()
    own_reader.stop()
    logging.getLogger().removeHandler(own.handler)
    spools.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("logs-")]


def test_without_a_reserve_an_append_says_so(small_disk: Path) -> None:
    spools = Spools(small_disk / "spool", SPECS, cap_bytes=64 << 20)
    (small_disk / "spool/reserve").unlink()

    def fill() -> None:
        for _ in range(1000):
            spools["metrics"].append([os.urandom(50_000).hex().encode()], dataset=ANY_DATASET, tmin="", tmax="")

    with pytest.raises(SpoolError, match="the disk is full"):
        fill()
    spools["metrics"].sync()
    spools.close()


def test_errors_find_room_on_a_full_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the reserve, which others may need, the oldest of the other logs gives way."""
    specs = [StreamSpec("errors", "t.logs", 6, False, share=1.0, over=("logs",)), *SPECS]
    spools = Spools(small_disk / "spool", specs, cap_bytes=64 << 20)

    def line(text: str) -> bytes:
        return json.dumps(
            {"log.level": text, "message": text, "x": os.urandom(25_000).hex()}, separators=(",", ":")
        ).encode()

    def fill() -> None:
        while True:
            spools["logs"].append([line("info")], dataset="a", tmin="", tmax="", positions={})
            spools["logs"].sync()

    with pytest.raises(SpoolError, match="the disk is full"):
        fill()
    full = len(messages(spools, "logs"))
    for _ in range(300):
        spools["errors"].append([line("error")], dataset="a", tmin="", tmax="")
        spools["errors"].sync()
    assert messages(spools, "errors") == ["error"] * 300
    assert 0 < spools["logs"].dropped["info"] == full - len(messages(spools, "logs"))
    assert "the disk is full: " in caplog.text
    assert " lines of stream logs are dropped (" in caplog.text
    spools.close()


def test_a_new_segment_finds_room_on_a_full_disk(small_disk: Path) -> None:
    """The disk may be full just when a segment is: then the first write that fails is the one that begins the next."""
    specs = [StreamSpec("errors", "t.logs", 6, False, share=1.0, over=("logs",)), *SPECS]
    spools = Spools(small_disk / "spool", specs, cap_bytes=8 << 20)
    (small_disk / "spool/reserve").unlink()

    def append(name: str) -> None:
        line = json.dumps({"log.level": "error", "message": name, "x": os.urandom(25_000).hex()}, separators=(",", ":"))
        spools[name].append([line.encode()], dataset="a", tmin="", tmax="", positions={})
        spools[name].sync()

    newest = [0, 0]
    for index, name in enumerate(("logs", "errors")):
        while newest[index] < 256 << 10:  # the size of a segment at this cap
            append(name)
            newest[index] = max((small_disk / "spool" / name).glob("*.seg")).stat().st_size
    append("logs")
    with (small_disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert shutil.disk_usage(small_disk).free < 4096
    segments = len(list((small_disk / "spool/errors").glob("*.seg")))
    append("errors")
    assert len(list((small_disk / "spool/errors").glob("*.seg"))) == segments + 1
    assert spools["logs"].dropped["error"]
    spools.close()

"""Every way of rotating a log file, under a fast writer, while the real agent is killed at random: every line once.

Each way takes its share of CI's minute; ``EZADMIN_FULL`` makes it half a minute each. ``EZADMIN_SEED`` repeats the kills.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from ezadmin_testing.arrived import Arrived
from ezadmin_testing.processes import Process

from ezadmin_wire.names import Names

RATE = 5000
SECONDS = 30.0 if os.environ.get("EZADMIN_FULL") else 3.0
SEED = int(os.environ.get("EZADMIN_SEED", "1"))
COMMAND = [sys.executable, "-m", "ezadmin_agent"]


class Writer(threading.Thread):
    """Writes numbered lines, RATE a second, and has its file rotated now and then by ``rotate``."""

    def __init__(self, folder: Path, rotate: Callable[[Writer], None], settle: Callable[[Writer], None]) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.path = folder / "app.log"
        self.rotations = 0
        self.written = 0
        self._rotate = rotate
        self._settle = settle
        self.file: IO[str] = self.path.open("a")

    def lines(self, count: int) -> None:
        """Write so many lines."""
        self.file.writelines(f"line {self.written + i} of a log that turns\n" for i in range(count))
        self.file.flush()
        self.written += count

    def reopen(self) -> None:
        """As a daemon does when it is told to."""
        self.file.close()
        self.file = self.path.open("a")

    def settle(self) -> None:
        """Wait until the agent has read the file to its end: for ways of rotating that else lose lines in principle."""
        self._settle(self)

    def run(self) -> None:
        begin = time.monotonic()
        next_rotation = SECONDS / 4
        while (passed := time.monotonic() - begin) < SECONDS:
            due = int(passed * RATE) - self.written
            if due > 0:
                self.lines(min(due, RATE // 20))
            if passed > next_rotation:
                paused = time.monotonic()
                self.rotations += 1
                self._rotate(self)
                begin += time.monotonic() - paused
                next_rotation += SECONDS / 4
            time.sleep(0.01)
        self.file.close()


def rename_and_create(writer: Writer) -> None:
    writer.path.rename(writer.folder / f"app.log.{writer.rotations}")
    writer.reopen()


def rename_and_signal_late(writer: Writer) -> None:
    writer.path.rename(writer.folder / f"app.log.{writer.rotations}")
    writer.path.touch()
    for _ in range(10):  # into the renamed file
        writer.lines(100)
        time.sleep(0.05)
    writer.reopen()


def copytruncate(writer: Writer) -> None:
    # no line is written between copy and truncate; the agent has to know the file to know the copy
    shutil.copy(writer.path, writer.folder / f"app.log.{writer.rotations}")
    os.truncate(writer.path, 0)
    writer.lines(1)
    writer.settle()


def truncate(writer: Writer) -> None:
    writer.settle()  # what was not read before would be lost for every reader
    os.truncate(writer.path, 0)


def daily_names(writer: Writer) -> None:
    writer.file.close()
    writer.path = writer.folder / f"app-2026-11-{writer.rotations:02d}.log"
    writer.file = writer.path.open("a")


def delete_and_create(writer: Writer) -> None:
    writer.settle()
    writer.file.close()
    writer.path.unlink()
    writer.file = writer.path.open("a")  # often under the inode just freed


class Rig:
    """An agent on a folder, killed at random while a writer writes there."""

    def __init__(self, kafka: str, names: Names, folder: Path, pattern: str) -> None:
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.state = folder / "agent"
        config = folder / "agent.toml"
        config.write_text(
            f'prefix = "{names.prefix}"\nstate_dir = "{self.state}"\ninterval = 1\n[kafka]\nbootstrap = "{kafka}"\n'
            f'[surge]\nburst_bytes = 1000000000\n[[logs]]\npath = "{self.logs}/{pattern}"\nfrom = "start"\n'
        )
        found = subprocess.run(
            [*COMMAND, "identity", "--config", str(config)], capture_output=True, text=True, timeout=30, check=True
        )
        identity = json.loads(found.stdout)
        self.arrived = Arrived(kafka, names, identity["host.id"], bytes.fromhex(identity["public_key"]))
        self.agent = Process([*COMMAND, "run", "--config", str(config)], folder / "agent.log")
        self.lock = threading.Lock()

    def settle(self, writer: Writer) -> None:
        """Until the agent, which runs and is not killed meanwhile, says that it has read all that was written."""
        with self.lock:
            self.agent.start()
            end = time.monotonic() + 30
            seen = set()  # two looks: what was read at the first is in the spool by the second
            while True:
                time.sleep(0.2)
                try:
                    status = json.loads((self.state / "status.json").read_text())
                except (OSError, ValueError):
                    continue
                read = sum(source.get("read", 0) for source in status["logs"].values())
                if status["pid"] == self.agent.pid and read >= writer.written:
                    seen.add(status["written"])
                if len(seen) > 1:
                    return
                assert time.monotonic() < end, f"read {read} of {writer.written}"

    def close(self) -> None:
        self.agent.kill()
        self.arrived.close()


@pytest.fixture
def make_rig(stack, names: Names, tmp_path: Path) -> Iterator[Callable[[str], Rig]]:
    made: list[Rig] = []

    def make(pattern: str) -> Rig:
        made.append(Rig(stack.kafka, names, tmp_path, pattern))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.mark.parametrize(
    ("rotate", "pattern"),
    [
        (rename_and_create, "app.log"),
        (rename_and_signal_late, "app.log"),
        (copytruncate, "app.log"),
        (truncate, "app.log"),
        (daily_names, "app*.log"),
        (delete_and_create, "app.log"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_line_once(make_rig: Callable[[str], Rig], rotate: Callable[[Writer], None], pattern: str) -> None:
    rig = make_rig(pattern)
    chance = random.Random(SEED)
    rig.agent.start()
    writer = Writer(rig.logs, rotate, rig.settle)
    writer.lines(1)
    rig.settle(writer)  # files that were rotated before its first look are none of the agent's
    writer.start()
    kills = 0
    while writer.is_alive():
        time.sleep(chance.uniform(0.6, 1.6))
        with rig.lock:
            if rig.agent.running:
                rig.agent.kill()
                kills += 1
            rig.agent.start()
    writer.join()
    rig.agent.start()
    rig.arrived.wait(
        lambda: sum(name[0] == "logs" for name in rig.arrived.lines) >= writer.written, 60, "every line is in Kafka"
    )
    time.sleep(1.5)  # whatever comes too often would come now
    rig.arrived.read()
    numbers = Counter(int(message.split()[1]) for message in rig.arrived.messages())
    twice = [number for number, count in numbers.items() if count > 1]
    assert not twice, f"{len(twice)} lines came twice, the first {sorted(twice)[:5]}"
    assert numbers.keys() == set(range(writer.written))
    rig.arrived.gapless("logs")
    assert writer.rotations >= 3
    assert kills >= 2

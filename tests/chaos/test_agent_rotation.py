"""Every way of rotating a log file, under a fast writer, while the real agent is killed at random: every line once in
Elasticsearch.

Kills fall at any moment, also while the file is rotated. The writer waits only where a way of rotating by its nature loses
lines that nobody has read (docs/logs.md, "Rotation"). ``EZADMIN_FULL``: half a minute each. ``EZADMIN_SEED`` repeats the kills.
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
from typing import IO, Any

import pytest
from ezadmin_testing.arrived import Arrived
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, pipeline, wait_until
from ezadmin_testing.search import search_all

from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

RATE = 5000
SECONDS = 30.0 if os.environ.get("EZADMIN_FULL") else 3.0
ROTATIONS = 4
SEED = int(os.environ.get("EZADMIN_SEED", "1"))
COMMAND = [sys.executable, "-m", "ezadmin_agent"]


class Writer(threading.Thread):
    """Writes numbered lines, RATE a second, and has its file rotated now and then by ``rotate``."""

    def __init__(self, folder: Path, rotate: Callable[[Writer], None], arrived: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.path = folder / "app.log"
        self.rotations = 0
        self.written = 0
        self.failed: BaseException | None = None
        self._rotate = rotate
        self._arrived = arrived
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

    def shift(self) -> Path:
        """Make room for a rotated file, as logrotate does: .2 becomes .3, .1 becomes .2; the name that is free then."""
        for number in range(self.rotations, 0, -1):
            self.folder.joinpath(f"app.log.{number}").rename(self.folder / f"app.log.{number + 1}")
        self.rotations += 1
        return self.folder / "app.log.1"

    def wait(self, number: int) -> None:
        """Until the agent, killed meanwhile or not, has kept that many lines for good."""
        wait_until(lambda: self._arrived() >= number, 60, f"{number} lines are in Kafka")

    def run(self) -> None:
        try:
            begin = time.monotonic()
            next_rotation = SECONDS / ROTATIONS
            while (passed := time.monotonic() - begin) < SECONDS:
                due = int(passed * RATE) - self.written
                if due > 0:
                    self.lines(min(due, RATE // 20))
                if passed > next_rotation:
                    paused = time.monotonic()
                    self._rotate(self)
                    begin += time.monotonic() - paused
                    next_rotation += SECONDS / ROTATIONS
                time.sleep(0.01)
        except BaseException as error:
            self.failed = error
            raise
        finally:
            self.file.close()


def rename_and_create(writer: Writer) -> None:
    writer.path.rename(writer.shift())
    writer.reopen()


def rename_and_signal_late(writer: Writer) -> None:
    writer.path.rename(writer.shift())
    writer.path.touch()
    for _ in range(10):  # into the renamed file
        writer.lines(100)
        time.sleep(0.05)
    writer.reopen()


def copytruncate(writer: Writer) -> None:
    for _ in range(writer.rotations % 2 + 1):  # also twice before the agent may have looked or read a line between
        # no line is written between copy and truncation
        shutil.copy(writer.path, writer.shift())
        os.truncate(writer.path, 0)
        time.sleep(0.01)  # files that are younger must look younger
        writer.lines(50)


def truncate(writer: Writer) -> None:
    writer.wait(writer.written)  # what nobody has read is lost
    os.truncate(writer.path, 0)
    writer.rotations += 1


def daily_names(writer: Writer) -> None:
    writer.file.close()
    writer.rotations += 1
    writer.path = writer.folder / f"app-2026-11-{writer.rotations:02d}.log"
    writer.file = writer.path.open("a")


def delete_and_create(writer: Writer) -> None:
    writer.wait(writer.written)  # what nobody has read is lost
    writer.file.close()
    writer.path.unlink()
    writer.rotations += 1
    writer.file = writer.path.open("a")  # often under the inode just freed


class Site:
    """A pipeline that indexes what any number of agents send."""

    def __init__(self, stack: Any, names: Names, folder: Path) -> None:
        self.stack, self.names = stack, names
        self.fleet = Fleet(stack.kafka, stack.elasticsearch, names, folder)
        settings = self.fleet.settings("worker")
        settings.write_text(settings.read_text() + "[surges]\non = false\n")  # nothing is withheld
        self.pipeline = pipeline(settings, folder / "pipeline.log").start()

    def close(self) -> None:
        self.pipeline.stop()
        self.fleet.close()


class Rig:
    """An agent that follows the files of ``pattern`` in a folder."""

    def __init__(self, site: Site, folder: Path, pattern: str) -> None:
        self._site = site
        self.logs = folder / "logs"
        self.logs.mkdir()
        config = folder / "agent.toml"
        config.write_text(
            f'prefix = "{site.names.prefix}"\nstate_dir = "{folder / "agent"}"\ninterval = 1\n'
            f'[kafka]\nbootstrap = "{site.stack.kafka}"\n[surge]\nburst_bytes = 1000000000\n'
            f'[[logs]]\npath = "{self.logs}/{pattern}"\nfrom = "start"\n'
        )
        found = subprocess.run(
            [*COMMAND, "identity", "--config", str(config)], capture_output=True, text=True, timeout=30, check=True
        )
        identity = json.loads(found.stdout)
        self.host = identity["host.id"]
        site.fleet.publish_host(self.host, SigningKey.load(folder / "agent" / "host.key"))
        public = bytes.fromhex(identity["public_key"])
        self.arrived = Arrived(site.stack.kafka, site.names, self.host, public, others=True)
        self.agent = Process([*COMMAND, "run", "--config", str(config)], folder / "agent.log")

    def kept(self) -> int:
        """How many lines the agent has sent, and so never reads again."""
        return sum(name[0] == "logs" for name in list(self.arrived.lines))

    def indexed(self) -> int:
        """How many lines are in Elasticsearch."""
        query = {"bool": {"filter": [{"term": {"host.id": self.host}}, {"term": {"event.dataset": "log.file"}}]}}
        pattern = f"{self._site.names.prefix}-logs-*"
        self._site.fleet.elastic.request("POST", f"/{pattern}/_refresh")
        body = json.dumps({"query": query}).encode()
        return int(self._site.fleet.elastic.request("POST", f"/{pattern}/_count", body=body)[1].get("count", 0))

    def messages(self) -> list[str]:
        """The messages of the lines in Elasticsearch."""
        query = {"bool": {"filter": [{"term": {"host.id": self.host}}, {"term": {"event.dataset": "log.file"}}]}}
        found = search_all(self._site.fleet.elastic, f"{self._site.names.prefix}-logs-*", query, ["message"])
        return [hit["_source"]["message"] for hit in found]

    def close(self) -> None:
        self.agent.kill()
        self.arrived.close()


@pytest.fixture(scope="module")
def site(stack: Any, module_names: Names, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(stack, module_names, tmp_path_factory.mktemp("site"))
    yield made
    made.close()


@pytest.fixture
def make_rig(site: Site, tmp_path: Path) -> Iterator[Callable[[str], Rig]]:
    made: list[Rig] = []

    def make(pattern: str) -> Rig:
        made.append(Rig(site, tmp_path, pattern))
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
    writer = Writer(rig.logs, rotate, rig.kept)
    writer.lines(1)
    # files that were rotated before its first look are none of the agent's
    rig.arrived.wait(lambda: rig.kept() >= 1, 30, "the agent knows its file")
    writer.start()
    kills = kept = 0
    patience = 1.0
    next_kill = time.monotonic() + chance.uniform(0.3, 2.0)
    while writer.is_alive() or kills < 2:
        rig.arrived.read()
        if time.monotonic() >= next_kill:
            rig.agent.kill()
            kills += 1
            rig.agent.start()
            # a slow machine may need longer than that from start to first line
            patience = 1.0 if rig.kept() > kept else patience * 1.5
            kept = rig.kept()
            next_kill = time.monotonic() + chance.uniform(0.3, 2.0) * patience
    writer.join()
    assert writer.failed is None
    wait_until(lambda: rig.indexed() >= writer.written, 60, f"{writer.written} lines are in Elasticsearch")
    time.sleep(1.0)  # whatever comes too often would come now
    numbers = Counter(int(message.split()[1]) for message in rig.messages())
    twice = [number for number, count in numbers.items() if count > 1]
    assert not twice, f"{len(twice)} lines came twice, the first {sorted(twice)[:5]}"
    assert numbers.keys() == set(range(writer.written))
    assert writer.rotations >= 3

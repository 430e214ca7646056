"""The governor of a real agent: driven over its CPU budget by thousands of processes, it slows, says so, and recovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.arrived import Arrived
from ezadmin_testing.processes import Process, wait_until

from ezadmin_wire.names import Names

pytestmark = pytest.mark.alone

HZ = os.sysconf("SC_CLK_TCK")
# the real agent, only its patience is shorter
AGENT = """
import sys
from ezadmin_agent import agent, governor, main
governor.PATIENCE, governor.CALM, agent.GOVERN_SECONDS = 4.0, 6.0, 0.5
sys.exit(main.main(sys.argv[1:]))
"""


@contextmanager
def processes(count: int) -> Iterator[None]:
    """So many processes that sleep."""
    script = f"i=0; while [ $i -lt {count} ]; do sleep 1000 & i=$((i+1)); done; echo there; wait"
    group = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert group.stdout is not None
        assert group.stdout.readline() == b"there\n"
        yield
    finally:
        os.killpg(group.pid, signal.SIGKILL)
        group.communicate()


class Governed:
    """An agent with a tick of a second and a budget in percent of a core."""

    def __init__(self, kafka: str, names: Names, folder: Path, cpu_percent: float) -> None:
        folder.mkdir()
        (folder / "empty.log").touch()
        self.folder = folder
        config = folder / "agent.toml"
        config.write_text(
            f'prefix = "{names.prefix}"\nstate_dir = "{folder}/agent"\ninterval = 1\n'
            f'[kafka]\nbootstrap = "{kafka}"\n[limits]\ncpu_percent = {cpu_percent}\n'
            f'[[logs]]\npath = "{folder}/empty.log"\n'
        )
        self.process = Process([sys.executable, "-c", AGENT, "run", "--config", str(config)], folder / "agent.log")
        done = subprocess.run(
            [sys.executable, "-m", "ezadmin_agent", "identity", "--config", str(config)],
            capture_output=True,
            check=True,
        )
        self.identity = json.loads(done.stdout)

    def cpu_seconds(self) -> float:
        """What it has used of CPU."""
        found = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, found[11:13])) / HZ

    def stretch(self) -> dict[str, int]:
        """The collectors that run more rarely, from the status file."""
        try:
            status = json.loads((self.folder / "agent/status.json").read_text())
        except (OSError, ValueError):
            return {}
        return {name: one["stretch"] for name, one in status["collectors"].items() if one["stretch"] > 1}


def test_it_slows_down_says_so_and_recovers(stack: Any, make_names: Callable[..., Names], tmp_path: Path) -> None:
    free = Governed(stack.kafka, make_names(1), tmp_path / "free", 50.0)
    free.process.start()
    time.sleep(4)
    before, begin = free.cpu_seconds(), time.monotonic()
    time.sleep(10)
    share = max(0.005, (free.cpu_seconds() - before) / (time.monotonic() - begin))
    assert free.stretch() == {}
    free.process.stop()

    names = make_names(1)
    budget = 2.2 * share
    agent = Governed(stack.kafka, names, tmp_path / "governed", round(budget * 100, 2))
    arrived = Arrived(stack.kafka, names, agent.identity["host.id"], bytes.fromhex(agent.identity["public_key"]))

    def told(text: str) -> bool:
        return any(text in document.get("message", "") for document in arrived.documents("own"))

    agent.process.start()
    try:
        with processes(int(budget * 1.5 / 15e-6)):  # reading one takes 15 to 20 us
            wait_until(lambda: bool(agent.stretch()), 60, "a collector is made rarer")
            slowed = agent.stretch()
            assert set(slowed) <= {"process", "top", "processes", "socketstate"}, "those that cost"
            arrived.wait(lambda: told("times more rarely"), 10, "the event that says so")
            wait_until(lambda: max(agent.stretch().values(), default=1) >= 4, 60, "it goes on while that is not enough")
        wait_until(lambda: agent.stretch() == {}, 180, "all is taken back")
        arrived.wait(lambda: told("as often as configured again"), 10, "the event that says so")
        hosts = [d for d in arrived.documents("metrics") if d["event.dataset"] == "system.host"]
        ticks = sorted(d["@timestamp"] for d in hosts)
        assert len(ticks) == len(set(ticks)) > 20
        assert agent.process.stop() == 0
    finally:
        agent.process.stop()
        arrived.close()

"""50,000 lines a second: every line is sent, or stands in an exact count; errors all arrive; the agent stays light.

Five seconds in CI, ``EZADMIN_FULL``: sixty.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ezadmin_testing.arrived import Arrived
from ezadmin_testing.processes import Process

from ezadmin_wire.names import Names

RATE = 50_000
SECONDS = 60 if os.environ.get("EZADMIN_FULL") else 5
COMMAND = [sys.executable, "-m", "ezadmin_agent"]
TICK = 0.1
CPU_BUDGET = 0.35
"""Of one core, while 5 MB of log text a second come in; measured, with the time the machine takes from it left out."""


def test_a_surge_is_counted_to_the_line(stack, names: Names, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.touch()
    config = tmp_path / "agent.toml"
    config.write_text(
        f'prefix = "{names.prefix}"\nstate_dir = "{tmp_path}/agent"\ninterval = 1\n[kafka]\nbootstrap = "{stack.kafka}"\n'
        f"[surge]\nbytes_per_second = 100000\nburst_bytes = 500000\n"
        f'[limits]\ncpu_percent = 1000\n[[logs]]\npath = "{path}"\nexclude = []\nmin_level = "info"\nfrom = "start"\n'
    )
    identity = json.loads(
        subprocess.run(
            [*COMMAND, "identity", "--config", str(config)], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    )
    arrived = Arrived(stack.kafka, names, identity["host.id"], bytes.fromhex(identity["public_key"]))
    agent = Process([*COMMAND, "run", "--config", str(config)], tmp_path / "agent.log").start()
    status_file = tmp_path / "agent/status.json"

    def status() -> dict:
        try:
            return json.loads(status_file.read_text())
        except (OSError, ValueError):
            return {}

    while not status().get("logs"):
        time.sleep(0.1)
    before = status()["cpu_seconds"]
    written = errors = debug = 0
    begin = time.monotonic()
    per_tick = int(RATE * TICK)
    with path.open("a") as file:
        for tick in range(int(SECONDS / TICK)):
            lines = []
            for i in range(per_tick):
                number = tick * per_tick + i
                if number % 1000 == 0:
                    lines.append(f"2026-11-24T08:15:30.123Z ERROR payment {number} failed for user u{number}\n")
                elif number % 10 == 1:
                    lines.append(f"2026-11-24T08:15:30.123Z DEBUG cache miss {number}\n")
                else:
                    lines.append(f"2026-11-24T08:15:30.123Z INFO GET /items/{number} 200 from 10.0.{number % 256}.7\n")
            file.writelines(lines)
            file.flush()
            written += per_tick
            time.sleep(max(0.0, begin + (tick + 1) * TICK - time.monotonic()))
    seconds = time.monotonic() - begin
    errors, debug = written // 1000, written // 10
    while sum(source.get("read", 0) for source in status()["logs"].values()) < written:
        assert time.monotonic() - begin < 60 + 3 * SECONDS, status()["logs"]
        time.sleep(0.1)
    found = status()
    cpu = (found["cpu_seconds"] - before) / seconds
    (counts,) = found["logs"].values()
    assert agent.stop() == 0
    arrived.wait(
        lambda: sum(name[0] in ("logs", "errors") for name in arrived.lines) >= counts["kept"] + counts["folds"],
        60,
        "all events",
    )
    events = arrived.events()
    arrived.close()
    standing_for = sum(event.get("event.count", 1) for event in events)
    print(f"{written} lines in {seconds:.1f} s: {len(events)} events, {counts}, agent {cpu:.1%} of a core")
    assert standing_for + counts.get("filtered", 0) + counts.get("sampled", 0) + counts.get("dropped", 0) == written
    assert counts["filtered"] == debug
    sent = sorted(int(e["message"].split()[3]) for e in events if e.get("log.level") == "error")
    assert sent == [1000 * i for i in range(errors)]
    assert all("event.count" not in e for e in events if e.get("log.level") == "error")
    assert len(events) < written / 10
    assert cpu < CPU_BUDGET

"""The benchmarks run; their figures are for people, but a gross loss of the agent's lightness is an error here too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def test_agent(stack: Any) -> None:
    command = [sys.executable, str(Path(__file__).with_name("agent")), "--kafka", stack.kafka, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["name"] == "ezadmin-agent"
    assert 0 < row["cpu_percent"] < 5
    assert 20 < row["rss_mib"] < 64
    assert row["bytes_per_tick"] < 20_000

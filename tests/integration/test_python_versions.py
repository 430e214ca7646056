"""Agent and wire promise Python 3.9 and newer: a whole agent under each that the tests do not run on, and their unit tests
under the oldest (``./tests/run --full``: under each).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.arrived import Arrived
from ezadmin_testing.processes import Process
from ezadmin_testing.pythons import BUILDS, ROOT, NotHere, environment, interpreter

from ezadmin_wire.names import Names

UNIT_TESTED = sorted(BUILDS, key=lambda version: int(version.partition(".")[2]))
if not os.environ.get("EZADMIN_FULL"):
    UNIT_TESTED = UNIT_TESTED[:1]


@pytest.fixture(scope="module")
def unit_tests() -> Iterator[Mapping[str, Future[subprocess.CompletedProcess[str]]]]:
    """The unit tests under each Python, two at a time: they wait more than they work."""

    def run(version: str) -> subprocess.CompletedProcess[str]:
        command = [
            str(interpreter(version)),
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "wire/tests",
            "agent/tests",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT, env=environment())

    with ThreadPoolExecutor(2) as pool:
        yield {version: pool.submit(run, version) for version in UNIT_TESTED}


@pytest.mark.parametrize("version", UNIT_TESTED)
def test_unit_tests(unit_tests: Mapping[str, Future[subprocess.CompletedProcess[str]]], version: str) -> None:
    try:
        done = unit_tests[version].result()
    except NotHere as error:
        pytest.skip(str(error))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("version", BUILDS)
def test_an_agent_ships(stack: Any, names: Names, tmp_path: Path, version: str) -> None:
    try:
        command = [str(interpreter(version)), "-m", "ezadmin_agent"]
    except NotHere as error:
        pytest.skip(str(error))
    log = tmp_path / "app.log"
    log.write_text("2026-11-24T08:15:30Z INFO something happened\n")
    config = tmp_path / "agent.toml"
    config.write_text(
        f'prefix = "{names.prefix}"\nstate_dir = "{tmp_path / "state"}"\ninterval = 1\n[kafka]\nbootstrap = "{stack.kafka}"\n'
        f'[[logs]]\npath = "{log}"\nfrom = "start"\n'
    )

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments, "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    identity = json.loads(run("identity"))
    assert all(step["ok"] is not False for step in map(json.loads, run("check", "--json").splitlines()))
    arrived = Arrived(stack.kafka, names, identity["host.id"], bytes.fromhex(identity["public_key"]))
    agent = Process([*command, "run", "--config", str(config)], tmp_path / "agent.log", environment()).start()
    try:
        arrived.wait(
            lambda: {"metrics", "state", "logs"} <= {stream for stream, _, _ in arrived.lines}, 30, "all kinds arrived"
        )
        assert agent.stop() == 0
    finally:
        agent.kill()
        arrived.close()
    assert any("something happened" in message for message in arrived.messages())
    assert "Traceback" not in (tmp_path / "agent.log").read_text()

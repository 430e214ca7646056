"""The agent as a user without rights: it ships what it may read, says once what it may not, and never fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.arrived import Arrived
from ezadmin_testing.processes import Process

from ezadmin_wire.names import Names

NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"]
COMMAND = [*AS_NOBODY, sys.executable, "-m", "ezadmin_agent"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that nobody reaches: pytest's own are for their owner alone."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    tried = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=60)
    if tried.returncode:
        pytest.skip(f"the checkout is open to its owner alone: {tried.stderr.strip()[-200:]}")
    path = Path(tempfile.mkdtemp(prefix="ezadmin-plain-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_plain_user_ships_what_it_may_read(stack: Any, names: Names, folder: Path) -> None:
    state = folder / "state"
    state.mkdir(mode=0o700)
    os.chown(state, NOBODY, NOBODY)
    (folder / "open.log").write_text("a line for everybody\n")
    (folder / "closed.log").write_text("a line for root\n")
    (folder / "closed.log").chmod(0o600)
    config = folder / "agent.toml"
    sources = "".join(f'[[logs]]\npath = "{folder / name}.log"\nfrom = "start"\n' for name in ("open", "closed"))
    config.write_text(
        f'prefix = "{names.prefix}"\nstate_dir = "{state}"\ninterval = 1\n[kafka]\nbootstrap = "{stack.kafka}"\n'
        f'{sources}[[logs]]\nsource = "kernel"\n'
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments, "--config", str(config)], capture_output=True, text=True, timeout=60, cwd=folder
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    warned = run("config", "check")
    assert f"{folder}/closed.log cannot be read by this user" in warned.stdout
    identity = json.loads(run("identity").stdout)
    assert (state / "host.key").stat().st_uid == NOBODY
    assert run("check").returncode == 0
    here = Arrived(stack.kafka, names, identity["host.id"], bytes.fromhex(identity["public_key"]))
    log = folder / "agent.log"
    agent = Process([*COMMAND, "run", "--config", str(config)], log).start()
    try:
        here.wait(
            lambda: {"metrics", "state", "logs"} <= {stream for stream, _, _ in here.lines}, 30, "all kinds arrived"
        )
        time.sleep(4)  # several ticks: what is said at each would be said often by now
        assert Path(f"/proc/{agent.pid}").stat().st_uid == NOBODY
        assert agent.stop() == 0
    finally:
        agent.kill()
        here.read()
        here.close()
    assert here.messages() == ["a line for everybody"]
    said = log.read_text()
    assert "Traceback" not in said, said
    assert said.count(f"cannot read {folder}/closed.log: Permission denied") == 1
    assert said.count("/dev/kmsg") <= 1
    datasets = {document["event.dataset"] for document in here.documents("metrics")}
    assert {"system.host", "system.process"} <= datasets

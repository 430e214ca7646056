"""``ezadmin-agent check`` against the real parts: what it writes is a batch that the pipeline takes, and comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.cmdb import command, settings_file, worker
from ezadmin_testing.processes import Process, pipeline, wait_until
from ezadmin_testing.secured import free_ports
from kafka import KafkaConsumer, TopicPartition

from ezadmin_agent import check
from ezadmin_agent.config import load
from ezadmin_wire import batch, requests, state
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey, VerifyKey
from ezadmin_wire.times import format_epoch_ms

COMMAND = [sys.executable, "-m", "ezadmin_agent", "check", "--json", "--config"]


def test_every_step_and_what_arrives(stack: Any, names: Names, tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'prefix = "{names.prefix}"\nstate_dir = "{tmp_path}"\n[kafka]\nbootstrap = "{stack.kafka}"\n')
    done = subprocess.run([*COMMAND, str(config)], capture_output=True, text=True, timeout=60)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr
    assert [step["ok"] for step in steps if step["name"].startswith("topic")] == [True, True]
    key = SigningKey.load(tmp_path / "host.key")
    host = (tmp_path / "host.id").read_text().strip()

    def find_key(asked: str, kid: str) -> VerifyKey | None:
        return VerifyKey(key.public) if (asked, kid) == (host, key.kid) else None

    consumer = KafkaConsumer(bootstrap_servers=stack.kafka, auto_offset_reset="earliest", enable_auto_commit=False)
    topics = (names.state, names.logs)
    consumer.assign([TopicPartition(topic, p) for topic in topics for p in consumer.partitions_for_topic(topic)])
    found = {}
    while len(found) < 2:
        for messages in consumer.poll(timeout_ms=1000).values():
            for message in messages:
                taken = batch.decode(message.topic, message.key, message.headers, message.value, find_key)
                found[message.topic] = taken
    consumer.close()
    assert isinstance(state.decode(found[names.state].lines()[0]), state.AgentStatus)
    event = json.loads(found[names.logs].lines()[0])
    assert event["message"].startswith("communication test of")
    assert found[names.logs].levels == {"info": 1}

    config.write_text(config.read_text().replace(names.prefix, f"{names.prefix}-other"))
    done = subprocess.run([*COMMAND, str(config)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ezadmin-pipeline setup" in done.stdout


class Site:
    """A web application and a worker, an agent that knows their address, and a pipeline that can be started."""

    def __init__(self, stack: Any, names: Names, database: str, folder: Path) -> None:
        (port,) = free_ports(1)
        self.cmdb = settings_file(
            folder,
            database,
            stack.kafka,
            names,
            top=f'secret_key_file = "{folder / "secret"}"',
            elasticsearch=f'url = "{stack.elasticsearch}"',
            web=f"port = {port}\nworkers = 1",
        )
        self.run("db", "upgrade")
        self.worker = worker(self.cmdb, folder / "worker.log").start()
        self.web = Process(command("web", "--config", self.cmdb), folder / "web.log").start()
        self.agent = folder / "agent.toml"
        self.url = f"http://127.0.0.1:{port}"
        self.configure(stack.kafka, names, self.url, folder / "agent")
        settings = folder / "pipeline.toml"
        public = SigningKey.load(folder / "config.key").public.hex()
        settings.write_text(
            f'prefix = "{names.prefix}"\npartitions = 3\nconfig_public_key = "{public}"\nsession_timeout = 10\n'
            f'[kafka]\nbootstrap = "{stack.kafka}"\n[elasticsearch]\nurl = "{stack.elasticsearch}"\n'
        )
        self.pipeline = pipeline(settings, folder / "pipeline.log")
        wait_until(self._answers, 30, f"the web application answers: {folder / 'web.log'}")

    def configure(self, kafka: str, names: Names, server: str, state_dir: Path) -> None:
        self.agent.write_text(
            f'prefix = "{names.prefix}"\nstate_dir = "{state_dir}"\nserver = "{server}"\n[kafka]\nbootstrap = "{kafka}"\n'
        )

    def _answers(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.url}/healthz", timeout=1).status == 200)
        except OSError:
            return False

    def run(self, *arguments: str) -> None:
        done = subprocess.run(command(*arguments, "--config", self.cmdb), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def check(self, wait: float) -> tuple[int, dict[str, dict[str, Any]]]:
        done = subprocess.run(
            [*COMMAND, str(self.agent), "--wait", str(wait)], capture_output=True, text=True, timeout=120
        )
        assert "Traceback" not in done.stderr
        return done.returncode, {(step := json.loads(line))["name"]: step for line in done.stdout.splitlines()}

    def close(self) -> None:
        for process in (self.pipeline, self.web, self.worker):
            process.stop()


@pytest.fixture
def site(stack: Any, names: Names, database: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(stack, names, database, tmp_path)
    yield made
    made.close()


def test_read_back_through_the_web_application(site: Site, stack: Any, names: Names, tmp_path: Path) -> None:
    code, steps = site.check(wait=2)
    assert code == 1
    assert "refuses: no host" in steps["read back"]["text"]
    assert "ezadmin-cmdb host add" in steps["read back"]["hint"]

    key = SigningKey.load(tmp_path / "agent" / "host.key")
    host = (tmp_path / "agent" / "host.id").read_text().strip()
    site.run("host", "add", "--id", host, "--name", "web1", "--public-key", key.public.hex())
    code, steps = site.check(wait=2)
    assert code == 1
    assert steps["read back"]["text"] == "written, but not in Elasticsearch after 2 s"
    assert "does the pipeline run" in steps["read back"]["hint"]
    assert steps["clock"]["ok"]

    site.pipeline.start()
    code, steps = site.check(wait=60)
    assert code == 0, steps
    assert [name for name, step in steps.items() if not step["ok"]] == ["tls"]  # left out: there is none here
    assert "in Elasticsearch" in steps["read back"]["text"]

    # a clock that is wrong: the answer of the real server to a request from the future
    future = format_epoch_ms(int((time.time() + 400) * 1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "now", lambda: future)
        found = {step.name: step for step in check.run(load(site.agent), 1)}
    assert found["read back"].ok is False
    assert f"the request was signed at {future}, but here it is" in found["read back"].text

    # another key under the host's id
    (tmp_path / "clone").mkdir()
    shutil.copy(tmp_path / "agent" / "host.id", tmp_path / "clone" / "host.id")
    SigningKey.generate().save(tmp_path / "clone" / "host.key")
    site.configure(stack.kafka, names, site.url, tmp_path / "clone")
    code, steps = site.check(wait=2)
    assert code == 1
    assert "is not one of host web1" in steps["read back"]["text"]
    assert "--add-key" in steps["read back"]["hint"]

    site.configure(stack.kafka, names, stack.elasticsearch, tmp_path / "agent")
    code, steps = site.check(wait=2)
    assert code == 1
    assert "not ezadmin's web application" in steps[f"server {stack.elasticsearch}"]["text"]
    assert "read back" not in steps

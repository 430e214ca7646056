"""The pipeline against Elasticsearch 9, with TLS and a user. Needs a Java 21 or newer and Maven; else skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import simulated_hosts
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, wait_until
from ezadmin_testing.secured import ROOT, SecuredElastic, toml

from ezadmin_local import machine  # isort: skip
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire import batch as wire
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

VERSION = "9.2.4"
MIN_JAVA = 21


def java() -> Path:
    """A Java that Elasticsearch 9 runs on; skips the test if there is none."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    for home in homes:
        if (home / "bin" / "java").exists() and (machine.java_version(home) or 0) >= MIN_JAVA:
            return home
    pytest.skip(f"Elasticsearch {VERSION} needs a Java {MIN_JAVA}; none is installed")


def unpacked() -> Path:
    """Elasticsearch 9, fetched by its Maven coordinates; skips the test if that cannot be."""
    dist = ROOT / ".ezadmin" / f"dist-{VERSION}"
    home = dist / f"elasticsearch-{VERSION}"
    if not (home / "bin" / "elasticsearch").exists():
        command = ["mvn", "-B", "-ntp", "-f", str(ROOT / "deploy/local/pom.xml"), "dependency:unpack@elasticsearch"]
        versions = [f"-Delasticsearch.version={VERSION}", f"-Ddist={dist}"]
        try:
            done = subprocess.run([*command, *versions], capture_output=True, text=True, timeout=600)
        except FileNotFoundError:
            pytest.skip("no Maven, which fetches Elasticsearch")
        if done.returncode:
            pytest.skip(f"Elasticsearch {VERSION} cannot be fetched: {done.stdout[-300:]}")
    return home


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredElastic]:
    folder = tmp_path_factory.mktemp("elastic9")
    elastic = SecuredElastic(folder, {"tests": "superuser"}, {}, home=unpacked(), java=java())
    yield elastic
    elastic.stop()


def test_setup_check_and_events(elastic: SecuredElastic, stack: Any, names: Names, tmp_path: Path) -> None:
    fleet = Fleet(stack.kafka, "http://127.0.0.1:1", names, tmp_path)
    fleet.elastic.close()
    fleet.elastic = ElasticClient(ElasticConnection.parse(elastic.table("tests"), "tests"))
    config = fleet.settings("nine")
    config.write_text(
        config.read_text().partition("[elasticsearch]")[0] + f"[elasticsearch]\n{toml(elastic.table('tests'))}"
    )
    command = [sys.executable, "-m", "ezadmin_pipeline.main"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments, "--config", str(config)], capture_output=True, text=True, timeout=120
        )

    try:
        for _ in range(2):
            assert run("setup").returncode == 0
        assert run("indices", "--apply").returncode == 0
        key = simulated_hosts.load_key(tmp_path / "keys", 1)
        fleet.publish_host(simulated_hosts.host_id(1), key)
        start = datetime.now(UTC)
        for seq in (0, 50):
            moment = format_time(start)
            headers, value = wire.encode(
                key,
                host=simulated_hosts.host_id(1),
                topic=names.logs,
                stream="logs",
                epoch="00000000000000cc",
                seq=seq,
                lines=[simulated_hosts.line(1, seq + i, start) for i in range(50)],
                dataset=simulated_hosts.DATASET,
                tmin=moment,
                tmax=moment,
                sent=moment,
            )
            fleet.send(names.logs, simulated_hosts.host_id(1).encode(), value, headers)
        found = {entry["name"]: entry for entry in json.loads(run("check", "--json").stdout)}
        assert f"Elasticsearch {VERSION}" in found[f"elasticsearch {elastic.url}"]["text"]
        assert {entry["name"]: entry["text"] for entry in found.values() if entry["state"] != "ok"} == {}

        worker = Process([*command, "run", "--config", str(config)], tmp_path / "log").start()
        try:
            wait_until(
                lambda: fleet.lag() == 0 and len(fleet.search_all(f"{names.prefix}-logs-*", source=False)) == 100,
                60,
                "the lines are stored",
            )
            assert worker.stop() == 0, worker.log.read_text()[-2000:]
        finally:
            worker.kill()
        seen = sum(count for key, count in fleet.rollup_sums().items() if key[0] == "logs-1m")
        assert seen == 100
    finally:
        fleet.close()

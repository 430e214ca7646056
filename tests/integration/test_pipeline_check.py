"""``ezadmin-pipeline check`` on the real stack: what is right, and each thing that can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from ezadmin_testing.fleet import Fleet
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from ezadmin_pipeline import care, check, families, install, main
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_pipeline.settings import Settings, load
from ezadmin_wire.names import Names
from ezadmin_wire.own import Identity
from ezadmin_wire.signing import SigningKey

HOST = "00000000-0000-4000-8000-00000000000a"


@pytest.fixture
def fleet(stack: Any, names: Names, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(stack.kafka, stack.elasticsearch, names, tmp_path)
    yield fleet
    fleet.close()


def results(settings: Settings) -> dict[str, check.Result]:
    return {result.name: result for result in check.run(settings)}


def put(elastic: ElasticClient, path: str, body: Any) -> None:
    status, answer = elastic.request("PUT", path, body=orjson.dumps(body))
    assert status == 200, answer


@pytest.mark.alone  # it looks at the whole cluster
def test_all_is_well(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    path = fleet.settings("check")
    fleet.publish_host(HOST, SigningKey.generate())
    settings = load(path)
    care.Care(settings, fleet.elastic).round()
    assert main.main(["check", "--json", "--config", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["name"]: entry["text"] for entry in found if entry["state"] != "ok"} == {}
    texts = {entry["name"]: entry["text"] for entry in found}
    assert "Kafka 4." in texts[f"kafka {settings.kafka.servers[0]}"]
    assert "Elasticsearch 8." in texts[f"elasticsearch {settings.elasticsearch.urls[0]}"]
    assert texts["configuration"].startswith("1 host(s), rules revision")
    assert main.main(["check", "--config", str(path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(found)
    assert all(line.startswith("ok ") for line in shown)
    left = fleet.elastic.request("GET", f"/{fleet.names.prefix}-check/_settings")[0]
    assert left == 404, "what was made to try is gone"
    assert fleet.elastic.request("GET", f"/{fleet.names.state_index}/_doc/check")[0] == 404


def test_before_setup(stack: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(
        f'prefix = "none"\nconfig_public_key = "{SigningKey.generate().public.hex()}"\n'
        f'[kafka]\nbootstrap = "{stack.kafka}"\n[elasticsearch]\nurl = "{stack.elasticsearch}"\n'
    )
    settings = load(path)
    found = results(settings)
    try:
        assert found["topics"].state == check.FAILED
        assert "run: ezadmin-pipeline setup" in found["topics"].text
        assert "is missing; run: ezadmin-pipeline setup" in found["index templates"].text
        assert main.main(["check", "--config", str(path)]) == 1
        assert "FAILED topics" in capsys.readouterr().out
    finally:
        client = ElasticClient(settings.elasticsearch)
        client.request("DELETE", "/none-state")
        client.close()


def test_own_figures_and_foreign_topics(fleet: Fleet, stack: Any, tmp_path: Path) -> None:
    topic = f"{fleet.names.prefix}-syslog"
    path = fleet.settings("check", own={"key": str(tmp_path / "own.key")})
    path.write_text(path.read_text() + f'[[foreign]]\ntopic = "{topic}"\ndataset = "other.syslog"\n')
    settings = load(path)
    fleet.publish_host(HOST, SigningKey.generate())

    found = results(settings)
    assert found["own figures"].state == check.FAILED
    assert "own.key is not there; run: ezadmin-pipeline identity" in found["own figures"].text
    assert found[f"foreign topic {topic}"].state == check.WARN

    key = SigningKey.generate()
    key.save(tmp_path / "own.key")
    own = Identity.load(tmp_path / "own.key")
    found = results(settings)
    assert f"ezadmin-cmdb host add --id {own.host_id} --name NAME" in found["own figures"].text

    fleet.publish_host(own.host_id, key)
    admin = KafkaAdminClient(bootstrap_servers=stack.kafka)
    admin.create_topics([NewTopic(name=topic, num_partitions=3, replication_factor=1)])
    try:
        found = results(settings)
    finally:
        admin.delete_topics([topic])
        admin.close()
    assert found["own figures"].text == f"known as host {own.host_id}"
    assert found["own figures"].state == check.OK
    assert found[f"foreign topic {topic}"].text == "3 partitions, unsigned"
    assert found["rights in kafka"].state == check.OK


def test_a_server_of_several_that_is_away(fleet: Fleet, stack: Any) -> None:
    path = fleet.settings("check")
    path.write_text(
        path.read_text()
        .replace(f"'{stack.kafka}'", f"'{stack.kafka},127.0.0.1:1'")
        .replace(f"'{stack.elasticsearch}'", f"['http://127.0.0.1:1', '{stack.elasticsearch}']")
    )
    # in a process of its own: kafka-python leaves the sockets open that nobody answered
    command = [sys.executable, "-m", "ezadmin_pipeline.main", "check", "--json", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    found = {entry["name"]: check.Result(**entry) for entry in json.loads(done.stdout)}
    assert found["kafka 127.0.0.1:1"].state == check.FAILED
    assert "refused" in found["kafka 127.0.0.1:1"].text
    assert found["elasticsearch http://127.0.0.1:1"].state == check.FAILED
    assert found[f"kafka {stack.kafka}"].state == check.OK
    assert found[f"elasticsearch {stack.elasticsearch}"].state == check.OK
    assert found["write and read"].state == check.OK, "another node does the work"
    assert found["topics"].state == check.OK


def test_what_people_change(fleet: Fleet) -> None:
    settings = load(fleet.settings("check"))
    name = f"{fleet.names.prefix}-logs"
    stored = install.installed(fleet.elastic, name)
    assert stored is not None

    by_hand = json.loads(json.dumps(stored))
    by_hand["template"]["settings"]["index"]["refresh_interval"] = "30s"
    put(fleet.elastic, f"/_component_template/{install.package(name)}", by_hand)
    found = results(settings)["index templates"]
    assert found.state == check.WARN
    assert f"{name} was changed by hand (settings); write them into {name}@custom" in found.text

    older = json.loads(json.dumps(stored))
    older["_meta"]["ezadmin"]["written"] = "0" * 16
    put(fleet.elastic, f"/_component_template/{install.package(name)}", older)
    assert "run: ezadmin-pipeline setup" in results(settings)["index templates"].text

    newer = json.loads(json.dumps(stored))
    newer["_meta"]["ezadmin"]["version"] = 99
    put(fleet.elastic, f"/_component_template/{install.package(name)}", newer)
    assert results(settings)["index templates"].state == check.FAILED

    put(fleet.elastic, f"/_component_template/{install.package(name)}", stored)
    put(
        fleet.elastic,
        f"/_component_template/{install.custom(name)}",
        {"template": {"settings": {"index.codec": "best_compression"}}},
    )
    try:
        found = results(settings)["index templates"]
        assert found.state == check.OK
        assert f"with changes of yours in {name}@custom" in found.text
    finally:
        fleet.elastic.request("DELETE", f"/_index_template/{name}")
        fleet.elastic.request("DELETE", f"/_component_template/{install.custom(name)}")


def test_blocks_and_strangers_in_the_configuration(fleet: Fleet, stack: Any, make_names: Callable[..., Names]) -> None:
    settings = load(fleet.settings("check"))
    index = fleet.names.logs_index("2026-11-24")
    put(fleet.elastic, f"/{index}", {})
    put(fleet.elastic, f"/{index}/_settings", {"index.blocks.read_only_allow_delete": True})
    fleet.send(fleet.names.config, b"rules", b"{}", [("v", b"1"), ("revision", b"1"), ("kid", b"x"), ("sig", b"y")])
    found = results(settings)
    assert found["write blocks"].state == check.FAILED
    assert f"{index} (read_only_allow_delete) take no documents: make room" in found["write blocks"].text
    assert found["configuration"].state == check.FAILED
    assert "1 record(s) are not signed by a key of config_public_key" in found["configuration"].text
    put(fleet.elastic, f"/{index}/_settings", {"index.blocks.read_only_allow_delete": None})
    assert families.there(fleet.elastic, fleet.names)[0].name == index


class Told:
    """An Elasticsearch that says what the test wants: disks cannot be filled for it."""

    def __init__(self, free: int, watermark: tuple[str, str, str], shards: int = 10) -> None:
        self.free = free
        self.watermark = watermark
        self.shards = shards

    def request(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        if path == "/_cat/allocation":
            rows = [{"node": "n1", "disk.avail": str(self.free << 30), "disk.total": str(1000 << 30)}]
            return 200, [*rows, {"node": "UNASSIGNED", "disk.avail": None, "disk.total": None}]
        if path == "/_cluster/health":
            return 200, {"active_shards": self.shards, "unassigned_shards": 0, "number_of_data_nodes": 1}
        before = "cluster.routing.allocation.disk.watermark."
        names = zip(("low", "high", "flood_stage"), self.watermark, strict=True)
        defaults = {"cluster.max_shards_per_node": "1000", **{before + name: value for name, value in names}}
        return 200, {"defaults": defaults, "persistent": {}, "transient": {}}


@pytest.mark.parametrize(
    ("free", "watermark", "state"),
    [
        (200, ("85%", "90%", "95%"), None),
        (140, ("85%", "90%", "95%"), check.Doubt),
        (90, ("85%", "90%", "95%"), check.Problem),
        (140, ("0.85", "0.9", "0.95"), check.Doubt),
        (140, ("2gb", "1gb", "500mb"), None),
        (1, ("3gb", "2gb", "500mb"), check.Problem),
    ],
)
def test_disks(free: int, watermark: tuple[str, str, str], state: type[Exception] | None) -> None:
    told = Told(free, watermark)
    if state is None:
        assert f"n1 {free}.0 of 1000.0 GiB free" in check._disks(told)
        return
    with pytest.raises(state, match="beyond the"):
        check._disks(told)


@pytest.mark.parametrize(("shards", "state"), [(899, None), (950, check.Doubt), (1000, check.Problem)])
def test_shards(shards: int, state: type[Exception] | None) -> None:
    told = Told(1, ("85%", "90%", "95%"), shards)
    if state is None:
        assert check._shards(told) == f"{shards} of 1000"
        return
    with pytest.raises(state, match=f"{shards} of 1000: .*no index can be made"):
        check._shards(told)

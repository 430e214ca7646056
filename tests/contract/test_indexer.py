"""The indexer on the real Elasticsearch: every refusal that it has to tell apart, in the server's own words."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from ezadmin_pipeline import install
from ezadmin_pipeline.elastic import ElasticClient, Unavailable
from ezadmin_pipeline.indexer import MAX_MOVED, Chunk, Indexer
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.names import Names

WHEN = "2026-11-24T08:15:30.000Z"
HOST = "00000000-0000-4000-8000-00000000000a"
PAST = "2026-11-20"
TODAY = "2026-11-24"


@pytest.fixture
def names(bare_names: Names) -> Names:
    """Index templates of this test alone."""
    return bare_names


class Owner:
    """Remembers what it is told."""

    live = True

    def __init__(self) -> None:
        self.lines = 0
        self.dead: list[tuple[int, str, str]] = []

    def settled(self, lines: int) -> None:
        self.lines += lines

    def conflicted(self, chunk: Chunk, i: int) -> None:
        raise AssertionError("nobody else writes here")

    def died(self, chunk: Chunk, i: int, reason: str, text: str) -> None:
        self.dead.append((chunk.numbers[i], reason, text))


class Sink:
    """An indexer on real indices of one installation; ``day`` is the day that its documents are of."""

    def __init__(self, elastic: ElasticClient, names: Names, day: str = TODAY, patience: float = 0.5) -> None:
        self.elastic = elastic
        self.names = names
        self.day = day
        self.owner = Owner()
        self.indexer = Indexer(
            elastic,
            current_index=lambda index: names.logs_index(TODAY),
            clock=time.monotonic,
            retry_past_index=patience,
        )

    def add(self, *members: dict[str, Any], kind: str = "logs") -> None:
        index = getattr(self.names, f"{kind}_index")(self.day)
        chunk = Chunk(self.owner, 0, fresh=False, context=None)
        for number, more in enumerate(members):
            fields = {
                "host.id": HOST,
                "@timestamp": f"{self.day}T08:15:30.{number:03d}Z",
                "event.dataset": "system.host" if kind == "metrics" else "app",
                "event.created": WHEN,
                "number": number,
                **more,
            }
            target = {"_index": index, **({"_id": str(number)} if kind == "logs" else {})}
            chunk.indices.append(index)
            chunk.actions.append(orjson.dumps({"create": target}) + b"\n")
            chunk.documents.append(orjson.dumps(fields))
            chunk.numbers.append(number)
            chunk.tags.append((WHEN[:16], "unknown", chunk.documents[-1]))
        self.indexer.add(chunk)

    def drain(self, seconds: float = 60.0) -> None:
        """Wait until everything is settled that does not wait for an index of the past."""
        deadline = time.monotonic() + seconds

        def keep_alive() -> None:
            if time.monotonic() > deadline:
                raise TimeoutError

        self.indexer.drain(keep_alive)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Work until ``condition``."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.owner.lines, self.owner.dead)
            self.indexer.pump()
            time.sleep(0.05)

    def stored(self, kind: str = "logs") -> dict[int, dict[str, Any]]:
        """What is searchable, by number. Metrics keep no source: their figures and ``unmapped`` from doc values."""
        index = getattr(self.names, f"{kind}_index")(self.day)
        self.elastic.request("POST", f"/{index}/_refresh")
        query = {
            "size": 100,
            "docvalue_fields": ["unmapped", "@timestamp", "system.load.1"] if kind == "metrics" else [],
        }
        status, answer = self.elastic.request("POST", f"/{index}/_search", body=orjson.dumps(query))
        assert status == 200, answer
        if kind == "metrics":
            return {int(hit["fields"]["@timestamp"][0][20:23]): hit["fields"] for hit in answer["hits"]["hits"]}
        return {hit["_source"]["number"]: hit["_source"] for hit in answer["hits"]["hits"]}

    def close(self) -> None:
        self.indexer.close()


@pytest.fixture
def sink(elastic: ElasticClient, names: Names) -> Iterator[Sink]:
    sink = Sink(elastic, names)
    yield sink
    sink.close()


# ------------------------------------------------------------------ fields that do not fit

BAD_LOG_FIELDS: dict[str, Any] = {
    "log.offset": "far",
    "source.ip": "nowhere",
    "process.pid": {"is": "no number"},
    "client.ip": [1.5],
    "http.response.status_code": True,
    "log.truncated": "perhaps",
    "event.count": "many",
    "log.syslog.priority": 1e30,
    "log.syslog.severity.code": [],
    "event.created": "yesterday",
    "event.sample_rate": "x",
}


def bad_fields(count: int) -> dict[str, Any]:
    names = [name for name in BAD_LOG_FIELDS if name != "log.syslog.severity.code"]
    return {name: BAD_LOG_FIELDS[name] for name in names[:count]}


@pytest.mark.parametrize("count", [1, 3, MAX_MOVED])
def test_fields_of_events_move(sink: Sink, count: int) -> None:
    bad = bad_fields(count)
    sink.add({}, {**bad, "message": "stays"}, {})
    sink.drain()
    assert (sink.owner.lines, sink.owner.dead) == (3, [])
    found = sink.stored()
    assert found[1]["message"] == "stays"
    assert found[1]["unmapped"] == {
        name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in bad.items()
    }
    assert not set(bad) & set(found[1]) - {"event.created"}
    assert "unmapped" not in found[0]


def test_nine_fields_are_too_many(sink: Sink) -> None:
    sink.add({}, bad_fields(MAX_MOVED + 1), {})
    sink.drain()
    assert sink.owner.lines == 2
    ((number, reason, text),) = sink.owner.dead
    assert (number, reason) == (1, "document_parsing_exception")
    assert "failed to parse field [" in text


def test_fields_of_metrics_move(sink: Sink) -> None:
    bad = {"system.memory.total": "much", "system.cpu.total.norm.pct": {"a": 1}, "system.load.5": [True]}
    sink.add({"system.load.1": 0.5}, {"system.load.1": 1.5, **bad}, {"system.load.1": 2.5}, kind="metrics")
    sink.drain()
    assert (sink.owner.lines, sink.owner.dead) == (3, [])
    found = sink.stored("metrics")
    assert [found[number]["system.load.1"] for number in range(3)] == [[0.5], [1.5], [2.5]]
    assert sorted(found[1]["unmapped"]) == ["[true]", "much", '{"a":1}']


@pytest.mark.parametrize(
    ("members", "unmapped"),
    [
        ({"fields": "text"}, {"fields": "text"}),
        ({"fields": ["a", 1]}, {"fields": '["a",1]'}),
        ({"log": "text"}, {"log": "text"}),
        ({"log": 7}, {"log": "7"}),
        ({"log": {"offset": "far", "flags": "x"}}, {"log.offset": "far"}),
        ({"process": [{"pid": 1}, "x"]}, {"process": '[{"pid":1},"x"]'}),
        ({"process": [{"pid": "x"}]}, None),
        ({"message": {"a": {"b": 1}}}, {"message": '{"a":{"b":1}}'}),
        ({"log.level": {"a": 1}}, {"log.level": '{"a":1}'}),
        ({"unmapped": "text", "log.offset": "far"}, {"unmapped": "text", "log.offset": "far"}),
        ({"fields": {"a\0b": 1}}, {"fields": '{"a\\u0000b":1}'}),
    ],
)
def test_an_object_where_a_value_is_expected_and_the_reverse(
    sink: Sink, members: dict[str, Any], unmapped: dict[str, Any] | None
) -> None:
    sink.add(members, {})
    sink.drain()
    if unmapped is None:
        assert [(number, reason) for number, reason, _ in sink.owner.dead] == [(0, "document_parsing_exception")]
        assert sink.owner.lines == 1
        return
    assert (sink.owner.lines, sink.owner.dead) == (2, [])
    assert sink.stored()[0]["unmapped"] == unmapped


def test_very_long_values_are_kept_and_not_indexed(sink: Sink) -> None:
    long = "x" * 40_000
    sink.add({"fields": {"a": long}, "process.name": long, "message": long, "unmapped": {"a": long}})
    sink.drain()
    assert (sink.owner.lines, sink.owner.dead) == (1, [])
    assert sink.stored()[0]["process.name"] == long


def test_a_key_too_long_for_an_index_moves(sink: Sink) -> None:
    sink.add({"fields": {"k" * 40_000: "v"}})
    sink.drain()
    assert (sink.owner.lines, sink.owner.dead) == (1, [])
    assert "fields" in sink.stored()[0]["unmapped"]


def test_nothing_can_be_done_about_the_time(sink: Sink) -> None:
    sink.add({"@timestamp": "2026-11-24T08:15:99.000Z"}, {})
    sink.drain()
    assert sink.owner.lines == 1
    assert [(number, reason) for number, reason, _ in sink.owner.dead] == [(0, "document_parsing_exception")]


# ------------------------------------------------------------------ indices that refuse


def put_settings(elastic: ElasticClient, index: str, settings: dict[str, Any]) -> None:
    status, answer = elastic.request("PUT", f"/{index}/_settings", body=orjson.dumps(settings))
    assert status == 200, answer


@pytest.mark.parametrize("block", ["write", "read_only", "read_only_allow_delete"])
def test_a_write_block_on_todays_index_is_waited_for(sink: Sink, elastic: ElasticClient, block: str) -> None:
    index = sink.names.logs_index(TODAY)
    elastic.request("PUT", f"/{index}")
    sent = 0
    for _ in range(3):
        put_settings(elastic, index, {f"index.blocks.{block}": True})
        sink.add({}, {})
        sent += 2
        try:
            sink.drain(2.0)  # longer than the patience with an index of the past
        except TimeoutError:
            break
        # where the disk has room Elasticsearch lifts this one by itself, each 30 s
        assert block == "read_only_allow_delete"
        blocks = elastic.request("GET", f"/{index}/_settings/index.blocks.*", params={"flat_settings": "true"})[1]
        assert blocks in ({}, {index: {"settings": {}}}), "it was not waited for"
    else:
        pytest.fail("lifted each time")
    put_settings(elastic, index, {f"index.blocks.{block}": None})
    sink.drain()
    assert (sink.owner.lines, sink.owner.dead) == (sent, [])


@pytest.mark.parametrize("block", ["write", "read_only"])
def test_a_write_block_on_an_index_of_the_past(elastic: ElasticClient, names: Names, block: str) -> None:
    sink = Sink(elastic, names, PAST)
    index = names.logs_index(PAST)
    elastic.request("PUT", f"/{index}")
    put_settings(elastic, index, {f"index.blocks.{block}": True})
    sink.add({})
    sink.wait_for(lambda: bool(sink.owner.dead))
    put_settings(elastic, index, {f"index.blocks.{block}": None})
    assert [reason for _, reason, _ in sink.owner.dead] == ["cluster_block_exception"]
    sink.close()


def test_a_closed_index(elastic: ElasticClient, names: Names) -> None:
    sink = Sink(elastic, names, PAST, patience=3.0)
    index = names.logs_index(PAST)
    elastic.request("PUT", f"/{index}")
    elastic.request("POST", f"/{index}/_close")
    sink.add({})
    sink.drain()
    assert (sink.owner.lines, sink.owner.dead) == (0, []), "it waits beside the others"
    elastic.request("POST", f"/{index}/_open")
    sink.wait_for(lambda: sink.owner.lines == 1)
    elastic.request("POST", f"/{index}/_close")
    sink.add({}, {})
    sink.wait_for(lambda: len(sink.owner.dead) == 2)
    assert {reason for _, reason, _ in sink.owner.dead} == {"index_closed_exception"}
    sink.close()


def test_an_index_that_may_not_be_made(sink: Sink, elastic: ElasticClient) -> None:
    def allow(rule: str | None) -> None:
        body = orjson.dumps({"persistent": {"action.auto_create_index": rule}})
        assert elastic.request("PUT", "/_cluster/settings", body=body)[0] == 200

    allow(f"-{sink.names.prefix}-*,+*")
    try:
        sink.add({})
        with pytest.raises(TimeoutError):
            sink.drain(2.0)
        assert not sink.owner.dead
        sink.day = PAST
        sink.owner = Owner()
        sink.add({}, {})
        with pytest.raises(TimeoutError):
            sink.drain(2.0)
        assert not sink.owner.dead, "today's index refuses as well"
    finally:
        allow(None)
    sink.drain()
    sink.wait_for(lambda: sink.owner.lines == 2)
    assert not sink.owner.dead


# ------------------------------------------------------------------ what one node of its own is needed for


@pytest.fixture(scope="module")
def small_node(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElasticClient]:
    """A second Elasticsearch beside the stack's, that takes 1 MiB in a request and whose settings disturb nobody."""
    folder = tmp_path_factory.mktemp("node")
    supervisor = configparser.RawConfigParser()
    supervisor.read(stack.state / "etc/supervisord.conf")
    program = supervisor["program:elasticsearch"]
    if "--reuid=" in program["command"]:
        pytest.skip("Elasticsearch runs as a user of its own here, who cannot enter this test's folder")
    shutil.copytree(stack.state / "etc/elasticsearch", folder / "etc")
    (folder / "run").mkdir()
    ports = []
    for _ in range(2):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
    (folder / "etc/elasticsearch.yml").write_text(
        f"cluster.name: small\ndiscovery.type: single-node\npath.data: {folder}/data\npath.logs: {folder}/run\n"
        f"network.host: 127.0.0.1\nhttp.port: {ports[0]}\ntransport.port: {ports[1]}\nxpack.security.enabled: false\n"
        "http.max_content_length: 1mb\n"
        "cluster.routing.allocation.disk.threshold_enabled: false\n"
    )
    for options in (folder / "etc/jvm.options.d").iterdir():
        options.write_text(f"-Xms400m\n-Xmx400m\n-XX:-AlwaysPreTouch\n-XX:HeapDumpPath={folder}/run\n")
    environment = dict(pair.split("=", 1) for pair in shlex.split(program["environment"].replace(",", " ")))
    environment |= {"ES_PATH_CONF": str(folder / "etc"), "ES_TMPDIR": str(folder / "run")}
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            shlex.split(program["command"]),
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    client = ElasticClient(ElasticConnection((f"http://127.0.0.1:{ports[0]}",)), timeout=20)
    try:
        deadline = time.monotonic() + 180
        while not _answers(client):
            assert process.poll() is None, (folder / "output.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "output.log").read_text()[-3000:]
            time.sleep(0.5)
        yield client
    finally:
        client.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(client: ElasticClient) -> bool:
    try:
        return client.request("GET", "/_cluster/health", params={"wait_for_status": "yellow"})[0] == 200
    except Unavailable:
        return False


def test_a_line_beyond_what_a_request_may_hold(small_node: ElasticClient) -> None:
    names = Names("a")
    install.make_templates(small_node, names)
    sink = Sink(small_node, names)
    sink.add(*({"message": "m" * (1_500_000 if number == 5 else 100_000)} for number in range(12)))
    sink.drain()
    assert sink.owner.lines == 11
    ((number, reason, text),) = sink.owner.dead
    assert (number, reason) == (5, "bulk_refused")
    assert text.startswith("413")
    assert set(sink.stored()) == set(range(12)) - {5}
    sink.close()


def test_a_cluster_that_is_full_of_shards_is_waited_for(small_node: ElasticClient) -> None:
    def limit(shards: int | None) -> None:
        body = json.dumps({"persistent": {"cluster.max_shards_per_node": shards}}).encode()
        assert small_node.request("PUT", "/_cluster/settings", body=body)[0] == 200

    names = Names("b")
    install.make_templates(small_node, names)
    limit(1)
    try:
        small_node.request("PUT", "/other")
        sink = Sink(small_node, names)
        sink.add({}, {})
        with pytest.raises(TimeoutError):
            sink.drain(2.0)
        assert not sink.owner.dead, "the midnight at which a cluster is full must not bury a day"
    finally:
        limit(None)
    sink.drain()
    assert (sink.owner.lines, sink.owner.dead) == (2, [])
    sink.close()

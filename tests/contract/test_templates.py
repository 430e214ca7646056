"""The index templates, and the rules of Elasticsearch that the pipeline leans on, on the real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from ezadmin_pipeline import alerts
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_pipeline.install import templates
from ezadmin_pipeline.surges import Change
from ezadmin_wire.names import Names

FOLDER = Path(__file__).resolve().parents[2] / "es/templates"
FILES = sorted(path.stem for path in FOLDER.glob("*.json"))
TYPES = {"keyword", "text", "long", "integer", "float", "double", "date", "ip", "boolean", "flattened"}
"""Types that every distribution of Elasticsearch has, the small local one included."""
DAY = "2026-11-24"
WHEN = "2026-11-24T08:15:30.000Z"
HOST = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"


@pytest.fixture
def names(bare_names: Names) -> Names:
    """Index templates of this test alone."""
    return bare_names


def template(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found


def write(elastic: ElasticClient, index: str, document: bytes, identity: str | None = None) -> tuple[int, str]:
    """Create one document; its status and what was wrong."""
    target = {"_index": index} if identity is None else {"_index": index, "_id": identity}
    body = orjson.dumps({"create": target}) + b"\n" + document + b"\n"
    status, answer = elastic.request("POST", "/_bulk", params={"timeout": "30s"}, body=body)
    assert status == 200, answer
    result = answer["items"][0]["create"]
    error = result.get("error", {})
    return result["status"], f"{error.get('type')}: {error.get('reason')}"


def document(**members: Any) -> bytes:
    fields = {
        "host.id": HOST,
        "host.name": "web-1",
        "event.ingested": WHEN,
        "@timestamp": members.pop("timestamp", WHEN),
        "event.dataset": members.pop("dataset", "app"),
        "event.created": WHEN,
        **members,
    }
    return json.dumps(fields).encode()


# ------------------------------------------------------------------ what stands in the files


def test_all_are_there() -> None:
    assert {"alerts", "logs", "metrics", "rollup", "state"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_types_settings_and_no_dynamic_fields(name: str) -> None:
    body = template(name)["template"]
    assert body["mappings"]["dynamic"] is False, "an agent must not be able to add fields"
    for field, mapping in body["mappings"]["properties"].items():
        assert mapping["type"] in TYPES, field
        assert "properties" not in mapping, f"{field}: names are dotted, not nested"
        if mapping["type"] == "text":
            assert mapping["norms"] is False, field
        if mapping["type"] in ("keyword", "flattened"):
            # longer ones would be refused (32,766 bytes); ids and names that we make are short
            assert mapping.get("ignore_above", 0) <= 8191, field
    assert template(name)["_meta"]["ezadmin"]["version"] >= 1


@pytest.mark.parametrize(("name", "mode"), [("logs", "logsdb"), ("metrics", "time_series")])
def test_modes_and_what_their_defaults_would_lose(name: str, mode: str) -> None:
    body = template(name)["template"]
    assert body["settings"]["index.mode"] == mode
    assert body["settings"]["index.mapping.source.mode"] == "stored"
    assert body["settings"]["index.mapping.ignore_malformed"] is False
    assert {"host.id", "@timestamp", "event.dataset", "labels", "unmapped"} <= set(body["mappings"]["properties"])


def test_metrics_are_named_by_their_dimensions() -> None:
    body = template("metrics")["template"]
    dimensions = {n for n, mapping in body["mappings"]["properties"].items() if mapping.get("time_series_dimension")}
    assert set(body["settings"]["index.routing_path"]) == dimensions
    assert {"host.id", "event.dataset"} <= dimensions
    assert not {"host.name", "labels"} & dimensions, "what a person can change must not be part of the identity"
    assert "index.time_series.start_time" not in body["settings"], "late lines have no bounds"
    assert body["mappings"]["_source"] == {"excludes": ["*"]}


# ------------------------------------------------------------------ what the server makes of them


@pytest.mark.parametrize("name", FILES)
def test_the_server_takes_it_and_makes_an_index_by_it(name: str, elastic: ElasticClient, names: Names) -> None:
    made = dict(templates(names))
    body = made[f"{names.prefix}-{name}"]
    status, answer = elastic.request("GET", f"/_index_template/{names.prefix}-{name}")
    assert status == 200, answer
    index = body["index_patterns"][0].replace("*", "2026.11.24")
    assert index.startswith(names.prefix)
    status, answer = elastic.request("PUT", f"/{index}")
    assert status == 200, answer
    status, answer = elastic.request("GET", f"/{index}/_mapping")
    mappings = answer[index]["mappings"]
    assert mappings["dynamic"] == "false"
    status, answer = elastic.request("GET", f"/{index}/_settings", params={"flat_settings": "true"})
    settings = answer[index]["settings"]
    for key, value in body["template"]["settings"].items():
        expected = value if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
        assert settings[key] == expected, key


def test_every_index_name_has_its_template(names: Names) -> None:
    patterns = [pattern for _, body in templates(names) for pattern in body["index_patterns"]]
    day = WHEN
    for index in (
        names.metrics_index(day),
        names.logs_index(day),
        *(names.rollup_index(rollup, day) for rollup in ("logs-1m", "logs-fleet-1m", "logs-fleet-1h")),
        names.alerts_index(day),
        names.state_index,
    ):
        assert any(Path(index).match(pattern) for pattern in patterns), index


def test_an_id_is_there_once(elastic: ElasticClient, names: Names) -> None:
    index = names.logs_index(DAY)
    assert write(elastic, index, document(), "one")[0] == 201
    status, text = write(elastic, index, document(message="another"), "one")
    assert status == 409
    assert text.startswith("version_conflict_engine_exception")


def test_an_alert_is_there_once_and_every_field_is_mapped(elastic: ElasticClient, names: Names) -> None:
    index = names.alerts_index(DAY)
    fields = dict.fromkeys(("time", "rule", "item", "reason", "field", "message"), "x") | {"time": WHEN}
    one = alerts.alert(
        alerts.NO_DATA, HOST, {"host.name": "web-1", "labels": {"site": "서울"}}, state="unknown", previous="ok",
        value=0.5, limit=1.0, **fields,
    )  # fmt: skip
    assert write(elastic, index, orjson.dumps(one), alerts.identity(one))[0] == 201
    assert write(elastic, index, orjson.dumps(one), alerts.identity(one))[0] == 409
    figures = {"start": WHEN, "end": WHEN, "peak": 900, "budget": 600, "usual": 1.5, "seen": 1800, "withheld": 100}
    templates = [{"template": "x *", "count": 100, "example": "x 1"}]
    surge = Change(HOST, "app", "info", over=True, templates=templates, **figures).alert({})
    assert write(elastic, index, orjson.dumps(surge), alerts.identity(surge))[0] == 201
    assert set(one) | set(surge) == set(template("alerts")["template"]["mappings"]["properties"])


def test_a_metric_is_there_once(elastic: ElasticClient, names: Names) -> None:
    index = names.metrics_index(DAY)
    cpu = {"dataset": "system.host", "system.cpu.total.norm.pct": 0.5}
    assert write(elastic, index, document(**cpu))[0] == 201
    assert write(elastic, index, document(**{**cpu, "system.cpu.total.norm.pct": 0.6}))[0] == 409
    assert write(elastic, index, document(**cpu, timestamp="2026-11-24T08:15:30.001Z"))[0] == 201
    nic = {"dataset": "system.network", "system.network.name": "eth0"}
    assert write(elastic, index, document(**nic))[0] == 201
    assert write(elastic, index, document(**{**nic, "system.network.name": "eth1"}))[0] == 201
    assert write(elastic, index, document(**nic, **{"host.name": "renamed"}))[0] == 409
    # no bounds of time: what is late by a week, or by years, has its own index and is taken
    assert write(elastic, names.metrics_index("2020-01-01"), document(timestamp="2020-01-01T00:00:00.000Z"))[0] == 201


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"log.offset": "far"}, "log.offset"),
        ({"log.offset": {"a": 1}}, "log.offset"),
        ({"log.offset": 2**63}, "log.offset"),
        ({"log": {"offset": "far"}}, "log.offset"),
        ({"source.ip": "nowhere"}, "source.ip"),
        ({"event.created": "yesterday"}, "event.created"),
        ({"log.truncated": "perhaps"}, "log.truncated"),
        ({"message": {"a": 1}}, "message"),
        ({"process.name": {"a": 1}}, "process.name"),
        ({"fields": "text"}, "fields"),
        ({"fields": {"a\x00b": 1}}, "fields"),
        ({"timestamp": "yesterday"}, "@timestamp"),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    elastic: ElasticClient, names: Names, members: dict[str, Any], field: str
) -> None:
    status, text = write(elastic, names.logs_index(DAY), document(**members), "one")
    assert status == 400
    assert f"failed to parse field [{field}]" in text


def test_an_object_that_is_a_value_is_named(elastic: ElasticClient, names: Names) -> None:
    status, text = write(elastic, names.logs_index(DAY), document(log="text"), "one")
    assert status == 400
    assert "object mapping for [log] tried to parse" in text


def test_two_writers_of_one_record(elastic: ElasticClient, names: Names) -> None:
    def put(verb: str, **members: Any) -> dict[str, Any]:
        head = {verb: {"_index": names.state_index, "_id": "r", **members}}
        _, answer = elastic.request("POST", "/_bulk", body=orjson.dumps(head) + b'\n{"commit":1}\n')
        found: dict[str, Any] = answer["items"][0][verb]
        return found

    first = put("create")
    assert first["status"] == 201
    assert put("create")["status"] == 409
    held = {"if_seq_no": first["_seq_no"], "if_primary_term": first["_primary_term"]}
    assert put("index", **held)["status"] == 200
    assert put("index", **held)["status"] == 409


def test_an_older_commit_does_not_overwrite_counts(elastic: ElasticClient, names: Names) -> None:
    def put(version: int, seen: int) -> int:
        head = {"index": {"_index": names.rollup_index("logs-1m", DAY), "_id": "k", "version": version}}
        head["index"]["version_type"] = "external_gte"
        body = orjson.dumps(head) + b"\n" + orjson.dumps({"@timestamp": WHEN, "events.seen": seen}) + b"\n"
        _, answer = elastic.request("POST", "/_bulk", body=body)
        return int(answer["items"][0]["index"]["status"])

    assert [put(3, 10), put(3, 10), put(2, 7), put(4, 12)] == [201, 200, 409, 200]


# ------------------------------------------------------------------ who may speak for whom


def hosts(elastic: ElasticClient, index: str) -> dict[str, int]:
    elastic.request("POST", f"/{index}/_refresh")
    body = b'{"size":0,"aggs":{"h":{"terms":{"field":"host.id"}}}}'
    _, answer = elastic.request("POST", f"/{index}/_search", body=body)
    return {bucket["key"]: bucket["doc_count"] for bucket in answer["aggregations"]["h"]["buckets"]}


@pytest.mark.parametrize("kind", ["logs", "metrics"])
@pytest.mark.parametrize(
    "member",
    [
        b'"host":{"id":"%s"}',
        b'"\xc1\xa8ost":{"id":"%s"}',
        b'"\xe0\x81\xa8ost":{"id":"%s"}',
        b'"\\u0068ost":{"id":"%s"}',
        b'"host.id.":"%s"',
        b'"host.":{"id":"%s"}',
        b'"_doc_count":1000,"x":"%s"',
    ],
)
def test_why_the_pipeline_refuses_such_lines(elastic: ElasticClient, names: Names, kind: str, member: bytes) -> None:
    """Elasticsearch itself lets them speak for another host, or count for many: pipeline/tests/test_lines.py."""
    index = getattr(names, f"{kind}_index")(DAY)
    raw = document()[:-1] + b"," + member % OTHER.encode() + b"}"
    assert write(elastic, index, raw, "one" if kind == "logs" else None)[0] == 201
    found = hosts(elastic, index)
    assert found.get(OTHER) == 1 or found[HOST] == 1000, "if this fails, the pipeline's guard is no longer needed"


@pytest.mark.parametrize("kind", ["logs", "metrics"])
@pytest.mark.parametrize(
    "member",
    [b'"host.id":"%s"', b'".host.id":"%s"', b'"host..id":"%s"', b'"_id":"%s"', b'"_routing":"%s"'],
)
def test_what_elasticsearch_refuses_itself(elastic: ElasticClient, names: Names, kind: str, member: bytes) -> None:
    index = getattr(names, f"{kind}_index")(DAY)
    raw = document()[:-1] + b"," + member % OTHER.encode() + b"}"
    assert write(elastic, index, raw, "one" if kind == "logs" else None)[0] == 400
    assert write(elastic, index, document(), "two" if kind == "logs" else None)[0] == 201
    assert hosts(elastic, index) == {HOST: 1}

"""What agents write and what the index templates know is the same set of fields."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ezadmin_agent.control.events import event as command_event
from ezadmin_agent.control.record import Line
from ezadmin_agent.logs import fields as log_fields
from ezadmin_agent.reader import Reader
from ezadmin_agent.registry import COLLECTORS, all_fields, datasets
from ezadmin_agent.ticks import Ticker
from ezadmin_pipeline import fields as pipeline_fields
from ezadmin_pipeline import rollups
from ezadmin_pipeline.lines import EDITED, ORIGINAL_TIMESTAMP
from ezadmin_wire.logs.parse import Parsed, event

ROOT = Path(__file__).resolve().parents[2]
WRITTEN_BY_PIPELINE = {"host.id", "host.name", "labels", "event.ingested", ORIGINAL_TIMESTAMP, *EDITED, "unmapped"}
# types of JSON that each type of field takes; Elasticsearch would make a number of a text, and a text of nearly anything
FITS: dict[str, tuple[type, ...]] = {
    "keyword": (str,),
    "text": (str,),
    "date": (str,),
    "ip": (str,),
    "boolean": (bool,),
    "long": (int,),
    "integer": (int,),
    "float": (int, float),
    "double": (int, float),
    "flattened": (dict,),
}


def properties(template: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((ROOT / f"es/templates/{template}.json").read_text("utf-8"))[
        "template"
    ]["mappings"]["properties"]
    return found


def check_document(document: dict[str, Any], template: str) -> None:
    known = properties(template)
    for name, value in document.items():
        assert name in known, f"{name} is not in es/templates/{template}.json: nobody could search it"
        kind = known[name]["type"]
        assert isinstance(value, FITS[kind]), f"{name}: {value!r} is no {kind}"
        assert not isinstance(value, bool) or kind == "boolean", name


def test_what_is_generated_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "es/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_registry_is_what_the_metrics_template_has() -> None:
    known = properties("metrics")
    own = {field.name for field in pipeline_fields.FIELDS}
    assert not own & set(all_fields())
    assert set(pipeline_fields.COMMON) <= set(all_fields())
    assert set(known) == set(all_fields()) | own | WRITTEN_BY_PIPELINE
    for name, field in all_fields().items():
        assert known[name]["type"] == field.type, name
        assert known[name].get("time_series_dimension", False) == field.dimension, name
        expected = field.kind if field.kind in ("gauge", "counter") else None
        assert known[name].get("time_series_metric") == expected, name


def test_a_name_means_the_same_in_every_dataset() -> None:
    known = all_fields()
    for dataset, fields in datasets().items():
        for field in fields:
            assert field == known[field.name], f"{field.name} of {dataset}"


def test_a_tick_of_this_machine_writes_only_declared_fields() -> None:
    ticker = Ticker(Reader(), COLLECTORS)
    ticker.prime()
    tick = ticker.run(1_795_508_130_000)
    assert ticker.errors == {}
    declared = {dataset: {field.name for field in fields} for dataset, fields in datasets().items()}
    seen = set()
    for line in tick.metrics:
        document = json.loads(line)
        seen.add(document["event.dataset"])
        assert set(document) <= declared[document["event.dataset"]]
        check_document(document, "metrics")
    assert "system.host" in seen
    for dataset, line in tick.events:
        document = json.loads(line)
        assert document["event.dataset"] == dataset
        check_document(document, "logs")


LOG_LINES = [
    Parsed(1_795_508_130_000, "info", "text", "sshd", 812, "web-1", 6, 10),
    Parsed(None, None, "text"),
]


@pytest.mark.parametrize("parsed", LOG_LINES)
@pytest.mark.parametrize(
    "place", [{}, {"path": "/var/log/syslog", "offset": 0, "cut": True, "logger": "ezadmin_agent.spool"}]
)
def test_events_have_only_declared_fields(parsed: Parsed, place: dict[str, Any]) -> None:
    _, line = event(parsed, dataset="d", created_ms=1_795_508_130_042, created="2026-11-24T08:15:30.042Z", **place)
    document = json.loads(line)
    assert set(document) <= {field.name for field in log_fields.FIELDS}
    check_document(document, "logs")


def test_events_of_commands_have_only_declared_fields() -> None:
    one = Line(
        3, "0" * 64, "2026-11-24T08:15:30.042Z", "failed", "1" * 64, id="a", run="b", attempt=1, kind="stop", actor="kim",
        nonce="0" * 32, not_after="2026-11-24T09:00:00.000Z", reason="why", hash="2" * 64,
    )  # fmt: skip
    document = json.loads(command_event(one))
    commands = {field.name for field in log_fields.COMMANDS}
    assert set(document) <= {field.name for field in log_fields.FIELDS} | commands
    assert commands <= set(document)
    check_document(document, "logs")


def test_declared_fields_of_events_are_in_the_template() -> None:
    known = properties("logs")
    for field in (*log_fields.FIELDS, *log_fields.COMMANDS):
        numbers = ("long", "integer")
        same = known[field.name]["type"] == field.type or {known[field.name]["type"], field.type} <= set(numbers)
        assert same, field.name
    assert set(known) >= WRITTEN_BY_PIPELINE


def test_rollup_documents_have_only_fields_of_their_template() -> None:
    key = rollups.keys_of("2026-11-24T08:15", "h", "d", "info")[0]
    host = {"host.name": "web-1", "labels": {"site": "seoul"}}
    document = rollups.document(key, rollups.Counts(), "t.logs", 2, host)
    check_document(document, "rollup")
    assert set(properties("rollup")) == set(document)

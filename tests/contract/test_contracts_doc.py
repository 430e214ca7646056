"""``docs/contracts.md`` says what the code says: every table's first column against the names in the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from ezadmin_pipeline import alerts, clocks, engine, hourly, lines, rollups
from ezadmin_pipeline.commits import CommitRecord
from ezadmin_wire import batch, commands, config, enrolment, jobs, limits, requests, state, upload
from ezadmin_wire.deadletters import MAX_VALUE
from ezadmin_wire.names import Names

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/contracts.md").read_text("utf-8")
GATEWAY = ROOT / "cmdb/src/ezadmin_cmdb/gateway"
NAMES = Names()
DAY = "YYYY-MM-DD"


def tables() -> dict[str, list[list[str]]]:
    """The names in the first column of each table, by heading; a heading may have several tables."""
    found: dict[str, list[list[str]]] = {}
    heading, inside = "", False
    for line in TEXT.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        cell = re.match(r"\| `([^`]+)` \|", line)
        if cell:
            if not inside:
                found.setdefault(heading, []).append([])
            found[heading][-1].append(cell[1])
        inside = cell is not None
    return found


def members(kind: Any, before: str = "") -> Iterator[str]:
    """All members of a record, those of records inside it as ``member.inner``."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        yield before + field.name
        for inner in (hints[field.name], *get_args(hints[field.name])):
            if is_dataclass(inner):
                yield from members(inner, f"{before}{field.name}.")


def reasons(*modules: Any) -> set[str]:
    """The reasons that stand in the source of modules, as the first argument of their error."""
    source = "".join(Path(module.__file__).read_text("utf-8") for module in modules)
    return set(re.findall(r'(?:WireError|BadLine)\(\s*"([a-z_]+)"', source))


def rollup_fields() -> set[str]:
    key = rollups.keys_of("2026-11-24T08:15", "h", "d", "info")[0]
    return set(rollups.document(key, rollups.Counts(), "t", 0, {"host.name": "n", "labels": {}}))


def hourly_fields() -> set[str]:
    bucket = {"key": {"host": "h"}, "doc_count": 1}
    what = hourly.Kept("d", (), ())
    return set(hourly.document(what, bucket, DAY, lambda _: {"host.name": "n", "labels": {}})[1])


def letter_headers() -> set[str]:
    """Headers of all kinds of letters, with those that are added when one is written."""
    names = {"by", "time", "cut", "orig.*"}
    for kind in ("message", "line", "rollup", "alert"):
        golden = json.loads((ROOT / f"tests/contract/golden/dead-letter-{kind}.json").read_text("utf-8"))
        names |= {name for name, _ in golden["headers"] if not name.startswith("orig.")}
    return names


def alert_fields() -> set[str]:
    golden = json.loads((ROOT / "tests/contract/golden/documents-alert.json").read_text("utf-8"))
    return {name for _, document in golden for name in document}


def gateway_routes() -> set[str]:
    """Method and path of each endpoint of the gateway."""
    source = (GATEWAY / "app.py").read_text("utf-8")
    found = re.findall(r'\broute\("(/[^"]+)", self\.\w+(?:, "([A-Z]+)")?\)', source)
    return {f"{method or 'GET'} {path}" for path, method in found} | {
        f"GET {path}" for path in re.findall(r'WebSocketRoute\("(/[^"]+)"', source)
    }


def gateway_reasons() -> set[str]:
    """Why the gateway refuses, as it stands in its source, and in that of what its reasons come from."""
    files = [*GATEWAY.glob("*.py"), *GATEWAY.with_name("enrolment").glob("*.py")]
    source = "".join(file.read_text("utf-8") for file in files)
    found = set(re.findall(r'(?:Problem|Refused)\(\s*\d+,\s*"([a-z_]+)"', source))
    found |= set(re.findall(r'(?:why = |\d\d: )\(?"([a-z_]+)"', source))
    return found | {"bad_authorization", "bad_upload", "failed", "retired", "quarantined"}


INDICES = {
    NAMES.metrics_index(DAY),
    NAMES.logs_index(DAY),
    *(NAMES.rollup_index(rollup, DAY) for rollup in (*rollups.ROLLUPS, hourly.ROLLUP)),
    NAMES.alerts_index(DAY),
    NAMES.audit_index(DAY),
    NAMES.state_index,
}
EXPECTED: dict[str, list[set[str]]] = {
    "Topics": [{topic.name for topic in NAMES.topics()}],
    "Batch": [
        {*batch.HEADERS, "sig"},
        {*reasons(batch, engine), "host_not_active"},
        reasons(lines),
    ],
    "Config records": [{*config.HEADERS, "sig"}],
    "host/&lt;host.id&gt;": [set(members(config.HostRecord))],
    "rules": [set(members(config.RulesRecord))],
    "limit/&lt;id&gt;": [set(members(config.LimitRecord))],
    **{name: [set(members(kind))] for name, kind in {**state.TYPES, **jobs.TYPES}.items()},
    "Dead letters": [letter_headers()],
    "Indices": [INDICES],
    "Alerts": [alert_fields()],
    "What the pipeline adds to every document": [
        {"host.id", "host.name", "labels", "event.ingested", lines.ORIGINAL_TIMESTAMP, *lines.EDITED, "unmapped"}
        | {lines.SAMPLE_RATE}
    ],
    "Counts": [rollup_fields()],
    "Metrics by the hour": [hourly_fields()],
    "The gateway": [gateway_routes()],
    "Refusals": [gateway_reasons()],
    "Enrolment": [
        set(members(enrolment.Token)),
        set(members(enrolment.EnrolRequest)),
        set(members(enrolment.EnrolAnswer)),
    ],
    "Commands": [set(members(commands.Command))],
    "Commit records": [set(json.loads(CommitRecord("t", 0, "i").to_json()))],
}


@pytest.mark.parametrize("heading", EXPECTED)
def test_tables_name_what_the_code_has_and_nothing_else(heading: str) -> None:
    found = tables()[heading]
    assert all(len(names) == len(set(names)) for names in found), "a name stands twice"
    assert [set(names) for names in found] == EXPECTED[heading]


def test_every_table_is_compared() -> None:
    assert set(tables()) == set(EXPECTED)


def test_headers_stand_in_their_order() -> None:
    assert tables()["Batch"][0] == [*batch.HEADERS, "sig"]
    assert tables()["Config records"][0] == [*config.HEADERS, "sig"]


@pytest.mark.parametrize(
    "words",
    [
        config.HOST_STATES,
        config.RULE_ACTIONS,
        jobs.STATES,
        rollups.ROLLUPS,
        alerts.STATES,
        limits.COMPARISONS,
        commands.KINDS,
    ],
)
def test_words_that_a_member_may_have(words: tuple[str, ...]) -> None:
    *first, last = words
    assert ", ".join(f"`{word}`" for word in first) + f" or `{last}`" in TEXT


def test_limits_are_those_of_the_code() -> None:
    kib = 1024
    for number, text in (
        (batch.MAX_LINES, f"at most {batch.MAX_LINES} lines"),
        (batch.MAX_BYTES, f"{batch.MAX_BYTES // kib} KiB"),
        (batch.MAX_LINE, f"up to {batch.MAX_LINE // kib} KiB"),
        (jobs.MAX_CHUNK, f"at most {jobs.MAX_CHUNK // kib} KiB before it"),
        (lines.AHEAD, f"may be {lines.AHEAD / 60:.0f} min ahead of"),
        (lines.BEHIND, f"and {lines.BEHIND / 86400:.0f} days behind `event.created`"),
        (lines.CREATED_AHEAD_MS, f"may be {lines.CREATED_AHEAD_MS / 3_600_000:.0f} h ahead of"),
        (lines.CREATED_BEHIND_MS, f"and {lines.CREATED_BEHIND_MS / 86_400_000:.0f} days behind the time"),
        (clocks.TOLERANCE, f"differs from Kafka's time by more than {clocks.TOLERANCE / 60:.0f} min"),
        (upload.MAX_BATCHES, f"at most {upload.MAX_BATCHES} batches and {upload.MAX_BODY >> 20} MiB"),
        (requests.WINDOW_SECONDS, f"good for {requests.WINDOW_SECONDS} s around its time"),
    ):
        assert text in " ".join(TEXT.split()), number
    assert int({t.name: t for t in NAMES.topics()}[NAMES.dlq].settings["max.message.bytes"]) > MAX_VALUE


def test_contexts_of_signatures() -> None:
    from ezadmin_cmdb.enrolment.services import ROTATE_CONTEXT

    asked = (requests.CONTEXT, commands.CONTEXT, enrolment.CONTEXT_CLONE, ROTATE_CONTEXT)
    for context in (batch.CONTEXT, config.CONTEXT, *asked):
        assert f"`{context}`" in TEXT

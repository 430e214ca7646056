"""One message of every kind, byte for byte: who changes what travels or is stored sees it here, and has to mean it.

``EZADMIN_UPDATE_GOLDEN=1 python -m pytest tests/contract/test_golden.py`` writes the files anew. An agent, a pipeline and
a cmdb of different versions meet in Kafka, and documents stay for months: a change needs readers that know both forms.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ezadmin_pipeline import alerts, rollups
from ezadmin_pipeline.commits import CommitRecord, PendingRollup
from ezadmin_pipeline.deadletters import line_letter, message_letter, rollup_letter
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.indexer import Chunk
from ezadmin_pipeline.surges import Change
from ezadmin_pipeline.writer import Outgoing
from ezadmin_wire import batch, config, jobs, state
from ezadmin_wire.logs.parse import Parsed, event
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey, VerifyKey

FOLDER = Path(__file__).parent / "golden"
NAMES = Names()
HOST = "3f2b8c1e-9d47-4a6f-8e15-0c9a7b64d2f1"
HOST_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
CONFIG_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64))))
RUN = "0192f0c4-1111-7222-8333-444455556666"
TICK = "2026-11-24T08:15:30.000Z"
CREATED = "2026-11-24T08:15:30.042Z"
SENT = "2026-11-24T08:15:30.101Z"
CREATED_MS = 1795508130042

Message = tuple[bytes | None, Sequence[tuple[str, bytes]], bytes]


def metric(dataset: str, **members: Any) -> bytes:
    fields = {"@timestamp": TICK, "event.dataset": dataset, "event.created": CREATED, **members}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def log_lines() -> list[tuple[str, bytes]]:
    common: dict[str, Any] = {"dataset": "system.syslog", "created_ms": CREATED_MS, "created": CREATED}
    parsed = [
        Parsed(CREATED_MS - 42, "info", 'Accepted publickey for "root" from 192.0.2.7', "sshd", 812, "web-1", 6, 10),
        Parsed(None, None, "한글과 \\ \x00 \x1b[31m 그리고 \t"),
        Parsed(CREATED_MS - 1042, "error", "disk full", "kernel", None, "web-1", 3, 0),
    ]
    return [event(one, **common, path="/var/log/syslog", offset=i, cut=i == 2) for i, one in enumerate(parsed)]


def batch_of(
    topic: str, stream: str, lines: list[bytes], dataset: str, key: str = HOST, tmin: str = TICK, compact: bool = False
) -> Message:
    headers, value = batch.encode(
        HOST_KEY,
        host=HOST,
        topic=topic,
        stream=stream,
        epoch="00f1e2d3c4b5a697",
        seq=4711,
        lines=lines,
        dataset=dataset,
        tmin=tmin,
        tmax=TICK,
        sent=SENT,
        count=topic == NAMES.logs,
        compact=compact,
    )
    return key.encode(), headers, value


def metrics_batch(compact: bool = False) -> Message:
    lines = [
        metric("system.host", **{"system.cpu.total.norm.pct": 0.125, "system.memory.total": 33_567_170_560}),
        metric("system.network", **{"system.network.name": "eth0", "system.network.in.bytes": 9_007_199_254_740_993}),
    ]
    return batch_of(NAMES.metrics, "metrics", lines, "*", compact=compact)


def logs_batch() -> Message:
    lines = log_lines()
    return batch_of(NAMES.logs, "logs", [line for _, line in lines], "system.syslog", tmin=min(t for t, _ in lines))


def state_batch() -> Message:
    inventory = state.Inventory(
        collected=TICK,
        hostname="web-1",
        fqdn="web-1.example.com",
        os_name="Debian GNU/Linux",
        os_version="12",
        os_family="debian",
        kernel="6.1.0-28-amd64",
        architecture="x86_64",
        vendor="Dell Inc.",
        model="PowerEdge R650",
        serial="ABC1234",
        bios_version="1.12.1",
        virtualization="none",
        cpu_model="Intel(R) Xeon(R) Gold 5318Y",
        cpu_sockets=2,
        cpu_physical=48,
        cpu_logical=96,
        memory=270_085_218_304,
        swap=0,
        disk_total=1_920_383_410_176,
        boot_time="2026-10-01T00:00:00.000Z",
        timezone="Asia/Seoul",
        agent_version="0.1.0",
        fingerprint="9f86d081884c7d65",
        packages=412,
        nics=[
            state.Nic(
                "eth0",
                "00-00-5E-00-53-23",
                [state.Address("192.0.2.10", 24), state.Address("2001:db8::10", 64)],
                1500,
                25_000,
                True,
            )
        ],
        disks=[state.Disk("sda", 1_920_383_410_176, "MZ7L31T9", "S6ES", False)],
    )
    status = state.AgentStatus(TICK, "0.1.0", "2026-11-24T08:00:00.000Z", 4096, 12, 4700, 3, 41_943_040, 0.4)
    return batch_of(NAMES.state, "state", [state.encode(inventory), state.encode(status)], "ezadmin.state")


def jobs_batch() -> Message:
    documents: list[jobs.JobDocument] = [
        jobs.JobState(RUN, 1, "running", TICK),
        jobs.JobMilestone(RUN, 1, 2, TICK, "복사 끝", 5),
        jobs.JobOutput(RUN, 1, "stdout", 0, "aGVsbG8K", True),
        jobs.JobState(RUN, 1, "failed", TICK, "exit code", 3),
    ]
    return batch_of(NAMES.jobs, "jobs", [jobs.encode(one) for one in documents], "ezadmin.jobs", RUN + HOST)


def config_host() -> Message:
    record = config.HostRecord(
        "web-1",
        labels={"site": "서울", "rack": "A-12"},
        groups=["web", "prod"],
        limits=["cpu"],
        keys=[
            config.HostKey(HOST_KEY.kid, HOST_KEY.public.hex()),
            config.HostKey(CONFIG_KEY.kid, CONFIG_KEY.public.hex(), revoked=True),
        ],
    )
    return config.encode(CONFIG_KEY, config.host_key(HOST), 12, record)


def config_rules() -> Message:
    rules = [
        config.Rule(
            "r-1",
            "ignore",
            config.Match(
                ["debug"], [HOST], ["system.syslog"], {"site": "서울"}, {"process.name": "cron"}, "session", "^a"
            ),
            {},
            "2026-12-01T00:00:00.000Z",
        ),
        config.Rule("r-2", "set_level", config.Match(contains="OOM"), {"level": "critical"}),
    ]
    return config.encode(CONFIG_KEY, config.RULES_KEY, 3, config.RulesRecord(rules))


def config_limit() -> Message:
    values = (0.8, 0.75, 0.95, 0.9)
    record = config.LimitRecord(
        "system.filesystem.used.pct", "/var*", *values, 300, 3, 5, True, "system.filesystem", "above", 600
    )
    return config.encode(CONFIG_KEY, config.limit_key("disk"), 1, record)


def decoded(message: Message, topic: str) -> batch.Batch:
    key, headers, value = message
    return batch.decode(topic, key, headers, value, lambda host, kid: VerifyKey(HOST_KEY.public))


def of_letter(letter: Outgoing) -> Message:
    return letter.key, letter.headers, letter.value


def letter_message() -> Message:
    key, headers, value = logs_batch()
    error = "the signature is not that of host"
    return of_letter(message_letter(NAMES.logs, 3, 99, key, headers, value, "bad_signature", error))


def letter_line() -> Message:
    found = decoded(logs_batch(), NAMES.logs)
    return of_letter(line_letter(NAMES.logs, 3, 99, 1, found, found.lines()[1], "bad_line", "not JSON"))


def a_rollup() -> tuple[rollups.Key, dict[str, Any]]:
    key = rollups.keys_of(TICK[:16], HOST, "system.syslog", "error")[0]
    counts = rollups.Counts(seen=5, ignored=1, sampled=1, dead=1, bytes=640)
    host = {"host.name": "web-1", "labels": {"site": "서울"}}
    return key, rollups.document(key, counts, NAMES.logs, 3, host)


def letter_rollup() -> Message:
    key, document = a_rollup()
    identity = rollups.document_id(key, NAMES.logs, 3, "7")
    return of_letter(
        rollup_letter(identity, rollups.index_of(key, NAMES), document, "index_closed_exception", "closed")
    )


def alert_documents() -> list[dict[str, Any]]:
    members = {"host.name": "web-1", "labels": {"site": "서울"}}
    raised = alerts.alert(
        alerts.THRESHOLD,
        HOST,
        members,
        time=TICK,
        rule="disk",
        item="/var",
        state="critical",
        previous="warning",
        reason="value",
        field="system.filesystem.used.pct",
        message="system.filesystem.used.pct of /var is 0.96: critical from 0.95",
        value=0.96,
        limit=0.95,
    )
    surge = Change(
        HOST,
        "app",
        "error",
        over=True,
        start="2026-11-24T08:15:00.000Z",
        end="2026-11-24T08:19:59.999Z",
        peak=4200,
        budget=600,
        usual=12.25,
        seen=16_000,
        withheld=13_000,
        templates=[{"template": "payment * failed", "count": 13_400, "example": "payment 4711 failed"}],
    )
    return [raised, surge.alert(members)]


def letter_alert() -> Message:
    document = alert_documents()[0]
    return of_letter(alerts.letter(document, NAMES.alerts_index(TICK), "index_closed_exception", "closed"))


def alert_message() -> Message:
    return of_letter(alerts.message(alert_documents()[0]))


MESSAGES: dict[str, Callable[[], Message]] = {
    "batch-metrics": metrics_batch,
    "batch-metrics-compact": lambda: metrics_batch(compact=True),
    "batch-logs": logs_batch,
    "batch-state": state_batch,
    "batch-jobs": jobs_batch,
    "config-host": config_host,
    "config-rules": config_rules,
    "config-limit": config_limit,
    "dead-letter-message": letter_message,
    "dead-letter-line": letter_line,
    "dead-letter-rollup": letter_rollup,
    "dead-letter-alert": letter_alert,
    "alert": alert_message,
}


def bulk(message: Message, topic: str) -> list[Any]:
    """What the pipeline writes into Elasticsearch for a batch: action lines and documents."""
    directory = Directory([VerifyKey(CONFIG_KEY.public)])
    directory.take(*config_host())
    found = decoded(message, topic)
    chunk = Chunk(None, 0, fresh=False, context=found)  # type: ignore[arg-type]
    maker = DocumentMaker(NAMES, directory, lambda: datetime(2026, 11, 24, 8, 15, 31, tzinfo=UTC))
    assert maker.make(chunk, found, [(found.seq, found.seq + found.n)]) == []
    return [
        [json.loads(action), json.loads(document)]
        for action, document in zip(chunk.actions, chunk.documents, strict=True)
    ]


def commit_record() -> Any:
    key, full = a_rollup()
    pending = PendingRollup(rollups.document_id(key, NAMES.logs, 3), rollups.index_of(key, NAMES), full, full)
    seen = {f"{HOST}/logs/00f1e2d3c4b5a697": [[0, 4711], [4714, 4720]]}
    record = CommitRecord(NAMES.logs, 3, "2yRGrTLRQ9Wk2J0vPAqVsg", 7, 100, seen, [pending], alert_documents()[:1], 3)
    return {**json.loads(record.to_json()), "saved": SENT}


DOCUMENTS: dict[str, Callable[[], Any]] = {
    "documents-logs": lambda: bulk(logs_batch(), NAMES.logs),
    "documents-metrics": lambda: bulk(metrics_batch(), NAMES.metrics),
    "documents-rollup": lambda: [rollups.document_id(a_rollup()[0], NAMES.logs, 3), a_rollup()[1]],
    "documents-alert": lambda: [[alerts.identity(document), document] for document in alert_documents()],
    "documents-commit-record": commit_record,
}


def written(message: Message) -> str:
    """A message as text: header values and value as they are, only the signatures in hex."""
    key, headers, value = message
    table = {
        "key": None if key is None else key.decode(),
        "headers": [[name, data.hex() if name.endswith("sig") else data.decode()] for name, data in headers],
        "value": value.hex() if dict(headers).get("v") == batch.COMPACT.encode() else value.decode(),
    }
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def read(name: str) -> Message:
    """The message in a golden file, with the bytes it had."""
    table = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    headers = [
        (header, bytes.fromhex(text) if header.endswith("sig") else text.encode()) for header, text in table["headers"]
    ]
    compact = dict(headers).get("v") == batch.COMPACT.encode()
    value = bytes.fromhex(table["value"]) if compact else table["value"].encode()
    return None if table["key"] is None else table["key"].encode(), headers, value


def compare(name: str, text: str) -> None:
    path = FOLDER / f"{name}.json"
    if os.environ.get("EZADMIN_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert path.read_text("utf-8") == text, f"{name} is not what it was; see the docstring of {Path(__file__).name}"


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_are_what_they_were(name: str) -> None:
    message = MESSAGES[name]()
    compare(name, written(message))
    key, headers, value = message
    assert read(name) == (key, list(headers), value), "the file holds every byte"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_what_they_were(name: str) -> None:
    compare(name, json.dumps(DOCUMENTS[name](), indent=1, ensure_ascii=False) + "\n")


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {*MESSAGES, *DOCUMENTS}


@pytest.mark.parametrize("topic", ["metrics", "logs", "state", "jobs"])
def test_golden_batches_are_read(topic: str) -> None:
    name = f"{NAMES.prefix}.{topic}"
    found = decoded(read(f"batch-{topic}"), name)
    assert (found.host, found.seq, found.sent) == (HOST, 4711, SENT)
    for line in found.lines():
        if topic == "state":
            state.decode(line)
        elif topic == "jobs":
            jobs.decode(line)
        else:
            assert json.loads(line)["event.created"] == CREATED
    assert found.levels == ({"info": 1, "error": 1, "unknown": 1} if topic == "logs" else {})


def test_a_compact_batch_is_read_as_what_it_holds() -> None:
    """Made by an earlier version: whoever changes the dictionary under the same ``v`` finds out here."""
    compact = read("batch-metrics-compact")
    assert len(compact[2]) < len(read("batch-metrics")[2]) / 3
    found, plain = (decoded(message, NAMES.metrics) for message in (compact, read("batch-metrics")))
    assert found == plain


def test_golden_config_records_are_read() -> None:
    trusted = [VerifyKey(CONFIG_KEY.public)]
    host, rules, limit = (config.decode(*read(f"config-{kind}"), trusted).record for kind in ("host", "rules", "limit"))
    assert isinstance(host, config.HostRecord)
    assert isinstance(rules, config.RulesRecord)
    assert isinstance(limit, config.LimitRecord)
    assert [key.revoked for key in host.keys] == [False, True]
    assert [rule.action for rule in rules.rules] == ["ignore", "set_level"]
    assert limit.critical_raise == 0.95


def test_a_golden_message_letter_holds_the_message() -> None:
    _, headers, value = read("dead-letter-message")
    original = [(name[5:], data) for name, data in headers if name.startswith("orig.") and name != "orig.key"]
    assert (dict(headers)["orig.key"], original, value) == read("batch-logs")

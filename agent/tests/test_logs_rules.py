"""Levels, formats, filters, multi-line events, encodings, the surge ladder: what becomes of every line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Optional

import pytest

from ezadmin_agent.logs.builder import Builder, Patterns
from ezadmin_agent.logs.fields import FIELDS
from ezadmin_agent.logs.file import FileSource
from ezadmin_agent.logs.patterns import pattern_of
from ezadmin_agent.logs.source import CALM, MAX_LINE, Counts, Mode
from ezadmin_agent.logs.surge import Ladder
from ezadmin_wire.batch import count_levels
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.logs.levels import level_of, level_of_field
from ezadmin_wire.logs.parse import Parser
from ezadmin_wire.logs.patterns import PatternError, compile_safe
from ezadmin_wire.logs.rules import Multiline, RuleConfig, Rules

NOW_MS = 1_795_508_130_000  # 2026-11-24T08:15:30Z


def build(lines: list[str], config: RuleConfig, mode: Mode = CALM) -> tuple[list[dict[str, Any]], Counts]:
    counts = Counts()
    builder = Builder(
        Rules(config), Parser(False), Patterns(), counts, dataset="app", now_ms=NOW_MS, mode=mode, path="/x"
    )
    for line in lines:
        assert builder.add(line.encode(), 0)
    found = [json.loads(line) for line in builder.batch(None, False).lines]
    known = {field.name for field in FIELDS}
    assert all(document.keys() <= known for document in found)
    return found, counts


def total(found: list[dict[str, Any]], counts: Counts) -> int:
    return sum(d.get("event.count", 1) for d in found) + counts.filtered + counts.sampled + counts.dropped


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("E1124 08:15:30.123456   1 kubelet.go:12] boom", "error"),
        ("W1124 08:15:30.123456   1 kubelet.go:12] hm", "warning"),
        ("I1124 08:15:30.123456   1 kubelet.go:12] error free", "info"),
        ("F1124 08:15:30.123456   1 kubelet.go:12] gone", "critical"),
        ("E1124 is a part number", None),
        ("SEVERE: Servlet failed", "error"),
        ("FINE: entering", "debug"),
        ("ALL FINE", None),
        ("2026-11-24 08:15:30,123 - app - CRITICAL - out of memory", "critical"),
        ("WARNING:root:low", "warning"),
        ("2026/11/24 08:15:30 [crit] 12#0: *1 connect() failed", "critical"),
        ("2026/11/24 08:15:30 [emerg] 12#0: bind() failed", "emergency"),
        ("2026/11/24 08:15:30 [warn] 12#0: x", "warning"),
        ("2026/11/24 08:15:30 [notice] 12#0: start", "notice"),
        ("2026-11-24 08:15:30.123  INFO 1 --- [main] o.s.Boot : up", "info"),
        ("2026-11-24 08:15:30.123 TRACE x", "trace"),
    ],
)
def test_levels_of_lines(line: str, level: Optional[str]) -> None:
    assert level_of(line) == level
    masked = line.translate(str.maketrans("123456789", "0" * 9))
    assert level_of(masked) == level, "no digit has a say in the level"


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ("WARN", "warning"),
        ("Informational", "info"),
        (3, "error"),
        ("7", "debug"),
        (30, "info"),
        (60, "critical"),
        ("E", "error"),
        ("panic", "emergency"),
        ("loud", None),
        (True, None),
        (None, None),
        (55, None),
        ("1" * 5000, None),
    ],
)
def test_levels_of_fields(value: Any, level: Optional[str]) -> None:
    assert level_of_field(value) == level
    assert level is None or level in LEVELS


def test_json_fields() -> None:
    line = {"ts": 1795508129.5, "level": "warn", "msg": "slow", "took": 12.5, "http": {"status": 200}, "ok": True}
    line |= {"log.level": "x", "": 1, "half": "\ud800", "nul\x00": "v", "logger": "db"}
    (document,), _ = build([json.dumps(line)], RuleConfig(parse="json"))
    assert document["@timestamp"] == "2026-11-24T08:15:29.500Z"
    assert (document["log.level"], document["message"], document["log.logger"]) == ("warning", "slow", "db")
    assert document["fields"] == {"took": "12.5", "http.status": "200", "ok": "true", "half": "?", "nul": "v"}


def test_a_field_named_like_the_level_does_not_spoil_the_counts() -> None:
    counts = Counts()
    builder = Builder(
        Rules(RuleConfig(parse="json")), Parser(False), Patterns(), counts, dataset="app", now_ms=NOW_MS, mode=CALM
    )
    builder.add(b'{"log.level":"strange","level":"error","a":{"log.level":"x"},"msg":"m"}')
    (line,) = builder.batch(None, False).lines
    assert count_levels(line + b"\n") == {"error": 1}


def test_json_is_bounded_and_what_is_no_json_stays() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = {"d": deep}
    found, _ = build(
        [
            json.dumps({f"k{i}": "v" * 1100 for i in range(70)}),
            json.dumps({"deep": deep}),
            "{broken",
            "[1]",
            "[" * 5000,
        ],
        RuleConfig(parse="json"),
    )
    assert len(found[0]["fields"]) == 64
    assert {len(value) for value in found[0]["fields"].values()} == {1024}
    assert all("fields" not in document for document in found[2:])
    assert found[2]["message"] == "{broken"


def test_kv_and_regex_fields() -> None:
    (document,), _ = build(
        ['ts=2026-11-24T08:15:00Z lvl=error msg="it \\"broke\\"" user=kim n=3'], RuleConfig(parse="kv")
    )
    assert (document["@timestamp"], document["log.level"]) == ("2026-11-24T08:15:00.000Z", "error")
    assert (document["message"], document["fields"]) == ('it "broke"', {"user": "kim", "n": "3"})
    pattern = r"^(?P<when>\S+) (?P<sev>\w) (?P<message>.*) by (?P<user>\w+)$"
    config = RuleConfig(parse=pattern, time_field="when", level_field="sev")
    found, _ = build(["2026-11-24T08:15:00Z W changed by lee", "other"], config)
    assert (found[0]["message"], found[0]["log.level"], found[0]["fields"]) == ("changed", "warning", {"user": "lee"})
    assert found[1]["message"] == "other"


def test_filters_in_their_order_and_counted() -> None:
    config = RuleConfig(
        min_level="info",
        include=("app", "secret"),
        exclude=("health",),
        mask=((r"secret=\S+", "secret=***"), (r"\d{4}-\d{4}", "****")),
    )
    lines = ["app health", "other", "app DEBUG x", "app secret=abc ok 1234-5678", "ERROR app", "app plain"]
    found, counts = build(lines, config)
    assert [d["message"] for d in found] == ["app secret=*** ok ****", "ERROR app", "app plain"]
    assert (counts.read, counts.kept, counts.filtered) == (6, 3, 3)


def test_what_a_mask_cannot_look_at_does_not_leave() -> None:
    (document,), _ = build(["x" * 9000 + " secret=abc"], RuleConfig(mask=((r"secret=\S+", "***"),)))
    assert "secret" not in document["message"]
    assert document["log.truncated"] is True


def test_sample_keeps_errors() -> None:
    lines = [f"INFO {i}" for i in range(100)] + [f"ERROR {i}" for i in range(7)]
    found, counts = build(lines, RuleConfig(sample=10))
    assert [d["message"] for d in found if d["log.level"] == "info"] == [f"INFO {i}" for i in range(0, 100, 10)]
    assert sum(d["log.level"] == "error" for d in found) == 7
    assert (counts.sampled, total(found, counts)) == (90, 107)


@pytest.mark.parametrize("text", ["(a+)+b", "(a|a)*b", ".*.*.*x", r"(\w+\s?)*$", "(?:x*)*", "(", "a" * 3000, "(.*)*"])
def test_an_expression_that_could_stall_is_refused(text: str) -> None:
    begin = time.thread_time()
    with pytest.raises(PatternError):
        compile_safe(text)
    assert time.thread_time() - begin < 5


@pytest.mark.parametrize(
    "text",
    [
        r"password=\S+",
        r"^\d{4}-\d{2}-\d{2}",
        r'^(\S+) (\S+) \[([^\]]+)\] "([^"]*)"',
        "GET /health",
        r"(\d{1,3}\.){3}\d{1,3}",
    ],
)
def test_usual_expressions_are_taken(text: str) -> None:
    assert compile_safe(text)


def test_patterns() -> None:
    same = {
        pattern_of(line)
        for line in (
            b"10.0.0.1:80 took 12 ms id 123e4567-e89b-12d3-a456-426614174000 at 0x7ffe",
            b"192.168.100.22:8080 took 3 ms id 00000000-e89b-12d3-a456-426614174fff at 0xdeadbeef",
        )
    }
    assert len(same) == 1
    assert pattern_of(b"user kim signed in") != pattern_of(b"user lee signed in")


@pytest.mark.parametrize("config", [RuleConfig(), RuleConfig(parse="kv"), RuleConfig(exclude=("drop me",), sample=3)])
def test_repeats_collapse_with_exact_counts_and_errors_stay_whole(config: RuleConfig) -> None:
    lines = []
    for i in range(3000):
        lines.append(f"2026-11-24T08:15:{i // 100:02d}Z INFO request {i} from 10.0.{i % 256}.1")
        if i % 10 == 0:
            lines.append(f"2026-11-24T08:15:30Z ERROR request {i} failed")
        if i % 100 == 0:
            lines.append(f"2026-11-24T08:15:30Z WARN drop me {i}")
    found, counts = build(lines, config, Mode(collapse=True))
    assert total(found, counts) == counts.read == len(lines)
    assert counts.kept + counts.folded + counts.filtered + counts.sampled == counts.read
    assert [d["message"] for d in found if d["log.level"] == "error"] == [line for line in lines if "ERROR" in line]
    assert len(found) < 310
    (info,) = [d for d in found if d["log.level"] == "info"]
    if config == RuleConfig():
        assert info["event.count"] == 3000
        assert (info["event.start"], info["event.end"]) == ("2026-11-24T08:15:00.000Z", "2026-11-24T08:15:29.000Z")
        assert len(info["log.pattern.hash"]) == 16


def test_syslog_priorities_are_not_collapsed_together() -> None:
    counts = Counts()
    builder = Builder(
        Rules(RuleConfig()), Parser(True), Patterns(), counts, dataset="s", now_ms=NOW_MS, mode=Mode(collapse=True)
    )
    for pri in ("<11>", "<14>") * 50:
        assert builder.add(f"{pri}Nov 24 08:15:30 h app: text".encode())
    found = [json.loads(line) for line in builder.batch(None, False).lines]
    assert sum(d["log.level"] == "error" for d in found) == 50
    assert [d["event.count"] for d in found if d["log.level"] == "info"] == [50]


def test_shedding_drops_low_levels_and_counts_them() -> None:
    lines = ["DEBUG a", "INFO b", "WARN c", "ERROR d", "none"]
    for shed, left in ((7, 4), (5, 2), (4, 1), (0, 0)):
        found, counts = build(lines, RuleConfig(), Mode(False, shed))
        assert (len(found), counts.dropped) == (left, 5 - left)


def test_ladder() -> None:
    now = [0.0]
    ladder = Ladder(1000, 10_000, 0.5, clock=lambda: now[0])
    assert not ladder.mode("a", 0.0, waits=True).collapse
    ladder.took("a", 10_001)
    assert ladder.mode("a", 0.0, waits=True).collapse
    assert not ladder.mode("b", 0.0, waits=True).collapse
    now[0] = 2.0
    assert ladder.mode("a", 0.0, waits=True).collapse, "not before half of the burst is there again"
    now[0] = 8.0
    assert not ladder.mode("a", 0.0, waits=True).collapse
    assert ladder.mode("b", 0.5, waits=True).collapse
    assert ladder.mode("b", 0.45, waits=True).collapse
    assert not ladder.mode("b", 0.3, waits=True).collapse
    assert [ladder.mode("b", used, waits=False).shed for used in (0.6, 0.75, 0.85, 0.95)] == [9, 7, 5, 4]
    assert ladder.mode("b", 0.95, waits=True).shed == 9


class Now:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def source_of(path: Path, config: RuleConfig, clock: Now, position: Any = None) -> FileSource:
    source = FileSource(path, "app", syslog=False, from_start=True, rules=Rules(config), monotonic=clock)
    source.resume(position)
    return source


def drain(source: FileSource) -> tuple[list[dict[str, Any]], Any]:
    found, position = [], None
    while True:
        batch = source.read()
        found += [json.loads(line) for line in batch.lines]
        position = batch.position or position
        if not batch.more:
            return found, position


TRACE = "Traceback (most recent call last):\n  File x\n    y()\nValueError: z"


@pytest.mark.parametrize(
    "rule", [Multiline(start=r"^\d{4}-"), Multiline(go_on=r"^(?:\s|Traceback|\w+Error)")], ids=["start", "continue"]
)
def test_multiline_with_exact_positions(tmp_path: Path, rule: Multiline) -> None:
    path, clock = tmp_path / "a.log", Now()
    config = RuleConfig(multiline=rule)
    events = [f"2026-11-24 08:15:3{i} ERROR {i}\n{TRACE}" for i in range(4)]
    path.write_text("\n".join(events[:2]) + "\n")
    source = source_of(path, config, clock)
    found, position = drain(source)
    assert [d["message"] for d in found] == events[:1], "the second may go on"
    # killed and begun again in the midst of the second
    source.close()
    source = source_of(path, config, clock, json.loads(json.dumps(position)))
    assert drain(source)[0] == []
    clock.now += 3
    assert [d["message"] for d in drain(source)[0]] == events[1:2], "it waited long enough"
    with path.open("a") as file:
        file.write(events[2] + "\n" + events[3][:10])
        file.flush()
        assert drain(source)[0] == []
        file.write(events[3][10:] + "\n2026-11-24 08:16:00 next\n")
    found, _ = drain(source)
    assert [d["message"] for d in found] == events[2:]
    assert found[0]["log.offset"] == len(("\n".join(events[:2]) + "\n").encode())


def test_multiline_is_bounded(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.log", Now()
    path.write_text("start\n" + " more\n" * 1000 + f" {'x' * 70_000}\n" + f" {'y' * 1000}\n" * 200 + "end\nend\n")
    source = source_of(path, RuleConfig(multiline=Multiline(go_on=r"^ ", max_lines=100)), clock)
    found, _ = drain(source)
    assert all(len(d["message"].encode()) <= MAX_LINE and d["message"].count("\n") < 100 for d in found)
    assert sum(d["message"].count("\n") + 1 for d in found) == 1 + 1000 + 1 + 200 + 1
    assert sum(d.get("log.truncated", False) for d in found) == 1


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr"])
def test_korean_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.log"
    path.write_bytes("오류: 디스크가 가득 찼습니다\n[error] 둘\n".encode(encoding) + b"\xff\n")
    found, _ = drain(source_of(path, RuleConfig(encoding=encoding), Now()))
    assert [d["message"] for d in found] == ["오류: 디스크가 가득 찼습니다", "[error] 둘", "\ufffd"]


def test_counts_are_exact_over_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"INFO {i}\n" for i in range(1200)))
    config = RuleConfig(sample=7)
    source = source_of(path, config, Now())
    first = source.read()
    found = [json.loads(line) for line in first.lines]
    source.read()  # never came into the spool
    source.close()
    again = source_of(path, config, Now(), json.loads(json.dumps(first.position)))
    found += drain(again)[0]
    assert [d["message"] for d in found] == [f"INFO {i}" for i in range(0, 1200, 7)]
    assert (again.counts.read, again.counts.kept + again.counts.sampled) == (1200, 1200)

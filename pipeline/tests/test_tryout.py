"""``try``: what rules would do, told without doing it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from ezadmin_pipeline.directory import Directory, Host
from ezadmin_pipeline.rules import RuleSet
from ezadmin_pipeline.settings import Settings, SurgeSettings
from ezadmin_pipeline.tryout import Fate, Reader, Trial, read_rules
from ezadmin_wire import WireError
from ezadmin_wire import batch as wire
from ezadmin_wire.config import HostRecord, Match, Rule, RulesRecord
from ezadmin_wire.signing import SigningKey

HOST = "00000000-0000-4000-8000-00000000000a"
SETTINGS = Settings(signatures="off")
KEY = SigningKey.generate()
WHEN = "2026-11-24T08:15:30.000Z"
RULES = [
    Rule("keep", "exempt", Match(contains="audit")),
    Rule("noise", "filter", Match(contains="noise")),
    Rule("pin", "mask", Match(), {"pattern": "[0-9]+", "replacement": "*"}),
]


def line(message: str) -> bytes:
    fields = {"@timestamp": WHEN, "event.created": WHEN, "event.dataset": "app", "message": message}
    return orjson.dumps(fields)


def batch_of(*lines: bytes, seq: int = 0) -> wire.Batch:
    headers, value = wire.encode(
        KEY,
        host=HOST,
        topic=SETTINGS.names.logs,
        stream="logs",
        epoch="0" * 16,
        seq=seq,
        lines=lines,
        dataset="app",
        tmin=WHEN,
        tmax=WHEN,
        sent=WHEN,
    )
    return wire.decode(SETTINGS.names.logs, HOST.encode(), headers, value, None)


def reader(in_force: list[Rule], tried: list[Rule]) -> Reader:
    directory = Directory([])
    directory._hosts[HOST] = Host(HOST, HostRecord(name="web-1"))
    directory.rules = RulesRecord(in_force)
    return Reader(SETTINGS, directory, RuleSet(RulesRecord(tried)))


LINES = [line("noise 1"), line("audit noise 2"), line("quiet"), line("x")[:-1] + b',"host.id":"y"}', line("1")]


def test_each_line_is_told_once_by_the_rules_that_are_tried() -> None:
    tried = reader([Rule("all", "filter", Match(hosts=["*"]))], RULES)
    fates: list[Fate] = sorted(tried.judge(batch_of(*LINES)), key=lambda fate: fate.id)
    assert [(fate.fate, fate.rules) for fate in fates] == [
        ("dead", []),
        ("dropped", ["noise"]),
        ("changed", ["keep", "pin"]),
        ("kept", []),
        ("changed", ["pin"]),
    ]
    assert [(fate.time, fate.minute, fate.level) for fate in fates[1:]] == [(WHEN, WHEN[:16], "unknown")] * 4
    assert fates[2].before["message"] == "audit noise 2"
    assert fates[2].after["message"] == "audit noise *"
    assert [len(fate.id) for fate in fates[1:]] == [13] * 4
    assert list(tried.judge(batch_of(*LINES))) == [], "a re-send"
    assert len(list(tried.judge(batch_of(*LINES, seq=3)))) == 3


def test_the_report_says_what_each_rule_did() -> None:
    rules = RuleSet(RulesRecord([*RULES, Rule("idle", "filter", Match(contains="never")), Rule("bad", "filter")]))
    trial = Trial()
    for number in range(5):
        for fate in reader([], RULES).judge(batch_of(*LINES, seq=number)):
            trial.add(fate)
    report = list(trial.report(rules))
    assert report[0] == "25 lines: 15 kept (10 of them changed), 5 dropped, 5 dead letters"
    assert "noise  filter  5 lines" in report
    assert report.count(f"    {WHEN}  web-1  unknown  noise 1") == 3
    assert "      message: 1 -> *" in report
    assert "idle  filter  0 lines" in report
    assert report[-1].startswith("left out: rule 'bad'")


def test_surges_are_told_as_far_as_lines_alone_tell_them() -> None:
    trial = Trial()
    for number in range(4):
        for fate in reader([], RULES).judge(batch_of(*LINES, seq=number)):
            trial.add(fate)
    assert list(trial.surges(SurgeSettings(on=False))) == ["surges: off in the settings"]
    (quiet,) = trial.surges(SurgeSettings())
    assert "all would be stored" in quiet
    told = list(trial.surges(SurgeSettings(floor=5)))
    assert "surges: 7 lines are above the floor" in told[0]
    assert "cannot be told from these lines" in told[0]
    assert told[1:] == [f"    {WHEN[:16]}  web-1  app/unknown: 12 lines, the floor is 5"]


def test_a_file_of_rules_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    with pytest.raises(WireError, match="cannot read"):
        read_rules(file)
    for text, message in (("{", "not JSON"), ('{"rules":[{"id":"a"}]}', "action: missing"), ("[]", "an object")):
        file.write_text(text)
        with pytest.raises(WireError, match=f"rules.json: .*{message}"):
            read_rules(file)
    file.write_text('{"rules":[{"id":"a","action":"exempt"}]}')
    assert read_rules(file) == RulesRecord([Rule("a", "exempt")])

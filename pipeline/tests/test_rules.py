"""Rules: what they match, what they do to an event, and that nothing a user or a host writes can break or stall them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ezadmin_pipeline.directory import Directory, Host
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.indexer import Chunk
from ezadmin_pipeline.rules import BadRule, CompiledRule, RuleSet, wildcard
from ezadmin_wire import WireError
from ezadmin_wire import batch as wire
from ezadmin_wire.config import HostRecord, Match, Rule, RulesRecord
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.names import Names
from ezadmin_wire.rules import check_rules, compile_expression
from ezadmin_wire.signing import SigningKey

HOST = "00000000-0000-4000-8000-00000000000a"
NAMES = Names()
KEY = SigningKey.generate()
LATER = "2027-01-01T00:00:00.000Z"


def line(message: Any = "hello", level: str = "info", time: str = "2026-11-24T08:15:30.000Z", **more: Any) -> bytes:
    fields = {"@timestamp": time, "event.created": time, "event.dataset": "app", "log.level": level, "message": message}
    return orjson.dumps(fields | more)


def batch_of(*lines: bytes, topic: str = NAMES.logs, dataset: str = "app") -> wire.Batch:
    headers, value = wire.encode(
        KEY,
        host=HOST,
        topic=topic,
        stream="logs",
        epoch="0" * 16,
        seq=7,
        lines=lines,
        dataset=dataset,
        tmin="2026-11-24T08:15:30.000Z",
        tmax="2026-11-24T08:15:30.000Z",
        sent="2026-11-24T08:15:31.000Z",
        count=topic == NAMES.logs,
    )
    return wire.decode(topic, HOST.encode(), headers, value, None)


class Run:
    """What became of lines under rules."""

    def __init__(self, rules: list[Rule], *lines: bytes, **batch: Any) -> None:
        directory = Directory([])
        directory._hosts[HOST] = Host(HOST, HostRecord(name="web-1", labels={"site": "seoul"}, groups=["shop", "web"]))
        directory.rules = RulesRecord(rules)
        found = batch_of(*lines, **batch)
        self.chunk = Chunk(None, 0, fresh=False, context=found)  # type: ignore[arg-type]
        maker = DocumentMaker(NAMES, directory, lambda: datetime(2026, 11, 24, 8, 15, 31, tzinfo=UTC))
        self.bad = maker.make(self.chunk, found, [(7, 7 + len(lines))])
        self.hits = dict(maker.hits)
        self.refused = maker.rules.refused
        self.stored = [orjson.loads(document) for document in self.chunk.documents]
        assert {
            len(part) for part in (self.chunk.indices, self.chunk.actions, self.chunk.numbers, self.chunk.tags)
        } == {len(self.stored)}
        assert len(self.stored) + len(self.chunk.ignored) + len(self.bad) == len(lines)


def ignored(match: Match, *lines: bytes, expires: str = LATER) -> list[bool]:
    """Per line, whether a rule with ``match`` leaves it out; hits and the rest of the lines are checked on the way."""
    run = Run([Rule("r", "ignore", match, {}, expires)], *lines)
    assert not run.refused
    assert run.hits.get("r", 0) == len(run.chunk.ignored)
    return [number not in run.chunk.numbers for number in range(len(lines))]


@pytest.mark.parametrize(
    ("match", "yes"),
    [
        (Match(levels=["debug", "info"]), True),
        (Match(levels=["error"]), False),
        (Match(hosts=[HOST]), True),
        (Match(hosts=["db-*", "web-?"]), True),
        (Match(hosts=["web"]), False),
        (Match(datasets=["a*"]), True),
        (Match(datasets=["b*"]), False),
        (Match(labels={"site": "se*l"}), True),
        (Match(labels={"rack": "*"}), False),
        (Match(labels={"group": "web"}), True),
        (Match(labels={"group": "db*"}), False),
        (Match(fields={"process.name": "cron"}), True),
        (Match(fields={"process.name": "cron", "process.pid": "81*"}), True),
        (Match(fields={"process.name": "cro"}), False),
        (Match(fields={"process.pid": "812"}), True),
        (Match(fields={"process.pid": "8*2"}), True),
        (Match(fields={"fields.ok": "true"}), True),
        (Match(fields={"fields.user.name": "kim"}), True),
        (Match(fields={"fields.user": "kim"}), False),
        (Match(fields={"tags": "b"}), True),
        (Match(fields={"nothing.there": "*"}), False),
        (Match(contains='a "quoted"'), True),
        (Match(contains="한글/"), True),
        (Match(contains="A "), False),
        (Match(regex="^say a"), True),
        (Match(regex="(?i)QUOTED.*[가-힣]{2}/$"), True),
        (Match(regex="^a"), False),
        (Match(levels=["info"], contains="quoted", regex="^x"), False),
    ],
)
def test_what_a_rule_matches(match: Match, yes: bool) -> None:
    more = {"process.name": "cron", "process.pid": 812, "tags": ["a", "b"]}
    fields = {"ok": True, "user": {"name": "kim"}}
    raw = line('say a "quoted" 한글/', **more, fields=fields)
    escaped = raw.replace("한글/".encode(), b"\\ud55c\\uae00\\/").replace(b'"cron"', b'"\\u0063ron"')
    assert orjson.loads(escaped) == orjson.loads(raw)
    assert ignored(match, raw) == [yes]
    assert ignored(match, escaped) == [yes], "the way a host writes its JSON decides nothing"
    assert ignored(match, raw, line("other", "notice", **{"process.name": "x"}))[0] is yes


def test_a_level_written_with_escapes_is_found() -> None:
    raw = line(level="debug").replace(b'"log.level"', b'"log\\u002elevel"')
    assert ignored(Match(levels=["debug"]), raw) == [True]
    assert ignored(Match(levels=["unknown"]), line().replace(b'"log.level":"info",', b"")) == [True]


def test_expiry_is_judged_by_the_events_own_time() -> None:
    lines = [
        line(time=f"2026-11-24T{when}Z") for when in ("08:14:59.999", "08:15:00.000", "08:15:59.000", "08:16:00.000")
    ]
    assert ignored(Match(levels=["info"]), *lines, expires="2026-11-24T08:15:00Z") == [True, False, False, False]
    # the whole minute in which it expires
    assert ignored(Match(levels=["info"]), *lines, expires="2026-11-24T17:15:10+09:00") == [True, True, True, False]


def test_the_first_ignore_or_filter_decides_and_exempt_protects() -> None:
    rules = [
        Rule("keep", "exempt", Match(contains="audit")),
        Rule("mark", "label", Match(levels=["info"]), {"name": "kind", "value": "noise"}),
        Rule("one", "filter", Match(levels=["info"])),
        Rule("two", "filter", Match(levels=["info", "debug"])),
    ]
    run = Run(rules, line("audit"), line("x"), line("y", "debug"), line("z", "error"))
    assert [document["message"] for document in run.stored] == ["audit", "z"]
    assert run.stored[0]["labels"] == {"site": "seoul", "group": ["shop", "web"], "kind": "noise"}
    assert run.hits == {"keep": 1, "mark": 1, "one": 1, "two": 1}
    assert [tag[:2] for tag in run.chunk.ignored] == [("2026-11-24T08:15", "info"), ("2026-11-24T08:15", "debug")]


def test_exempt_does_not_protect_from_what_stands_before_it() -> None:
    rules = [Rule("drop", "filter", Match(levels=["info"])), Rule("keep", "exempt", Match())]
    assert Run(rules, line()).stored == []


def test_levels_labels_and_masks_change_the_document_and_not_the_counting_key() -> None:
    rules = [
        Rule("oom", "set_level", Match(contains="OOM"), {"level": "critical"}),
        Rule("team", "label", Match(), {"name": "site", "value": "busan"}),
        Rule("card", "mask", Match(), {"pattern": r"\b(\d{4})-\d{4}\b", "replacement": r"\1-****"}),
        Rule("user", "mask", Match(), {"pattern": ".+", "replacement": "", "field": "fields.user.name"}),
        Rule("pin", "mask", Match(), {"pattern": "[0-9]", "replacement": "#", "field": "pin"}),
        Rule("unseen", "set_level", Match(levels=["critical"]), {"level": "debug"}),
    ]
    plain, changed = (
        line("한 1234-5678 OOM 1111-2222"),
        line("x", fields={"user": {"name": "kim"}}, pin=[12, "3", None, True]),
    )
    run = Run(rules, plain, changed)
    assert run.stored[0]["message"] == "한 1234-**** OOM 1111-****"
    assert run.stored[0]["log.level"] == "critical", "conditions are judged on what the host sent"
    assert run.chunk.tags[0][:2] == ("2026-11-24T08:15", "info")
    assert run.chunk.tags[0][2] == plain, "dead letters and counts keep the line as it came"
    assert run.stored[1]["fields"] == {"user": {"name": ""}}
    assert run.stored[1]["pin"] == ["##", "#", None, True]
    labels = {"site": "busan", "group": ["shop", "web"]}
    assert all(document["labels"] == labels and document["host.id"] == HOST for document in run.stored)
    assert run.hits == {"oom": 1, "team": 2, "card": 1, "user": 1, "pin": 1}


def test_what_no_rule_changes_is_byte_for_byte_the_same() -> None:
    rules = [
        Rule("a", "mask", Match(), {"pattern": "secret", "replacement": "x"}),
        Rule("b", "set_level", Match(), {"level": "info"}),
        Rule("c", "filter", Match(contains="never")),
    ]
    lines = [line("x", number=1e3), line("neve\u0301r")]
    assert Run(rules, *lines).chunk.documents == Run([], *lines).chunk.documents


def test_headers_and_absent_texts_keep_a_batch_on_the_fast_path() -> None:
    rules = [
        Rule("a", "filter", Match(levels=["error"])),
        Rule("b", "filter", Match(datasets=["x*"])),
        Rule("c", "filter", Match(hosts=["db-*"])),
        Rule("d", "filter", Match(labels={"site": "busan"})),
        Rule("e", "filter", Match(contains="not there")),
        Rule("f", "filter", Match(fields={"process.name": "*cron*"})),
        Rule("g", "exempt", Match()),
    ]
    host = Host(HOST, HostRecord(name="web-1", labels={"site": "seoul"}))
    assert RuleSet(RulesRecord(rules)).plan(batch_of(line()), host, False) is None
    assert RuleSet(RulesRecord()).plan(batch_of(line()), host, False) is None
    for rule, raw in ((rules[0], line(level="error")), (rules[4], line("is not there")), (rules[5], line(cmd="cron"))):
        assert RuleSet(RulesRecord([rule])).plan(batch_of(raw), host, False) is not None


def test_the_host_as_the_cmdb_knows_it_now_decides() -> None:
    rules = RuleSet(RulesRecord([Rule("r", "filter", Match(hosts=["new"]))]))
    batch = batch_of(line())
    assert rules.plan(batch, Host(HOST, HostRecord(name="old")), False) is None
    assert rules.plan(batch, Host(HOST, HostRecord(name="new")), False) is not None


def test_metrics_have_no_rules() -> None:
    run = Run([Rule("r", "filter", Match(hosts=["*"]))], line(), topic=NAMES.metrics, dataset="*")
    assert len(run.stored) == 1


def test_a_line_that_rules_cannot_look_into_is_a_dead_letter() -> None:
    raw = line(17).replace(b"17", b"1e999")  # a number that Elasticsearch may know, and nobody here
    run = Run([Rule("r", "mask", Match(), {"pattern": "secret", "replacement": ""})], raw, line("ok"))
    assert [(seq, error.reason, error.level) for seq, _, error in run.bad] == [(7, "bad_line", "info")]
    assert len(run.stored) == 1


def test_a_bad_rule_is_left_out_and_the_others_stay() -> None:
    run = Run([Rule("bad", "filter", Match(regex="(")), Rule("good", "filter", Match(contains="x"))], line("x"))
    assert run.stored == []
    assert len(run.refused) == 1
    assert "rule 'bad'" in run.refused[0]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule("Upper", "exempt"), "the id"),
        (Rule("r", "ignore", Match(contains="x")), "needs a time"),
        (Rule("r", "filter", Match(contains="x"), {}, LATER), "for good"),
        (Rule("r", "filter"), "every event"),
        (Rule("r", "ignore", Match(contains="x"), {}, "tomorrow"), "expires: not an ISO 8601"),
        (Rule("r", "exempt", Match(levels=["loud"])), "level 'loud'"),
        (Rule("r", "exempt", Match(contains="")), "1 to 500"),
        (Rule("r", "exempt", Match(contains="x" * 501)), "1 to 500"),
        (Rule("r", "exempt", Match(contains="\ud800")), "UTF-8"),
        (Rule("r", "exempt", Match(hosts=["h"] * 101)), "at most 100"),
        (Rule("r", "set_level"), "needs level"),
        (Rule("r", "set_level", Match(), {"level": "loud"}), "level 'loud'"),
        (Rule("r", "set_level", Match(), {"level": "info", "to": "x"}), "knows no to"),
        (Rule("r", "label", Match(), {"name": "Site", "value": "x"}), "label's name"),
        (Rule("r", "mask", Match(), {"pattern": "x", "replacement": "", "field": "host.name"}), "cannot be masked"),
        (Rule("r", "mask", Match(), {"pattern": "x", "replacement": "", "field": "@timestamp"}), "cannot be masked"),
        (Rule("r", "mask", Match(), {"pattern": "x", "replacement": r"\1"}), "0 group"),
        (Rule("r", "mask", Match(), {"pattern": "(", "replacement": ""}), "expression '\\('"),
        (Rule("r", "exempt", Match(regex=r"(a)\1")), "no back-references"),
        (Rule("r", "exempt", Match(regex=r"(?=a)")), "look-around"),
        (Rule("r", "exempt", Match(regex="(a{100}){9}")), "too large"),
    ],
)
def test_wrong_rules_are_named(rule: Rule, text: str) -> None:
    with pytest.raises(BadRule, match=text):
        CompiledRule(rule)


def test_ids_are_there_once() -> None:
    with pytest.raises(WireError, match="twice"):
        check_rules(RulesRecord([Rule("r", "exempt"), Rule("r", "exempt")]))


@pytest.mark.parametrize("expression", [r"(a|aa)*$b", r"(a*)*$b", r"(x+x+)+y", r"(.*)*,(.*)*;", "[ab]*a[ab]{200}c"])
def test_no_expression_stalls_a_worker(expression: str) -> None:
    import random

    rng = random.Random(5)
    texts = ["a" * 250_000, "x" * 250_000, "".join(rng.choice("ab") for _ in range(250_000))]
    begin = time.process_time()
    for text in texts:
        ignored(Match(regex=expression), line(text))
        Run([Rule("m", "mask", Match(), {"pattern": expression, "replacement": "-"})], line(text))
    assert time.process_time() - begin < 20  # a backtracking engine needs longer than the universe has been there


def test_masking_that_would_take_too_long_masks_the_rest_whole() -> None:
    begin = time.process_time()
    # each x is a match of its own, and each one is looked for to the end of the text
    run = Run([Rule("m", "mask", Match(), {"pattern": "x[^y]*y|x", "replacement": "-"})], line("keep " + "x" * 250_000))
    assert time.process_time() - begin < 10
    message = run.stored[0]["message"]
    assert message.startswith("keep --")
    assert "x" not in message


@given(st.text("ab*?.[\\", max_size=8), st.text("ab*?.[\\\n가", max_size=12))
def test_wildcards(pattern: str, text: str) -> None:
    def fits(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return any(fits(p[1:], t[i:]) for i in range(len(t) + 1))
        return bool(t) and (p[0] == "?" or p[0] == t[0]) and fits(p[1:], t[1:])

    assert wildcard(pattern)(text) == fits(pattern, text)


TEXT = st.text(max_size=20) | st.sampled_from(
    ["(a+)+$", "[", "\\C", "\\p{Han}+", "a{500}", "^$", "\\b", "x*", "*", "?*a", "\ud800"]
)
RULES = st.builds(
    Rule,
    id=st.sampled_from(["a", "b", "C"]),
    action=st.sampled_from(["ignore", "filter", "set_level", "mask", "label", "exempt"]),
    match=st.builds(
        Match,
        levels=st.lists(st.sampled_from([*LEVELS, "loud"]), max_size=2),
        hosts=st.lists(TEXT, max_size=1),
        datasets=st.lists(TEXT, max_size=1),
        labels=st.dictionaries(TEXT, TEXT, max_size=1),
        fields=st.dictionaries(st.sampled_from(["message", "a", "a.b", "a.b.c", "log.level"]), TEXT, max_size=2),
        contains=st.none() | TEXT,
        regex=st.none() | TEXT,
    ),
    arguments=st.sampled_from([{}, {"level": "error"}, {"name": "x", "value": "y"}])
    | st.builds(
        lambda pattern, to, field: {"pattern": pattern, "replacement": to, "field": field},
        TEXT,
        TEXT,
        st.sampled_from(["message", "a", "a.b", "event.original"]),
    ),
    expires=st.none() | st.sampled_from([LATER, "2026-01-01T00:00:00Z", "x"]),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(RULES, max_size=4),
    st.lists(st.tuples(VALUES, VALUES, st.sampled_from([*LEVELS, "odd"])), min_size=1, max_size=4),
)
def test_whatever_is_written_every_line_has_one_fate(rules: list[Rule], values: list[Any]) -> None:
    lines = []
    for message, a, level in values:
        raw = orjson.dumps({"message": message if message != 2**63 else 0, "a": a}, option=orjson.OPT_NON_STR_KEYS)
        lines.append(line(level=level)[:-1].replace(b',"message":"hello"', b"") + b"," + raw[1:])
    run = Run(rules, *lines)
    assert not run.bad
    for document in run.chunk.documents:
        assert b"\n" not in document
        assert orjson.loads(document)["host.id"] == HOST
    for rule in rules:
        try:
            check_rules(RulesRecord([rule]))
        except WireError:
            with pytest.raises(BadRule):
                CompiledRule(rule)
        else:
            CompiledRule(rule)


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=30) | st.text("()[]{}*+?|\\.^$a-zP0123,:<>=!", max_size=30))
def test_compiling_gives_an_expression_or_a_reason(text: str) -> None:
    try:
        expression = compile_expression(text)
    except WireError:
        return
    expression.search("한글 abc".encode())

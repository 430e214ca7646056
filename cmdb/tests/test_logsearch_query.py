"""The language of log searches: every tree can be written, every text read or refused with its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ezadmin_cmdb.logsearch import fields as known
from ezadmin_cmdb.logsearch import query as language
from ezadmin_cmdb.logsearch.compile import to_query
from ezadmin_cmdb.logsearch.query import (
    And,
    Between,
    Compare,
    Match,
    Node,
    Not,
    Or,
    QueryError,
    Value,
    leaves,
    parse,
    to_text,
)

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
TEMPLATE = Path(__file__).parents[2] / "es/templates/logs.json"
TEXT = st.text(min_size=1, max_size=12).filter(lambda one: bool(one))
HOSTILE = st.sampled_from(
    [
        "and",
        "or",
        "NOT",
        "to",
        "*",
        '"',
        "\\",
        "(",
        ")",
        "[",
        "]",
        ":",
        "<",
        ">",
        " ",
        "\\*",
        "a b",
        "{",
        "}",
        "é",
        "연결",
    ]
)
PIECE = st.one_of(TEXT, HOSTILE)


def read(text: str) -> Node | QueryError | None:
    try:
        return parse(text)
    except QueryError as error:
        return error


def values() -> st.SearchStrategy[Value]:
    plain = st.builds(lambda one: Value((one,)), PIECE)
    quoted = st.builds(lambda one: Value((one,), True), st.one_of(PIECE, st.just("")))
    wild = st.builds(
        lambda first, middle, last: Value((first, *middle, last)),
        st.one_of(PIECE, st.just("")), st.lists(PIECE, max_size=2), st.one_of(PIECE, st.just("")),
    )  # fmt: skip
    return st.one_of(plain, quoted, wild)


def nodes() -> st.SearchStrategy[Node]:
    bound = st.one_of(
        st.just(Value(("", ""))), st.builds(lambda one, quoted: Value((one,), quoted), PIECE, st.booleans())
    )
    leaf: st.SearchStrategy[Node] = st.one_of(
        st.builds(Match, st.one_of(st.none(), PIECE), values()),
        st.builds(
            Compare,
            PIECE,
            st.sampled_from([">", ">=", "<", "<="]),
            st.builds(lambda one, quoted: Value((one,), quoted), PIECE, st.booleans()),
        ),
        st.builds(Between, PIECE, bound, bound),
    )
    return st.recursive(
        leaf,
        lambda child: st.one_of(
            st.builds(Not, child),
            st.builds(
                lambda found: language._joined(And, found), st.lists(child, min_size=2, max_size=3)
            ),
            st.builds(lambda found: language._joined(Or, found), st.lists(child, min_size=2, max_size=3)),
        ),
        max_leaves=8,
    )  # fmt: skip


@given(nodes())
@example(Match(None, Value(("and",))))
@example(Match("a:b", Value(("", "x", ""))))
@example(Not(Not(Match(None, Value(("",), True)))))
def test_every_tree_is_written_and_read_again(tree: Node) -> None:
    again = read(to_text(tree))
    if isinstance(again, QueryError):
        assert again.key in ("too_many_wildcards", "too_long", "too_deep"), to_text(tree)
    else:
        assert again == tree, to_text(tree)


@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from([*'()[]":<>*\\ ', "and ", "or ", "not ", " to ", "level", "a", "1", "now-1h"])).map(
            "".join
        ),
    )
)
def test_every_text_is_read_or_refused_with_a_place(text: str) -> None:
    tree = read(text)
    if isinstance(tree, QueryError):
        assert 0 <= tree.position <= max(0, len(text) - 1)
        assert tree.length >= 1
        assert tree.position + tree.length <= len(text) + 1
        assert tree.members == {"key": tree.key, "position": tree.position, "length": tree.length}
        return
    for leaf in leaves(tree):
        assert text[leaf.place.position : leaf.place.position + leaf.place.length].strip()
    assert parse(to_text(tree)) == tree


@pytest.mark.parametrize(
    ("text", "key", "position"),
    [
        ("a and", "end", 4), ("(a or b", "unclosed", 0), ('"never', "unclosed", 0), ("a)", "unexpected", 1),
        (": 5", "unexpected", 0), ("level:", "end", 5), ("pid: [1 to 2", "unclosed", 5), ("pid: [1 2]", "no_to", 8),
        ("pid > 1*", "wild_bound", 6), ("and a", "keyword", 0), ('"a": b', "no_field", 0), ("a* : b", "no_field", 0),
        ("a [1 to 2]", "unexpected", 2), ("x\\", "end", 1), ("a" * 2001, "too_long", 2000),
        ("(" * 21 + "a" + ")" * 21, "too_deep", 20), ("not " * 21 + "a", "too_deep", 80),
        (" ".join("a" * 201), "too_many", 400), (" ".join(["a*"] * 13), "too_many_wildcards", 36),
    ],
)  # fmt: skip
def test_what_is_wrong_and_where(text: str, key: str, position: int) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert (caught.value.key, caught.value.position) == (key, position)


@pytest.mark.parametrize(
    ("text", "key", "position"),
    [
        ("a levle: error", "unknown_field", 2), ("process.pid: abc", "value", 13),
        ("process.pid: 99999999999999999999", "value", 13),
        ("event.sample_rate > 2147483648", "value", 20),
        ("log.offset: 1e30", "value", 12), ("source.ip > 10.0.0.0/8", "value", 12),
        ("h " + "a" * 201 + "*", "too_long_pattern", 2),
        ("*a" * 9 + "*", "too_long_pattern", 0), ("연" * 201, "too_long_pattern", 0), ("!!! a", "no_word", 0),
        ("source.ip: 10.0.0.0/99", "value", 11), ("log.truncated: yes", "value", 15), ("@timestamp: soon", "value", 12),
        ("host.name > a", "no_order", 12), ("level > loud", "value", 8), ("error.stack_trace: x", "not_searchable", 0),
        ("process.pid: 1*", "wild", 13), ("labels.rack: *r", "wild", 13), ("(a or (b and nope: x))", "unknown_field", 13),
    ],
)  # fmt: skip
def test_what_no_field_can_mean_and_where(text: str, key: str, position: int) -> None:
    with pytest.raises(QueryError) as caught:
        to_query(parse(text), known.KNOWN, NOW)
    assert (caught.value.key, caught.value.position) == (key, position)
    if key == "unknown_field" and "levle" in text:
        assert "log.level" in caught.value.members["nearest"]


ALLOWED = {
    "bool", "filter", "should", "must_not", "minimum_should_match", "match_all", "match_phrase", "match_phrase_prefix",
    "wildcard", "prefix", "term", "terms", "range", "exists", "field", "query", "value", "max_expansions", "case_insensitive",
    "gt", "gte", "lt", "lte",
}  # fmt: skip


def keys(dsl: Any) -> set[str]:
    if isinstance(dsl, dict):
        return {*dsl, *(one for value in dsl.values() for one in keys(value))}
    return {one for value in dsl for one in keys(value)} if isinstance(dsl, list) else set()


FIELDS = sorted([*known.KNOWN, *known.ALIASES, "labels.rack", "fields.a.b"])
RAW = st.sampled_from([
    '{"script":{"source":"1"}}', '"}},"script":{', "/.*.*.*/", "~0.5", "_id", "_source", "x^9", "+x -y", "*:*", "message:x",
    "${jndi:ldap://x}", "<% %>", "\\u0022", "a?b", "[* TO *]", "{1 TO 2}", "\x00", "\x1b[31m", "a||b", "_exists_:a",
])  # fmt: skip


@given(
    st.one_of(st.none(), st.sampled_from(FIELDS), RAW),
    st.one_of(RAW, TEXT),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_no_text_becomes_structure(field: str | None, text: str, quoted: bool, before: bool, after: bool) -> None:
    segments = (*([""] if before else []), text, *([""] if after else []))
    value = Value((text,), True) if quoted else Value(segments)
    try:
        dsl = to_query(parse(to_text(Match(field, value))), known.KNOWN, NOW)
    except QueryError:
        return
    assert keys(dsl) <= ALLOWED | set(known.KNOWN) | {field}, dsl
    assert field is None or known.find(known.KNOWN, field) is not None, "only fields that there are"
    json.dumps(dsl)


def test_an_asterisk_or_a_question_mark_of_a_value_means_itself() -> None:
    assert to_query(parse("host.name: a\\*b?*"), known.KNOWN) == {"wildcard": {"host.name": {"value": "a\\*b\\?*"}}}
    assert to_query(parse('host.name: "a*"'), known.KNOWN) == {"term": {"host.name": {"value": "a*"}}}
    assert to_query(parse("a?b*"), known.KNOWN)["bool"]["filter"] == [
        {"match_phrase": {"message": {"query": "a"}}},
        {"wildcard": {"message": {"value": "b*", "case_insensitive": True}}},
    ]


def test_the_known_fields_are_those_of_the_template() -> None:
    properties = json.loads(TEMPLATE.read_text())["template"]["mappings"]["properties"]
    assert known.of_mapping(properties) == known.KNOWN
    assert set(known.KNOWN) == set(properties)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("a b", "a and b"), ("a or b c", "a or (b and c)"), ("not a b", "(not a) and b"), ("level: (error or critical)",
         "level: error or level: critical"), ("level: (a b)", "level: a level: b"), ("A AND b", "A and b"), ("((a))", "a"),
        ("level:error", "level : error"), ("a and (b and c)", "a b c"), ("a ** b", "a * b"),
    ],
)  # fmt: skip
def test_two_ways_to_say_the_same(one: str, same: str) -> None:
    assert parse(one) == parse(same) is not None


def test_an_empty_query_means_everything() -> None:
    assert parse("") is None
    assert parse(" \n ") is None
    assert to_query(None, known.KNOWN) == {"match_all": {}}

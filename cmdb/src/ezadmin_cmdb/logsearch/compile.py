"""From the tree of a query to Elasticsearch's language: built here piece by piece, so that no text becomes structure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any

from flask_babel import gettext as _

from ezadmin_cmdb.logsearch import fields as known
from ezadmin_cmdb.logsearch import times
from ezadmin_cmdb.logsearch.fields import Fields, LogField
from ezadmin_cmdb.logsearch.query import And, Between, Compare, Match, Node, Not, Or, Place, QueryError, Value
from ezadmin_wire.levels import LEVELS, UNKNOWN

Dsl = dict[str, Any]
MESSAGE, LEVEL = "message", "log.level"
EXPANSIONS_MAX = 1000
PATTERN_MAX, ASTERISKS_MAX = 200, 8
"""Elasticsearch refuses patterns that are more costly."""
_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_BREAKS = re.compile(r"[^\w*.:',]+", re.UNICODE)
"""What surely parts words in a text: its analyzer keeps dots, colons and the like within a word."""
_OPERATORS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_WIDEST = 1 << 63


def to_query(node: Node | None, fields: Fields, now: datetime | None = None, zone: tzinfo = UTC) -> Dsl:
    """The query that finds what the tree says. ``now``: for relative times; ``zone``: of times that name none.

    Raises QueryError for an unknown field and for a value that is none of its type, with the place of it.
    """
    return {"match_all": {}} if node is None else _Compiler(fields, now or datetime.now(UTC), zone).query(node)


class _Compiler:
    def __init__(self, fields: Fields, now: datetime, zone: tzinfo) -> None:
        self._fields = fields
        self._now = now
        self._zone = zone

    def query(self, node: Node) -> Dsl:
        if isinstance(node, And):
            return {"bool": {"filter": [self.query(one) for one in node.children]}}
        if isinstance(node, Or):
            return _any([self.query(one) for one in node.children])
        if isinstance(node, Not):
            return {"bool": {"must_not": [self.query(node.child)]}}
        if isinstance(node, Match):
            return self._match(node)
        return self._compare(node) if isinstance(node, Compare) else self._between(node)

    def _field(self, name: str, place: Place) -> LogField:
        found = known.find(self._fields, name)
        if found is None:
            raise _unknown(self._fields, name, place)
        if not found.searchable:
            raise QueryError(
                "not_searchable", _("%(field)s is only shown, it cannot be searched.", field=name), place.position,
                len(name),
            )  # fmt: skip
        return found

    def _match(self, node: Match) -> Dsl:
        found = node.value
        if (found.wild or (not found.quoted and _HANGUL.search(found.text))) and (
            len(found.text) > PATTERN_MAX or len(found.segments) > ASTERISKS_MAX + 1
        ):
            text = _("A value with asterisks, or in Korean, has at most %(n)d characters and %(m)d asterisks.", n=PATTERN_MAX,
                     m=ASTERISKS_MAX)  # fmt: skip
            raise QueryError("too_long_pattern", text, found.place.position, found.place.length)
        if node.field is None:
            return _any([_text(MESSAGE, node.value)]) if node.value.anything else _text(MESSAGE, node.value)
        field, value = self._field(node.field, node.place), node.value
        if value.anything:
            return {"exists": {"field": field.name}}
        if field.type == known.TEXT:
            return _text(field.name, value)
        if field.type == known.KEYWORD:
            return _keyword(field.name, value)
        if field.type == known.FLATTENED:
            return _flattened(field.name, value)
        if value.wild:
            raise _wrong("wild", field, value, _("%(field)s takes no asterisk within a value.", field=field.name))
        if field.type == known.DATE:
            first, after = self._time(field, value)
            return _range(field.name, {"gte": first, "lt": after})
        return {"term": {field.name: {"value": self._plain(field, value)}}}

    def _compare(self, node: Compare) -> Dsl:
        field, value = self._field(node.field, node.place), node.value
        if field.name == LEVEL:
            return self._levels(field, node.operator, value)
        if field.type == known.DATE:
            first, after = self._time(field, value)
            bound = after if node.operator in (">", "<=") else first
            return _range(field.name, {"lt" if node.operator in ("<", "<=") else "gte": bound})
        self._ordered(field, value)
        return _range(field.name, {_OPERATORS[node.operator]: self._plain(field, value)})

    def _between(self, node: Between) -> Dsl:
        field = self._field(node.field, node.place)
        bounds: Dsl = {}
        for value, name in ((node.low, "gte"), (node.high, "lte")):
            if value.anything:
                continue
            if field.type == known.DATE:
                first, after = self._time(field, value)
                bounds |= {"gte": first} if name == "gte" else {"lt": after}
            else:
                self._ordered(field, value)
                bounds[name] = self._plain(field, value)
        return _range(field.name, bounds) if bounds else {"exists": {"field": field.name}}

    def _levels(self, field: LogField, operator: str, value: Value) -> Dsl:
        """Levels have an order: ``level >= warning`` is warning and what is worse."""
        levels = LEVELS[: LEVELS.index(UNKNOWN)]
        if value.text not in levels:
            text = _("%(value)s is no level: %(levels)s.", value=value.text, levels=", ".join(levels))
            raise _wrong("value", field, value, text)
        at = levels.index(value.text)
        chosen = {
            ">": levels[:at], ">=": levels[: at + 1], "<": levels[at + 1 :], "<=": levels[at:],
        }[operator]  # fmt: skip
        return {"terms": {field.name: list(chosen)}}

    def _ordered(self, field: LogField, value: Value) -> None:
        if field.type not in (known.NUMBER, known.IP):
            text = _("%(field)s has no order: only numbers, times, addresses and levels have.", field=field.name)
            raise _wrong("no_order", field, value, text)
        if field.type == known.IP and "/" in value.text:
            text = _(
                "A network is written %(field)s: %(value)s; addresses are compared.", field=field.name, value=value.text
            )
            raise _wrong("value", field, value, text)

    def _time(self, field: LogField, value: Value) -> tuple[str, str]:
        try:
            return times.span(value.text, self._now, self._zone)
        except ValueError:
            text = _("%(value)s is no time: write 2026-11-25, 2026-11-25T10:30 or now-2h.", value=value.text)
            raise _wrong("value", field, value, text) from None

    def _plain(self, field: LogField, value: Value) -> Any:
        convert, wanted = _PLAIN[field.type]
        try:
            found = convert(value.text)
        except ValueError:
            text = _("%(value)s is no value of %(field)s, which takes %(wanted)s.", value=value.text, field=field.name,
                     wanted=wanted())  # fmt: skip
            raise _wrong("value", field, value, text) from None
        if field.type == known.NUMBER:
            if not -field.limit <= found < field.limit:
                text = _("%(value)s is too large for %(field)s.", value=value.text, field=field.name)
                raise _wrong("value", field, value, text)
            if field.whole and isinstance(found, float) and found.is_integer():
                return int(found)
        return found


def _number(text: str) -> int | float:
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        whole = int(text)
        if not -_WIDEST <= whole < _WIDEST:
            raise ValueError(text)
        return whole
    if not re.fullmatch(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,2})?", text):
        raise ValueError(text)
    return float(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _address(text: str) -> str:
    found = ipaddress.ip_network(text, strict=False) if "/" in text else ipaddress.ip_address(text)
    if "%" in text:  # a zone, of which Elasticsearch knows nothing
        raise ValueError(text)
    return str(found)


_PLAIN: dict[str, tuple[Callable[[str], Any], Callable[[], str]]] = {
    known.NUMBER: (_number, lambda: _("a number")),
    known.BOOLEAN: (_boolean, lambda: _("true or false")),
    known.IP: (_address, lambda: _("an address or a network")),
}


def _text(field: str, value: Value) -> Dsl:
    """A word, a phrase, or a pattern within words. A Korean word is also found where endings follow or words precede it."""
    if value.anything:
        return {"exists": {"field": field}}
    if value.text.isascii() and not any(one.isalnum() for one in value.text):
        text = _("Text is searched by its words: “%(value)s” has no letter and no digit.", value=value.text)
        raise QueryError("no_word", text, value.place.position, value.place.length)
    if value.quoted:
        return _phrase(field, value.text)
    pieces = [one for one in (piece.strip(".:',") for piece in _BREAKS.split(value.text)) if one.strip("*")]
    if not value.wild:
        if not _HANGUL.search(value.text):
            return {"match_phrase": {field: {"query": value.text}}}
        pieces = [f"*{one}*" for one in pieces]
        # where an analyzer of its own cuts Korean into pairs, the phrase finds parts, and patterns do not
        return _any([{"match_phrase": {field: {"query": value.text}}}, *_all(field, pieces)])
    if not pieces:
        return {"match_phrase": {field: {"query": value.text}}}
    return {"bool": {"filter": [_pattern(field, piece, fold=True) for piece in pieces]}}


def _all(field: str, pieces: list[str]) -> list[Dsl]:
    return [{"bool": {"filter": [_pattern(field, one, fold=True) for one in pieces]}}] if pieces else []


def _phrase(field: str, text: str) -> Dsl:
    if _HANGUL.search(text[-1:]):  # particles and endings follow the last word without a space
        return {"match_phrase_prefix": {field: {"query": text, "max_expansions": EXPANSIONS_MAX}}}
    return {"match_phrase": {field: {"query": text}}}


def _pattern(field: str, text: str, fold: bool) -> Dsl:
    """``text`` with its asterisks; all else means itself. ``fold``: capitals do not matter."""
    if "*" not in text:
        return {"match_phrase": {field: {"query": text}}}
    safe = "*".join(one.replace("\\", "\\\\").replace("?", "\\?") for one in text.split("*"))
    return {"wildcard": {field: {"value": safe, "case_insensitive": fold}}}


def _keyword(field: str, value: Value) -> Dsl:
    if not value.wild:
        return {"term": {field: {"value": value.text}}}
    safe = "*".join(re.sub(r"([\\?*])", r"\\\1", one) for one in value.segments)
    return {"wildcard": {field: {"value": safe}}}


def _flattened(field: str, value: Value) -> Dsl:
    if not value.wild:
        return {"term": {field: {"value": value.text}}}
    if len(value.segments) == 2 and not value.segments[1]:
        return {"prefix": {field: {"value": value.segments[0]}}}
    text = _("%(field)s takes an asterisk only at the end of a value.", field=field)
    raise QueryError("wild", text, value.place.position, value.place.length)


def _range(field: str, bounds: Dsl) -> Dsl:
    return {"range": {field: bounds}}


def _any(queries: list[Dsl]) -> Dsl:
    return {"bool": {"should": queries, "minimum_should_match": 1}}


def _wrong(key: str, field: LogField, value: Value, text: str) -> QueryError:
    return QueryError(key, text, value.place.position, value.place.length)


def _unknown(fields: Fields, name: str, place: Place) -> QueryError:
    meant = known.nearest(fields, name)
    if meant:
        text = _("No event has a field %(name)s. Did you mean %(meant)s?", name=name, meant=", ".join(meant))
    else:
        text = _("No event has a field %(name)s. Write text that has a colon in quotes.", name=name)
    error = QueryError("unknown_field", text, place.position, len(name))
    error.members = {**error.members, "nearest": meant}
    return error

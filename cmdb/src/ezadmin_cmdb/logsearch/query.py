"""The language in which events are searched for, a subset of KQL: read to a tree, which is all that is ever used of it.

    timeout                       a word of ``message``            "connection refused"   these words in this order
    log.level: error              a value of a field               log.level: (error or critical)
    host.name: web-*              any text for the asterisk         user.name: *           the field is there
    http.response.status_code >= 500     source.ip: 10.0.0.0/8     @timestamp: [now-2h to now-1h]
    a b, a and b, a or b, not a, ( )     "not" binds closest, then "and" (or nothing), then "or"

What has a meaning (space, ``( ) " : < >``, ``*``, ``and or not to``) is a plain character after a backslash or in quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as member
from typing import Union

from flask_babel import gettext as _

from ezadmin_cmdb.errors import Invalid

LENGTH_MAX = 2000
DEPTH_MAX = 20
PARTS_MAX = 200
"""Values compared with in one query."""
WILDCARDS_MAX = 12
"""Values with an asterisk in one query: each looks through all terms of a field."""
_KEYWORDS = ("and", "or", "not", "to")


class QueryError(Invalid):
    """A query that cannot be used, and where: ``position`` and ``length`` in characters; ``key`` names the kind of error."""

    def __init__(self, key: str, text: str, position: int, length: int = 1) -> None:
        super().__init__(text, "q")
        self.key = key
        self.position = position
        self.length = max(1, length)
        self.members = {"key": key, "position": position, "length": self.length}


@dataclass(frozen=True)
class Place:
    """Where something stands in the text of the query."""

    position: int = 0
    length: int = 0


NOWHERE = Place()


@dataclass(frozen=True)
class Value:
    """A value: ``segments`` are the texts between asterisks (one: there is none). ``quoted``: as it stands, in its order."""

    segments: tuple[str, ...]
    quoted: bool = False
    place: Place = member(default=NOWHERE, compare=False)

    @property
    def text(self) -> str:
        """The value, with its asterisks."""
        return "*".join(self.segments)

    @property
    def wild(self) -> bool:
        """Whether it has an asterisk."""
        return len(self.segments) > 1

    @property
    def anything(self) -> bool:
        """Whether it is nothing but asterisks."""
        return self.wild and not any(self.segments)


@dataclass(frozen=True)
class Match:
    """``field`` (None: the message) has the value."""

    field: str | None
    value: Value
    place: Place = member(default=NOWHERE, compare=False)


@dataclass(frozen=True)
class Compare:
    """``field`` ``operator`` (one of ``> >= < <=``) the value."""

    field: str
    operator: str
    value: Value
    place: Place = member(default=NOWHERE, compare=False)


@dataclass(frozen=True)
class Between:
    """``field`` lies between two values, both included; one with an asterisk alone is no bound."""

    field: str
    low: Value
    high: Value
    place: Place = member(default=NOWHERE, compare=False)


@dataclass(frozen=True)
class Not:
    """All but these."""

    child: Node


@dataclass(frozen=True)
class And:
    """All hold."""

    children: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """One holds."""

    children: tuple[Node, ...]


Node = Union[Match, Compare, Between, Not, And, Or]
Leaf = Union[Match, Compare, Between]


def parse(text: str) -> Node | None:
    """The tree of a query; None: it is empty, everything is meant. Raises QueryError."""
    if len(text) > LENGTH_MAX:
        raise QueryError(
            "too_long", _("A query has at most %(n)d characters.", n=LENGTH_MAX), LENGTH_MAX, len(text) - LENGTH_MAX
        )
    return _Parser(text).whole()


def leaves(node: Node | None) -> list[Leaf]:
    """Everything in the tree that compares, in the order of the text."""
    if node is None:
        return []
    if isinstance(node, (And, Or)):
        return [leaf for child in node.children for leaf in leaves(child)]
    return leaves(node.child) if isinstance(node, Not) else [node]


def to_text(node: Node | None) -> str:
    """A query that is read to this tree."""
    if node is None:
        return ""
    if isinstance(node, (And, Or)):
        word = " and " if isinstance(node, And) else " or "
        return word.join(_child(child) for child in node.children)
    if isinstance(node, Not):
        return f"not {_child(node.child)}"
    if isinstance(node, Match):
        value = value_text(node.value)
        return value if node.field is None else f"{_escaped(node.field)}: {value}"
    if isinstance(node, Compare):
        return f"{_escaped(node.field)} {node.operator} {value_text(node.value)}"
    return f"{_escaped(node.field)}: [{value_text(node.low)} to {value_text(node.high)}]"


def _child(node: Node) -> str:
    return f"({to_text(node)})" if isinstance(node, (And, Or)) else to_text(node)


def value_text(value: Value) -> str:
    """A value as it is written in a query."""
    if value.quoted:
        return '"' + value.text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "*".join(_escaped(one) for one in value.segments)


_SPECIAL = frozenset('()[]":<>*\\')


def _escaped(text: str) -> str:
    if text.lower() in _KEYWORDS:
        return "\\" + text
    return "".join("\\" + one if one in _SPECIAL or one.isspace() else one for one in text)


class _Parser:
    """Recursive descent over the characters; what ends a word depends on whether a field or a value may stand there."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._parts = 0
        self._wildcards = 0

    def whole(self) -> Node | None:
        self._space()
        if self._at == len(self._text):
            return None
        node = self._or()
        self._space()
        if self._at < len(self._text):
            raise self._error("unexpected", _("There is no “(” that this “)” would close."))
        return node

    def _or(self, leaf: Callable[[], Node] | None = None) -> Node:
        found = [self._and(leaf)]
        while self._keyword("or"):
            found.append(self._and(leaf))
        return _joined(Or, found)

    def _and(self, leaf: Callable[[], Node] | None) -> Node:
        found = [self._not(leaf)]
        while True:
            if not self._keyword("and"):
                self._space()
                if self._at == len(self._text) or self._peek() == ")" or self._is_keyword("or"):
                    return _joined(And, found)
            found.append(self._not(leaf))

    def _not(self, leaf: Callable[[], Node] | None) -> Node:
        self._space()
        start = self._at
        if not self._keyword("not"):
            return self._primary(leaf)
        with_depth = self._deeper(start)
        node = Not(self._not(leaf))
        self._depth = with_depth
        return node

    def _primary(self, leaf: Callable[[], Node] | None) -> Node:
        self._space()
        if self._peek() != "(":
            return (leaf or self._condition)()
        start = self._at
        before = self._deeper(start)
        self._at += 1
        node = self._or(leaf)
        self._space()
        if self._peek() != ")":
            raise self._error("unclosed", _("This “(” is not closed."), start)
        self._at += 1
        self._depth = before
        return node

    def _deeper(self, position: int) -> int:
        before, self._depth = self._depth, self._depth + 1
        if self._depth > DEPTH_MAX:
            raise self._error("too_deep", _("A query is at most %(n)d levels deep.", n=DEPTH_MAX), position)
        return before

    def _condition(self) -> Node:
        """``field: value``, ``field > value``, or a word or phrase of the message."""
        start = self._at
        first = self._value(":<>")
        after = self._at
        self._space()
        mark = self._peek()
        if not mark or mark not in ":<>":
            self._at = after
            return Match(None, first, self._place(start))
        if first.quoted or first.wild:
            text = _("A field stands before “%(mark)s”, without quotes and asterisks.", mark=mark)
            raise self._error("no_field", text, start, after - start)
        name = first.text
        self._parts -= 1  # it was a name
        if mark == ":":
            self._at += 1
            return self._of_field(name, start)
        self._at += 1
        operator = mark
        if self._peek() == "=":
            operator += "="
            self._at += 1
        self._space()
        value = self._value("")
        if value.wild:
            text = _("What is compared with “%(operator)s” has no asterisk.", operator=operator)
            raise self._error("wild_bound", text, value.place.position, value.place.length)
        return Compare(name, operator, value, self._place(start))

    def _of_field(self, name: str, start: int) -> Node:
        self._space()
        mark = self._peek()
        if mark == "[":
            return self._range(name, start)
        if mark == "(":
            return self._primary(lambda: self._one(name, start))
        return self._one(name, start)

    def _one(self, name: str, start: int) -> Node:
        value = self._value("")
        return Match(name, value, self._place(start))

    def _range(self, name: str, start: int) -> Node:
        bracket = self._at
        self._at += 1
        self._space()
        low = self._value("")
        if not self._keyword("to"):
            raise self._error("no_to", _("A range is written [5 to 10]: “to” is missing."))
        self._space()
        high = self._value("")
        self._space()
        if self._peek() != "]":
            raise self._error("unclosed", _("This “[” is not closed."), bracket)
        self._at += 1
        for bound in (low, high):
            if bound.wild and not bound.anything:
                text = _("A bound is a value, or * for none.")
                raise self._error("wild_bound", text, bound.place.position, bound.place.length)
        return Between(name, low, high, self._place(start))

    def _value(self, ends: str) -> Value:
        """A word or a quoted text; ``ends``: characters that end a word beside those that always do."""
        start = self._at
        if self._at == len(self._text):
            raise self._error("end", _("Something is missing at the end."), max(0, start - 1))
        if self._peek() == '"':
            return self._counted(Value((self._quoted(),), True, self._place(start)))
        for word in _KEYWORDS[:3]:
            if self._is_keyword(word):
                raise self._error(
                    "keyword", _("“%(word)s” joins conditions. Write it in quotes to search for it.", word=word), start,
                    len(word),
                )  # fmt: skip
        segments: list[str] = []
        piece: list[str] = []
        while self._at < len(self._text):
            one = self._text[self._at]
            if one.isspace() or one in '()[]"' or one in ends:
                break
            self._at += 1
            if one == "*":
                segments.append("".join(piece))
                piece = []
            elif one == "\\":
                if self._at == len(self._text):
                    raise self._error("end", _("A character is missing after “\\”."), self._at - 1)
                piece.append(self._text[self._at])
                self._at += 1
            else:
                piece.append(one)
        if self._at == start:
            raise self._unexpected()
        segments.append("".join(piece))
        merged = (segments[0], *(one for one in segments[1:-1] if one), *segments[1:][-1:])
        return self._counted(Value(merged, False, self._place(start)))

    def _counted(self, value: Value) -> Value:
        self._parts += 1
        self._wildcards += value.wild and not value.anything
        place = value.place
        if self._parts > PARTS_MAX:
            text = _("A query compares with at most %(n)d values.", n=PARTS_MAX)
            raise self._error("too_many", text, place.position, place.length)
        if self._wildcards > WILDCARDS_MAX:
            text = _("A query has at most %(n)d values with asterisks.", n=WILDCARDS_MAX)
            raise self._error("too_many_wildcards", text, place.position, place.length)
        return value

    def _quoted(self) -> str:
        start = self._at
        self._at += 1
        found: list[str] = []
        while self._at < len(self._text):
            one = self._text[self._at]
            self._at += 1
            if one == '"':
                return "".join(found)
            if one == "\\" and self._at < len(self._text):
                one = self._text[self._at]
                self._at += 1
            found.append(one)
        raise self._error("unclosed", _("This quote is not closed."), start)

    def _unexpected(self) -> QueryError:
        one = self._peek()
        if one == "[":
            text = _("A range stands after a field: “field: [5 to 10]”. Write “[” in quotes to search for it.")
        elif one in ":<>":
            text = _("A field is missing before “%(mark)s”.", mark=one)
        else:
            text = _("A value is missing before “%(mark)s”.", mark=one)
        return self._error("unexpected", text)

    def _is_keyword(self, word: str) -> bool:
        end = self._at + len(word)
        if self._text[self._at : end].lower() != word:
            return False
        return end == len(self._text) or self._text[end].isspace() or self._text[end] in '()[]"'

    def _keyword(self, word: str) -> bool:
        self._space()
        if not self._is_keyword(word):
            return False
        self._at += len(word)
        self._space()
        return True

    def _space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _place(self, start: int) -> Place:
        return Place(start, self._at - start)

    def _error(self, key: str, text: str, position: int | None = None, length: int = 1) -> QueryError:
        return QueryError(key, text, self._at if position is None else position, length)


def _joined(kind: type[And] | type[Or], found: list[Node]) -> Node:
    """Of equal joins one: ``(a and b) and c`` is ``a and b and c``."""
    if len(found) == 1:
        return found[0]
    flat: list[Node] = []
    for one in found:
        flat += one.children if isinstance(one, kind) else [one]
    return kind(tuple(flat))

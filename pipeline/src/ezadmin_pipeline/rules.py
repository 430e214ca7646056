"""The rules of the cmdb (record ``rules``), compiled for use: which events they match and what becomes of those.

What a rule may say stands in :mod:`ezadmin_wire.rules`. Conditions are judged on the event as its host sent it, a time of
expiry by the event's own time: so a decision depends on the line and the revision alone, never on a clock or on what
another rule did. The first ignore or filter that matches ends the judging; an exempt before it keeps it from happening.

The cost: rules that the headers of a batch exclude (levels, dataset, host) are left out for the whole batch, and so are
those with a text that stands nowhere in its bytes. If none is left, the batch goes the way it goes without rules. Else a
line is decoded as far as the conditions of the rest need it, and whole only if a rule changes it.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson
import re2  # type: ignore[import-untyped]

from ezadmin_pipeline.directory import Host
from ezadmin_pipeline.lines import BadLine
from ezadmin_wire import WireError
from ezadmin_wire.batch import ANY_DATASET, Batch
from ezadmin_wire.config import Rule, RulesRecord
from ezadmin_wire.levels import UNKNOWN
from ezadmin_wire.rules import DEFAULT_MASK_FIELD, check_rule, compile_expression, parse_replacement
from ezadmin_wire.times import format_time, parse_time

_log = logging.getLogger(__name__)
_KNOWN_PLANS = 20_000
_MASK_WORK = 1_000_000_000
"""Bytes x size of the expression that masking one value may take at most; what is left of the value is masked whole."""
_ESCAPED = re.compile('["\\\\/\x00-\x1f]')
_NUMBERLIKE = re.compile(r"[-+0-9.eE]*|true|false|inf|nan")

Test = Callable[[str], bool]
Change = Callable[[dict[str, Any]], bool]


class BadRule(Exception):
    """A rule that cannot be used."""


# conditions


def wildcard(pattern: str) -> Test:
    """A test whether a text is ``pattern``, in which ``*`` stands for any characters and ``?`` for any one."""
    middle = pattern.strip("*")
    if "*" not in middle and "?" not in middle:
        if not middle and pattern:
            return lambda text: True
        if pattern.startswith("*") and pattern.endswith("*"):
            return lambda text: middle in text
        if pattern.startswith("*"):
            return lambda text: text.endswith(middle)
        if pattern.endswith("*"):
            return lambda text: text.startswith(middle)
        return lambda text: text == pattern
    parts = (".*" if char == "*" else "." if char == "?" else _quoted(char) for char in re.sub(r"\*+", "*", pattern))
    expression = compile_expression(rf"(?s)\A(?:{''.join(parts)})\z")
    return lambda text: expression.search(text.encode("utf-8", "replace")) is not None


def _quoted(char: str) -> str:
    return char if char.isalnum() or ord(char) > 127 else f"\\x{{{ord(char):x}}}"


def _texts(value: Any) -> Iterable[str]:
    """The texts that a condition on a field is compared with: of a list, those of its members."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, (int, float)):
        yield str(value)
    elif isinstance(value, list):
        for member in value:
            if not isinstance(member, list):
                yield from _texts(member)


def _needle(text: str) -> bytes | None:
    """The longest part of ``text`` that stands in the bytes of a line as it is, if a string of the line holds ``text`` and
    none of its characters is written as ``\\u``."""
    longest = max(_ESCAPED.split(text), key=len)
    return longest.encode() if longest else None


def _finder(needle: bytes) -> Callable[[bytes], object]:
    """Looks for ``needle`` by RE2: over a whole batch five times faster than ``in``."""
    options = re2.Options()
    options.literal = True
    options.encoding = re2.Options.Encoding.LATIN1
    find: Callable[[bytes], object] = re2.compile(needle, options).search
    return find


def _field_needle(pattern: str) -> bytes | None:
    longest = max(re.split(r"[*?]", pattern), key=len)
    # a number or boolean may be written in another way than it is compared
    return None if _NUMBERLIKE.fullmatch(longest) else _needle(longest)


_ABSENT: Any = object()


def _find(node: dict[str, Any], name: str) -> Any:
    """The value of a dotted name, be it written so or as objects in objects."""
    if name in node:
        return node[name]
    end = name.find(".")
    while end > 0:
        child = node.get(name[:end])
        if isinstance(child, dict):
            value = _find(child, name[end + 1 :])
            if value is not _ABSENT:
                return value
        end = name.find(".", end + 1)
    return _ABSENT


def _roots(name: str) -> list[str]:
    """The members of the root in which a dotted name may stand."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


# changes


class _Mask:
    def __init__(self, pattern: str, replacement: str, field: str) -> None:
        self._expression = compile_expression(pattern, groups=True)
        self._pieces = parse_replacement(replacement, self._expression.groups)
        self._size = max(self._expression.programsize, self._expression.reverseprogramsize)
        self._field = field
        self._literal = b"".join(piece for piece in self._pieces if isinstance(piece, bytes))

    def __call__(self, root: dict[str, Any]) -> bool:
        return self._in(root, self._field)

    def _in(self, node: dict[str, Any], name: str) -> bool:
        changed = False
        if name in node:
            value = self._value(node[name])
            changed = value is not node[name]
            node[name] = value
        end = name.find(".")
        while end > 0:
            child = node.get(name[:end])
            if isinstance(child, dict):
                changed |= self._in(child, name[end + 1 :])
            end = name.find(".", end + 1)
        return changed

    def _value(self, value: Any) -> Any:
        """``value`` with everything masked in it; the same object if there is nothing to mask."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            members = [self._value(member) for member in value]
            return value if all(a is b for a, b in zip(members, value, strict=True)) else members
        if isinstance(value, dict):
            changed = {name: self._value(member) for name, member in value.items()}
            return value if all(changed[name] is value[name] for name in value) else changed
        if isinstance(value, bool) or value is None:
            return value
        text = orjson.dumps(value).decode()
        masked = self._text(text)
        return value if masked is text else masked

    def _text(self, text: str) -> str:
        data = text.encode()
        most = max(1, _MASK_WORK // (self._size * (len(data) + 1)))
        pieces: list[bytes] = []
        end = 0
        for match in self._expression.finditer(data):
            first, last = match.span()
            if first == last:
                continue
            pieces.append(data[end:first])
            if most == 0:
                pieces.append(self._literal)
                end = len(data)
                break
            most -= 1
            pieces += [piece if isinstance(piece, bytes) else match.group(piece) or b"" for piece in self._pieces]
            end = last
        if not end:
            return text
        pieces.append(data[end:])
        return b"".join(pieces).decode("utf-8", "replace")


def _set_level(level: str) -> Change:
    def change(root: dict[str, Any]) -> bool:
        differs = root.get("log.level") != level
        root["log.level"] = level
        return differs

    return change


def _values(label: str | list[str] | None) -> list[str]:
    """The values of a label of a host: one, or a name of each of its groups."""
    return [] if label is None else [label] if isinstance(label, str) else label


def _label(name: str, value: str) -> Change:
    def change(root: dict[str, Any]) -> bool:
        labels = root.setdefault("labels", {})
        differs = labels.get(name) != value
        labels[name] = value
        return bool(differs)

    return change


def _change_of(rule: Rule) -> Change | None:
    arguments = rule.arguments
    if rule.action == "set_level":
        return _set_level(arguments["level"])
    if rule.action == "label":
        return _label(arguments["name"], arguments["value"])
    if rule.action == "mask":
        return _Mask(arguments["pattern"], arguments["replacement"], arguments.get("field", DEFAULT_MASK_FIELD))
    return None


# rules


class CompiledRule:
    """A rule ready for use. Raises BadRule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.id = rule.id
        self.drops = rule.action in ("ignore", "filter")
        self.exempts = rule.action == "exempt"
        match = rule.match
        try:
            check_rule(rule)
            self.change = _change_of(rule)
            self._hosts = [wildcard(text) for text in match.hosts]
            self._datasets = [wildcard(text) for text in match.datasets]
            self._labels = [(name, wildcard(text)) for name, text in match.labels.items()]
            self._fields = [(name, wildcard(text)) for name, text in match.fields.items()]
            self._regex = None if match.regex is None else compile_expression(match.regex)
        except WireError as error:
            raise BadRule(str(error)) from error
        self.levels = frozenset(match.levels) or None
        self._contains = match.contains
        needles = [] if match.contains is None else [_needle(match.contains)]
        needles += [_field_needle(text) for text in match.fields.values()]
        self.needles = [needle for needle in needles if needle is not None]
        self.finders = [_finder(needle) for needle in self.needles]
        self.names = frozenset(root for name in match.fields for root in _roots(name))
        self.looks = bool(match.fields) or match.contains is not None or match.regex is not None
        """Whether it must look into the line."""
        if match.contains is not None or match.regex is not None:
            self.names |= {"message"}
        self._masked: tuple[str, Any] | None = None
        if rule.action == "mask":
            field = rule.arguments.get("field", DEFAULT_MASK_FIELD)
            self._masked = (field, compile_expression(rule.arguments["pattern"]))
            self.names |= frozenset(_roots(field))
            self.looks = True
        self.until: str | None = None
        """Events are matched whose minute sorts before this."""
        if rule.expires is not None:
            moment = format_time(parse_time(rule.expires))
            self.until = moment[:16] if moment.endswith(":00.000Z") else moment[:16] + "~"

    def may_match(self, batch: Batch, host_id: str, host: Host) -> bool:
        """Whether it can match a line of a batch with these headers."""
        levels = batch.levels
        # a level written with escapes counts as unknown in the headers
        if self.levels is not None and levels and UNKNOWN not in levels and self.levels.isdisjoint(levels):
            return False
        dataset = batch.dataset
        if self._datasets and dataset != ANY_DATASET and not any(test(dataset) for test in self._datasets):
            return False
        if self._hosts and not any(test(host_id) or test(host.members["host.name"]) for test in self._hosts):
            return False
        labels = host.members.get("labels", {})
        return all(any(test(value) for value in _values(labels.get(name))) for name, test in self._labels)

    def matches_content(self, root: dict[str, Any]) -> bool:
        """Whether the conditions on what stands in the line hold; ``root`` holds the members in ``names``."""
        for name, test in self._fields:
            if not any(test(text) for text in _texts(_find(root, name))):
                return False
        if self._masked is not None:
            value = _find(root, self._masked[0])
            if value is _ABSENT or (isinstance(value, str) and self._masked[1].search(value.encode()) is None):
                return False
        if self._contains is None and self._regex is None:
            return True
        message = root.get("message")
        if not isinstance(message, str):
            return False
        if self._contains is not None and self._contains not in message:
            return False
        return self._regex is None or self._regex.search(message.encode()) is not None


class Verdict(NamedTuple):
    """What the rules say of a line: those that matched, in order, and the one that leaves it out."""

    matched: list[CompiledRule]
    dropped_by: CompiledRule | None

    def change(self, document: bytes) -> tuple[bytes, list[CompiledRule]]:
        """The document as the rules want it, and those of them that changed it. Raises BadLine."""
        changing = [rule for rule in self.matched if rule.change is not None]
        if not changing:
            return document, []
        try:
            root = orjson.loads(document)
            done = [rule for rule in changing if rule.change is not None and rule.change(root)]
            return (orjson.dumps(root) if done else document), done
        except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError, UnicodeError) as error:
            raise BadLine("bad_line", f"rule {changing[0].id} cannot change the line: {error}") from error


class Plan:
    """The rules that may match the lines of one batch."""

    def __init__(self, rules: Sequence[CompiledRule], peek: Callable[[bytes], Any] | None, plain: bool) -> None:
        self.rules = rules
        self._peek = peek
        self._plain = plain
        self.looks = any(rule.looks for rule in rules)
        """Whether a rule must look into lines; else minute and level decide."""
        self.levels: frozenset[str] | None = None
        """Levels of the lines that a rule may match, None for any."""
        if all(rule.levels is not None for rule in rules):
            self.levels = frozenset(level for rule in rules for level in rule.levels or ())

    def judge(self, line: bytes, minute: str, level: str) -> Verdict | None:
        """What becomes of a line, None if no rule is for it. Raises BadLine if it cannot be looked into."""
        matched: list[CompiledRule] | None = None
        root: dict[str, Any] | None = None
        exempt = False
        for rule in self.rules:
            if rule.levels is not None and level not in rule.levels:
                continue
            if rule.until is not None and minute >= rule.until:
                continue
            if exempt and rule.drops:
                continue
            if rule.looks:
                if self._plain and not all(needle in line for needle in rule.needles):
                    continue
                if root is None:
                    root = self._look(line, minute, level)
                if not rule.matches_content(root):
                    continue
            if matched is None:
                matched = []
            matched.append(rule)
            if rule.drops:
                return Verdict(matched, rule)
            exempt = exempt or rule.exempts
        return None if matched is None else Verdict(matched, None)

    def _look(self, line: bytes, minute: str, level: str) -> dict[str, Any]:
        assert self._peek is not None  # noqa: S101 - made with the rules that look
        try:
            root: dict[str, Any] = self._peek(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadLine("bad_line", f"rules cannot look into the line: {error}", minute, level) from error
        return root


class RuleSet:
    """All rules of one revision. One that cannot be used is logged and left out; the others stay in force."""

    def __init__(self, record: RulesRecord, revision: int = 0, hits: Counter[str] | None = None) -> None:
        self.record = record
        self.revision = revision
        self.hits: Counter[str] = Counter() if hits is None else hits
        """Events per rule: those it left out, changed or exempted."""
        self.refused: list[str] = []
        self.rules: list[CompiledRule] = []
        for rule in record.rules:
            try:
                self.rules.append(CompiledRule(rule))
            except BadRule as error:
                self.refused.append(str(error))
                _log.error("revision %d of the rules: %s; it is left out", revision, error)
        self._plans: dict[tuple[str, ...], tuple[Host, list[CompiledRule]]] = {}
        self._peeks: dict[frozenset[str], Callable[[bytes], Any]] = {}

    def plan(self, batch: Batch, host: Host, suspect: bool) -> Plan | None:
        """The rules that may match lines of ``batch``, None if there is none.

        ``suspect`` says that characters may be written in another way than usual, as ``\\u`` for example.
        """
        rules = self._matching(batch, host, suspect)
        if not any(rule.drops or rule.change for rule in rules):
            return None
        return self._plan(rules, suspect)

    def exemptions(self, batch: Batch, host: Host, suspect: bool) -> Plan | None:
        """The exempting ones of the rules that may match lines of ``batch``, None if there is none; as :meth:`plan`."""
        rules = [rule for rule in self._matching(batch, host, suspect) if rule.exempts]
        return self._plan(rules, suspect) if rules else None

    def _matching(self, batch: Batch, host: Host, suspect: bool) -> list[CompiledRule]:
        if not self.rules:
            return []
        key = (batch.host, batch.dataset, *batch.levels)
        known = self._plans.get(key)
        if known is None or known[0] is not host:
            if len(self._plans) >= _KNOWN_PLANS:
                self._plans.clear()
            known = self._plans[key] = (host, [rule for rule in self.rules if rule.may_match(batch, batch.host, host)])
        rules = known[1]
        if rules and not suspect:
            value = batch.value
            rules = [rule for rule in rules if all(find(value) for find in rule.finders)]
        return rules

    def _plan(self, rules: Sequence[CompiledRule], suspect: bool) -> Plan:
        names = frozenset(name for rule in rules for name in rule.names)
        return Plan(rules, self._peek(names) if names else None, not suspect)

    def _peek(self, names: frozenset[str]) -> Callable[[bytes], Any]:
        peek = self._peeks.get(names)
        if peek is None:
            if len(self._peeks) >= _KNOWN_PLANS:
                self._peeks.clear()
            peek = self._peeks[names] = _decoder(sorted(names))
        return peek


def _decoder(names: Sequence[str]) -> Callable[[bytes], dict[str, Any]]:
    fields = [(f"member_{i}", Any, msgspec.field(name=name, default=_ABSENT)) for i, name in enumerate(names)]
    decode = msgspec.json.Decoder(msgspec.defstruct("_Look", fields)).decode
    members = [(name, f"member_{i}") for i, name in enumerate(names)]

    def look(line: bytes) -> dict[str, Any]:
        found = decode(line)
        return {name: value for name, member in members if (value := getattr(found, member)) is not _ABSENT}

    return look

"""What a rule may say: the checks that the cmdb makes before it publishes a rule and the pipeline before it uses one.

=========  ==================================================  =======================================================
action     arguments                                           what happens to an event that matches
=========  ==================================================  =======================================================
ignore     none; ``expires`` must be given                     counted as ignored, not stored
filter     none; ``expires`` must not be given                 the same, for good
set_level  ``level``                                           stored with this ``log.level``
mask       ``pattern``, ``replacement``, ``field`` (message)   what the regular expression finds in the field is replaced
label      ``name``, ``value``                                 stored with this under ``labels``
exempt     none                                                no later ignore or filter is for it
=========  ==================================================  =======================================================

Conditions (:class:`ezadmin_wire.config.Match`) are judged on the event as its host sent it, so no rule sees what another
one did. Host (id or name), dataset and the values of labels and fields may hold ``*`` and ``?``. ``contains`` and
``regex`` look into ``message``. Expressions are RE2's (https://github.com/google/re2/wiki/Syntax), which takes linear
time; whether one compiles is judged by those who have the engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Union

import re2  # type: ignore[import-untyped]

from ezadmin_wire.config import Match, Rule, RulesRecord
from ezadmin_wire.errors import WireError
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.times import parse_time

MAX_RULES = 500
MAX_TEXT = 500
"""Characters of one condition or argument."""
MAX_ENTRIES = 100
"""Entries of one list of conditions."""
MAX_PROGRAM = 500
"""Size of a compiled expression (RE2's ``programsize``): with it grows the time that the worst text takes."""
DEFAULT_MASK_FIELD = "message"

_EXPRESSION_MEMORY = 1 << 20
_GROUP = re.compile(r"\\([0-9\\])")

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LABEL = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_ARGUMENTS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    # action: arguments that must be given, arguments that may be given
    "ignore": (frozenset(), frozenset()),
    "filter": (frozenset(), frozenset()),
    "exempt": (frozenset(), frozenset()),
    "set_level": (frozenset({"level"}), frozenset()),
    "mask": (frozenset({"pattern", "replacement"}), frozenset({"field"})),
    "label": (frozenset({"name", "value"}), frozenset()),
}
_NOT_MASKED = frozenset({"@timestamp", "log.level", "labels", "host", "agent", "event"})
_NOT_MASKED_PREFIXES = ("host.", "agent.", "labels.")
_NOT_MASKED_EVENT = frozenset({"event.created", "event.dataset", "event.ingested", "event.original_timestamp"})


def compile_expression(text: str, *, groups: bool = False) -> Any:
    """Compile an RE2 expression for UTF-8 bytes; without ``groups`` it only says whether it matches, which is quicker.

    Raises WireError (``bad_rule``).
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _EXPRESSION_MEMORY
    options.never_capture = not groups
    try:
        expression = re2.compile(text.encode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else b""
        shown = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise WireError(
            "bad_rule", f"expression {text!r}: {shown} (expressions are RE2's: no back-references, no look-around)"
        ) from error
    if max(expression.programsize, expression.reverseprogramsize) > MAX_PROGRAM:
        raise WireError(
            "bad_rule", f"expression {text[:80]!r} is too large ({expression.programsize}; at most {MAX_PROGRAM})"
        )
    return expression


def parse_replacement(text: str, groups: int) -> list[Union[bytes, int]]:
    r"""A mask's ``replacement`` as pieces: bytes, or the number of a group (``\0`` to ``\9``; ``\\`` is a backslash).

    Raises WireError (``bad_rule``) for a group that the expression does not have.
    """
    pieces: list[Union[bytes, int]] = []
    for i, piece in enumerate(_GROUP.split(text)):
        if i % 2 == 0:
            pieces.append(piece.encode())
        elif piece == "\\":
            pieces.append(b"\\")
        elif int(piece) > groups:
            raise WireError("bad_rule", f"replacement {text!r}: the expression has {groups} group(s), not {piece}")
        else:
            pieces.append(int(piece))
    return pieces


def check_rule(rule: Rule) -> None:
    """Check one rule. Raises WireError (``bad_rule``) that names the rule and what is wrong with it."""
    if not _ID.fullmatch(rule.id):
        raise _bad(rule, "the id is made of lower-case letters, digits, '.', '_' and '-', 64 at most")
    _check_match(rule, rule.match)
    _check_arguments(rule)
    if rule.action == "ignore" and rule.expires is None:
        raise _bad(rule, "ignore needs a time at which it expires; to leave events out for good, use filter")
    if rule.action == "filter" and rule.expires is not None:
        raise _bad(rule, "filter is for good; to leave events out for a time, use ignore")
    if rule.expires is not None:
        try:
            parse_time(rule.expires)
        except WireError as error:
            raise _bad(rule, f"expires: {error}") from error


def check_rules(record: RulesRecord) -> None:
    """Check a whole list. Raises WireError (``bad_rule``)."""
    if len(record.rules) > MAX_RULES:
        raise WireError("bad_rule", f"{len(record.rules)} rules; at most {MAX_RULES}")
    known: set[str] = set()
    for rule in record.rules:
        check_rule(rule)
        if rule.id in known:
            raise _bad(rule, "the id is there twice")
        known.add(rule.id)


def _check_match(rule: Rule, match: Match) -> None:
    for level in match.levels:
        if level not in LEVELS:
            raise _bad(rule, f"level {level!r} is none of {', '.join(LEVELS)}")
    texts = [
        *match.hosts,
        *match.datasets,
        *match.labels,
        *match.labels.values(),
        *match.fields,
        *match.fields.values(),
    ]
    texts += [text for text in (match.contains, match.regex) if text is not None]
    for text in texts:
        _check_text(rule, text)
    if match.regex is not None:
        try:
            compile_expression(match.regex)
        except WireError as error:
            raise _bad(rule, str(error)) from error
    for entries in (match.levels, match.hosts, match.datasets, match.labels, match.fields):
        if len(entries) > MAX_ENTRIES:
            raise _bad(rule, f"{len(entries)} entries in one condition; at most {MAX_ENTRIES}")
    if rule.action in ("ignore", "filter") and not (texts or match.levels):
        raise _bad(rule, f"{rule.action} without a condition would leave out every event")


def _check_text(rule: Rule, text: str) -> None:
    if not 1 <= len(text) <= MAX_TEXT:
        raise _bad(rule, f"a condition or argument is 1 to {MAX_TEXT} characters long, found {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _bad(rule, "a condition or argument is not text that UTF-8 can hold") from error


def _check_arguments(rule: Rule) -> None:
    needed, allowed = _ARGUMENTS[rule.action]
    given = rule.arguments.keys()
    if needed - given:
        raise _bad(rule, f"{rule.action} needs {', '.join(sorted(needed - given))}")
    if given - needed - allowed:
        raise _bad(rule, f"{rule.action} knows no {', '.join(sorted(given - needed - allowed))}")
    for name, text in rule.arguments.items():
        if name != "replacement" or text:  # what is found may be replaced by nothing
            _check_text(rule, text)
    if rule.action == "set_level" and rule.arguments["level"] not in LEVELS:
        raise _bad(rule, f"level {rule.arguments['level']!r} is none of {', '.join(LEVELS)}")
    if rule.action == "label" and not _LABEL.fullmatch(rule.arguments["name"]):
        raise _bad(rule, "a label's name is made of lower-case letters, digits, '_', '.' and '-', a letter first")
    if rule.action == "mask":
        try:
            expression = compile_expression(rule.arguments["pattern"], groups=True)
            parse_replacement(rule.arguments["replacement"], expression.groups)
        except WireError as error:
            raise _bad(rule, str(error)) from error
    field = rule.arguments.get("field", "")
    if field in _NOT_MASKED or field in _NOT_MASKED_EVENT or field.startswith(_NOT_MASKED_PREFIXES):
        raise _bad(rule, f"{field} cannot be masked")


def _bad(rule: Rule, text: str) -> WireError:
    return WireError("bad_rule", f"rule {rule.id[:64]!r}: {text}")

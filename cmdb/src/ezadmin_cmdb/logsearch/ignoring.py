"""“Ignore such events”: a rule of the action ``ignore``, made from one event."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from flask_babel import gettext as _

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import utc_now
from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.errors import Invalid, NotFound
from ezadmin_cmdb.logsearch import query as language
from ezadmin_cmdb.logsearch import services
from ezadmin_cmdb.logsearch.services import Health, Hit, HostScope, Search
from ezadmin_cmdb.logsearch.times import Period
from ezadmin_cmdb.rules import services as rules
from ezadmin_cmdb.rules.models import EventRule
from ezadmin_wire import WireError
from ezadmin_wire.config import Match, Rule
from ezadmin_wire.names import Names
from ezadmin_wire.rules import MAX_TEXT, compile_expression
from ezadmin_wire.times import format_time

DAYS, DAYS_MAX = 7, 90
SAMPLE = services.SIZE_MAX
BEGIN = 160
"""Characters of the message that the expression is made of: behind them is mostly what differs."""
_VARIABLE = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\b0x[0-9a-fA-F]+\b|[0-9]+(?:[.:][0-9]+)*")
_NUMBER = "[0-9a-fA-Fx.:-]+"
_WORD = re.compile(r"[^\W\d_]{3,}")
_ALONE = re.compile(r"(?<![\w.:'’])[^\W\d_]{3,}(?!\w|[.:'’]\w)")
"""A word that Elasticsearch takes for one: not part of ``sda1``, ``a_b`` or ``a.b``."""


@dataclass(frozen=True)
class Proposal:
    """What would be ignored. ``query``: candidates for it, in the language of the search."""

    rule: Rule
    query: language.Node
    everywhere: bool


@dataclass(frozen=True)
class Preview:
    """Events of the last 24 hours: ``candidates`` (at least, if ``at_least``), of which the newest ``looked_at`` were compared
    with the rule itself and ``matching`` match."""

    candidates: int
    at_least: bool
    looked_at: int
    matching: int
    samples: list[Hit]
    health: Health

    @property
    def all_of_them(self) -> bool:
        """Whether every candidate was compared."""
        return self.looked_at == self.candidates and not self.at_least


def propose(hit: Hit, everywhere: bool = False) -> Proposal:
    """The rule for events like ``hit``: of its dataset, program and level, with its message but for numbers; of its host, or of
    all hosts. Raises Invalid for an event without a text to go by."""
    source = hit.source
    message = str(source.get("message", ""))
    line = message.split("\n")[0]
    begin = line[:BEGIN]
    if _WORD.search(_VARIABLE.sub(" ", begin)) is None:
        raise Invalid(_("The message of this event has no words to go by: write a rule with ezadmin-cmdb rules add."))
    expression, length = _smallest(begin)
    words = [found[0] for found in _ALONE.finditer(line[: length + 1]) if found.end() <= length]
    levels = [hit.level] if source.get("log.level") == hit.level else []
    host, program = str(source["host.id"]), str(source.get("process.name") or "")
    match = Match(
        levels=levels, hosts=[] if everywhere else [host], datasets=[str(source.get("event.dataset", ""))],
        fields={"process.name": _literal(program)} if program else {}, regex=expression,
    )  # fmt: skip
    parts: list[language.Node] = [
        _is("event.dataset", match.datasets[0]),
        *(_is("log.level", level) for level in levels),
        *([] if everywhere else [_is("host.id", host)]),
        *([_is("process.name", program)] if program else []),
        *(language.Match(None, language.Value((word,), True)) for word in dict.fromkeys(words[:12])),
    ]
    rule = Rule(f"ignored-{secrets.token_hex(4)}", "ignore", match, {}, None)
    return Proposal(rule, language.And(tuple(parts)), everywhere)


def _is(field: str, value: str) -> language.Node:
    return language.Match(field, language.Value((value,), True))


def _literal(text: str) -> str:
    """As a condition of a rule: an asterisk there means any text, and so does in doubt the mark for one character."""
    return text.replace("*", "?")[:500]


def _smallest(begin: str) -> tuple[str, int]:
    """The expression of as much of the message's begin as a rule takes, and of how many characters it is."""
    for length in (len(begin), 80, 40, 20):
        found = "^" + _expression(begin[:length])
        try:
            compile_expression(found)
        except WireError:
            continue
        if len(found) <= MAX_TEXT:
            return found, min(length, len(begin))
    raise Invalid(_("The message of this event has no words to go by: write a rule with ezadmin-cmdb rules add."))


def _expression(text: str) -> str:
    """The text, with any number for each of its numbers."""
    pieces, at = [], 0
    for found in _VARIABLE.finditer(text):
        pieces += [_escaped(text[at : found.start()]), _NUMBER]
        at = found.end()
    return "".join([*pieces, _escaped(text[at:])])


def _escaped(text: str) -> str:
    return re.sub(r"[\\^$.|?*+()\[\]{}]", r"\\\g<0>", text)


def preview(elastic: Elastic, names: Names, scope: HostScope, proposal: Proposal) -> Preview:
    """What the rule would have ignored in the last 24 hours, of the hosts of ``scope``. Raises ElasticUnavailable."""
    now = datetime.now(UTC)
    search = Search(scope, proposal.query, Period(now - timedelta(days=1), now), now)
    page = services.search(elastic, names, search, size=SAMPLE, key=b"not continued")
    compiled = compile_expression(str(proposal.rule.match.regex))
    matching = [
        hit for hit in page.hits if compiled.search(str(hit.source.get("message", "")).encode("utf-8", "replace"))
    ]
    at_least = page.total_is_lower_bound or not page.health.whole
    return Preview(page.total, at_least, len(page.hits), len(matching), matching[:5], page.health)


def ignore(actor: Actor, proposal: Proposal, days: str, comment: str) -> EventRule:
    """Ignore them for so many days. Raises Invalid, Forbidden."""
    if not days.isdecimal() or not 1 <= int(days) <= DAYS_MAX:
        raise Invalid(_("Write a number of days, 1 to %(n)d.", n=DAYS_MAX), "days")
    rule = replace(proposal.rule, expires=format_time(utc_now() + timedelta(days=int(days))))
    return rules.add(actor, rule, comment.strip() or str(_("from an event, on the page of logs")))


def find(actor: Actor, rule_id: str) -> EventRule:
    """A rule that was made here. Raises NotFound."""
    found = next((one for one in rules.everything(actor) if one.id == rule_id and one.action == "ignore"), None)
    if found is None:
        raise NotFound(_("There is no such rule; perhaps it was undone."))
    return found


def undo(actor: Actor, rule_id: str) -> None:
    """Take the rule away. Raises NotFound."""
    rules.remove(actor, find(actor, rule_id).id)

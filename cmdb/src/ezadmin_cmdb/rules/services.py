"""What can be done with the rules of events. Every change writes its change record and the next revision of ``rules``.

The whole list is one config record, so that a reader never meets half of a new order. Changes are made one after the
other, under a lock on that record's row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.errors import Conflict, Invalid, NotFound
from ezadmin_cmdb.outbox import services as outbox
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import RULES_CHANGE, RULES_VIEW
from ezadmin_cmdb.rules.models import EventRule
from ezadmin_wire import WireError
from ezadmin_wire.config import RULES_KEY, Match, Rule, RulesRecord
from ezadmin_wire.fields import build, dump
from ezadmin_wire.rules import MAX_RULES, check_rule
from ezadmin_wire.times import format_time, parse_time

MAX_RECORD = 512 * 1024
"""Bytes of the whole list: Kafka takes 1 MiB in the topic of configuration."""

Place = Callable[[Sequence[EventRule]], int]
"""Where a rule goes: its index among the others."""


def first(others: Sequence[EventRule]) -> int:
    """Before all others."""
    return 0


def last(others: Sequence[EventRule]) -> int:
    """Behind all others."""
    return len(others)


def before(rule_id: str) -> Place:
    """Before this rule; using it raises NotFound if there is none."""
    return lambda others: others.index(_of(others, rule_id))


def after(rule_id: str) -> Place:
    """Behind this rule; using it raises NotFound if there is none."""
    return lambda others: others.index(_of(others, rule_id)) + 1


def everything(actor: Actor) -> Sequence[EventRule]:
    """All rules in their order. Raises Forbidden."""
    rights.require(actor, RULES_VIEW)
    return db.session.scalars(select(EventRule).order_by(EventRule.position, EventRule.id)).all()


def add(actor: Actor, rule: Rule, comment: str = "", place: Place = last) -> EventRule:
    """Add a rule. Raises Invalid, Conflict for an id that is there, NotFound for a place that is not."""
    try:
        check_rule(rule)
    except WireError as error:
        raise Invalid(str(error)) from error
    if len(comment) > 255:
        raise Invalid("the comment is 255 characters long at most", "comment")
    with _changing(actor, rule.id) as rules:
        if any(other.id == rule.id for other in rules):
            raise Conflict(f"there is a rule {rule.id} already; remove it first, or choose another id")
        if len(rules) >= MAX_RULES:
            raise Conflict(f"there are {MAX_RULES} rules, which is the most; remove some first")
        made = EventRule(
            id=rule.id,
            action=rule.action,
            conditions={name: value for name, value in asdict(rule.match).items() if value},
            arguments=dict(rule.arguments),
            expires=None if rule.expires is None else parse_time(rule.expires),
            comment=comment,
        )
        rules.insert(place(rules), made)
        db.session.add(made)
    return made


def remove(actor: Actor, rule_id: str) -> None:
    """Remove a rule. Raises NotFound."""
    with _changing(actor, rule_id) as rules:
        found = _of(rules, rule_id)
        rules.remove(found)
        db.session.delete(found)


def move(actor: Actor, rule_id: str, place: Place) -> None:
    """Move a rule to another place. Raises NotFound."""
    with _changing(actor, rule_id) as rules:
        found = _of(rules, rule_id)
        rules.remove(found)
        rules.insert(place(rules), found)


def wire_rule(rule: EventRule) -> Rule:
    """The rule as the pipeline gets it."""
    expires = None if rule.expires is None else format_time(rule.expires)
    return Rule(rule.id, rule.action, build(Match, rule.conditions), dict(rule.arguments), expires)


def _of(rules: Sequence[EventRule], rule_id: str) -> EventRule:
    found = next((rule for rule in rules if rule.id == rule_id), None)
    if found is None:
        raise NotFound(f"no rule {rule_id}; `ezadmin-cmdb rules list` shows them")
    return found


@contextmanager
def _changing(actor: Actor, rule_id: str) -> Iterator[list[EventRule]]:
    """The list of rules, alone; what is done to rule ``rule_id`` in it becomes a change record and the next revision."""
    rights.require(actor, RULES_CHANGE)
    outbox.ensure_rules()
    db.session.get(ConfigRecord, RULES_KEY, with_for_update=True, populate_existing=True)
    query = select(EventRule).order_by(EventRule.position, EventRule.id)
    rules = list(db.session.scalars(query.execution_options(populate_existing=True)))
    old = _snapshot(rules, rule_id)
    yield rules
    for position, rule in enumerate(rules):
        rule.position = position
    changes.record(actor, "rule", rule_id, rule_id, old, _snapshot(rules, rule_id))
    record = RulesRecord([wire_rule(rule) for rule in rules])
    size = len(dump(record))
    if size > MAX_RECORD:
        raise Conflict(f"all rules together would be {size} bytes; at most {MAX_RECORD}")
    db.session.flush()
    outbox.put(RULES_KEY, record)


def _snapshot(rules: Sequence[EventRule], rule_id: str) -> dict[str, Any] | None:
    rule = next((rule for rule in rules if rule.id == rule_id), None)
    if rule is None:
        return None
    return {
        "action": rule.action,
        "match": rule.conditions,
        "arguments": rule.arguments,
        "expires": wire_rule(rule).expires,
        "comment": rule.comment,
        "position": rule.position,
    }

"""``ezadmin-cmdb rules``: what happens to events on their way into Elasticsearch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import utc_now
from ezadmin_cmdb.rules import services
from ezadmin_cmdb.rules.models import EventRule
from ezadmin_wire.config import RULE_ACTIONS, Match, Rule, RulesRecord
from ezadmin_wire.fields import dump
from ezadmin_wire.times import format_time

_UNITS = {"m": 60, "h": 3600, "d": 86400}


def rules_commands(command: Callable[[Callable[..., Any]], Callable[..., Any]]) -> click.Group:
    """The group ``rules``; ``command`` makes a function a command whose first argument is the actor."""
    group = click.Group(
        "rules", help="Rules of events: ignore, filter, set_level, mask, label, exempt; the first ones first."
    )
    for name, function in (("list", _list), ("add", _add), ("remove", _remove), ("move", _move)):
        group.add_command(click.command(name)(command(function)))
    return group


@click.option("--json", "as_json", is_flag=True, help="As `ezadmin-pipeline try --rules` reads them.")
def _list(actor: Actor, as_json: bool) -> None:
    """List the rules in their order."""
    rules = services.everything(actor)
    if as_json:
        record = json.loads(dump(RulesRecord([services.wire_rule(rule) for rule in rules])))
        click.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    for number, rule in enumerate(rules, 1):
        click.echo(f"{number:3}  {rule.id:24} {rule.action:9} {_described(rule)}")
    if not rules:
        click.echo("no rules yet; add one with: ezadmin-cmdb rules add", err=True)


def _described(rule: EventRule) -> str:
    parts = []
    for name, value in rule.conditions.items():
        if isinstance(value, dict):
            parts += [f"{name[:-1]} {key}={text!r}" for key, text in value.items()]
        else:
            parts.append(f"{name} {', '.join(value) if isinstance(value, list) else repr(value)}")
    text = " and ".join(parts) or "every event"
    if rule.arguments:
        text += " -> " + ", ".join(f"{name} {value!r}" for name, value in rule.arguments.items())
    if rule.expires is not None:
        text += f", {'expired' if rule.expires <= utc_now() else 'until'} {format_time(rule.expires)}"
    return text + (f"  # {rule.comment}" if rule.comment else "")


@click.argument("rule_id", metavar="ID")
@click.argument("action", type=click.Choice(RULE_ACTIONS))
@click.option("--level", "levels", multiple=True, help="Level as the host sent it; again for further ones.")
@click.option("--host", "hosts", multiple=True, help="host.id or name; * and ? as wildcards.")
@click.option("--dataset", "datasets", multiple=True, help="event.dataset; wildcards.")
@click.option(
    "--host-label", "labels", multiple=True, metavar="NAME=VALUE", help="Label of the host; wildcards in the value."
)
@click.option(
    "--field", "fields", multiple=True, metavar="NAME=VALUE", help="Field of the event; wildcards in the value."
)
@click.option("--contains", help="Text in the message.")
@click.option("--regex", help="RE2 expression that is found in the message.")
@click.option("--for", "duration", metavar="DURATION", help="How long it is in force: 30m, 12h, 7d.")
@click.option("--until", metavar="TIME", help="Until when: ISO 8601 with a zone.")
@click.option("--to-level", help="set_level: the new level.")
@click.option("--pattern", help="mask: the RE2 expression of what is replaced.")
@click.option("--replacement", help=r"mask: by what; \1 is the first group.")
@click.option("--in-field", help="mask: in which field (message).")
@click.option("--set-label", metavar="NAME=VALUE", help="label: the label.")
@click.option("--comment", default="", help="Why.")
@click.option("--first", is_flag=True, help="Before all others (else behind them).")
@click.option("--before", metavar="ID", help="Before this rule.")
def _add(
    actor: Actor,
    rule_id: str,
    action: str,
    levels: tuple[str, ...],
    hosts: tuple[str, ...],
    datasets: tuple[str, ...],
    labels: tuple[str, ...],
    fields: tuple[str, ...],
    contains: str | None,
    regex: str | None,
    duration: str | None,
    until: str | None,
    to_level: str | None,
    pattern: str | None,
    replacement: str | None,
    in_field: str | None,
    set_label: str | None,
    comment: str,
    first: bool,
    before: str | None,
) -> None:
    """Add a rule: all conditions given must hold. All workers use it within seconds."""
    name, value = (None, None) if set_label is None else _pair("--set-label", set_label)
    arguments = {
        "level": to_level,
        "pattern": pattern,
        "replacement": replacement,
        "field": in_field,
        "name": name,
        "value": value,
    }
    match = Match(
        list(levels),
        list(hosts),
        list(datasets),
        dict(_pair("--host-label", text) for text in labels),
        dict(_pair("--field", text) for text in fields),
        contains,
        regex,
    )
    given = {argument: text for argument, text in arguments.items() if text is not None}
    rule = Rule(rule_id, action, match, given, _expiry(duration, until))
    place = _place(first, False, before, None) or services.last
    services.add(actor, rule, comment, place)
    click.echo(f"rule {rule_id} is added")


@click.argument("rule_id", metavar="ID")
def _remove(actor: Actor, rule_id: str) -> None:
    """Remove rule ID."""
    services.remove(actor, rule_id)
    click.echo(f"rule {rule_id} is removed")


@click.argument("rule_id", metavar="ID")
@click.option("--first", is_flag=True, help="Before all others.")
@click.option("--last", is_flag=True, help="Behind all others.")
@click.option("--before", metavar="ID", help="Before this rule.")
@click.option("--after", metavar="ID", help="Behind this rule.")
def _move(actor: Actor, rule_id: str, first: bool, last: bool, before: str | None, after: str | None) -> None:
    """Move rule ID to another place."""
    place = _place(first, last, before, after)
    if place is None:
        raise click.UsageError("say where: --first, --last, --before ID or --after ID")
    services.move(actor, rule_id, place)
    click.echo(f"order: {', '.join(rule.id for rule in services.everything(actor))}")


def _place(first: bool, last: bool, before: str | None, after: str | None) -> services.Place | None:
    places: list[services.Place] = []
    if first:
        places.append(services.first)
    if last:
        places.append(services.last)
    if before is not None:
        places.append(services.before(before))
    if after is not None:
        places.append(services.after(after))
    if len(places) > 1:
        raise click.UsageError("give one place only")
    return places[0] if places else None


def _pair(option: str, text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise click.UsageError(f"{option} {text!r}: write NAME=VALUE")
    return name, value


def _expiry(duration: str | None, until: str | None) -> str | None:
    if duration is None:
        return until
    if until is not None:
        raise click.UsageError("give --for or --until, not both")
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", duration)
    if not found:
        raise click.UsageError(f"--for {duration!r}: write a number and m, h or d, such as 30m, 12h or 7d")
    return format_time(utc_now() + timedelta(seconds=int(found[1]) * _UNITS[found[2]]))

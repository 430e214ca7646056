"""``ezadmin-cmdb limits``: thresholds, and the hosts that they are for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import click

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.limits import services
from ezadmin_cmdb.limits.services import Target
from ezadmin_wire.config import LimitRecord

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _value(text: str) -> float:
    """A number; with % a hundredth of it, for figures that are ratios."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r}: write a number such as 0.9, or 90% for a ratio") from None


def _duration(text: str) -> int:
    """Seconds, of a number with a unit."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found:
        raise click.BadParameter(f"{text!r}: write a number and s, m, h or d, such as 30s or 5m")
    return int(found[1]) * _UNITS[found[2]]


def _samples(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", text)
    if not found:
        raise click.BadParameter(f"{text!r}: write N/M, such as 3/5 for three of the last five samples")
    return int(found[1]), int(found[2])


def limits_commands(command: Callable[[Callable[..., Any]], Callable[..., Any]]) -> click.Group:
    """The group ``limits``; ``command`` makes a function a command whose first argument is the actor."""
    group = click.Group("limits", help="Limits (thresholds) of figures, and the hosts that they are for.")
    for name, function in (
        ("list", _list),
        ("add", _add),
        ("remove", _remove),
        ("assign", _assign),
        ("unassign", _unassign),
        ("starters", _starters),
    ):
        group.add_command(click.command(name)(command(function)))
    return group


def _targets(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--all-hosts", is_flag=True, help="All hosts."),
        click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Hosts with this label."),
        click.option("--group", "groups", multiple=True, metavar="GROUP", help="Hosts of this group: name or number."),
        click.option(
            "--host", "hosts", multiple=True, metavar="HOST", help="A host: id or name; again for further ones."
        ),
    ):
        function = option(function)
    return function


def _chosen(hosts: tuple[str, ...], labels: tuple[str, ...], groups: tuple[str, ...], all_hosts: bool) -> list[Target]:
    targets = [*(Target(host=host) for host in hosts), *(Target(group=group) for group in groups)]
    for text in labels:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.UsageError(f"--label {text!r}: write NAME=VALUE")
        targets.append(Target(label=name, value=value))
    return [*targets, Target()] if all_hosts else targets


@click.option("--json", "as_json", is_flag=True)
def _list(actor: Actor, as_json: bool) -> None:
    """List the limits."""
    limits = services.everything(actor)
    if as_json:
        table = [
            {"id": limit.id, **limit.definition, "comment": limit.comment, "hosts": services.described(limit)}
            for limit in limits
        ]
        click.echo(json.dumps(table, indent=2, ensure_ascii=False))
        return
    for limit in limits:
        comment = f"  # {limit.comment}" if limit.comment else ""
        click.echo(
            f"{limit.id:24} {_described(services.wire_record(limit))}; {', '.join(services.described(limit))}{comment}"
        )
    if not limits:
        click.echo("no limits yet; add one with: ezadmin-cmdb limits add", err=True)


def _described(record: LimitRecord) -> str:
    parts = [
        record.field + ("" if record.item == "*" else f" of {record.item}") + (" per second" if record.rate else "")
    ]
    for name in ("warning", "critical"):
        up, down = getattr(record, f"{name}_raise"), getattr(record, f"{name}_clear")
        if up is not None:
            sign, back = (">=", "<") if record.comparison == "above" else ("<=", ">")
            parts.append(f"{name} {sign} {up:g}" + ("" if down is None else f" until {back} {down:g}"))
    if record.hold:
        parts.append(f"for {record.hold} s")
    if record.m > 1:
        parts.append(f"{record.n} of {record.m} samples")
    if record.no_data is not None:
        parts.append(f"unknown after {record.no_data} s")
    return ", ".join(parts)


@click.argument("limit_id", metavar="ID")
@click.argument("field", metavar="FIELD")
@click.option(
    "--item", default="*", show_default=True, help="Which mount points, NICs, devices, cores, processes; * and ?."
)
@click.option("--warning", type=_value, metavar="NUMBER", help="A warning from this value on.")
@click.option("--warning-clear", type=_value, metavar="NUMBER", help="Until the value is back beyond this one.")
@click.option("--critical", type=_value, metavar="NUMBER", help="Critical from this value on.")
@click.option("--critical-clear", type=_value, metavar="NUMBER", help="Until the value is back beyond this one.")
@click.option("--below", is_flag=True, help="Values that are too low, not too high.")
@click.option(
    "--for",
    "hold",
    type=_duration,
    metavar="DURATION",
    default="0s",
    help="Only when it has been so for so long: 30s, 5m.",
)
@click.option(
    "--samples", type=_samples, metavar="N/M", default="1/1", help="Only when N of the last M samples were so."
)
@click.option("--rate", is_flag=True, help="Compare the change per second.")
@click.option("--no-data", type=_duration, metavar="DURATION", help="Unknown after so long without a sample.")
@click.option("--comment", default="", help="Why.")
@click.option("--change", is_flag=True, help="Change the limit ID that is there; its hosts stay.")
@_targets
def _add(
    actor: Actor,
    limit_id: str,
    field: str,
    item: str,
    warning: float | None,
    warning_clear: float | None,
    critical: float | None,
    critical_clear: float | None,
    below: bool,
    hold: int,
    samples: tuple[int, int],
    rate: bool,
    no_data: int | None,
    comment: str,
    change: bool,
    hosts: tuple[str, ...],
    labels: tuple[str, ...],
    groups: tuple[str, ...],
    all_hosts: bool,
) -> None:
    """Add a limit on FIELD (docs/fields.md), for the hosts given. All workers use it within seconds."""
    record = LimitRecord(
        field,
        item,
        warning,
        warning_clear,
        critical,
        critical_clear,
        hold,
        *samples,
        rate,
        comparison="below" if below else "above",
        no_data=no_data,
    )
    limit = services.add(actor, limit_id, record, comment, _chosen(hosts, labels, groups, all_hosts), change)
    click.echo(f"limit {limit_id} is {'changed' if change else 'added'}, for: {', '.join(services.described(limit))}")


@click.argument("limit_id", metavar="ID")
def _remove(actor: Actor, limit_id: str) -> None:
    """Remove limit ID; what it raised is closed."""
    services.remove(actor, limit_id)
    click.echo(f"limit {limit_id} is removed")


@click.argument("limit_id", metavar="ID")
@_targets
def _assign(
    actor: Actor, limit_id: str, hosts: tuple[str, ...], labels: tuple[str, ...], groups: tuple[str, ...],
    all_hosts: bool,
) -> None:  # fmt: skip
    """Let limit ID be for further hosts."""
    limit = services.assign(actor, limit_id, _some(hosts, labels, groups, all_hosts))
    click.echo(f"limit {limit_id} is for: {', '.join(services.described(limit))}")


@click.argument("limit_id", metavar="ID")
@_targets
def _unassign(
    actor: Actor, limit_id: str, hosts: tuple[str, ...], labels: tuple[str, ...], groups: tuple[str, ...],
    all_hosts: bool,
) -> None:  # fmt: skip
    """Take limit ID from what it was assigned to."""
    limit = services.unassign(actor, limit_id, _some(hosts, labels, groups, all_hosts))
    click.echo(f"limit {limit_id} is for: {', '.join(services.described(limit))}")


def _starters(actor: Actor) -> None:
    """Add the starter templates that are missing, for all hosts; what is there stays as it is."""
    from ezadmin_cmdb.thresholds import starters  # it knows descriptions

    for template in starters.install(actor):
        click.echo(f"added: {template.name}")


def _some(hosts: tuple[str, ...], labels: tuple[str, ...], groups: tuple[str, ...], all_hosts: bool) -> list[Target]:
    targets = _chosen(hosts, labels, groups, all_hosts)
    if not targets:
        raise click.UsageError("say which: --host, --label, --group or --all-hosts")
    return targets

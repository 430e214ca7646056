"""``ezadmin-cmdb command``: sending commands to agents from a shell, and looking at them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.commands import chain, services, states
from ezadmin_cmdb.commands.kinds import KINDS
from ezadmin_cmdb.commands.models import Run
from ezadmin_cmdb.commands.services import Choice
from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_wire.times import format_time


def command_commands(command: Callable[[Callable[..., Any]], Callable[..., Any]]) -> click.Group:
    """The group ``command``; ``command`` makes a function a command whose first argument is the actor."""
    group = click.Group("command", help="Commands: what agents are to do.")
    run = click.argument("run")
    sending = command(_send)
    for option in (
        click.argument("host", nargs=-1),
        click.option(
            "--filter", "text", help='All hosts that match, as the address of their list says it: "state=active".'
        ),
        click.option(
            "--differing", is_flag=True, help="Only hosts that are to have another configuration than they have."
        ),
        click.option("--argument", "arguments", multiple=True, metavar="NAME=VALUE", help="interval, seconds; reason."),
        click.option("--expires", type=int, metavar="SECONDS", help="Within which a host must begin it."),
        click.option(
            "--expect", type=int, metavar="N", help="How many hosts are meant; needed with --filter and --differing."
        ),
        click.option("--dry-run", is_flag=True, help="Only list the hosts."),
        click.argument("kind", type=click.Choice(list(KINDS))),
    ):
        sending = option(sending)
    group.add_command(click.command("send")(sending))
    group.add_command(click.command("list")(click.option("--limit", default=20, show_default=True)(command(_list))))
    group.add_command(click.command("show")(run(click.option("--json", "as_json", is_flag=True)(command(_show)))))
    group.add_command(click.command("cancel")(run(command(_cancel))))
    group.add_command(click.command("again")(run(command(_again))))
    group.add_command(click.command("verify")(command(_verify)))
    return group


def _send(
    actor: Actor, kind: str, host: tuple[str, ...], text: str | None, differing: bool, arguments: tuple[str, ...],
    expires: int | None, expect: int | None, dry_run: bool,
) -> None:  # fmt: skip
    """Have HOSTs (ids or names), or all that match a filter, do KIND."""
    choice = Choice(tuple(hosts.find(actor, one).id for one in host), text, differing=differing)
    found = services.targets(actor, KINDS[kind], choice)
    for one in found.deaf:
        click.echo(f"not sent to {one.name}: it is {one.state}", err=True)
    if dry_run:
        for one in found.hosts:
            click.echo(f"{one.id}  {one.name}")
        click.echo(f"{len(found.hosts)} hosts; nothing was sent", err=True)
        return
    run = services.send(
        actor,
        choice,
        kind,
        dict(map(_argument, arguments)),
        None if expires is None else timedelta(seconds=expires),
        expect,
    )
    click.echo(f"{run.id}  {kind} for {run.hosts} host{'s' if run.hosts != 1 else ''}")


def _argument(text: str) -> tuple[str, str | int]:
    name, sign, value = text.partition("=")
    if not sign:
        raise click.UsageError(f"--argument {text}: write NAME=VALUE")
    return name, int(value) if name in ("interval", "seconds") and value.isdecimal() else value


def _list(actor: Actor, limit: int) -> None:
    """List what was sent, the newest first."""
    found = db.session.scalars(services.visible_runs(actor).order_by(Run.created.desc(), Run.id).limit(limit)).all()
    counts = services.counts(actor, [run.id for run in found])
    for run in found:
        told = ", ".join(f"{count} {state}" for state, count in counts[run.id].items())
        click.echo(f"{run.id}  {format_time(run.created)}  {run.kind:10} {run.actor_name:16} {told}")
    if not found:
        click.echo("no commands yet", err=True)


def _show(actor: Actor, run: str, as_json: bool) -> None:
    """Show what became of RUN on each of its hosts; exit status 1 while it goes on, 3 if it ended badly somewhere."""
    found = services.latest(actor, services.find_run(actor, run))
    if as_json:
        names = ("id", "host_id", "host_name", "attempt", "state", "source", "reason")
        click.echo(
            json.dumps([{name: getattr(one, name) for name in names} for one in found], indent=2, ensure_ascii=False)
        )
    else:
        for one in found:
            click.echo(f"{one.host_name:30} {one.state:10} {one.reason or ''}".rstrip())
        click.echo(
            ", ".join(f"{count} {state}" for state, count in Counter(one.state for one in found).items()), err=True
        )
    if any(one.state in (*states.WAITING, *states.UNDER_WAY) for one in found):
        raise click.exceptions.Exit(1)
    if any(one.state != states.DONE for one in found):
        raise click.exceptions.Exit(3)


def _cancel(actor: Actor, run: str) -> None:
    """Cancel RUN for the hosts that have not got it."""
    click.echo(f"cancelled for {services.cancel(actor, services.find_run(actor, run))} hosts")


def _again(actor: Actor, run: str) -> None:
    """Send RUN again to the hosts where it failed, was refused, expired or was lost."""
    click.echo(f"sent again to {services.again(actor, services.find_run(actor, run))} hosts")


def _verify(actor: Actor) -> None:
    """Check the states of all commands: that none was changed, added or taken away, and no command altered."""
    verdict = chain.verify()
    if verdict.why:
        raise click.ClickException(f"after {verdict.rows - verdict.first + 1} rows that hold: {verdict.why}")
    older = f"; {verdict.first - 1} older ones were deleted for their age" if verdict.first > 1 else ""
    click.echo(f"{verdict.rows - verdict.first + 1} rows hold; the newest has the hash {verdict.head}{older}")

"""``ezadmin-cmdb audit``: check the chain, and keep anchors of it elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.audit import chain
from ezadmin_cmdb.audit.chain import Anchor
from ezadmin_cmdb.database import utc_now
from ezadmin_wire.times import format_time


def audit_commands(command_with_app: Callable[..., Any]) -> click.Group:
    """The group of commands."""

    @click.group("audit")
    def group() -> None:
        """The audit log: a chain in which no entry can be changed unnoticed."""

    @group.command("verify")
    @click.option(
        "--anchors",
        type=click.File(),
        help="Lines that `audit anchor` printed, kept where nobody else writes; - reads them.",
    )
    @command_with_app
    def verify(_actor: Actor, anchors: Any) -> int:
        """Check the whole chain; exit status 1, naming the first entry that is wrong."""
        verdict = chain.verify(_anchors(anchors.read(), Path(anchors.name)) if anchors else ())
        if verdict.broken is not None:
            click.echo(
                f"broken at entry {verdict.broken}: {verdict.why}\n{verdict.entries} entries before it hold", err=True
            )
            return 1
        click.echo(f"{verdict.entries} entries hold; the last one's hash is {verdict.head.hash}")
        return 0

    @group.command("anchor")
    @command_with_app
    def anchor(_actor: Actor) -> None:
        """Print the newest entry's number and hash as a line of JSON, to be kept where nobody who can write the database can."""
        last = chain.last_entry()
        click.echo(json.dumps({"number": last.number, "hash": last.hash, "time": format_time(utc_now())}))

    return group


def _anchors(text: str, file: Path) -> list[Anchor]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            found.append(Anchor(int(given["number"]), str(given["hash"])))
        except (ValueError, TypeError, KeyError) as error:
            raise click.ClickException(
                f"{file}, line {number} is no anchor: {error}; `audit anchor` prints them"
            ) from error
    return [one for one in found if one.number]

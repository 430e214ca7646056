"""``ezadmin-cmdb enrolment-token``, and ``ezadmin-cmdb host accept`` and ``reject``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
from sqlalchemy import select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe.description import find as described
from ezadmin_cmdb.enrolment import services, tokens
from ezadmin_cmdb.enrolment.models import EnrolmentToken
from ezadmin_cmdb.errors import NotFound
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_wire.times import format_time

Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def token_commands(command_with_app: Wrapper) -> click.Group:
    """The commands of tokens."""

    @click.group("enrolment-token")
    def group() -> None:
        """What new hosts show to become known."""

    @group.command("create")
    @click.option("--name", required=True, help="What it is called in lists.")
    @click.option("--hours", default=tokens.HOURS, show_default=True, help="For how long it is good.")
    @click.option("--uses", default=1, show_default=True, help="For how many hosts it is good.")
    @click.option("--site", help="Site of the hosts (its name or id).")
    @click.option("--group", "group_name", help="Group of hosts that they become members of (its name or id).")
    @click.option("--quarantine", is_flag=True, help="They are not listened to until a person accepts them.")
    @click.option("--replace", is_flag=True, help="A known machine that was installed again takes its old place.")
    @click.option("--json", "as_json", is_flag=True)
    @command_with_app
    def create(
        actor: Actor,
        name: str,
        hours: int,
        uses: int,
        site: str | None,
        group_name: str | None,
        quarantine: bool,
        replace: bool,
        as_json: bool,
    ) -> None:
        """Make a token, and show it: nobody can read it again."""
        made = tokens.create(
            actor, name, hours=hours, uses=uses, site=_named(actor, "site", site), quarantine=quarantine,
            group=_named(actor, "host_group", group_name), replace=replace,
        )  # fmt: skip
        if as_json:
            shown = {"id": made.token.id, "token": made.text, "command": made.command, "missing": made.missing}
            click.echo(json.dumps(shown | {"expires": format_time(made.token.expires)}))
            return
        click.echo(f"token: {made.text}\ngood until {made.token.expires:%Y-%m-%d %H:%M} UTC, for {uses} host(s)")
        click.echo(f"run on the new host, as root:\n{made.command}" if made.command else made.missing)

    @group.command("list")
    @click.option("--json", "as_json", is_flag=True)
    @command_with_app
    def list_(actor: Actor, as_json: bool) -> None:
        """List the tokens, the newest first."""
        found = db.session.scalars(select(EnrolmentToken).order_by(EnrolmentToken.created.desc())).all()
        if as_json:
            click.echo(json.dumps([_plain(token) for token in found], indent=2))
            return
        for token in found:
            click.echo(f"{token.id:6}  {token.name:30} {_state(token):10} {token.uses}/{token.uses_max} hosts")
        if not found:
            click.echo("no tokens; make one with: ezadmin-cmdb enrolment-token create", err=True)

    @group.command("revoke")
    @click.argument("token")
    @command_with_app
    def revoke(actor: Actor, token: str) -> None:
        """Revoke a TOKEN (id or name): nobody comes with it any more, who came stays."""
        found = tokens.find(token)
        tokens.revoke(actor, found)
        click.echo(f"{found.name} is revoked")

    return group


def add_host_commands(group: click.Group, command_with_app: Wrapper) -> None:
    """The commands about hosts in quarantine."""

    @group.command("accept")
    @click.argument("host")
    @command_with_app
    def accept(actor: Actor, host: str) -> None:
        """Accept a HOST (id or name) that is in quarantine: it is listened to."""
        found = hosts.find_to_change(actor, host)
        services.accept(actor, found)
        click.echo(f"{found.name}: {found.state}")

    @group.command("reject")
    @click.argument("host")
    @command_with_app
    def reject(actor: Actor, host: str) -> None:
        """Reject a HOST (id or name) that is in quarantine: it and its keys are revoked."""
        found = hosts.find_to_change(actor, host)
        services.reject(actor, found)
        click.echo(f"{found.name}: {found.state}")


def _named(actor: Actor, kind: str, text: str | None) -> Any:
    if text is None:
        return None
    found = described(kind).resolve(actor, [text])
    if text.strip() not in found:
        raise NotFound(f"{described(kind).title}: nothing, or more than one, is called {text}")
    return found[text.strip()]


def _state(token: EnrolmentToken) -> str:
    return tokens.state(token)


def _plain(token: EnrolmentToken) -> dict[str, Any]:
    return {
        "id": token.id, "name": token.name, "state": _state(token), "uses": token.uses, "uses_max": token.uses_max,
        "expires": format_time(token.expires),
    }  # fmt: skip

"""Commands about accounts: tokens, lock-outs, second factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from sqlalchemy import select

from ezadmin_cmdb.accounts import guards, second_factor, tokens
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import ApiToken
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.errors import NotFound
from ezadmin_wire.times import format_time


def add_user_commands(group: click.Group, command_with_app: Callable[..., Any]) -> None:
    """What belongs to ``ezadmin-cmdb user``."""

    @group.command("unlock")
    @click.argument("name", required=False)
    @click.option("--address", help="Forget also, or only, the failures from this address.")
    @command_with_app
    def unlock(actor: Actor, name: str | None, address: str | None) -> None:
        """Let user NAME, who is locked out, try again."""
        if not name and not address:
            raise click.UsageError("give NAME or --address")
        count = guards.unlock(actor, accounts.find_user(name) if name else None, address)
        click.echo(f"unlocked: {' '.join(filter(None, (name, address)))} ({count} counters)")

    @group.command("reset-second-factor")
    @click.argument("name")
    @command_with_app
    def reset(actor: Actor, name: str) -> None:
        """Take the second factor from user NAME, who lost phone and recovery codes."""
        second_factor.reset(actor, accounts.find_user(name))
        click.echo(f"the second factor of {name} is off")


def token_commands(command_with_app: Callable[..., Any]) -> click.Group:
    """``ezadmin-cmdb token``."""

    @click.group("token")
    def group() -> None:
        """Tokens, with which programs use the API."""

    @group.command("create")
    @click.option("--user", "name", required=True, help="For whom it acts.")
    @click.option("--name", "title", required=True, help="What it is for.")
    @click.option(
        "--scope", "scopes", multiple=True, required=True, metavar="PERMISSION", help="As host.view; again for more."
    )
    @click.option("--days", default=tokens.DAYS, show_default=True)
    @click.option(
        "--network", "networks", multiple=True, metavar="CIDR", help="From where it may be used; again for more."
    )
    @command_with_app
    def create(
        actor: Actor, name: str, title: str, scopes: tuple[str, ...], days: int, networks: tuple[str, ...]
    ) -> None:
        """Make a token and print it, this once."""
        _token, text = tokens.create(actor, accounts.find_user(name), title, scopes, days, networks)
        click.echo(text)

    @group.command("list")
    @command_with_app
    def show(_actor: Actor) -> None:
        """List all tokens."""
        for one in db.session.scalars(select(ApiToken).order_by(ApiToken.id)):
            used = f"last used {format_time(one.last_used)} from {one.last_address}" if one.last_used else "never used"
            click.echo(f"{one.id}  {one.user.name}  {one.name}  {one.hint}…  until {format_time(one.expires)}  {used}")

    @group.command("revoke")
    @click.argument("token_id", type=int)
    @command_with_app
    def revoke(actor: Actor, token_id: int) -> None:
        """Revoke a token by its number, which `token list` shows."""
        token = db.session.get(ApiToken, token_id)
        if token is None:
            raise NotFound(f"there is no token {token_id}")
        tokens.revoke(actor, token)
        click.echo(f"token {token_id} is revoked")

    return group

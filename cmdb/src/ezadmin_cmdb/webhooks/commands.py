"""``ezadmin-cmdb webhook``: what an operator does with webhooks from a shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from sqlalchemy import select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.errors import NotFound
from ezadmin_cmdb.webhooks import services
from ezadmin_cmdb.webhooks.description import DELIVERY, WEBHOOK
from ezadmin_cmdb.webhooks.models import DELIVERED, Webhook


def webhook_commands(command: Callable[[Callable[..., Any]], Callable[..., Any]]) -> click.Group:
    """The group ``webhook``; ``command`` makes a function a command whose first argument is the actor."""
    group = click.Group("webhook", help="Webhooks: other programs are told what changes.")
    named = click.argument("name")
    group.add_command(click.command("list")(command(_list)))
    group.add_command(click.command("test")(named(command(_test))))
    group.add_command(click.command("secret")(named(command(_secret))))
    group.add_command(click.command("again")(click.argument("delivery", type=int)(command(_again))))
    return group


def _find(actor: Actor, name: str) -> Webhook:
    found = WEBHOOK.resolve(actor, [name])
    if name not in found:
        raise NotFound(f"no webhook {name}; see: ezadmin-cmdb webhook list")
    webhook: Webhook = found[name]
    return webhook


def _list(actor: Actor) -> None:
    """List the webhooks."""
    for one in db.session.scalars(select(Webhook).order_by(Webhook.name)):
        state = "on" if one.active else "off"
        if one.failing_since and one.active:
            state = "failing"
        click.echo(f"{one.id:6}  {one.name:30} {state:8} {one.url}{f'  ({one.notice})' if one.notice else ''}")


def _test(actor: Actor, name: str) -> int:
    """Call the receiver of webhook NAME (or id) now; exit status 1 if it does not take the call."""
    made = services.test(actor, _find(actor, name))
    click.echo(
        f"delivery {made.id}: {made.status} in {made.milliseconds} ms, {made.error or f'answer {made.answer_status}'}"
    )
    return 0 if made.status == DELIVERED else 1


def _secret(actor: Actor, name: str) -> None:
    """Give webhook NAME (or id) another secret and print it, this once."""
    click.echo(services.renew_secret(actor, _find(actor, name)))


def _again(actor: Actor, delivery: int) -> None:
    """Send DELIVERY (its number) once more; the worker does."""
    made = services.again(actor, described.find(actor, DELIVERY, delivery))
    click.echo(f"delivery {made.id} waits for the worker")

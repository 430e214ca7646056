"""The command ``ezadmin-cmdb``."""

from __future__ import annotations

import functools
import getpass
import json
import socket
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from flask import Flask
from sqlalchemy.exc import DBAPIError

from ezadmin_cmdb import __version__, migrate, own, settings, worker
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.commands import add_user_commands, token_commands
from ezadmin_cmdb.actor import Actor, cli_actor
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.audit.commands import audit_commands
from ezadmin_cmdb.backup.commands import backup_commands
from ezadmin_cmdb.commands.commands import command_commands
from ezadmin_cmdb.database import NO_SUCH_TABLE, db, error_code, unavailable, unit_of_work
from ezadmin_cmdb.enrolment.commands import add_host_commands
from ezadmin_cmdb.enrolment.commands import token_commands as enrolment_token_commands
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.grafana.commands import grafana_commands
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.install.commands import agent_commands
from ezadmin_cmdb.jobs.commands import import_command
from ezadmin_cmdb.kafka_access.commands import kafka_commands
from ezadmin_cmdb.limits.commands import limits_commands
from ezadmin_cmdb.rules.commands import rules_commands
from ezadmin_cmdb.settings import ENVIRONMENT, Settings, SettingsError
from ezadmin_cmdb.signer.commands import signer_commands
from ezadmin_cmdb.webhooks.commands import webhook_commands
from ezadmin_wire import WireError, log
from ezadmin_wire.config import HOST_STATES
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

UNKNOWN_COLUMN = 1054


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed (the message says why), 2 wrong use."""
    try:
        result = cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except SettingsError as error:
        return _failed(str(error), 2)
    except (DomainError, WireError) as error:
        return _failed(str(error))


def _failed(text: str, status: int = 1) -> int:
    print(f"ezadmin-cmdb: {text}", file=sys.stderr)
    return status


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that needs the settings; database errors become messages."""

    @click.option(
        "--config", type=click.Path(path_type=Path), help=f"Settings (else the file that {ENVIRONMENT} names)."
    )
    @click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
    @click.option("--log-format", default="json", type=click.Choice(["json", "console"]))
    @functools.wraps(function)
    def wrapped(config: Path | None, log_level: str, log_format: str, **options: Any) -> Any:
        log.configure(log_level, log_format)
        loaded = settings.load(config)
        try:
            return function(loaded, **options)
        except DBAPIError as error:
            raise click.ClickException(_database_message(loaded, error)) from error

    return wrapped


def _database_message(loaded: Settings, error: DBAPIError) -> str:
    if error_code(error) in (NO_SUCH_TABLE, UNKNOWN_COLUMN):
        return f"the database {loaded.database_shown} is not up to date: {error.orig}\nrun: ezadmin-cmdb db upgrade"
    if unavailable(error):
        return (
            f"the database {loaded.database_shown} cannot be used: {error.orig}\n"
            "Is it running, and are address, user and password in the settings right?"
        )
    return f"the database {loaded.database_shown} refuses: {error.orig}"


def command_with_app(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command that works in the application, as one unit: all of it is committed at its end, or nothing."""

    @command
    @functools.wraps(function)
    def wrapped(loaded: Settings, **options: Any) -> Any:
        app: Flask = create_core(loaded)
        with app.app_context(), unit_of_work():
            # all that one command changes stands together in the history
            return function(replace(cli_actor(getpass.getuser()), request_id=str(uuid.uuid4())), **options)

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ezadmin-cmdb", message="%(prog)s %(version)s")
def cli() -> None:
    """ezadmin's CMDB: hosts, configuration, web application."""


@cli.command("worker")
@command
def _worker(loaded: Settings) -> int:
    """Publish configuration and store what agents report, until SIGTERM."""
    return worker.run(loaded)


@cli.command("web")
@command
def _web(loaded: Settings) -> None:
    """Serve pages and API, until SIGTERM."""
    from ezadmin_cmdb import server  # gunicorn is not needed by anything else

    server.run(loaded)


@cli.command("gateway")
@command
def _gateway(loaded: Settings) -> int:
    """Serve agents: enrolment, commands, uploads and files, until SIGTERM."""
    from ezadmin_cmdb.gateway import server  # Starlette and uvicorn are not needed by anything else

    return server.run(loaded)


@cli.command("identity")
@command
def _identity(loaded: Settings) -> None:
    """Who the cmdb is where it tells of itself, as JSON; makes its key if it has none."""
    click.echo(json.dumps(own.identity(loaded, make=True).public(f"{socket.gethostname()}-cmdb")))


# -- database ---


@cli.group("db")
def _db() -> None:
    """The database's tables."""


@_db.command("upgrade")
@click.argument("revision", default="head")
@command
def _db_upgrade(loaded: Settings, revision: str) -> None:
    """Bring the tables up to this program's version (or to REVISION)."""
    with create_core(loaded).app_context():
        migrate.upgrade(db.engine, revision)
        click.echo(f"database at revision {migrate.current(db.engine)}")


@_db.command("downgrade")
@click.argument("revision")
@command
def _db_downgrade(loaded: Settings, revision: str) -> None:
    """Bring the tables down to REVISION ("base": none). What later revisions hold is lost."""
    with create_core(loaded).app_context():
        migrate.downgrade(db.engine, revision)
        click.echo(f"database at revision {migrate.current(db.engine) or 'base (empty)'}")


@_db.command("current")
@command
def _db_current(loaded: Settings) -> int:
    """Show the tables' revision; exit status 1 if it is not this program's."""
    with create_core(loaded).app_context():
        found, newest = migrate.current(db.engine), migrate.head()
    click.echo(
        f"{found or 'base (empty)'}{'' if found == newest else f', needed: {newest}; run: ezadmin-cmdb db upgrade'}"
    )
    return 0 if found == newest else 1


# -- keys ---


@cli.group("key")
def _key() -> None:
    """Keys that configuration is signed with."""


@_key.command("generate")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to make.")
def _key_generate(out: Path) -> None:
    """Make a key file (mode 0600) and print its public key, 64 hex digits, for the pipeline's settings."""
    key = SigningKey.generate()
    try:
        key.save(out)
    except FileExistsError as error:
        raise click.ClickException(f"{out} exists: a key is never overwritten; move it away first") from error
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error.strerror}") from error
    click.echo(key.public.hex())


# -- users ---


@cli.group("user")
def _user() -> None:
    """Who may sign in."""


@_user.command("create-admin")
@click.option("--name", default="admin", show_default=True)
@click.option(
    "--print-once", is_flag=True, help="Make up a password and print it; do nothing if there is an administrator."
)
@command_with_app
def _user_create_admin(actor: Actor, name: str, print_once: bool) -> None:
    """Make an administrator. Asks for the password, unless --print-once makes one up."""
    if print_once and accounts.any_admin():
        click.echo("there is an administrator already; nothing is changed", err=True)
        return
    password = accounts.random_password() if print_once else _new_password()
    accounts.create_user(actor, name, password, admin=True)
    if print_once:
        click.echo(f"user: {name}\npassword: {password}")
    else:
        click.echo(f"{name} may sign in")


@_user.command("set-password")
@click.argument("name")
@command_with_app
def _user_set_password(actor: Actor, name: str) -> None:
    """Set the password of user NAME, who forgot it; signs him out everywhere."""
    user = accounts.find_user(name)
    accounts.set_password(actor, user, _new_password())
    accounts.end_sessions(user)
    click.echo(f"{name} has a new password")


def _new_password() -> str:
    """Asked twice on a terminal, else one line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


# -- hosts ---


@cli.group("host")
def _host() -> None:
    """Hosts."""


@_host.command("add")
@click.option("--id", "host_id", required=True, help="host.id, a UUID.")
@click.option("--name", required=True)
@click.option("--public-key", required=True, help="64 hex digits.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE")
@click.option("--add-key", is_flag=True, help="Accept a further key for a host that is there.")
@command_with_app
def _host_add(actor: Actor, host_id: str, name: str, public_key: str, labels: tuple[str, ...], add_key: bool) -> None:
    """Make a host known, so that what it sends is believed. Again with the same id and key: nothing changes."""
    pairs = {name: value for name, value in map(_label, labels) if value is not None}
    host = hosts.add(actor, host_id, name, public_key, pairs, add_key)
    click.echo(f"host {host.name} ({host.id}) is known with {len(host.keys)} key{'s' if len(host.keys) != 1 else ''}")


@_host.command("list")
@click.option("--json", "as_json", is_flag=True)
@command_with_app
def _host_list(actor: Actor, as_json: bool) -> None:
    """List the hosts."""
    found = hosts.everything(actor)
    if as_json:
        click.echo(json.dumps([{"id": host.id, "name": host.name, "state": host.state} for host in found], indent=2))
        return
    for host in found:
        system = " ".join(filter(None, (host.os_name, host.os_version)))
        click.echo(f"{host.id}  {host.name:30} {host.state:12} {system or 'has not reported yet'}")
    if not found:
        click.echo("no hosts yet; add one with: ezadmin-cmdb host add", err=True)


@_host.command("show")
@click.argument("host")
@command_with_app
def _host_show(actor: Actor, host: str) -> None:
    """Show all that is known of a HOST (id or name), as JSON."""
    found = hosts.find(actor, host)
    moments = {name: getattr(found, name) for name in ("created", "inventory_collected", "agent_collected")}
    shown = hosts.snapshot(found) | {name: format_time(value) for name, value in moments.items() if value}
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False))


@_host.command("label")
@click.argument("host")
@click.argument("labels", nargs=-1, required=True, metavar="NAME=VALUE|NAME-...")
@command_with_app
def _host_label(actor: Actor, host: str, labels: tuple[str, ...]) -> None:
    """Set labels of a HOST (id or name): NAME=VALUE sets one, NAME- takes it away."""
    found = hosts.find(actor, host)
    hosts.set_labels(actor, found, dict(map(_label, labels)))
    click.echo(f"{found.name}: {', '.join(f'{label.name}={label.value}' for label in found.labels) or 'no labels'}")


@_host.command("state")
@click.argument("host")
@click.argument("state", type=click.Choice(HOST_STATES))
@command_with_app
def _host_state(actor: Actor, host: str, state: str) -> None:
    """Set the state of a HOST (id or name): only an active host is listened to."""
    found = hosts.find(actor, host)
    hosts.set_state(actor, found, state)
    click.echo(f"{found.name}: {found.state}")


@_host.command("key-revoke")
@click.argument("host")
@click.argument("kid")
@command_with_app
def _host_key_revoke(actor: Actor, host: str, kid: str) -> None:
    """Revoke key KID of a HOST (id or name): nothing signed with it is believed any more."""
    found = hosts.find(actor, host)
    hosts.revoke_key(actor, found, kid)
    click.echo(f"{found.name}: key {kid} is revoked")


def _label(text: str) -> tuple[str, str | None]:
    name, sign, value = text.partition("=")
    if sign:
        return name, value
    if text.endswith("-"):
        return text[:-1], None
    raise click.UsageError(f"label {text!r}: write NAME=VALUE, or NAME- to take it away")


cli.add_command(grafana_commands)
cli.add_command(signer_commands)
cli.add_command(command_commands(command_with_app))
cli.add_command(kafka_commands(command))
cli.add_command(agent_commands)
cli.add_command(rules_commands(command_with_app))
cli.add_command(limits_commands(command_with_app))
cli.add_command(import_command(command_with_app))
cli.add_command(audit_commands(command_with_app))
cli.add_command(webhook_commands(command_with_app))
cli.add_command(token_commands(command_with_app))
cli.add_command(enrolment_token_commands(command_with_app))
add_host_commands(_host, command_with_app)
add_user_commands(_user, command_with_app)
for one in backup_commands(command):
    cli.add_command(one)


if __name__ == "__main__":
    sys.exit(main())

"""``ezadmin-cmdb dump`` and ``restore``."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ezadmin_cmdb.actor import cli_actor
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.backup import services
from ezadmin_cmdb.database import db
from ezadmin_cmdb.settings import Settings


def backup_commands(command: Callable[..., Any]) -> list[click.Command]:
    """Both commands."""

    @click.command("dump")
    @click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
    @command
    def dump(loaded: Settings, file: Path) -> None:
        """Write the whole database, as it is at one moment, into FILE (gzip, mode 0600). Nobody has to stop working."""
        with create_core(loaded).app_context():
            try:
                counts = services.dump(db.engine, file)
            except OSError as error:
                raise click.ClickException(f"cannot write {error.filename or file}: {error.strerror}") from error
        click.echo(f"{sum(counts.values())} rows of {len(counts)} tables in {file}")

    @click.command("restore")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.option("--replace", is_flag=True, help="Delete what the database holds; else it must be empty.")
    @command
    def restore(loaded: Settings, file: Path, replace: bool) -> None:
        """Make the database what FILE, written by dump, holds: all of it, or nothing. Stop web and worker before."""
        with create_core(loaded).app_context():
            done = services.restore(cli_actor(getpass.getuser()), db.engine, file, replace)
        click.echo(
            f"{sum(done.rows.values())} rows of {len(done.rows)} tables, as they were at {done.header.time}; "
            f"revision {done.revision}. Start the worker: it publishes the configuration again."
        )

    return [dump, restore]

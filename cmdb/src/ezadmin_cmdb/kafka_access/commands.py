"""``ezadmin-cmdb kafka``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ezadmin_cmdb.kafka_access import setup as making
from ezadmin_cmdb.settings import Settings, SettingsError
from ezadmin_wire.errors import WireError
from ezadmin_wire.kafka import KafkaConnection


def kafka_commands(command: Callable[[Callable[..., Any]], Callable[..., Any]]) -> click.Group:
    """The commands; ``command`` makes a function a command whose first argument is the settings."""

    @click.group("kafka")
    def group() -> None:
        """Users and rights in Kafka."""

    @group.command("setup")
    @click.option(
        "--as",
        "administrator",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="TOML file with the table [kafka] of an administrator; else that of the settings.",
    )
    @click.option(
        "--passwords",
        type=click.Path(file_okay=False, path_type=Path),
        required=True,
        help="Folder of the users' passwords, one file each; made where they are missing.",
    )
    @click.option("--dry-run", is_flag=True, help="Only say what would be made.")
    @command
    def setup(loaded: Settings, administrator: Path | None, passwords: Path, dry_run: bool) -> None:
        """Make the users of all parts with the rights that docs/security.md lists; again: what is missing."""
        kafka = loaded.kafka if administrator is None else _connection(administrator)
        done = making.setup(kafka, loaded.names, passwords, dry_run)
        for line in making.shown(done, dry_run):
            click.echo(line)
        if not dry_run:
            click.echo(f'\nin [kafka] of each part: sasl = "{making.MECHANISM}", user = "…",')
            click.echo(f'password_file = "…": copies of {passwords}/USER.password')

    return group


def _connection(path: Path) -> KafkaConnection:
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    if not isinstance(table.get("kafka"), dict):
        raise SettingsError(f"{path}: write a table [kafka] with bootstrap, tls, sasl, user and password_file")
    try:
        return KafkaConnection.parse(table["kafka"], f"{path}: [kafka]")
    except WireError as error:
        raise SettingsError(str(error)) from error

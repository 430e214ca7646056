"""``ezadmin-cmdb signer``: run it, look at what it signed, halt it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ezadmin_cmdb.signer import settings as settings_module
from ezadmin_cmdb.signer.book import BookError, verify
from ezadmin_cmdb.signer.settings import CommandSettings, CommandSettingsError

ENVIRONMENT = "EZADMIN_CMDB_CONFIG"

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar=ENVIRONMENT,
    help=f"Settings (else the file that {ENVIRONMENT} names).",
)


def with_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command that is given ``[commands]`` of the settings."""

    @config_option
    def wrapped(config: Path | None, **options: Any) -> Any:
        return function(_settings(config), **options)

    wrapped.__doc__ = function.__doc__
    return wrapped


def _settings(config: Path | None) -> CommandSettings:
    try:
        return settings_module.load(_file(config))
    except CommandSettingsError as error:
        raise click.ClickException(str(error)) from error


def _file(config: Path | None) -> Path:
    if config is None:
        raise click.ClickException(f"no configuration: give --config FILE or set {ENVIRONMENT}")
    return config


@click.group("signer", invoke_without_command=True)
@config_option
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", default="json", type=click.Choice(["json", "console"]))
@click.pass_context
def signer_commands(context: click.Context, config: Path | None, log_level: str, log_format: str) -> None:
    """Sign commands until SIGTERM; alone reads their key."""
    if context.invoked_subcommand is None:
        # a process of its own, in which nothing is but what signing needs
        module = [sys.executable, "-m", "ezadmin_cmdb.signer"]
        options = ["--config", str(_file(config)), "--log-level", log_level, "--log-format", log_format]
        os.execv(sys.executable, [*module, *options])  # noqa: S606 - the program itself, with no shell in between


@signer_commands.command("verify")
@with_settings
def _verify(settings: CommandSettings) -> None:
    """Check the file of what was signed: that nothing in it was changed, added or taken away."""
    if settings.signer_log is None:
        raise click.ClickException("[commands]: signer_log is not set")
    try:
        head = verify(settings.signer_log)
    except BookError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{settings.signer_log}: {head.number} lines hold; the newest has the hash {head.hash}")


@signer_commands.command("halt")
@click.option("--reason", required=True, help="Why; it is shown to everybody who tries to send a command.")
@with_settings
def _halt(settings: CommandSettings, reason: str) -> None:
    """Emergency switch: from now on nothing is signed but commands that stop agents, until `release`."""
    path = _switch(settings)
    try:
        path.write_text(f"{reason}\n")
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"halted by {path}: nothing is signed but stop; `ezadmin-cmdb signer release` ends it")


@signer_commands.command("release")
@with_settings
def _release(settings: CommandSettings) -> None:
    """End what `halt` began."""
    path = _switch(settings)
    there = path.exists()
    path.unlink(missing_ok=True)
    click.echo("commands are signed again" if there else "it was not halted")


def _switch(settings: CommandSettings) -> Path:
    if settings.halted is None:
        raise click.ClickException("[commands]: signer_log is not set")
    return settings.halted

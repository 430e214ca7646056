"""``ezadmin-cmdb agent``: the bundle that hosts install the agent from."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import click

from ezadmin_cmdb import settings
from ezadmin_cmdb.install import BundleError, bundle, scripts
from ezadmin_cmdb.settings import ENVIRONMENT


@click.group("agent")
def agent_commands() -> None:
    """What hosts install the agent from."""


@agent_commands.command("bundle")
@click.option("--config", type=click.Path(path_type=Path), help=f"Settings (else the file that {ENVIRONMENT} names).")
@click.option("--out", type=click.Path(path_type=Path), help="The folder (else [gateway] files of the settings).")
@click.option("--target", "targets", multiple=True, metavar="NAME", help="Only for this, such as cp311-x86_64-glibc.")
@click.option("--here", is_flag=True, help="Only for hosts like this one.")
@click.option("--all", "everything", is_flag=True, help="For all kinds of hosts, also if the bundle there is of fewer.")
@click.option("--refresh", is_flag=True, help="Look for newer versions of what the agent needs, too.")
@click.option("--archive", type=click.Path(path_type=Path), help="Write the offline archive (.tar.gz) as well.")
@click.option("--json", "as_json", is_flag=True)
def _bundle(
    config: Path | None,
    out: Path | None,
    targets: tuple[str, ...],
    here: bool,
    everything: bool,
    refresh: bool,
    archive: Path | None,
    as_json: bool,
) -> None:
    """Make the bundle of the agent: its wheel and all that it needs, for each kind of host.

    A bundle that is there is brought up to date, for the kinds of hosts that it is for.
    """
    gateway = settings.load(config).gateway if config or os.environ.get(ENVIRONMENT) else None
    folder = out or (gateway.files if gateway else None)
    if folder is None:
        raise click.UsageError("name a folder with --out, or set files under [gateway] in the settings")
    known = {one.name: one for one in bundle.TARGETS}
    for name in targets:
        if name not in known:
            raise click.UsageError(f"--target {name}: there are {', '.join(known)}")
    try:
        wanted = [known[name] for name in targets] + ([bundle.here()] if here else [])
        if not wanted:
            there = None if everything else bundle.read(folder)
            wanted = [known[name] for name in (there.targets if there else known) if name in known]
        made = bundle.build(folder, wanted, refresh=refresh, tell=lambda text: click.echo(text, err=True))
        if archive is not None:
            found = scripts(folder, gateway.url if gateway else None, gateway.ca_file if gateway else None)
            data = found.archive(folder, wanted[0].name if len(wanted) == 1 else None)
            archive.write_bytes(data)
            click.echo(f"{hashlib.sha256(data).hexdigest()}  {archive}", err=as_json)
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename or folder}: {error.strerror}") from error
    shown = bundle.shown(made)
    if as_json:
        click.echo(json.dumps(shown))
    else:
        click.echo(
            f"{folder}: agent {shown['version']} for {shown['targets']} kinds of hosts, {shown['files']} files of "
            f"{shown['mb']} MB, {shown['mb_of_a_host']} MB for a host\nbundle.json {shown['sha256']}"
        )

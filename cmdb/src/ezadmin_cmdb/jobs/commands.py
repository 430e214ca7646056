"""``ezadmin-cmdb import``: CSV of any described model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from flask_babel import force_locale

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.describe import bulk, bulkapi, importing
from ezadmin_cmdb.describe.description import Description, known

SHOWN = 50


def import_command(command: Callable[[Callable[..., Any]], Callable[..., Any]]) -> click.Command:
    """The command; ``command`` makes a function a command whose first argument is the actor."""
    function = command(_import)
    for option in (
        click.option(
            "--errors", type=click.Path(dir_okay=False, path_type=Path), help="Write wrong lines here, as CSV."
        ),
        click.option(
            "--skip-wrong", is_flag=True, help="Write the lines that are right; else nothing if one is wrong."
        ),
        click.option("--dry-run", is_flag=True, help="Only say what would become of each line."),
        click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
        click.argument("model"),
    ):
        function = option(function)
    return click.command("import")(function)


def _description(name: str) -> Description:
    models = {one.name: one for one in known() if one.changeable}
    found = models.get(name) or next((one for one in models.values() if one.path == name), None)
    if found is None:
        raise click.UsageError(f"no model {name!r}: one of {', '.join(sorted(models))}")
    return found


def _import(actor: Actor, model: str, file: Path, dry_run: bool, skip_wrong: bool, errors: Path | None) -> int:
    """Import FILE (CSV: UTF-8 or CP949) of MODEL: site, host, ... Exit status 1 if lines are wrong."""
    description = _description(model)
    data = file.read_bytes()
    with force_locale("en"):
        outcome = bulkapi.take(actor, description, data, dry_run, skip_wrong)
        if outcome["unknown_columns"]:
            click.echo(f"nobody knows these columns: {', '.join(outcome['unknown_columns'])}", err=True)
        wrong = {row["number"]: row["errors"] for row in outcome["items"] if row["status"] == bulk.WRONG}
        for number, why in list(wrong.items())[:SHOWN]:
            text = "; ".join(f"{name}: {error}" if name else error for name, error in why.items())
            click.echo(f"line {number}: {text}", err=True)
        if len(wrong) > SHOWN:
            click.echo(f"and {len(wrong) - SHOWN} more wrong lines", err=True)
        if errors is not None and wrong:
            table = importing.read(data)
            lines = [(cells, wrong[number]) for number, cells, _errors in table.rows if number in wrong]
            errors.write_text(importing.with_errors(table.header, lines), encoding="utf-8", newline="")
    counts = ", ".join(f"{count} {status}" for status, count in outcome["counts"].items() if count)
    done = "written" if outcome["written"] else "nothing written"
    click.echo(f"{outcome['encoding']}, {outcome['delimiter']}: {counts}; {done}")
    return 1 if wrong else 0

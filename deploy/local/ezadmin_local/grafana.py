"""Grafana, which no package registry has: one that is installed is run with the stack, one that runs gets the dashboards."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .config import Endpoints, Program, grafana_ini, stamp, with_parent
from .errors import LocalError
from .layout import GRAFANA, Layout

HOW_TO_GET = (
    "no Grafana found: install one from grafana.com and say `up` again (GRAFANA_HOME=its folder if it is not on PATH), "
    "or GRAFANA_URL=http://… of one that runs"
)
_HOMES = ("/usr/share/grafana", "/opt/grafana")


@dataclass(frozen=True)
class Installed:
    """A Grafana on this machine: its home folder and the words that start its server."""

    home: Path
    command: list[str]


@dataclass(frozen=True)
class Running:
    """A Grafana that runs somewhere."""

    url: str


def find(environment: Mapping[str, str] = os.environ) -> Installed | Running | None:
    """The Grafana to use: GRAFANA_URL before GRAFANA_HOME before PATH. Raises LocalError for a home without a server."""
    if url := environment.get("GRAFANA_URL"):
        return Running(url.rstrip("/"))
    named = environment.get("GRAFANA_HOME")
    found = [Path(named)] if named else []
    for program in ("grafana", "grafana-server"):
        path = shutil.which(program, path=environment.get("PATH"))
        if path and not named:
            found += [Path(path).resolve().parent.parent, *map(Path, _HOMES)]
    for home in found:
        if not (home / "public").is_dir():
            continue
        for program, words in (("grafana", ["server"]), ("grafana-server", [])):
            for binary in (home / "bin" / program, *(Path(p) for p in [shutil.which(program) or ""] if p)):
                if os.access(binary, os.X_OK) and binary.is_file():
                    return Installed(home.resolve(), [str(binary), *words])
    if named:
        raise LocalError(f"GRAFANA_HOME={named} holds no Grafana: bin/grafana and public/ are expected there.")
    return None


def program(layout: Layout, endpoints: Endpoints, grafana: Installed) -> Program:
    """How the stack's own Grafana is started; writes its configuration and makes its administrator's password."""
    ini = layout.etc / "grafana.ini"
    ini.write_text(grafana_ini(layout, endpoints))
    password = layout.keys / "grafana.password"
    if not password.exists():
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(15))
    command = [*grafana.command, "--homepath", str(grafana.home), "--config", str(ini)]
    return Program(GRAFANA, with_parent(command), layout.run, start_seconds=3, stamp=stamp(ini.read_bytes()))

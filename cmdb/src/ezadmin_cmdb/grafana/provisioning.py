"""Grafana's provisioning files: for a server whose folder of them can be written, instead of its API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ezadmin_cmdb.grafana import alerting, bundle
from ezadmin_cmdb.grafana.sources import FOLDER_TITLE, FOLDER_UID, SOURCES, payload
from ezadmin_wire.names import Names

URL_VARIABLE = "EZADMIN_ELASTICSEARCH_URL"
PATH_VARIABLE = "EZADMIN_GRAFANA_DASHBOARDS"
RULES_FILE = "alerting/ezadmin.yaml"
_RULES_HEAD = "# Made by grafana/build.py. Example alert rules: change limits, or leave out what you do not want.\n"
_HEAD = "# Made by grafana/build.py. Grafana puts in the value of ${…} from its environment.\n"


def templates(names: Names) -> dict[str, str]:
    """The files by path, with Grafana's environment to be asked for the address and for the dashboards' folder."""
    found = _files(names, f"${{{URL_VARIABLE}}}", f"${{{PATH_VARIABLE}}}", _HEAD)
    return {**found, RULES_FILE: _RULES_HEAD + _yaml(alerting.document())}


def write(
    folder: Path,
    names: Names,
    elasticsearch_url: str,
    web_url: str,
    user: str | None = None,
    password: str | None = None,
    ca: str | None = None,
    rules: bool = False,
) -> None:
    """Write ``datasources/``, ``dashboards/`` and the dashboards themselves (``json/``) below ``folder``, ready to be
    Grafana's ``paths.provisioning``; with ``rules`` the example alert rules, too. Raises OSError."""
    home = folder / "json"
    account = (
        None if user is None else _literal(user),
        None if user is None else _literal(password or ""),
        None if ca is None else _literal(ca),
    )
    for name, text in _files(names, _literal(elasticsearch_url), _literal(str(home.resolve())), "", *account).items():
        _write(folder / name, text)
    if rules:
        _write(folder / RULES_FILE, _yaml(alerting.document()))
    for uid, dashboard in bundle.dashboards().items():
        _write(home / f"{uid}.json", json.dumps(bundle.with_web_url(dashboard, web_url), indent=1, ensure_ascii=False))


def _literal(text: str) -> str:
    """Grafana replaces ``$NAME`` in these files by its environment; ``$$`` is a dollar sign."""
    return text.replace("$", "$$")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o640)
    path.chmod(0o640)  # it may hold a password; one that was there before keeps its mode otherwise
    path.write_text(text, "utf-8")


def _files(
    names: Names,
    url: str,
    path: str,
    head: str,
    user: str | None = None,
    password: str | None = None,
    ca: str | None = None,
) -> dict[str, str]:
    sources = [payload(source, url, names, user, password, ca) | {"editable": False} for source in SOURCES]
    provider = {
        "name": "ezadmin",
        "type": "file",
        "folder": FOLDER_TITLE,
        "folderUid": FOLDER_UID,
        "allowUiUpdates": False,
        "options": {"path": path},
    }
    return {
        "datasources/ezadmin.yaml": head + _yaml({"apiVersion": 1, "datasources": sources}),
        "dashboards/ezadmin.yaml": head + _yaml({"apiVersion": 1, "providers": [provider]}),
    }


def _yaml(value: dict[str, Any]) -> str:
    """JSON, which is YAML: no library is needed to write it, and every character is quoted as it must be."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

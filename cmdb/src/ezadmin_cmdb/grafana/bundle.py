"""The dashboards that come with this version, and what an installation puts into them."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

WEB_URL = "ezadmin_url"
"""Hidden variable of every dashboard: where the web application is, for links to host pages."""
BUILD = "ezadmin_build"
"""Hidden variable of every dashboard: fingerprint of the version it was made as."""


def dashboards() -> dict[str, dict[str, Any]]:
    """All dashboards by uid, as ``grafana/build.py`` made them."""
    folder = resources.files(__package__) / "dashboards"
    found = [json.loads(file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".json")]
    return {dashboard["uid"]: dashboard for dashboard in sorted(found, key=lambda dashboard: str(dashboard["uid"]))}


def with_web_url(dashboard: dict[str, Any], web_url: str) -> dict[str, Any]:
    """A copy whose links lead to the web application at ``web_url`` (``https://host:port``)."""
    changed = copy.deepcopy(dashboard)
    address = web_url.rstrip("/")
    option = {"selected": True, "text": address, "value": address}
    _variable(changed, WEB_URL).update(query=address, current=option, options=[option])
    return changed


def build_of(dashboard: dict[str, Any]) -> str | None:
    """The fingerprint that a dashboard carries, None if it is not one of ours."""
    try:
        return str(_variable(dashboard, BUILD)["query"])
    except KeyError:
        return None


def _variable(dashboard: dict[str, Any], name: str) -> dict[str, Any]:
    for variable in dashboard.get("templating", {}).get("list", []):
        if variable.get("name") == name:
            found: dict[str, Any] = variable
            return found
    raise KeyError(name)

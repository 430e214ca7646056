"""Vendored assets: their addresses, and icons drawn into the page (a font of icons would be one more thing to load)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from flask import url_for
from markupsafe import Markup

STATIC = Path(__file__).parent.parent / "static"


@cache
def _versions() -> dict[str, str]:
    lock = json.loads((STATIC / "vendor.lock.json").read_text())
    return {package["name"]: package["version"] for package in lock["packages"]}


def vendored(package: str, path: str) -> str:
    """The address of a file of an npm package."""
    return url_for("static", filename=f"vendor/{package}-{_versions()[package]}/{path}")


@cache
def icon(name: str) -> Markup:
    """An icon of bootstrap-icons; decoration only, so hidden from screen readers: words stand beside it."""
    path = STATIC / "vendor" / f"bootstrap-icons-{_versions()['bootstrap-icons']}" / "icons" / f"{name}.svg"
    return Markup(path.read_text().replace("<svg ", '<svg aria-hidden="true" focusable="false" '))  # noqa: S704 - ours  # nosec B704

"""Where a browser finds the gateway's WebSockets."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from flask import current_app, request

from ezadmin_cmdb.settings import Settings

PATH = "/api/agent/v1"
_HOST = re.compile(r"[0-9A-Za-z.:_-]+")


def origin() -> str:
    """``ws://host:port`` or ``wss://host:port`` of the gateway, as the browser of this request reaches it.

    A gateway that stands at a loopback address or whose URL nobody gave is looked for on the host that the browser asked.
    """
    settings: Settings = current_app.extensions["ezadmin_settings"]
    gateway = settings.gateway
    if gateway.url is not None:
        found = urlsplit(gateway.url)
        secure, host, port = found.scheme == "https", found.hostname or "", found.port
    else:
        secure, host, port = gateway.cert_file is not None, "127.0.0.1", gateway.port
    if _loopback(host):
        asked = urlsplit(f"//{request.host}").hostname or ""
        host = asked if _HOST.fullmatch(asked) else host
    name = f"[{host}]" if ":" in host else host
    return f"{'wss' if secure else 'ws'}://{name}" + ("" if port is None else f":{port}")


def url(name: str) -> str:
    """The URL of the WebSocket ``name``."""
    return f"{origin()}{PATH}/{name}"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Free ports, chosen once and kept."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
from collections.abc import Callable, Collection
from pathlib import Path

from .errors import LocalError

NAMES = (
    "kafka",
    "kafka_controller",
    "elasticsearch",
    "elasticsearch_transport",
    "mariadb",
    "web",
    "gateway",
    "grafana",
)
OWNERS = {
    "kafka": "kafka",
    "kafka_controller": "kafka",
    "elasticsearch": "elasticsearch",
    "elasticsearch_transport": "elasticsearch",
    "mariadb": "mariadb",
    "web": "cmdb-web",
    "gateway": "cmdb-gateway",
    "grafana": "grafana",
}
"""Which program listens on a port."""

FIRST, LAST = 15000, 31999
"""Below Linux's range for outgoing connections (32768 and up), which would take a port while the stack is down."""


def is_free(port: int) -> bool:
    """True if a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: connections fading away are no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True


def read(path: Path) -> dict[str, int]:
    """The ports kept in a file; none if there is no file or it is no such file."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: port for name, port in content.items() if name in NAMES and type(port) is int and 0 < port < 65536}


def choose(
    kept: dict[str, int], running: Collection[str], seed: str, free: Callable[[int], bool] = is_free
) -> tuple[dict[str, int], dict[str, int]]:
    """The ports to use, and of those the ones that replace a kept port which another program has taken meanwhile.

    kept: what was used before. running: programs that listen now, whose ports therefore are not asked.
    seed: where in the range to begin, so that two stacks set up at the same moment do not look at the same ports.
    Raises LocalError if the whole range is taken.
    """
    chosen: dict[str, int] = {}
    for name in NAMES:
        port = kept.get(name)
        if port is not None and port not in chosen.values() and (OWNERS[name] in running or free(port)):
            chosen[name] = port
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4])
    size = LAST - FIRST + 1
    candidates = (FIRST + (start + offset) % size for offset in range(size))
    replaced: dict[str, int] = {}
    for name in NAMES:
        if name in chosen:
            continue
        taken = set(chosen.values()) | set(kept.values())
        port = next((port for port in candidates if port not in taken and free(port)), None)
        if port is None:
            raise LocalError(
                f"no free port on 127.0.0.1 between {FIRST} and {LAST} for {name}: end some programs first."
            )
        chosen[name] = port
        if name in kept:
            replaced[name] = port
    return {name: chosen[name] for name in NAMES}, replaced

"""``ezadmin-agent diagnose``: one archive with what a helper needs to know, secrets masked, no private key in it."""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import tarfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from ezadmin_agent import __version__, check, config
from ezadmin_agent.secrets import mask_text

PACKAGES = ("ezadmin-agent", "ezadmin-wire", "psutil", "kafka-python", "cryptography", "crc32c")


def write(target: Path, config_file: Path) -> list[str]:
    """Write the archive ``target`` (gzip'ed tar) and return the names in it. Raises OSError if it cannot be written."""
    parts: dict[str, Callable[[], str]] = {
        "versions.txt": _versions,
        "config.toml": lambda: config_file.read_text(encoding="utf-8", errors="replace"),
        "config-check.txt": lambda: _config_check(config_file),
        "status.json": lambda: status_file(config_file).read_text(encoding="utf-8"),
        "spool.txt": lambda: _spool(config_file),
        "check.txt": lambda: _check(config_file),
        "once.txt": _once,
        "limits.txt": lambda: Path("/proc/self/limits").read_text() + Path("/proc/self/cgroup").read_text(),
        "mounts.txt": lambda: Path("/proc/self/mounts").read_text(),
    }
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, make in parts.items():
            try:
                text = make()
            except Exception as error:  # noqa: BLE001 - what is broken is what the archive is for
                text = f"not here: {type(error).__name__}: {error}\n"
            data = mask_text(text).encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"ezadmin-agent/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return list(parts)


def status_file(config_file: Path) -> Path:
    """Where the agent of this configuration writes its status."""
    return config.load(config_file).state_dir / "status.json"


def _versions() -> str:
    lines = [f"agent {__version__}", f"python {sys.version}", f"system {platform.platform()}", f"uid {os.getuid()}"]
    for name in PACKAGES:
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} is not installed")
    return "\n".join(lines) + "\n"


def _config_check(config_file: Path) -> str:
    try:
        return f"{config.load(config_file)}\n"
    except config.ConfigError as error:
        return f"{error}\n"


def _spool(config_file: Path) -> str:
    root = config.load(config_file).state_dir
    lines = []
    for directory, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(directory) / name
            found = path.stat()
            lines.append(
                f"{found.st_size:>12} {int(found.st_mtime)} {oct(found.st_mode & 0o777)} {path.relative_to(root)}"
            )
    return "\n".join(lines) + "\n"


def _check(config_file: Path) -> str:
    return "\n".join(json.dumps(step._asdict()) for step in check.run(config.load(config_file), wait=5.0)) + "\n"


def _once() -> str:
    from ezadmin_agent.reader import Reader
    from ezadmin_agent.registry import COLLECTORS
    from ezadmin_agent.ticks import Ticker

    ticker = Ticker(Reader(), COLLECTORS)
    ticker.prime()
    time.sleep(1.0)
    now = int(time.time() * 1000)
    tick = ticker.run(now - now % 1000)
    lines = [*tick.metrics, *(line for _, line in tick.events)]
    costs = [f"{name} {cost.cpu_ms:.3f} ms CPU, {cost.errors} errors" for name, cost in ticker.costs.items()]
    return "\n".join([*costs, *(line.decode() for line in lines)]) + "\n"

"""What the machine has: system packages, Java, MariaDB's programs, user namespaces, a system log."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import LocalError

MIN_JAVA = 17
SYSTEM_LOG_FILES = (Path("/var/log/syslog"), Path("/var/log/messages"))
JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
LOG_SOCKET = Path("/dev/log")
FREE_BYTES_NEEDED = 3 << 30


@dataclass(frozen=True)
class Machine:
    """The programs that the stack is started with."""

    java_home: Path
    mariadbd: Path
    mariadb_install_db: Path
    mariadb: Path


@dataclass(frozen=True)
class LogSource:
    """Where a line must be written to become an event: a file, or journald where file is None."""

    file: Path | None
    own: bool
    """True where the file is the stack's own, for the machine has no system log."""


def find_program(name: str) -> Path | None:
    """A program on PATH or in the sbin folders, which are not on a normal user's PATH."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    return Path(found) if found else None


def find_java() -> Path | None:
    """The home of a Java 17 or newer: JAVA_HOME, then PATH, then what distributions install."""
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(Path(os.environ["JAVA_HOME"]))
    on_path = shutil.which("java")
    if on_path:
        candidates.append(Path(on_path).resolve().parents[1])
    candidates += sorted(Path("/usr/lib/jvm").glob("*"))
    return next((home for home in candidates if (java_version(home) or 0) >= MIN_JAVA), None)


def java_version(home: Path) -> int | None:
    """Major version of the Java in a folder, None if there is none. Read from a file, which is quicker than asking."""
    if not (home / "bin" / "java").exists():
        return None
    try:
        release = (home / "release").read_text()
    except OSError:
        return None
    match = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    return int(match[1]) if match else None


def missing_packages(need_maven: bool, need_venv: bool) -> list[str]:
    """The apt packages that the stack needs and the machine lacks: names of Debian 12, Ubuntu 24.04 and later."""
    missing = []
    if find_java() is None:
        missing.append("default-jre-headless")  # Java 17 on Debian 12, 21 on Debian 13 and Ubuntu 24.04
    if need_maven and find_program("mvn") is None:
        missing.append("maven")
    # The server without its package `mariadb-server`: that one would start a system service.
    if find_program("mariadbd") is None or find_program("mariadb-install-db") is None:
        missing.append("mariadb-server-core")
    if find_program("mariadb") is None:
        missing.append("mariadb-client-core")
    if need_venv and importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")
    if find_program("setpriv") is None or find_program("unshare") is None:
        missing.append("util-linux")
    return missing


def refuse_missing(missing: list[str]) -> None:
    """Raises LocalError that names the missing packages and the command that installs them."""
    how = (
        f"Install them as root, then say `up` again:\n"
        f"    apt-get update && apt-get install --no-install-recommends {' '.join(missing)}"
        if find_program("apt-get")
        else "This machine has no apt-get: install what these Debian packages hold with its own package manager."
    )
    raise LocalError(f"missing system packages: {', '.join(missing)}.\n{how}")


def apt_commands(packages: list[str]) -> list[list[str]]:
    """The commands that install packages, in order. They remove nothing: a MySQL in the way stops them instead."""
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    return [[*apt, "update"], [*apt, "install", "--no-install-recommends", "--no-remove", *packages]]


APT_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_MODE": "l",  # Ubuntu's needrestart would restart the machine's services; list them only
}


def find() -> Machine:
    """The programs of a machine whose packages are there."""
    java, mariadbd = find_java(), find_program("mariadbd")
    install_db, client = find_program("mariadb-install-db"), find_program("mariadb")
    if java is None or mariadbd is None or install_db is None or client is None:
        refuse_missing(missing_packages(need_maven=False, need_venv=False))
        raise AssertionError("a program is missing that no package stands for")
    return Machine(java, mariadbd, install_db, client)


def has_user_namespaces() -> bool:
    """True if root can start a program as another user of a namespace of its own."""
    probe = subprocess.run(
        ["unshare", "--user", "--map-user=1000", "--map-group=1000", "true"], capture_output=True, check=False
    )
    return probe.returncode == 0


def log_source(own_file: Path) -> LogSource:
    """Where this machine's system log is; the stack's own file where nobody listens for log messages."""
    if _answers(LOG_SOCKET):
        for path in SYSTEM_LOG_FILES:
            if path.is_file() and os.access(path, os.R_OK):
                return LogSource(path, own=False)
    if _answers(JOURNAL_SOCKET) and shutil.which("journalctl"):
        return LogSource(None, own=False)
    return LogSource(own_file, own=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def refuse_full_disk(folder: Path) -> None:
    """Raises LocalError where so little is free that Elasticsearch would soon refuse to write."""
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_NEEDED:
        raise LocalError(
            f"only {free / (1 << 30):.1f} GiB are free where {folder} lies; the stack needs {FREE_BYTES_NEEDED >> 30}: "
            "Elasticsearch stops writing when the disk is nearly full.\nFree some, or use --state DIR on another disk."
        )

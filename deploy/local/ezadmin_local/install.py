"""Installs what all stacks of a checkout share: apt packages, the virtual environment, Kafka and Elasticsearch."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from . import machine
from .console import Console, Step
from .errors import LocalError
from .layout import PACKAGES, Layout
from .locks import hold

SUPERVISOR = "supervisor>=4.3,<5"
STAMP = ".ezadmin-stamp"
LAST_LINES = 20


def prepare(layout: Layout, console: Console) -> None:
    """Installs what is missing and nothing else; a second call takes milliseconds.

    Raises LocalError that names what could not be installed, with the last lines of what its installer said.
    """
    venv_wanted, dist_wanted = venv_stamp(layout), _dist_stamp(layout)
    layout.shared.mkdir(parents=True, exist_ok=True)

    def need(folder: Path, stamp: str) -> bool:
        marker = folder / STAMP
        return not marker.exists() or marker.read_text() != stamp

    missing = machine.missing_packages(
        need_maven=need(layout.dist, dist_wanted), need_venv=need(layout.venv, venv_wanted)
    )
    if not (missing or need(layout.venv, venv_wanted) or need(layout.dist, dist_wanted)):
        return
    with hold(layout.shared / ".install.lock", "installing", lambda who: console.say(f"waiting for {who} ...")):
        if missing:
            _install_packages(missing, console)
        jobs: dict[str, Callable[[Step], None]] = {}
        if need(layout.venv, venv_wanted):
            jobs["Python packages"] = lambda step: _make_venv(layout, venv_wanted, step)
        if need(layout.dist, dist_wanted):
            jobs["Kafka and Elasticsearch"] = lambda step: _make_dist(layout, dist_wanted, step)
        if jobs:
            _run_jobs(jobs, console)


def _install_packages(missing: list[str], console: Console) -> None:
    if os.geteuid() != 0 or machine.find_program("apt-get") is None:
        machine.refuse_missing(missing)
    with console.step(f"installing {', '.join(missing)}") as step:
        for command in machine.apt_commands(missing):
            _run(command, f"apt-get {command[5]}", step, environment={**os.environ, **machine.APT_ENVIRONMENT})
        console.say(f"{console.seconds:6.1f} s  system packages installed: {', '.join(missing)}")
    importlib.invalidate_caches()  # ensurepip may be among them
    still = machine.missing_packages(need_maven="maven" in missing, need_venv="python3-venv" in missing)
    if still:
        machine.refuse_missing(still)


def _run_jobs(jobs: dict[str, Callable[[Step], None]], console: Console) -> None:
    """Runs jobs side by side; the first error is raised when all have ended."""
    errors: list[Exception] = []
    with console.step("installing") as step:

        def work(name: str, job: Callable[[Step], None]) -> None:
            try:
                job(step)
                console.say(f"{console.seconds:6.1f} s  {name} installed")
            except Exception as error:  # noqa: BLE001 (raised again below, in the thread that can)
                errors.append(error)

        threads = [threading.Thread(target=work, args=item) for item in jobs.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


# -- the virtual environment ---


def packages(layout: Layout) -> list[str]:
    """The folders of the checkout that can be installed."""
    return [name for name in PACKAGES if (layout.checkout / name / "pyproject.toml").is_file()]


def venv_stamp(layout: Layout) -> str:
    """A hash of all that decides what the virtual environment holds."""
    digest = hashlib.sha256()
    for text in (sys.base_prefix, platform.python_version(), str(layout.venv), SUPERVISOR):
        digest.update(text.encode() + b"\0")
    for name in packages(layout):
        digest.update(name.encode() + b"\0" + (layout.checkout / name / "pyproject.toml").read_bytes())
    return digest.hexdigest()


def _make_venv(layout: Layout, stamp: str, step: Step) -> None:
    python = layout.command("python")
    marker = layout.venv / STAMP
    marker.unlink(missing_ok=True)  # until all is in, nothing is
    if not _same_python(python):
        shutil.rmtree(layout.venv, ignore_errors=True)
        step.detail("pip", "Python: virtual environment")
        _run([_base_python(), "-m", "venv", str(layout.venv)], "python3 -m venv", step)
    names = packages(layout)
    step.detail("pip", f"Python: {', '.join([*names, 'supervisor'])}")
    sources = [argument for name in names for argument in ("-e", f"./{name}")]
    _run(
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", SUPERVISOR, *sources],
        "pip install",
        step,
        directory=layout.checkout,
    )
    step.detail("pip", None)
    marker.write_text(stamp)


def _base_python() -> str:
    """This Python, or the one that it is a virtual environment of: an environment must not hang on another."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix) / "bin" / name
    return str(base) if base.exists() else sys.executable


def _same_python(python: Path) -> bool:
    """True if the environment is there and of the Python that runs this."""
    try:
        result = subprocess.run(
            [str(python), "-c", "import platform, sys; print(sys.base_prefix, platform.python_version())"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return False
    return result.stdout.strip() == f"{sys.base_prefix} {platform.python_version()}"


# -- the servers ---


def elasticsearch_home(layout: Layout) -> Path:
    """The folder of the unpacked Elasticsearch. Raises LocalError if there is none."""
    homes = sorted(layout.dist.glob("elasticsearch-*"))
    if not homes:
        raise LocalError(f"no Elasticsearch in {layout.dist}: remove that folder and say `up` again.")
    return homes[-1]


def _dist_stamp(layout: Layout) -> str:
    return hashlib.sha256(layout.pom.read_bytes()).hexdigest()


def _make_dist(layout: Layout, stamp: str, step: Step) -> None:
    """Fetches into a folder beside and moves it into place: a fetch that was cut off leaves nothing half."""
    maven = machine.find_program("mvn")
    java = machine.find_java()
    if maven is None or java is None:
        raise LocalError("Maven or Java is missing")
    for left in layout.shared.glob("dist.new-*"):
        shutil.rmtree(left)
    new = Path(tempfile.mkdtemp(prefix="dist.new-", dir=layout.shared))
    new.chmod(0o755)  # Elasticsearch may run as a user of its own
    command = [str(maven), "-B", "-f", str(layout.pom), f"-Ddist={new}", "generate-resources"]
    environment = {**os.environ, "JAVA_HOME": str(java)}
    progress = MavenProgress()

    def show(line: str) -> None:
        step.detail("maven", progress.feed(line))

    step.detail("maven", "Maven: starts")
    try:
        _run(command, "mvn", step, environment=environment, on_line=show, remember=progress.is_telling)
    except LocalError:
        # Maven keeps for a day in mind that something was not found or not reached; -U asks again.
        step.detail("maven", "Maven: asks again")
        _run([*command, "-U"], "mvn", step, environment=environment, on_line=show, remember=progress.is_telling)
    (new / STAMP).write_text(stamp)
    if layout.dist.exists():
        old = Path(tempfile.mkdtemp(prefix="dist.new-", dir=layout.shared))
        layout.dist.rename(old / "old")
        new.rename(layout.dist)
        shutil.rmtree(old)
    else:
        new.rename(layout.dist)
    step.detail("maven", None)


class MavenProgress:
    """Counts what Maven says it has downloaded."""

    _DONE = re.compile(r"Downloaded from \S+: \S*/(\S+) \(([\d.]+) (B|kB|MB|GB)")
    _BEGUN = re.compile(r"Downloading from \S+: \S*/(\S+)")
    _UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}  # noqa: RUF012 (never changed)

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0.0
        self.current = ""

    def feed(self, line: str) -> str:
        """Takes one line of Maven's output; gives back what to show."""
        if done := self._DONE.search(line):
            self.files += 1
            self.bytes += float(done[2]) * self._UNITS[done[3]]
            self.current = ""
        elif begun := self._BEGUN.search(line):
            self.current = begun[1]
        return f"Maven: {self.files} files, {self.bytes / 1e6:.0f} MB" + (f", {self.current}" if self.current else "")

    @staticmethod
    def is_telling(line: str) -> bool:
        """True for lines that help when Maven failed."""
        return "ERROR" in line or "BUILD" in line


# -- commands ---


def _run(
    command: list[str],
    name: str,
    step: Step,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    remember: Callable[[str], bool] = lambda line: bool(line.strip()),
) -> None:
    """Runs a command to its end. Raises LocalError with its last lines if it failed."""
    if on_line is None:
        step.detail(name, name)
    last: deque[str] = deque(maxlen=LAST_LINES)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        cwd=directory,
    )
    assert process.stdout is not None  # noqa: S101 (for the type checker: a pipe was asked for)
    with process.stdout:
        for line in process.stdout:
            if on_line:
                on_line(line)
            if remember(line):
                last.append(line.rstrip())
    if process.wait() != 0:
        raise LocalError(f"{name} failed (exit status {process.returncode}):\n    " + "\n    ".join(last))
    if on_line is None:
        step.detail(name, None)

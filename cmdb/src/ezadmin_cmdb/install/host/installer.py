"""Installs ezadmin's agent on the host that runs this. Part of install.sh, which has found a Python for it and hands it over.

Needs nothing but Python's own library. ``SETTINGS`` is filled by install.sh: address and certificate authority of the
gateway, the SHA-256 of the bundle, and the texts of the files that it writes.

Everything that a run makes is undone if the run fails before the agent was enrolled; an upgrade that does not run is taken back.
"""

from __future__ import annotations

import argparse
import base64
import compileall
import contextlib
import fcntl
import hashlib
import io
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

SETTINGS: dict[str, Any] = {}
ATTEMPTS = 5
TIMEOUT = 60.0
NAME = "ezadmin-agent"
SERVICES = ("auto", "systemd", "openrc", "init", "cron", "none")


class Failed(Exception):
    """What failed and where, and what to do about it."""

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(what)
        self.todo = todo


def say(text: str) -> None:
    """One line of what is done."""
    print(text, flush=True)


# -- what kind of host this is ---


def target() -> tuple[str, str, str]:
    """(target of the bundle, C library, its version) of this host, such as ("cp311-x86_64-glibc", "glibc", "2.36")."""
    try:
        libc, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError):
        libc, version = "musl", "1.2"  # musl tells its version to nobody but its own loader
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    return f"{python}-{os.uname().machine}-{libc}", libc, version


def interpreter() -> str:
    """The Python to run the agent with: the very one, not a link that an update of the system turns to another."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def number(version: str) -> tuple[int, ...]:
    """ "2.17" as (2, 17)."""
    return tuple(int(part) for part in version.split("."))


# -- where the files come from ---


class Source:
    """Gives the files of the bundle, each checked against its SHA-256 before anything is done with it."""

    def __init__(self, url: Optional[str], folder: Optional[Path], ca: Optional[str], proxy: Optional[str]) -> None:
        self._url = url
        self._folder = folder
        self.proxy = None if folder else proxy_for(url or "", proxy)
        handlers: list[Any] = [
            urllib.request.ProxyHandler({"http": self.proxy, "https": self.proxy} if self.proxy else {})
        ]
        if url and url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=tls(ca)))
        self._opener = urllib.request.build_opener(*handlers)

    @property
    def where(self) -> str:
        """For messages."""
        return str(self._folder) if self._folder else f"{self._url}" + (f" through {self.proxy}" if self.proxy else "")

    def manifest(self) -> dict[str, Any]:
        """What bundle.json says. Raises Failed."""
        data = self._file(SETTINGS["bundle"], "bundle.json")
        table: dict[str, Any] = json.loads(data)
        return table

    def wheel(self, wheel: dict[str, Any]) -> bytes:
        """The bytes of a wheel. Raises Failed."""
        return self._file(wheel["sha256"], wheel["name"])

    def _file(self, sha256: str, name: str) -> bytes:
        data = self._read(sha256, name) if self._folder else self._download(sha256, name)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise Failed(
                f"{name} from {self.where} is not what it should be: its SHA-256 is {found}, expected was {sha256}",
                "it was changed on its way or on the server; nothing of it was used. Tell who runs ezadmin",
            )
        return data

    def _read(self, sha256: str, name: str) -> bytes:
        path = (self._folder or Path()) / ("bundle.json" if name == "bundle.json" else f"files/{sha256}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise Failed(f"cannot read {name} ({path}): {error.strerror}", "unpack the whole archive again") from error

    def _download(self, sha256: str, name: str) -> bytes:
        """Goes on where a torn download ended; the whole is checked by its hash."""
        data = bytearray()
        url = f"{self._url}/api/agent/v1/files/{sha256}"
        for attempt in range(1, ATTEMPTS + 1):
            headers = {"Range": f"bytes={len(data)}-"} if data else {}
            request = urllib.request.Request(url, headers=headers)  # noqa: S310 (the gateway's own http(s) address)
            try:
                with self._opener.open(request, timeout=TIMEOUT) as answer:
                    if answer.status != 206:
                        data.clear()
                    wanted = len(data) + int(answer.headers.get("Content-Length") or 0)
                    while part := answer.read(1 << 16):
                        data += part
                    if len(data) >= wanted:
                        return bytes(data)
                    problem = f"the connection ended after {len(data)} of {wanted} bytes"
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code not in (408, 429):
                    raise Failed(
                        f"cannot download {name}: {self.where} answers {error.code} {error.reason}",
                        "get a new line to install with from ezadmin: this one may be of a bundle that is gone",
                    ) from error
                problem = f"the gateway answers {error.code} {error.reason}"
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                if isinstance(reason, ssl.SSLCertVerificationError):
                    raise Failed(
                        f"the certificate of {self.where} is not good: {reason.verify_message}",
                        "somebody may stand in between, or this host's clock is wrong (see: date). Nothing was installed",
                    ) from error
                problem = str(reason)
            if attempt < ATTEMPTS:
                say(f"  {name}: {problem}; trying again ({attempt} of {ATTEMPTS - 1})")
                time.sleep(attempt)
        raise Failed(
            f"cannot download {name} from {self.where}: {problem}",
            "is the gateway reached from here (name, port, firewall)? Through a proxy: --proxy http://HOST:PORT",
        )


def tls(ca: Optional[str]) -> ssl.SSLContext:
    """Certificate and name are checked, against ``ca`` (PEM) alone, or what the system trusts; as the agent does it."""
    # not the default context: that of Python 3.13 refuses what many private authorities sign
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=ca)
        context.verify_flags |= 0x80000  # X509_V_FLAG_PARTIAL_CHAIN: trusted by itself, whoever signed it
    return context


def proxy_for(url: str, given: Optional[str]) -> Optional[str]:
    """The proxy to reach ``url`` by: the one given, else what the environment says (https_proxy, no_proxy)."""
    if given:
        return given
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    if not host or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(scheme)


# -- what is done on the disk, and how it is undone ---


class Undo:
    """What has to be taken back if the run fails, last first."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], object]]] = []
        self._kept = False

    def add(self, text: str, function: Callable[[], object]) -> None:
        """``function`` undoes what ``text`` names."""
        if not self._kept:
            self._steps.append((text, function))

    def keep(self) -> None:
        """What was done stays, and so does what comes: the next run goes on from there."""
        self._steps.clear()
        self._kept = True

    def run(self) -> list[str]:
        """Undo all; returns what was undone."""
        done = []
        while self._steps:
            text, function = self._steps.pop()
            try:
                function()
                done.append(text)
            except OSError as error:
                done.append(f"{text} could NOT be removed ({error.strerror}): remove it by hand")
        return done


def remove(path: Path) -> None:
    """Remove a file, link or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """A whole file or none."""
    new = path.with_name(f".{path.name}.new")
    remove(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(new, mode)
    os.replace(new, path)


def link(path: Path, to: str) -> None:
    """A symbolic link, turned at once if it is there."""
    new = path.with_name(f".{path.name}.new")
    remove(new)
    os.symlink(to, new)
    os.replace(new, path)


def run(*command: str, check: bool = True, given: str = "") -> subprocess.CompletedProcess[str]:
    """A command to its end, with ``given`` as its input. Raises Failed with what it said."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failed(f"cannot run {command[0]}: {error.strerror}", "see the message") from error
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        raise Failed(
            f"{shlex.join(command)} ended with status {done.returncode}: {' / '.join(said[-5:])}", "see its message"
        )
    return done


def unpack(data: bytes, lib: Path) -> None:
    """The packages of a wheel into ``lib``. Raises Failed for a name that leads out of it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            parts = entry.filename.split("/")
            if entry.is_dir():
                continue
            if parts[0].endswith(".data"):
                if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            if not parts[0] or ".." in parts:
                raise Failed(f"a file named {entry.filename!r} in a wheel", "tell who runs ezadmin")
            path = lib.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(entry))


# -- services ---


class Service:
    """Starts, stops and keeps the agent. This one by nothing but the script ``ezadmin-agent-service`` (kind "none")."""

    kind = "none"
    after_boot = "nothing starts it after a reboot: have it run `{script} start` then"

    def __init__(self, install: Install) -> None:
        self.install = install
        self.script = str(install.prefix / "current" / "bin" / f"{NAME}-service")

    def files(self) -> dict[Path, tuple[str, int]]:
        """What to write: path -> text and mode."""
        return {}

    def enable(self) -> None:
        """After the files were written: start at boot."""

    def start(self) -> None:
        """Start it, or start it anew."""
        run(self.script, "restart")

    def pause(self) -> None:
        """Stop it for now."""
        run(self.script, "stop", check=False)

    def stop(self) -> None:
        """Stop it and forget it, for undoing."""
        run(self.script, "stop", check=False)

    def log(self) -> str:
        """How to see its log."""
        return f"tail {self.install.state / 'agent.log'}"


class Systemd(Service):
    """A unit of the system, or, as a plain user, of his own."""

    kind = "systemd"
    after_boot = ""

    @property
    def _ctl(self) -> list[str]:
        return ["systemctl"] if self.install.root else ["systemctl", "--user"]

    def files(self) -> dict[Path, tuple[str, int]]:
        """The unit."""
        install = self.install
        text: str = SETTINGS["unit"]
        if install.root:
            path = Path("/etc/systemd/system") / f"{NAME}.service"
        else:
            path = install.home / ".config/systemd/user" / f"{NAME}.service"
            # what only the system's manager can do, or would keep a plain user's agent from its own files
            text = SETTINGS["user_unit"]
        for key, value in (
            ("@AGENT@", install.prefix / "current" / "bin" / NAME),
            ("@CONFIG@", install.config),
            ("@STATE@", install.state),
        ):
            text = text.replace(key, str(value))
        return {path: (text, 0o644)}

    def enable(self) -> None:
        """At boot; a user's unit only if it may stay after he signs out."""
        run(*self._ctl, "daemon-reload")
        run(*self._ctl, "enable", f"{NAME}.service")
        if not self.install.root and run("loginctl", "enable-linger", check=False).returncode != 0:
            user = pwd.getpwuid(os.getuid()).pw_name
            say(
                f"  it would end when {user} signs out; so that it goes on, let root run: loginctl enable-linger {user}"
            )

    def start(self) -> None:
        """Start it anew."""
        run(*self._ctl, "restart", f"{NAME}.service")

    def pause(self) -> None:
        """Stop it for now."""
        run(*self._ctl, "stop", f"{NAME}.service", check=False)

    def stop(self) -> None:
        """Stop and disable."""
        run(*self._ctl, "disable", "--now", f"{NAME}.service", check=False)

    def log(self) -> str:
        """In the journal."""
        return f"journalctl {'' if self.install.root else '--user '}-u {NAME}"


class Init(Service):
    """A script in /etc/init.d: of SysV's kind, or OpenRC's."""

    kind = "init"
    after_boot = ""
    path = Path("/etc/init.d") / NAME

    def files(self) -> dict[Path, tuple[str, int]]:
        """The script, which calls ours."""
        return {self.path: (SETTINGS[self.kind].replace("@SCRIPT@", self.script), 0o755)}

    def enable(self) -> None:
        """By the distribution's own tool."""
        if self.kind == "openrc":
            run("rc-update", "add", NAME, "default")
        elif shutil.which("update-rc.d"):
            run("update-rc.d", NAME, "defaults")
        elif shutil.which("chkconfig"):
            run("chkconfig", "--add", NAME)

    def stop(self) -> None:
        """Stop and disable."""
        super().stop()
        if self.kind == "openrc":
            run("rc-update", "del", NAME, "default", check=False)
        elif shutil.which("update-rc.d"):
            remove(self.path)
            run("update-rc.d", NAME, "remove", check=False)
        elif shutil.which("chkconfig"):
            run("chkconfig", "--del", NAME, check=False)


class OpenRc(Init):
    """OpenRC (Alpine, Gentoo)."""

    kind = "openrc"


class Cron(Service):
    """Started at boot by cron, kept by its own script."""

    kind = "cron"
    after_boot = ""

    def enable(self) -> None:
        """A line @reboot in this user's crontab."""
        lines = [line for line in run("crontab", "-l", check=False).stdout.splitlines() if self.script not in line]
        self._write([*lines, f"@reboot {self.script} start"])

    def stop(self) -> None:
        """Stop it and take the line out."""
        super().stop()
        lines = run("crontab", "-l", check=False).stdout.splitlines()
        if any(self.script in line for line in lines):
            self._write([line for line in lines if self.script not in line])

    @staticmethod
    def _write(lines: list[str]) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".crontab", delete=False) as file:
            file.write("".join(f"{line}\n" for line in lines))
        try:
            run("crontab", file.name)
        finally:
            os.unlink(file.name)


KINDS = {one.kind: one for one in (Service, Systemd, Init, OpenRc, Cron)}


def find_service(root: bool) -> str:
    """The kind that this host has."""
    if root:
        if os.path.isdir("/run/systemd/system") and shutil.which("systemctl"):
            return "systemd"
        if shutil.which("openrc-run") and shutil.which("rc-update"):
            return "openrc"
        if os.path.isdir("/etc/init.d") and (shutil.which("update-rc.d") or shutil.which("chkconfig")):
            return "init"
    elif shutil.which("systemctl") and run("systemctl", "--user", "show-environment", check=False).returncode == 0:
        return "systemd"
    return "cron" if shutil.which("crontab") else "none"


# -- the installation ---


class Install:
    """One run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.dry: bool = options.dry_run
        self.root = os.geteuid() == 0
        self.home = Path(pwd.getpwuid(os.getuid()).pw_dir)
        usual = Path("/opt") / NAME if self.root else self.home / ".local/share" / NAME
        self.prefix: Path = (options.prefix or usual).absolute()
        self.before = self._record()
        own = self.prefix.resolve() != usual
        config = self.prefix / "agent.toml" if own or not self.root else Path("/etc/ezadmin/agent.toml")
        state = self.prefix / "state" if own or not self.root else Path("/var/lib") / NAME
        self.config = Path(options.config or self.before.get("config") or config).absolute()
        self.state = Path(options.state_dir or self.before.get("state") or self._named_state() or state).absolute()
        self.bin = Path("/usr/local/bin") / NAME if self.root else self.home / ".local/bin" / NAME
        self.linked = not own
        kind = options.service
        if kind == "auto":
            kind = self.before.get("service") or find_service(self.root)
        self.service = KINDS[kind](self)
        self.undo = Undo()
        self.made: list[str] = [path for path in reversed(self.before.get("made", "").split(":")) if path]
        for path in (self.prefix, self.config, self.state):
            if any(sign in str(path) for sign in ":\n'\"\\ %@"):
                raise Failed(
                    f"the path {path} holds a space or a sign that services and scripts do not take", "name another"
                )

    @property
    def agent(self) -> Path:
        """The command, of the version that is current."""
        return self.prefix / "current" / "bin" / NAME

    def _named_state(self) -> Optional[str]:
        """The state directory that settings of before name; they are kept."""
        try:
            head = self.config.read_text("utf-8").partition("\n[")[0]
        except OSError:
            return None
        found = re.search(r"""^\s*state_dir\s*=\s*["']([^"']+)["']""", head, re.MULTILINE)
        return found[1] if found else None

    def _record(self) -> dict[str, str]:
        """What the run before wrote down."""
        try:
            lines = (self.prefix / "installed").read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def go(self) -> int:
        """All of it; returns the exit status. Raises Failed."""
        options = self.options
        token = read_token(options)
        source = Source(SETTINGS["url"], options.source, SETTINGS["ca"], options.proxy)
        name, libc, libc_version = target()
        say(f"Python {sys.version.split()[0]} ({interpreter()}), {name}, {libc} {libc_version}")
        manifest = source.manifest()
        files = manifest["targets"].get(name)
        if files is None:
            raise Failed(
                f"the bundle {manifest['version']} has nothing for {name}",
                f"it has {', '.join(sorted(manifest['targets']))}; have another Python with EZADMIN_PYTHON=/path/to/python3",
            )
        if libc == "glibc" and number(libc_version) < number(files["libc"]):
            raise Failed(f"this system's glibc is {libc_version}; the agent needs {files['libc']}", "update the system")
        version = f"{manifest['version']}-{name.partition('-')[0]}"
        size = sum(wheel["size"] for wheel in files["wheels"])
        say(f"agent {version} from {source.where}: {len(files['wheels'])} files, {size / 1e6:.1f} MB, SHA-256 checked")

        with self._lock():
            current = self._current()
            fresh = not (self.prefix / "current").exists()
            same = current == version and os.access(self.agent, os.X_OK)
            enrolled = (self.state / "enrolment.json").exists()
            enrol = token is not None and (not enrolled or bool(options.enrol_again))
            if token is not None and enrolled and not options.enrol_again:
                say("this host is enrolled already, so the token is not used (--enrol-again does)")
            if same and not enrol and self._complete() and self._runs() is not None:
                say(f"nothing to do: {version} is installed and runs")
                return 0
            try:
                if not same:
                    self._step(
                        f"unpack into {self.prefix}/versions/{version}", lambda: self._unpack(source, files, version)
                    )
                self._write_config(token)
                self._step(f"note what is done in {self.prefix}/installed", lambda: self._note(version))
                if enrol and token is not None:
                    self._step("enrol this host", lambda: self._enrol(token, version, source))
                self._activate(version, fresh, same)
                if options.no_start or not (enrolled or enrol or self._has_way()):
                    return self._stay_stopped()
                before = None if self.dry else self._runs()
                self._step("start it", self.service.start)
            except BaseException:
                undone = self.undo.run()
                if undone:
                    print(f"install.sh: undone: {', '.join(undone)}", file=sys.stderr)
                elif not self.dry:
                    print("install.sh: this host is enrolled; run install.sh again to go on from here", file=sys.stderr)
                raise
            self.undo.keep()
            if self.dry:
                say("nothing was changed (--dry-run)")
                return 0
            return self._wait(before, fresh, current, enrolled or enrol)

    def _step(self, text: str, function: Callable[[], object]) -> None:
        say(f"{'would ' if self.dry else '- '}{text}")
        if not self.dry:
            function()

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One run at a time in this prefix."""
        if self.dry:
            yield
            return
        try:
            self._mkdir(self.prefix)
            descriptor = os.open(self.prefix, os.O_RDONLY)
        except OSError as error:
            self.undo.run()
            raise Failed(
                f"cannot make {self.prefix}: {error.strerror}", "run as root, or name another folder with --prefix DIR"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Failed(f"another run is at work in {self.prefix}", "wait until it has ended") from error
        try:
            yield
        finally:
            os.close(descriptor)

    def _mkdir(self, path: Path, mode: int = 0o755) -> None:
        """With all above it, remembering which were not there."""
        if path.is_dir():
            return
        self._mkdir(path.parent)
        path.mkdir()
        path.chmod(mode)
        self.made.append(str(path))

        def gone() -> None:
            with contextlib.suppress(OSError):
                path.rmdir()
            if path.exists():
                raise OSError(0, "it holds other things")
            self.made.remove(str(path))

        self.undo.add(str(path), gone)

    def _unpack(self, source: Source, files: dict[str, Any], version: str) -> None:
        """Download, check, unpack and try a version beside its place, then move it there."""
        size = sum(wheel["size"] for wheel in files["wheels"])
        free = shutil.disk_usage(self.prefix).free
        if free < 8 * size:
            raise Failed(f"{self.prefix} has {free / 1e6:.0f} MB free; {8 * size / 1e6:.0f} are needed", "make room")
        wheels = [source.wheel(wheel) for wheel in files["wheels"]]  # all are checked before anything is unpacked
        versions = self.prefix / "versions"
        self._mkdir(versions)
        for left in versions.glob(".new-*"):  # of a run that was killed
            remove(left)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=versions))
        self.undo.add(str(new), lambda: remove(new))
        new.chmod(0o755)
        lib = new / "lib"
        for data in wheels:
            unpack(data, lib)
        compileall.compile_dir(str(lib), quiet=2, ddir=str(versions / version / "lib"))
        (new / "bin").mkdir()
        place = versions / version
        write(
            new / "bin" / NAME,
            f"#!{interpreter()} -IS\nimport os, sys\n\n"
            'sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib"))\n'
            "from ezadmin_agent.main import main\n\nsys.exit(main())\n",
            0o755,
        )
        script = SETTINGS["service"]
        for key, value in (("@AGENT@", self.agent), ("@CONFIG@", self.config), ("@STATE@", self.state)):
            script = script.replace(key, str(value))
        write(new / "bin" / f"{NAME}-service", script, 0o755)
        write(new / "bin" / "uninstall.sh", SETTINGS["uninstall"], 0o755)
        try:
            for command in (
                [str(new / "bin" / NAME), "--version"],
                [interpreter(), "-IS", "-c", "import sys; sys.path.insert(0, sys.argv[1]); import ssl, kafka, psutil, crc32c; "
                 "from cryptography.hazmat.primitives.asymmetric import ed25519", str(lib)],
            ):  # fmt: skip
                run(*command)
        except Failed as error:
            raise Failed(
                f"the agent does not run here: {error}",
                f"is {self.prefix} on a file system from which nothing may be run (noexec)? Name another --prefix DIR",
            ) from error
        if place.exists():  # damaged, or it would be current
            remove(place)
        new.rename(place)
        self.undo.add(f"{versions}/{version}", lambda: remove(place))

    def _write_config(self, token: Optional[str]) -> None:
        lines = [
            "# Settings of ezadmin's agent, yours to change: an upgrade keeps them. All of them: ezadmin-agent config example",
            f"state_dir = {json.dumps(str(self.state))}",
        ]
        if self.options.transport:
            url = gateway_of(token) or SETTINGS["url"]
            if url:  # the transport https needs to know where to, also before the enrolment says it
                lines.append(f"gateway = {json.dumps(url)}")
            lines.append(f"transport = {json.dumps(self.options.transport)}")

        def make() -> None:
            self._mkdir(self.config.parent)
            write(self.config, "\n".join(lines) + "\n", 0o640)
            self.undo.add(str(self.config), lambda: remove(self.config))

        def make_state() -> None:
            self._mkdir(self.state, 0o700)
            self.undo.add(f"the content of {self.state}", self._empty_state)

        if self.config.exists():
            say(f"  {self.config} is kept as it is")
        else:
            self._step(f"write {self.config}", make)
        if not self.state.exists():
            self._step(f"make {self.state}", make_state)

    def _empty_state(self) -> None:
        for path in self.state.iterdir():
            remove(path)

    def _enrol(self, token: str, version: str, source: Source) -> None:
        agent = self.prefix / "versions" / version / "bin" / NAME
        # not on the command line, where every user of the host could read it
        command = [str(agent), "enrol", "--config", str(self.config), "--token-file", "/dev/stdin"]
        if source.proxy:
            command += ["--proxy", source.proxy]
        if self.options.insecure:
            command.append("--insecure")
        if self._runs() is not None:  # nothing but the agent itself may change its identity while it runs
            self.service.pause()
            self.undo.add("the pause of the agent", self.service.start)
        try:
            done = run(*command, given=token)
        except Failed as error:
            said = str(error).partition("ezadmin-agent: ")[2] or str(error)
            raise Failed(
                f"this host could not be enrolled: {said}", "see the reason; nothing stays installed"
            ) from error
        for line in done.stdout.strip().splitlines():
            say(f"  {line}")
        self.undo.keep()  # the gateway knows this host now: what would be undone is only to be done again

    def _complete(self) -> bool:
        """Whether everything beside the version is there as this script would write it."""
        files = self.service.files()
        return (
            self.config.exists()
            and (self.options.no_start or self.before.get("service") == self.service.kind)
            and all(path.exists() and path.read_text(encoding="utf-8") == text for path, (text, _) in files.items())
        )

    def _note(self, version: str) -> None:
        """What uninstall.sh reads."""
        path = self.prefix / "installed"
        old = path.read_text("utf-8") if path.exists() else None
        known = {
            "version": version,
            "config": self.config,
            "state": self.state,
            "service": self.before.get("service", "none") if self.options.no_start else self.service.kind,
            "link": self.bin if self.linked else "",
            "files": ":".join(map(str, self.service.files())),
            "made": ":".join(reversed([*self.made, *(str(one) for one in self._missing())])),
            "user": os.getuid(),
        }
        write(path, "".join(f"{key}={value}\n" for key, value in known.items()))
        self.undo.add(str(path), lambda: remove(path) if old is None else write(path, old))
        if old is None:
            self.undo.add(f"{self.prefix}/uninstall.sh", lambda: remove(self.prefix / "uninstall.sh"))
        write(self.prefix / "uninstall.sh", SETTINGS["uninstall"], 0o755)

    def _missing(self) -> list[Path]:
        """The folders that are still to be made for the link and the files of the service, outermost first."""
        wanted = [*(path.parent for path in self.service.files()), *([self.bin.parent] if self.linked else [])]
        found: list[Path] = []
        for folder in wanted:
            found += [one for one in (*reversed(folder.parents), folder) if not one.exists() and one not in found]
        return found

    def _activate(self, version: str, fresh: bool, same: bool) -> None:
        """Turn to the version, with its service."""
        current = self.prefix / "current"
        old = os.readlink(current) if current.is_symlink() else None
        if not same:

            def back() -> None:
                if old is None:
                    remove(current)
                else:
                    link(current, old)
                    self.service.start()

            self.undo.add(str(current), back)
            self._step(f"make {version} current", lambda: link(current, f"versions/{version}"))
        if self.linked and os.path.realpath(self.bin) != os.path.realpath(self.agent) and not self._taken():

            def command() -> None:
                self._mkdir(self.bin.parent)
                self.undo.add(str(self.bin), lambda: remove(self.bin))
                link(self.bin, str(self.agent))

            self._step(f"link {self.bin}", command)
        for path, (text, mode) in self.service.files().items():
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue

            def make(path: Path = path, text: str = text, mode: int = mode) -> None:
                self._mkdir(path.parent)
                if not path.exists():
                    self.undo.add(str(path), lambda: remove(path))
                write(path, text, mode)

            self._step(f"write {path}", make)
        if not self.options.no_start:
            if fresh:
                self.undo.add(f"the service ({self.service.kind})", self.service.stop)
            self._step(f"have it started at boot ({self.service.kind})", self.service.enable)

    def _taken(self) -> bool:
        """Whether the command's name in the user's path belongs to something else."""
        return self.bin.exists() and not self.bin.is_symlink()

    def _status(self) -> Optional[dict[str, Any]]:
        """What the agent says of itself; None if there is nothing."""
        if not os.access(self.agent, os.X_OK):
            return None
        done = run(str(self.agent), "status", "--json", "--config", str(self.config), check=False)
        try:
            status: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            return None
        return status

    def _runs(self) -> Optional[int]:
        """The agent's process id if it runs."""
        status = self._status()
        return int(status["pid"]) if status and status.get("running") else None

    def _stay_stopped(self) -> int:
        why = "--no-start" if self.options.no_start else "not enrolled: run install.sh again, with a token"
        say(f"{'would not be' if self.dry else 'installed, not'} started ({why})")
        self.undo.keep()
        return 0

    def _wait(self, before: Optional[int], fresh: bool, current: str, enrolled: bool) -> int:
        """Until it runs and what it sends arrives. ``before``: the process id that a version of before had."""
        deadline = time.monotonic() + self.options.wait
        reason, running = "it does not run", False
        while time.monotonic() < deadline:
            status = self._status()
            running = bool(status and status.get("running") and status["pid"] != before)
            if running and status is not None:
                held = (status.get("control") or {}).get("state") == "quarantined"
                reason = "" if held else sending(status) or ""
                if not reason:
                    self._tidy(current)
                    does = (
                        "waits: nothing is taken from it until it is accepted in the web application"
                        if held
                        else "sends"
                    )
                    say(f"done: agent {self._current()} runs and {does}")
                    say(f"  settings {self.config}, its own files {self.state}, log: {self.service.log()}")
                    if self.service.after_boot:
                        say("  " + self.service.after_boot.format(script=self.service.script))
                    say(f"  to remove it: sh {self.prefix}/uninstall.sh")
                    return 0
            time.sleep(0.5)
        if not running and not fresh and current != self._current():
            link(self.prefix / "current", f"versions/{current}")
            self.service.start()
            raise Failed(
                f"the new version did not run within {self.options.wait:.0f} s; {current} is current again",
                f"look at its log: {self.service.log()}",
            )
        raise Failed(
            f"installed{' and enrolled' if enrolled else ''}, but not sending after {self.options.wait:.0f} s: {reason}",
            f"it goes on trying. See: {self.agent} check --config {self.config}; and {self.service.log()}",
        )

    def _current(self) -> str:
        return os.path.basename(os.path.realpath(self.prefix / "current"))

    def _has_way(self) -> bool:
        """Whether the settings alone name where to send."""
        try:
            return any(
                line.strip().startswith(("bootstrap", "gateway"))
                for line in self.config.read_text("utf-8").splitlines()
            )
        except OSError:
            return False

    def _tidy(self, before: str) -> None:
        """Keep this version and the one before, to go back to."""
        current = self._current()
        for path in (self.prefix / "versions").iterdir():
            if path.name not in (current, before):
                remove(path)


def sending(status: dict[str, Any]) -> Optional[str]:
    """None if the agent's status says that what it sends arrives, else what keeps it."""
    if any(stream.get("last_ack") for stream in status.get("streams", {}).values()):
        return None
    line = status.get("control") or {}
    way = status.get("kafka") or status.get("gateway") or {}
    if not way.get("connected"):
        where = way.get("bootstrap") or way.get("url") or "anywhere"
        return str(line.get("error") or f"no connection to {where} yet")
    return "nothing was acknowledged yet"


def read_token(options: argparse.Namespace) -> Optional[str]:
    """The enrolment token: from the line, a file, or the environment. Raises Failed."""
    text = options.token or os.environ.get("EZADMIN_TOKEN")
    if options.token_file:
        try:
            text = options.token_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Failed(
                f"cannot read the token in {options.token_file}: {error}", "name the file that holds it"
            ) from error
    text = (text or "").strip()
    if text and not text.startswith("ezt1."):
        raise Failed("that is no enrolment token: it begins with ezt1.", "copy the whole line from ezadmin")
    return text or None


def gateway_of(token: Optional[str]) -> Optional[str]:
    """The address of the gateway that the token names; what is damaged in it is told by whoever enrols with it."""
    text = (token or "").partition("ezt1.")[2]
    try:
        found = json.loads(base64.urlsafe_b64decode(f"{text}===")[4:])["url"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="install.sh", description="Installs ezadmin's agent on this host, or brings it up to date."
    )
    made.add_argument("token", nargs="?", help="enrolment token (ezt1.…); else EZADMIN_TOKEN")
    made.add_argument("--token-file", type=Path, metavar="FILE", help="file that holds the token")
    made.add_argument("--dry-run", action="store_true", help="say every step, change nothing")
    made.add_argument(
        "--proxy", metavar="URL", help="HTTP proxy to the gateway, for now and for the agent; else https_proxy"
    )
    made.add_argument(
        "--prefix", type=Path, metavar="DIR", help=f"where to (/opt/{NAME}; as a plain user ~/.local/share/{NAME})"
    )
    made.add_argument("--config", type=Path, metavar="FILE", help="the agent's settings (/etc/ezadmin/agent.toml)")
    made.add_argument("--state-dir", type=Path, metavar="DIR", help=f"identity and spool (/var/lib/{NAME})")
    made.add_argument("--transport", choices=("kafka", "https"), help="how data goes; else as the gateway says")
    made.add_argument("--service", choices=SERVICES, default="auto", help="what starts it (auto)")
    made.add_argument("--no-start", action="store_true", help="install and enrol only")
    made.add_argument("--enrol-again", action="store_true", help="use the token though this host is enrolled")
    made.add_argument(
        "--insecure", action="store_true", help="enrol by plain HTTP, if you are sure of the network between"
    )
    made.add_argument("--wait", type=float, default=60.0, metavar="SECONDS", help="for the first data to arrive (60)")
    made.add_argument("--from", dest="source", type=Path, metavar="DIR", help="the unpacked offline archive")
    return made


def stop(_number: int, _frame: object) -> None:
    """A signal ends the run as Ctrl-C does: everything is undone."""
    raise KeyboardInterrupt


def main(here: str, arguments: list[str]) -> int:
    """``here``: the folder of install.sh, "" if it was read from a pipe."""
    options = parser().parse_args(arguments)
    if options.source is None and here and (Path(here) / "bundle.json").exists() and (Path(here) / "files").is_dir():
        options.source = Path(here)
    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, stop)
    os.umask(0o022)
    try:
        if options.source is None and not SETTINGS["url"]:
            raise Failed("this install.sh knows no gateway", "use the one that the gateway serves, or --from DIR")
        return Install(options).go()
    except Failed as error:
        print(f"install.sh: {error}\ninstall.sh: what to do: {error.todo}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"install.sh: {error.filename or ''}: {error.strerror}\ninstall.sh: what to do: see the message",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("install.sh: stopped", file=sys.stderr)
        return 130

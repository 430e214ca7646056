"""install.sh on hosts of its own (namespaces): from a gateway's files and from the archive, again, torn, forged, taken away.

What a gateway adds (enrolment) is in test_install_gateway.py; here the settings name the broker, and a server hands out the
files of which some tests tear or exchange what a real gateway would not.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import scratch_hosts
from ezadmin_testing.processes import wait_until
from ezadmin_testing.pythons import NotHere, interpreter
from ezadmin_testing.scratch_hosts import USER, ScratchHost

from ezadmin_cmdb.install import Scripts, bundle, one_liner, scripts
from ezadmin_wire.names import Names

API = "/api/agent/v1"
AGENT = "/opt/ezadmin-agent/current/bin/ezadmin-agent"


@pytest.fixture(scope="module", autouse=True)
def _hosts() -> None:
    reason = scratch_hosts.usable()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the real wheels, for this machine and the oldest and newest Python."""
    folder = tmp_path_factory.mktemp("files")
    here = bundle.here()
    bundle.build(folder, [replace(here, python=python) for python in ("3.9", "3.11", "3.13")])
    return folder


class FileServer:
    """A gateway's downloads.

    ``tear``: bytes after which the next answers for a file end; ``instead``: what is sent for it; ``stall``: never sent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tear: dict[str, list[int]] = {}
        self.instead: dict[str, bytes] = {}
        self.stall: set[str] = set()
        self.stalled = threading.Event()
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                name = self.path.rpartition("/")[2]
                data = outer.content(name)
                if data is None:
                    self.send_error(404)
                    return
                start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                outer.stalled.wait(60 if name in outer.stall else 0)
                cuts = outer.tear.get(name)
                self.wfile.write(data[start : start + cuts.pop(0)] if cuts else data[start:])

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def scripts(self) -> Scripts:
        return scripts(self.folder, self.url, None)

    def content(self, name: str) -> bytes | None:
        if name in self.instead:
            return self.instead[name]
        if name == "install.sh":
            return self.scripts.install
        path = self.folder / name
        return path.read_bytes() if path.exists() else None

    def close(self) -> None:
        self.stalled.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(files: Path) -> Iterator[FileServer]:
    made = FileServer(files)
    yield made
    made.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ScratchHost]:
    made = ScratchHost(tmp_path / "host", "web1")
    yield made
    made.close()


def settings(stack: Any, names: Names, state: str) -> str:
    return f'prefix = "{names.prefix}"\nstate_dir = "{state}"\ninterval = 1\n[kafka]\nbootstrap = "{stack.kafka}"\n'


@pytest.fixture
def reporting(host: ScratchHost, stack: Any, names: Names) -> ScratchHost:
    """A host whose administrator wrote the settings before, so that no enrolment is needed."""
    host.write("/etc/ezadmin/agent.toml", settings(stack, names, "/var/lib/ezadmin-agent"))
    host._before = host._listing()
    return host


def paste(server: FileServer, options: str, tool: str = "curl") -> list[str]:
    """The line of the enrolment page, without a token."""
    line = one_liner(server.scripts, "", tool=tool).removesuffix(")") + f" {options})"
    return ["sh", "-c", line]


def status(host: ScratchHost, agent: str = AGENT, **how: Any) -> dict[str, Any]:
    config = [] if "user" not in how else ["--config", f"/home/{USER}/.local/share/ezadmin-agent/agent.toml"]
    found: dict[str, Any] = json.loads(host.run(agent, "status", "--json", *config, check=False, **how).stdout or "{}")
    return found


def left(host: ScratchHost) -> list[str]:
    """What is other than before."""
    return host.changed()


def versions(host: ScratchHost) -> list[str]:
    return sorted(os.listdir(host.path("/opt/ezadmin-agent/versions")))


@pytest.mark.parametrize("shell", ["dash", "busybox ash", "bash"])
@pytest.mark.parametrize("script", ["install", "uninstall"])
def test_every_shell_takes_the_scripts(server: FileServer, tmp_path: Path, shell: str, script: str) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"no {shell} here")
    (tmp_path / "install.sh").write_bytes(getattr(server.scripts, script))
    done = subprocess.run([*shell.split(), tmp_path / "install.sh", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--prefix" in done.stdout
    wrong = subprocess.run([*shell.split(), tmp_path / "install.sh", "--nonsense"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_from_the_line_to_the_first_data_and_back(reporting: ScratchHost, server: FileServer, tool: str) -> None:
    host = reporting
    done = host.run(*paste(server, "--service none", tool))
    assert "runs and sends" in done.stdout
    now = status(host)
    assert now["running"]
    assert versions(host) == [f"{server.scripts.bundle.version}-cp311"]
    assert oct(host.path("/var/lib/ezadmin-agent/host.key").stat().st_mode & 0o777) == "0o600"
    assert host.run("ezadmin-agent", "--version").stdout.strip().startswith("ezadmin-agent ")
    # killed, it comes back; it is nobody's child, so that no terminal takes it along
    os.kill(host.processes("ezadmin-agent run")[0], signal.SIGKILL)
    wait_until(lambda: status(host)["running"] and status(host)["pid"] != now["pid"], 30, "it runs again")

    before = set(server.asked)
    again = host.run(*paste(server, "--service none", tool))
    assert "nothing to do" in again.stdout
    assert not [one for one in set(server.asked) - before if one.endswith(".whl")]

    gone = host.run("sh", "/opt/ezadmin-agent/uninstall.sh")
    assert "removed" in gone.stdout
    assert host.processes("ezadmin-agent") == []
    assert left(host) == ["/etc/ezadmin/agent.toml"], "which is gone, as the agent's"
    assert not host.path("/etc/ezadmin/agent.toml").exists()


def refused(host: ScratchHost, server: FileServer, *says: str, options: str = "--service none") -> None:
    done = host.run(*paste(server, options), check=False)
    assert done.returncode != 0
    for text in says:
        assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert left(host) == []
    assert host.processes("ezadmin") == []


def test_another_script_than_the_page_promised_is_not_run(host: ScratchHost, server: FileServer) -> None:
    line = paste(server, "--service none")
    server.instead["install.sh"] = b"#!/bin/sh\ntouch /opt/taken\n" + server.scripts.install
    done = host.run(*line, check=False)
    assert done.returncode != 0
    assert "FAILED" in done.stdout
    assert left(host) == []


@pytest.mark.parametrize("what", ["bundle.json", "crc32c"])
def test_a_file_with_another_hash_is_not_used(host: ScratchHost, server: FileServer, what: str) -> None:
    found = server.scripts.bundle
    wheels = {wheel.name: wheel.sha256 for wheel in found.targets["cp311-x86_64-glibc"].wheels}
    sha256 = found.sha256 if what == "bundle.json" else next(wheels[name] for name in wheels if name.startswith(what))
    data = bytearray((server.folder / sha256).read_bytes())
    data[len(data) // 2] ^= 1
    server.instead[sha256] = bytes(data)
    refused(host, server, what, sha256, "is not what it should be", "Tell who runs ezadmin")


def test_half_a_script_does_nothing(host: ScratchHost, server: FileServer) -> None:
    whole = server.scripts.install.decode()
    for end in range(1000, len(whole) - 30, len(whole) // 12):
        done = host.run("sh", given=whole[:end], check=False)
        assert not done.stdout, f"cut at {end}"
    assert left(host) == []


def test_a_torn_download_goes_on_where_it_ended(reporting: ScratchHost, server: FileServer) -> None:
    wheels = {wheel.name: wheel for wheel in server.scripts.bundle.targets["cp311-x86_64-glibc"].wheels}
    largest = max(wheels.values(), key=lambda wheel: wheel.size)
    server.tear[largest.sha256] = [100_000, 0, 2_000_000]
    done = reporting.run(*paste(server, "--service none --no-start"))
    assert "trying again (3 of 4)" in done.stdout
    assert "not started (--no-start)" in done.stdout
    assert reporting.processes("ezadmin") == []
    # and without --no-start it goes on from there
    assert "runs and sends" in reporting.run(*paste(server, "--service none")).stdout


def test_nothing_stays_of_a_download_that_never_ends(host: ScratchHost, server: FileServer) -> None:
    sha256 = server.scripts.bundle.targets["cp311-x86_64-glibc"].wheels[0].sha256
    server.tear[sha256] = [10] * 20
    refused(host, server, "cannot download", "--proxy", "undone")


def test_a_stopped_run_is_undone_and_two_do_not_mix(host: ScratchHost, server: FileServer) -> None:
    server.stall = {wheel.sha256 for wheel in server.scripts.bundle.targets["cp311-x86_64-glibc"].wheels}
    line = host.command(*paste(server, "--service none"))
    first = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: server.stall & {path.rpartition("/")[2] for path in server.asked}, 60, "it downloads")
    second = host.run(*paste(server, "--service none"), check=False)
    assert second.returncode == 1
    assert "another run is at work" in second.stderr
    (python,) = (
        pid for pid in host.processes("python") if "-I -" in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    )
    os.kill(python, signal.SIGTERM)
    _, said = first.communicate(timeout=30)
    assert first.returncode == 130
    assert "undone: " in said
    assert left(host) == []


def test_a_dry_run_says_all_and_changes_nothing(host: ScratchHost, server: FileServer) -> None:
    done = host.run(*paste(server, "--dry-run --service init ezt1.notusedhere"))
    for text in ("would unpack into", "would write /etc/ezadmin/agent.toml", "would enrol", "would write /etc/init.d/",
                 "would start it", "nothing was changed"):  # fmt: skip
        assert text in done.stdout
    assert left(host) == []


def test_without_python_it_says_what_to_install(host: ScratchHost, server: FileServer) -> None:
    host.run("sh", "-c", "rm /usr/bin/python3*")
    before = left(host)
    done = host.run(*paste(server, ""), check=False)
    assert done.returncode == 1
    assert "needs Python 3.9" in done.stderr
    assert "apt-get install python3" in done.stderr
    host.write("/usr/local/bin/python3", "#!/bin/sh\necho Python 3.6.8\nexit 1\n", 0o755)
    assert "found: Python 3.6.8" in host.run(*paste(server, ""), check=False).stderr
    assert left(host) == sorted([*before, "/usr/local/bin/python3"])


def test_a_python_that_is_none_is_named(host: ScratchHost, server: FileServer) -> None:
    done = host.run(*paste(server, ""), env={"EZADMIN_PYTHON": "/opt/python3"}, check=False)
    assert done.returncode == 1
    assert "EZADMIN_PYTHON=/opt/python3 is no program" in done.stderr
    assert left(host) == []


def test_the_archive_needs_no_server(reporting: ScratchHost, files: Path) -> None:
    host = reporting
    made = scripts(files, None, None).archive(files, "cp311-x86_64-glibc")
    assert made == scripts(files, None, None).archive(files, "cp311-x86_64-glibc"), "the same bytes each time"
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        archive.extractall(host.path("/tmp"), filter="data")
    (folder,) = host.path("/tmp").glob("ezadmin-agent-*")
    done = host.run("sh", f"/tmp/{folder.name}/install.sh", "--service", "none")
    assert f"from /tmp/{folder.name}" in done.stdout
    assert "runs and sends" in done.stdout
    host.run("sh", f"/tmp/{folder.name}/uninstall.sh", "--keep-state")
    assert host.path("/var/lib/ezadmin-agent/host.key").exists()
    assert [path for path in left(host) if not path.startswith(("/tmp/", "/var/lib/ezadmin-agent"))] == []
    # as the same host again
    before = host.path("/var/lib/ezadmin-agent/host.id").read_text()
    host.run("sh", f"/tmp/{folder.name}/install.sh", "--service", "none")
    assert host.path("/var/lib/ezadmin-agent/host.id").read_text() == before
    # a file of it that was damaged
    largest = max((folder / "files").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1] + b"x")
    wrong = host.run("sh", f"/tmp/{folder.name}/install.sh", "--prefix", "/opt/other", check=False)
    assert "is not what it should be" in wrong.stderr
    assert not host.path("/opt/other").exists()


def altered(files: Path, folder: Path, change: Callable[[str], str]) -> Path:
    """The bundle of another agent: its main.py as ``change`` makes it."""
    import zipfile

    shutil.copytree(files, folder)
    old = bundle.read(folder)
    assert old is not None
    (own,) = {wheel for one in old.targets.values() for wheel in one.wheels if wheel.name.startswith("ezadmin_agent")}
    out = io.BytesIO()
    with zipfile.ZipFile(folder / own.sha256) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            data = before.read(entry)
            if entry.filename == "ezadmin_agent/main.py":
                data = change(data.decode()).encode()
            after.writestr(entry, data)
    sha256 = hashlib.sha256(out.getvalue()).hexdigest()
    (folder / sha256).write_bytes(out.getvalue())
    new = bundle.Wheel(own.name, sha256, len(out.getvalue()))
    targets = {
        name: replace(one, wheels=[new if wheel == own else wheel for wheel in one.wheels])
        for name, one in old.targets.items()
    }
    made = replace(old, version=f"{old.agent}-{sha256[:8]}", targets=targets)
    (folder / bundle.MANIFEST).write_bytes(made.text())
    (folder / made.sha256).write_bytes(made.text())
    return folder


def test_an_upgrade_in_place_and_one_that_does_not_run(
    reporting: ScratchHost, server: FileServer, tmp_path: Path
) -> None:
    host = reporting
    host.run(*paste(server, "--service none"))
    first = status(host)
    server.folder = altered(server.folder, tmp_path / "second", lambda text: text + "\n# another version\n")
    done = host.run(*paste(server, "--service none"))
    assert "runs and sends" in done.stdout
    second = status(host)
    assert second["running"]
    assert second["pid"] != first["pid"]
    assert second["host.id"] == first["host.id"]
    assert len(versions(host)) == 2

    good = os.readlink(host.path("/opt/ezadmin-agent/current"))
    assert server.scripts.bundle.version in good
    start = "def _run(options: argparse.Namespace) -> int:"
    server.folder = altered(
        server.folder, tmp_path / "third", lambda text: text.replace(start, f"{start}\n    return 1\n")
    )
    failed = host.run(*paste(server, "--service none --wait 8"), check=False)
    assert failed.returncode == 1
    assert "did not run" in failed.stderr
    assert os.readlink(host.path("/opt/ezadmin-agent/current")) == good
    wait_until(lambda: status(host)["running"], 20, "the version before runs again")
    # one that cannot even be loaded is found out before it is made current
    server.folder = altered(
        server.folder, tmp_path / "fourth", lambda text: text.replace("import argparse", "import nothing_such")
    )
    pid = status(host)["pid"]
    failed = host.run(*paste(server, "--service none"), check=False)
    assert "the agent does not run here" in failed.stderr
    assert "nothing_such" in failed.stderr
    assert status(host)["pid"] == pid
    assert not [one for one in versions(host) if one.startswith(server.scripts.bundle.version)]


def test_a_plain_user(host: ScratchHost, server: FileServer, stack: Any, names: Names) -> None:
    prefix = f"/home/{USER}/.local/share/ezadmin-agent"
    lines = "/tmp/crontab-of-plain"
    host.write(
        "/usr/local/bin/crontab",
        f'#!/bin/sh\ncase $1 in -l) cat {lines} ;; -r) rm {lines} ;; *) cat "$@" >{lines} ;; esac\n',
        0o755,
    )
    host.run("sh", "-c", f"echo '# mine' >{lines}", user=USER)
    host.run(
        "sh",
        "-c",
        f"mkdir -p {prefix}; cat >{prefix}/agent.toml",
        user=USER,
        given=settings(stack, names, f"{prefix}/state"),
    )
    host._before = host._listing()
    done = host.run(*paste(server, ""), user=USER)
    assert "runs and sends" in done.stdout
    assert "(cron)" in done.stdout
    assert host.path(lines).read_text() == f"# mine\n@reboot {prefix}/current/bin/ezadmin-agent-service start\n"
    (pid,) = host.processes("ezadmin-agent run")
    assert Path(f"/proc/{pid}").stat().st_uid == scratch_hosts.UID
    assert status(host, f"/home/{USER}/.local/bin/ezadmin-agent", user=USER)["running"]
    assert all(path.startswith((f"/home/{USER}/", "/tmp/")) for path in host.changed())
    wrong = host.run("sh", f"{prefix}/uninstall.sh", check=False)
    assert "installed by the user with id" in wrong.stderr
    host.run("sh", f"{prefix}/uninstall.sh", user=USER)
    assert [path for path in left(host) if not path.startswith("/tmp/")] == [f"{prefix}/agent.toml"]
    assert host.path(lines).read_text() == "# mine\n"


SYSTEMCTL = """#!/bin/sh
echo "$*" >>/tmp/systemctl.calls
unit=/etc/systemd/system/ezadmin-agent.service
case $* in
"restart ezadmin-agent.service")
    [ ! -f /tmp/systemd.pid ] || kill "$(cat /tmp/systemd.pid)"
    setsid $(sed -n 's/^ExecStart=//p' $unit) </dev/null >/tmp/agent.out 2>&1 &
    echo $! >/tmp/systemd.pid ;;
"disable --now ezadmin-agent.service") kill "$(cat /tmp/systemd.pid)" ;;
esac
"""


def test_under_systemd(reporting: ScratchHost, server: FileServer) -> None:
    """No systemd runs here: its command is recorded, and the unit is judged by systemd's own tool."""
    host = reporting
    host.write("/usr/local/bin/systemctl", SYSTEMCTL, 0o755)
    host.run("mkdir", "-p", "/run/systemd/system")
    host._before = host._listing()
    done = host.run(*paste(server, ""))
    assert "runs and sends" in done.stdout
    assert "journalctl -u ezadmin-agent" in done.stdout
    calls = host.path("/tmp/systemctl.calls").read_text().splitlines()
    assert calls == ["daemon-reload", "enable ezadmin-agent.service", "restart ezadmin-agent.service"]
    unit = "/etc/systemd/system/ezadmin-agent.service"
    text = host.path(unit).read_text()
    assert "@" not in text
    assert "ReadWritePaths=/var/lib/ezadmin-agent" in text
    if shutil.which("systemd-analyze"):
        judged = host.run("systemd-analyze", "verify", "--man=no", unit, check=False)
        about = [line for line in judged.stderr.splitlines() if "ezadmin-agent" in line]
        assert about == [], judged.stderr
    assert "nothing to do" in host.run(*paste(server, "")).stdout
    host.run("sh", "/opt/ezadmin-agent/uninstall.sh")
    assert host.path("/tmp/systemctl.calls").read_text().splitlines()[3:] == [
        "disable --now ezadmin-agent.service",
        "daemon-reload",
    ]
    wait_until(lambda: host.processes("ezadmin-agent") == [], 20, "it has ended")
    assert [path for path in left(host) if not path.startswith(("/tmp/", "/run/"))] == ["/etc/ezadmin/agent.toml"]


def test_with_an_init_script(reporting: ScratchHost, server: FileServer) -> None:
    host = reporting
    if not host.run("sh", "-c", "command -v update-rc.d", check=False).stdout:
        pytest.skip("no update-rc.d here")
    host.run(*paste(server, "--service init"))
    assert list(host.path("/etc/rc2.d").glob("S*ezadmin-agent"))
    assert "runs" in host.run("/etc/init.d/ezadmin-agent", "status").stdout
    host.run("/etc/init.d/ezadmin-agent", "stop")
    assert host.processes("ezadmin-agent") == []
    host.run("/etc/init.d/ezadmin-agent", "start")
    wait_until(lambda: status(host)["running"], 20, "it runs again")
    host.run("sh", "/opt/ezadmin-agent/uninstall.sh")
    assert left(host) == ["/etc/ezadmin/agent.toml"]


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_the_oldest_and_the_newest_python(reporting: ScratchHost, server: FileServer, version: str) -> None:
    try:
        python = interpreter(version)
    except NotHere as error:
        pytest.skip(str(error))
    host = reporting
    done = host.run(*paste(server, "--service none"), env={"EZADMIN_PYTHON": str(python)})
    assert "runs and sends" in done.stdout
    assert f"cp{version.replace('.', '')}-x86_64-glibc" in done.stdout
    first = host.path(AGENT).read_text().splitlines()[0]
    assert str(python.parent) not in first, "not the virtual environment, which may go"

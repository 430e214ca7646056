"""Hosts of a test's own on this machine: namespaces with a root of their own above this machine's files.

Each sees the machine's programs; what it writes lands in a folder of the test (overlayfs), so that a test can say what a
command left behind. Own process ids, host name, /tmp, /run, home; an own network on request. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ezadmin_testing.pythons import ROOT

CLONE_NEWNET = 0x40000000
USER, UID = "plain", 4711
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ROOT_OF_FINGERPRINT = "/fingerprint"
PYTHONS = ROOT / ".ezadmin" / "pythons"
_SETUP = r"""
set -e
base=$1
mount --make-rprivate /
mount -t overlay overlay -o lowerdir=/,upperdir=$base/up,workdir=$base/work $base/root
cd $base/root
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
for own in tmp run root; do mount -t tmpfs -o mode=1777 tmpfs $own; done
chmod 0700 root; chmod 0755 run
# other Pythons lie in the checkout, which may be another file system, or below /tmp
mkdir -p ".$4"
mount --bind "$4" ".$4"
mount -o remount,bind,ro ".$4"
hostname "$2"
[ -z "$3" ] || ip link set lo up
exec chroot . /bin/sh -c 'echo ready; trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'
"""


class NotHere(Exception):
    """This machine cannot have such hosts; the text says why."""


def usable() -> str | None:
    """None if such hosts can be made here, else why not."""
    if os.geteuid() != 0:
        return "only root makes namespaces"
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"no {program} here"
    tried = subprocess.run(
        ["unshare", "-m", "-p", "-n", "-u", "--fork", "sh", "-c", "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/r && "
         "mount -t overlay o -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r"],
        capture_output=True, text=True,
    )  # fmt: skip
    return None if tried.returncode == 0 else f"no namespaces with overlayfs here: {tried.stderr.strip()}"


class ScratchHost:
    """One. ``folder`` must not be there yet. ``network``: an own one, with nothing but loopback until something is given."""

    def __init__(self, folder: Path, name: str, *, network: bool = False) -> None:
        self.name = name
        self.folder = folder
        self.network = network
        self.pid = 0
        self._forwards: list[socket.socket] = []
        folder.mkdir()
        PYTHONS.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder)], check=True)
        for part in ("up", "work", "root"):
            (folder / part).mkdir()
        self.files = folder / "up"
        self.write("/etc/hostname", f"{name}\n")
        self.write("/etc/passwd", f"{Path('/etc/passwd').read_text()}{USER}:x:{UID}:{UID}::/home/{USER}:/bin/sh\n")
        self.write("/etc/group", f"{Path('/etc/group').read_text()}{USER}:x:{UID}:\n")
        home = self.files / "home" / USER
        home.mkdir(parents=True)
        os.chown(home, UID, UID)
        self.be(secrets.token_hex(16), secrets.token_hex(8), f"52:54:00:{secrets.token_hex(3)}")
        spaces = ["-m", "-p", "-u", *(["-n"] if network else [])]
        self._unshare = subprocess.Popen(
            ["unshare", *spaces, "--fork", "--kill-child", "sh", "-c", _SETUP, "sh", folder, name, "yes" if network else "",
             str(PYTHONS)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            self._wait_ready()
            self._before = self._listing()
        except BaseException:
            self.close()
            raise

    def _wait_ready(self) -> None:
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != "ready\n":
            raise NotHere(self._unshare.communicate()[1].strip())
        task = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self.pid = int(task.read_text().split()[0])

    def be(self, machine_id: str, hardware: str, mac: str) -> None:
        """Which machine this is, as the agent sees it."""
        self.write("/etc/machine-id", f"{machine_id}\n")
        for path, text in (
            ("etc/machine-id", machine_id),
            ("sys/class/dmi/id/product_uuid", hardware),
            ("sys/class/dmi/id/product_serial", hardware),
            ("sys/class/net/eth0/address", mac),
            ("sys/class/net/eth0/device/vendor", "0x1af4"),
        ):
            self.write(f"{ROOT_OF_FINGERPRINT}/{path}", f"{text}\n")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of this host, before or while it runs (not below /tmp, /run, /root)."""
        place = (self.path("/") if self.pid else self.files) / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def path(self, path: str) -> Path:
        """Where a path of this host is found from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def command(self, *command: str | Path, user: str | None = None, env: dict[str, str] | None = None) -> list[str]:
        """What runs ``command`` in this host: as root, or as ``user``, with an environment of its own."""
        home = f"/home/{USER}" if user else "/root"
        given = {
            "PATH": PATH,
            "HOME": home,
            "LANG": "C.UTF-8",
            "EZADMIN_AGENT_ROOT": ROOT_OF_FINGERPRINT,
            **(env or {}),
        }
        become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"] if user else []
        spaces = ["--mount", "--pid", "--uts", *(["--net"] if self.network else [])]
        return [
            "nsenter", f"--target={self.pid}", *spaces, f"--root=/proc/{self.pid}/root", f"--wd=/proc/{self.pid}/root{home}",
            "env", "-i", *(f"{name}={value}" for name, value in given.items()), *become, *map(str, command),
        ]  # fmt: skip

    def run(
        self, *command: str | Path, user: str | None = None, env: dict[str, str] | None = None, timeout: float = 180,
        check: bool = True, given: str = "",
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run it to its end. ``check``: fail with what it said."""
        done = subprocess.run(
            self.command(*command, user=user, env=env), input=given, capture_output=True, text=True, timeout=timeout
        )
        if check:
            assert done.returncode == 0, f"{self.name}: {command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def changed(self) -> list[str]:
        """The files and folders that are there, gone or other than at the start; of /tmp, /run and /root too."""
        now = self._listing()
        return sorted(path for path in now.keys() | self._before.keys() if now.get(path) != self._before.get(path))

    def _listing(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        roots = [(self.files, "")] + [(self.path(f"/{one}"), f"/{one}") for one in ("tmp", "run", "root")]
        for root, name in roots:
            for folder, folders, files in os.walk(root):
                for one in [*folders, *files]:
                    path = Path(folder, one)
                    there = path.lstat()
                    if (
                        not name
                        and path.is_dir()
                        and not path.is_symlink()
                        and (Path("/") / path.relative_to(root)).is_dir()
                    ):
                        continue  # a folder of the machine that something below was written to
                    size = 0 if path.is_dir() and not path.is_symlink() else there.st_size
                    found[f"{name}/{path.relative_to(root)}"] = (there.st_mode, size)
        return found

    def processes(self, text: str) -> list[int]:
        """The processes (numbers of outside) of this host whose command line holds ``text``."""
        here = os.stat(f"/proc/{self.pid}/ns/pid").st_ino
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if os.stat(f"/proc/{entry}/ns/pid").st_ino == here:
                        line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        if text in line:
                            found.append(int(entry))
                except OSError:
                    continue
        return found

    def forward(self, port: int, to: tuple[str, int]) -> None:
        """127.0.0.1:``port`` of this host's network reaches ``to`` as seen from outside."""
        with network_of(self.pid):
            server = socket.create_server(("127.0.0.1", port))
        self._forwards.append(server)
        threading.Thread(target=_accept, args=(server, to), daemon=True).start()

    def close(self) -> None:
        """End all its processes and remove its files."""
        for server in self._forwards:
            server.close()
        self._unshare.kill()
        self._unshare.wait(10)
        for stream in (self._unshare.stdout, self._unshare.stderr):
            if stream is not None:
                stream.close()
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
        self.folder.rmdir()


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Sockets that this thread makes belong to the network of process ``pid``."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(other, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        libc.setns(own, CLONE_NEWNET)
        os.close(own)
        os.close(other)


def _accept(server: socket.socket, to: tuple[str, int]) -> None:
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_connect, args=(near, to), daemon=True).start()


def _connect(near: socket.socket, to: tuple[str, int]) -> None:
    try:
        far = socket.create_connection(to, timeout=10)
    except OSError:
        near.close()
        return
    far.settimeout(None)
    back = threading.Thread(target=_pump, args=(far, near), daemon=True)
    back.start()
    _pump(near, far)
    back.join()
    near.close()
    far.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

"""Where everything lies: the checkout, what its stacks share, and one stack's state."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from .errors import LocalError

SERVICES = ("kafka", "elasticsearch", "mariadb")
"""Programs of others; the parts below stand on them. In the order of the start."""

PARTS = ("cmdb-worker", "pipeline", "cmdb-signer", "cmdb-gateway", "cmdb-web", "agent")
"""Our own programs, in the order of the start: keys are published before what they sign is sent."""

GRAFANA = "grafana"
"""A program of others that comes from no package registry: run where one is installed."""

PROGRAMS = (*SERVICES, *PARTS, GRAFANA)

PACKAGES = ("wire", "agent", "pipeline", "cmdb")
"""Folders of the checkout that are installed, editable, into the virtual environment."""

STATE_ENTRIES = ("etc", "data", "run", "log", "keys", "tls", "agent", "ports.json", "stack.json")
"""All that a stack makes in its state folder, and so all that `reset` deletes."""

_SAFE_PATH = re.compile(r"[A-Za-z0-9/._+@~-]+")


@dataclass(frozen=True)
class Layout:
    """Paths of one stack. Both folders are absolute and resolved."""

    checkout: Path
    state: Path

    @classmethod
    def find(cls, state: str | None, checkout: Path | None = None) -> Layout:
        """The layout for `--state STATE`, or for the checkout's own state folder where it is None.

        Raises LocalError for characters that Kafka, Java or the scripts of MariaDB and Elasticsearch do not take.
        """
        checkout = (checkout or Path(__file__).parents[3]).resolve()
        folder = (Path(state).expanduser() if state else checkout / ".ezadmin").resolve()
        for what, path in (("checkout", checkout), ("state folder", folder)):
            if not _SAFE_PATH.fullmatch(str(path)):
                raise LocalError(
                    f"the path of the {what}, {str(path)!r}, holds others than a-z, A-Z, 0-9 and /._+@~-\n"
                    "Kafka, Java or MariaDB's own scripts would not take it. Use another folder"
                    + (" (--state DIR)." if what == "state folder" else ".")
                )
        return cls(checkout, folder)

    @property
    def option(self) -> str:
        """What names this stack behind a command; nothing for the checkout's own."""
        return "" if self.state == self.shared else f" --state {self.state}"

    # -- shared by all stacks of the checkout ---

    @property
    def shared(self) -> Path:
        """What all stacks of the checkout share."""
        return self.checkout / ".ezadmin"

    @property
    def venv(self) -> Path:
        """The virtual environment of ezadmin's own packages and supervisor."""
        return self.shared / "venv"

    @property
    def dist(self) -> Path:
        """Unpacked Kafka and Elasticsearch."""
        return self.shared / "dist"

    @property
    def pom(self) -> Path:
        """The Maven coordinates of the servers."""
        return self.checkout / "deploy" / "local" / "pom.xml"

    @property
    def bundle(self) -> Path:
        """What hosts install the agent from; the gateways of all stacks serve it."""
        return self.shared / "bundle"

    def command(self, name: str) -> Path:
        """A command of the virtual environment."""
        return self.venv / "bin" / name

    # -- one stack ---

    @property
    def etc(self) -> Path:
        """Configuration, written anew at each `up`."""
        return self.state / "etc"

    @property
    def data(self) -> Path:
        """Data folders of the services."""
        return self.state / "data"

    @property
    def run(self) -> Path:
        """Process id files and temporary files."""
        return self.state / "run"

    @property
    def log(self) -> Path:
        """Logs of the programs, and events.log where the machine has no system log."""
        return self.state / "log"

    @property
    def keys(self) -> Path:
        """Secrets: the config signing key and passwords."""
        return self.state / "keys"

    @property
    def tls(self) -> Path:
        """Authority and certificate of a secure stack; that it is there makes the stack one."""
        return self.state / "tls"

    @property
    def secure_file(self) -> Path:
        """There since an `up` brought the secure stack to its end: it need not be told again that it is one."""
        return self.tls / "complete"

    @property
    def ports_file(self) -> Path:
        """The ports that this stack keeps."""
        return self.state / "ports.json"

    @property
    def stack_file(self) -> Path:
        """The endpoints, for tests and scripts."""
        return self.state / "stack.json"

    @property
    def lock_file(self) -> Path:
        """Held while up, down or reset work on this state."""
        return self.state / ".lock"

    def log_of(self, program: str) -> Path:
        """The log of one program (or of `supervisord`)."""
        return self.log / f"{program}.log"

    def config_of(self, part: str) -> Path:
        """The configuration file of one of our own programs; the gateway, met from outside, has settings of its own."""
        return self.etc / ("gateway.toml" if part == "cmdb-gateway" else f"{part.partition('-')[0]}.toml")

    @property
    def setup_config(self) -> Path:
        """The configuration of `ezadmin-pipeline setup`, which may more than the pipeline."""
        return self.etc / "setup.toml"

    @property
    def administrator_config(self) -> Path:
        """How up and status reach Kafka: a TOML file with the table [kafka]."""
        return self.etc / "administrator.toml"

    @property
    def sockets(self) -> Path:
        """Folder of the stack's sockets. Not below the state folder: a socket's path ends at 107 bytes.

        Always /tmp, for TMPDIR may differ between the shell that says `up` and the one that says `down`.
        """
        digest = hashlib.sha256(str(self.state).encode()).hexdigest()[:12]
        return Path("/tmp") / f"ezadmin-{os.getuid()}-{digest}"  # noqa: S108 (made 0700 and checked in make_sockets)

    @property
    def supervisor_socket(self) -> Path:
        """Where supervisord listens."""
        return self.sockets / "supervisor.sock"

    @property
    def mariadb_socket(self) -> Path:
        """Where MariaDB listens, besides its port."""
        return self.sockets / "mariadb.sock"

    @property
    def signer_socket(self) -> Path:
        """Where the signer of commands is asked."""
        return self.sockets / "signer.sock"

    def make_folders(self) -> None:
        """Makes the state's folders, readable by their owner only.

        Raises LocalError if the state folder holds other things, or if someone else has the socket folder's name.
        """
        if self.state != self.shared and self.state.exists() and not self.ports_file.exists():
            others = sorted({entry.name for entry in self.state.iterdir()} - set(STATE_ENTRIES) - {self.lock_file.name})
            if others:
                raise LocalError(
                    f"{self.state} is no state folder of ezadmin: it holds {', '.join(others[:3])}.\n"
                    "Name an empty or new one."
                )
        for folder in (self.etc, self.data, self.run, self.log, self.keys):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        found = self.sockets.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise LocalError(
                f"{self.sockets} is not a folder of mode 0700 of this user, so sockets in it could be another user's.\n"
                "Remove it, or use another --state DIR."
            )

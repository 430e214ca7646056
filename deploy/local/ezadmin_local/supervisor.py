"""Talks to a stack's supervisord over its socket (XML-RPC, http://supervisord.org/api.html)."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNNING_STATES = ("STARTING", "RUNNING", "STOPPING")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    """Keeps one connection open.

    supervisord 4.3 goes on polling the number of a connection that was closed; if a pipe to a program it starts gets
    that number, it turns in circles at 100 % of a core. So: no connections that come and go while programs start.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._kept = _Connection(path)

    def make_connection(self, host: Any) -> _Connection:
        del host  # the socket's path says where
        return self._kept

    def close(self) -> None:
        self._kept.close()


@dataclass(frozen=True)
class ProgramState:
    """What supervisord knows of a program. since: seconds since 1970, 0 where it does not run."""

    name: str
    state: str
    pid: int
    since: int
    problem: str

    @property
    def alive(self) -> bool:
        """True if it has a process."""
        return self.state in RUNNING_STATES


class Supervisor:
    """A supervisord, which may or may not run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._proxy: Any = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(path))

    def runs(self) -> bool:
        """True if it answers."""
        try:
            state: dict[str, Any] = self._proxy.supervisor.getState()
        except (OSError, http.client.HTTPException):
            return False
        return bool(state["statename"] == "RUNNING")

    def states(self) -> dict[str, ProgramState]:
        """All programs that it knows, by name; none if it does not run."""
        try:
            infos: list[dict[str, Any]] = self._proxy.supervisor.getAllProcessInfo()
        except (OSError, http.client.HTTPException):
            return {}
        states = {}
        for info in infos:
            alive = info["statename"] in RUNNING_STATES
            problem = info["spawnerr"] or ("" if alive else info["description"])
            states[info["name"]] = ProgramState(
                info["name"], info["statename"], info["pid"], info["start"] if alive else 0, problem
            )
        return states

    def start(self, name: str) -> None:
        """Starts a program and does not wait; its state says what came of it."""
        if self.states()[name].state == "BACKOFF":
            self.stop(name)  # it waits before its next try, and counts as started until then
        try:
            self._proxy.supervisor.startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if not fault.faultString.startswith("ALREADY_STARTED"):
                raise

    def stop(self, name: str) -> None:
        """Asks a program to end and does not wait."""
        try:
            self._proxy.supervisor.stopProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if not fault.faultString.startswith("NOT_RUNNING"):
                raise

    def reload(self) -> tuple[list[str], list[str]]:
        """Reads the configuration again and changes nothing yet: the names that are new, and those that changed."""
        added, changed, _removed = self._proxy.supervisor.reloadConfig()[0]
        return added, changed

    def add(self, name: str) -> None:
        """Takes a new program from the configuration."""
        self._proxy.supervisor.addProcessGroup(name)

    def replace(self, name: str) -> None:
        """Takes a changed program from the configuration; it must have been stopped."""
        self._proxy.supervisor.removeProcessGroup(name)
        self._proxy.supervisor.addProcessGroup(name)

    def shutdown(self) -> None:
        """Asks it to end. It answers at once and ends when its programs have."""
        self._proxy.supervisor.shutdown()

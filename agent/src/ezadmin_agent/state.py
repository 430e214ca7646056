"""The thread that reports state: the inventory when it changed and once a day, the agent's own status each minute."""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Optional

import psutil

from ezadmin_agent import inventory
from ezadmin_agent.spool import Spool, SpoolError
from ezadmin_wire import state, times
from ezadmin_wire.state import AgentStatus

log = logging.getLogger(__name__)

PERIOD = 60.0
RESEND_MS = 24 * 3600 * 1000
NAME_SECONDS = 3600.0


class StateReporter(threading.Thread):
    """Writes inventory and ``status()`` into ``spool`` until :meth:`stop`."""

    def __init__(self, spool: Spool, status: Callable[[], AgentStatus], *, period: float = PERIOD) -> None:
        super().__init__(name="state", daemon=True)
        self._spool = spool
        self._status = status
        self._period = period
        self._stopping = threading.Event()
        self._reporting = threading.Lock()
        self._fqdn: Optional[str] = None
        self._fqdn_at = -NAME_SECONDS

    def stop(self, timeout: float = 1.0) -> None:
        """End; a name server that does not answer is not waited for."""
        self._stopping.set()
        self.join(timeout)

    def inventory_now(self) -> None:
        """Collect the inventory and spool it, changed or not. Any thread may call it. Raises SpoolError."""
        with self._reporting:
            self._report_inventory(always=True)
            self._spool.sync()

    def run(self) -> None:
        """The thread."""
        while True:
            try:
                self.report()
            except SpoolError as error:
                log.error("state is not reported: %s", error)
            except Exception:
                log.exception("state is not reported")
            if self._stopping.wait(self._period):
                return

    def report(self) -> None:
        """One round. Raises SpoolError."""
        with self._reporting:
            self._report_inventory()
            self._append("agent", self._status(), None)
            self._spool.sync()

    def _report_inventory(self, *, always: bool = False) -> None:
        known: dict[str, Any] = self._spool.positions.get("inventory") or {}
        boot = inventory.boot_id()
        same_boot = bool(boot) and known.get("boot_id") == boot
        boot_time = float(known["boot_time"]) if same_boot else psutil.boot_time()
        found = inventory.collect(times.now(), boot_time=boot_time, fqdn=self._full_name())
        members = _members(found)
        before: dict[str, str] = known.get("members") or {}
        changed = sorted(name for name in {*members, *before} if members.get(name) != before.get(name))
        now_ms = int(time.time() * 1000)
        age = now_ms - int(known.get("sent_ms", 0))
        if not (changed or always) and 0 <= age < RESEND_MS:
            return
        if before and changed:
            log.info("the inventory has changed: %s", ", ".join(changed))
        position = {"members": members, "sent_ms": now_ms, "boot_id": boot, "boot_time": boot_time}
        self._append("inventory", found, position)

    def _append(self, dataset: str, document: state.StateDocument, position: Optional[dict[str, Any]]) -> None:
        positions = {} if position is None else {dataset: position}
        moment = document.collected
        self._spool.append([state.encode(document)], dataset=dataset, tmin=moment, tmax=moment, positions=positions)

    def _full_name(self) -> Optional[str]:
        if time.monotonic() - self._fqdn_at >= NAME_SECONDS:
            self._fqdn_at = time.monotonic()
            name = socket.getfqdn().lower()
            # getfqdn answers with whatever it finds first, also "localhost"
            self._fqdn = name if "." in name and not name.startswith("localhost") else None
        return self._fqdn


def _members(inventory: state.Inventory) -> dict[str, str]:
    """A short hash of each member, by which the next round sees what has changed since this one was sent."""
    return {
        name: hashlib.sha256(repr(value).encode()).hexdigest()[:12]
        for name, value in vars(inventory).items()
        if name != "collected" and value is not None
    }

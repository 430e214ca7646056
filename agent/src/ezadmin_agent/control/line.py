"""The thread that keeps the line to the gateway open: it waits there for commands and has them done.

It costs a request each 50 s. Whatever goes wrong is tried again after a random while, longer each time: a fleet that lost its
gateway must not come back in step.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from ezadmin_agent.backoff import Backoff
from ezadmin_agent.config import Config, ConfigError
from ezadmin_agent.control import copies, enrolment, fingerprint, rotation
from ezadmin_agent.control.client import Answer, Client, GatewayError
from ezadmin_agent.control.enrolment import ACTIVE, QUARANTINED, RETIRED, REVOKED, Enrolment
from ezadmin_agent.control.events import Teller
from ezadmin_agent.control.executor import CommandFailed, Executor, Refused
from ezadmin_agent.control.managed import Managed
from ezadmin_agent.control.me import Me
from ezadmin_agent.control.record import Record
from ezadmin_agent.control.sampling import Sampling
from ezadmin_agent.identity import Identity
from ezadmin_agent.log import Repeated
from ezadmin_agent.spool import Spool
from ezadmin_wire import commands, times
from ezadmin_wire.commands import Command, SignedCommand
from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import build
from ezadmin_wire.times import parse_time

log = logging.getLogger(__name__)

WAIT = 50
"""Seconds that the gateway holds a poll."""
WAIT_QUARANTINED = 15
"""The same for a host that waits to be accepted: it is to begin soon after."""
PATIENCE = 20.0
"""Seconds beyond, until the gateway counts as gone."""
CAP = 60.0
RARELY = (150.0, 300.0)
"""Seconds between two attempts of a host that was revoked or retired."""
QUICK = 1.0
"""A poll that brought nothing new sooner than this is not followed at once by the next."""
CLOCK_SECONDS = 60.0
MAX_COMMANDS = 1000
ROTATE_SECONDS = 45.0


class Hooks(NamedTuple):
    """What the line has the agent do.

    ``hold(text)``: send nothing until ``hold(None)``; ``keys_changed()``: sign with the key of ``me`` from now on;
    ``enrolled()``: the access to Kafka is another one; ``inventory()``: collect and spool it now; ``own_logs()``: the
    sources of the own file.
    """

    hold: Callable[[Optional[str]], None]
    keys_changed: Callable[[], None]
    enrolled: Callable[[Enrolment], None]
    inventory: Callable[[], None]
    own_logs: Callable[[], list[Mapping[str, Any]]]


class ControlLine(threading.Thread):
    """The line of one host; see :meth:`start` and :meth:`stop`. Raises RecordError if the log of commands is broken."""

    def __init__(
        self, config: Config, identity: Identity, me: Me, events: Spool, states: Spool, managed: Managed, hooks: Hooks
    ) -> None:
        super().__init__(name="control", daemon=True)
        self._config = config
        self._state_dir = config.state_dir
        self._identity = identity
        self._me = me
        self._managed = managed
        self._hooks = hooks
        self._client: Optional[Client] = None
        self._fingerprint = fingerprint.digest(fingerprint.read(config.state_dir) or fingerprint.collect())
        self.instance = os.urandom(8).hex()
        self._record = Record(directory(config.state_dir))
        self._teller = Teller(self._record, events, states)
        self.sampling = Sampling(directory(config.state_dir) / "sample.json")
        self._executor = Executor(
            self._record,
            self._teller,
            host=identity.host_id,
            keys=config.command_keys,
            allow=config.allow,
            accounts=config.allow_accounts,
            actions={
                commands.INVENTORY: self._inventory,
                commands.SAMPLE: self._sample,
                commands.CONFIGURE: self._configure,
                commands.ROTATE_KEY: self._rotate,
                commands.STOP: self._stop_all,
                commands.RESUME: self._resume,
            },
            checks={commands.CONFIGURE: self._check_configure},
        )
        self._backoff = Backoff(2.0, CAP)
        self._quick = Backoff(1.0, 5.0)
        self._rotation = Backoff(4.0, CAP)
        self._rotation_at = 0.0
        self._trouble = Repeated(log, seconds=600.0)
        self._stopping = threading.Event()
        self._state: str = config.enrolled.state if self._is_ours() and config.enrolled is not None else "unknown"
        self._connected = False
        self._polled: Optional[str] = None
        self._error: Optional[str] = None
        self._skew: Optional[float] = None
        self._copy = copies.proof(config.state_dir) is not None
        if self._copy:
            self._state = "unknown"
            hooks.hold("this disk is a copy, and not known as a host of its own yet")
        elif self._state != ACTIVE:
            self._hold(self._state)

    def stop(self, timeout: float = 2.0) -> None:
        """End; a poll is not waited for, a command that is being done is, for ``timeout`` seconds."""
        self._stopping.set()
        client = self._client
        if client is not None:
            client.interrupt()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """The thread."""
        try:
            self._executor.begin()
        except Exception:
            log.exception("what became of the last commands is not told")
        wait = random.uniform(0.0, QUICK)
        while not self._stopping.wait(wait):
            try:
                wait = self._round()
            except Exception:
                log.exception("the line to the gateway failed unexpectedly; it goes on")
                wait = max(1.0, self._backoff.next())
        if self._client is not None:
            self._client.close()

    def status(self) -> dict[str, Any]:
        """What ``status`` shows."""
        return {
            "gateway": self._config.gateway,
            "state": self._state,
            "connected": self._connected,
            "last_poll": self._polled,
            "error": self._error,
            "clock_ahead_seconds": self._skew,
            "instance": self.instance,
            "stopped": self._record.stopped,
            "sampling": self.sampling.status(),
            "config_version": self._managed.version,
            "commands": self._record.counts(),
            "forged": self._executor.forged,
            "chain": {"number": self._record.number, "hash": self._record.head},
        }

    # ------------------------------------------------------------------ rounds

    def _round(self) -> float:
        """One request and what comes of it; seconds until the next."""
        self._executor.settle()
        try:
            client = self._connect()
            if self._copy:
                self._enrol_copy()
            self._finish_rotation(client)
            # the first one is answered at once: what this host is now is to be known before a minute has passed
            wait = 0 if not self._connected else WAIT if self._state == ACTIVE else WAIT_QUARANTINED
            begin = time.monotonic()
            answer = self._poll(client, wait)
        except (GatewayError, ConfigError) as error:
            if self._stopping.is_set():
                return 0.0
            return self._failed(error)
        self._connected, self._error, self._polled = True, None, times.now()
        self._backoff.reset()
        if self._trouble.over("gateway"):
            log.info("the gateway %s answers again", self._config.gateway)
        new = self._heard(answer)
        away = answer.json().get("retry_after")  # the gateway ends, and spreads those who come back
        if isinstance(away, (int, float)) and 0 < away < 600:
            return float(away)
        if new or not wait or time.monotonic() - begin >= QUICK:
            self._quick.reset()
            return 0.0
        return 0.2 + self._quick.next()

    def _connect(self) -> Client:
        if self._client is None:
            config = self._config
            assert config.gateway is not None  # noqa: S101 - without one there is no line
            self._client = Client(config.gateway, ca=config.gateway_authority(), proxy=config.gateway_proxy)
        return self._client

    def _poll(self, client: Client, wait: int) -> Answer:
        path = (
            f"/poll?wait={wait}&instance={self.instance}&config={self._managed.version}&fingerprint={self._fingerprint}"
        )
        answer = client.signed(self._me.key, self._me.host, "GET", path, timeout=wait + PATIENCE)
        if answer.status == 200:
            return answer
        if answer.json().get("error") == "stale_request":
            raise self._wrong_clock(answer)
        raise answer.error()

    def _heard(self, answer: Answer) -> int:
        """What an answer says; returns how many commands were new."""
        table = answer.json()
        self._check_clock(table.get("time"))
        state = table.get("state")
        if state in (ACTIVE, QUARANTINED):
            self._enter(state)
        found = table.get("commands")
        if not isinstance(found, list) or self._state != ACTIVE:
            return 0
        signed = []
        for one in found[:MAX_COMMANDS]:
            try:
                signed.append(build(SignedCommand, one))
            except WireError as error:
                self._trouble.tell("answer", f"the gateway sent what is no command: {error}")
        return self._executor.take(signed) if signed else 0

    def _failed(self, error: Exception) -> float:
        """The line is down; seconds until the next attempt."""
        self._connected, self._error = False, str(error)
        reason = error.reason if isinstance(error, GatewayError) else ""
        if isinstance(error, ConfigError):
            self._client = None
        if reason in (REVOKED, RETIRED):
            self._enter(reason)
            return random.uniform(*RARELY)
        text = f"no commands: {error}"
        self._trouble.tell("gateway", text, reason or text)
        retry = error.retry if isinstance(error, GatewayError) else 0.0
        return max(0.5, retry + self._backoff.next())

    # ------------------------------------------------------------------ state and clock

    def _enter(self, state: str) -> None:
        if state == self._state:
            return
        before, self._state = self._state, state
        self._hold(state)
        level = logging.INFO if state == ACTIVE else logging.WARNING
        log.log(level, "the gateway says that this host is %s (%s before)", state, before)
        if self._is_ours() and self._config.enrolled is not None:
            known = enrolment.read(self._state_dir)
            try:
                if known is not None and known.state != state:
                    replace(known, state=state).save(self._state_dir)
            except OSError as error:
                log.error("cannot write %s: %s", enrolment.file(self._state_dir), error.strerror)

    def _hold(self, state: str) -> None:
        texts = {
            QUARANTINED: "it waits to be accepted (quarantine)",
            REVOKED: "it was revoked",
            RETIRED: "it was retired",
        }
        self._hooks.hold(texts.get(state))

    def _is_ours(self) -> bool:
        enrolled = self._config.enrolled
        return enrolled is not None and enrolled.gateway == self._config.gateway

    def _check_clock(self, told: Any) -> None:
        try:
            ahead = (parse_time(times.now()) - parse_time(told)).total_seconds()
        except WireError:
            return
        self._skew = round(ahead, 1)
        if abs(ahead) > CLOCK_SECONDS:
            self._trouble.tell(
                "clock", f"this host's clock is wrong: here it is {times.now()}, at the gateway {told}", "wrong"
            )
        else:
            self._trouble.over("clock")

    def _wrong_clock(self, answer: Answer) -> GatewayError:
        told = answer.json().get("time")
        self._check_clock(told)
        return GatewayError(
            f"this host's clock is wrong: here it is {times.now()}, at the gateway {told or 'another time'}",
            "set it: is a time service (chrony, systemd-timesyncd) running?",
            status=answer.status,
            reason="stale_request",
        )

    # ------------------------------------------------------------------ identity

    def _enrol_copy(self) -> None:
        """Have the copy that this disk is known as a host of its own. Raises GatewayError."""
        from ezadmin_agent.control import enrol

        try:
            proof, before = copies.proof(self._state_dir), enrolment.read(self._state_dir)
            if proof is None or before is None or before.gateway != self._config.gateway:
                raise GatewayError("this disk is a copy of another host's", "enrol it: ezadmin-agent enrol TOKEN")
            made = enrol.enrol_copy(self._identity, proof, before, self._state_dir)
        except (OSError, WireError) as error:
            if isinstance(error, GatewayError):
                raise
            raise GatewayError(f"the copy is not known yet: {error}") from error
        self._copy = False
        self._config = replace(self._config, enrolled=made)
        self._hooks.enrolled(made)
        log.warning("this copy is known as host %s (%s)", made.host, made.state)
        self._state = "unknown"
        self._enter(made.state)

    def _finish_rotation(self, client: Client) -> None:
        """Go on with a new key that a crash left on its way."""
        if not rotation.pending(self._state_dir) or time.monotonic() < self._rotation_at:
            return
        try:
            self._take_new_key(client)
        except (GatewayError, OSError) as error:
            self._rotation_at = time.monotonic() + 1.0 + self._rotation.next()
            self._trouble.tell("rotation", f"the new key is not in use yet: {error}")
        else:
            self._rotation.reset()

    def _take_new_key(self, client: Client) -> None:
        before = self._me.key.kid
        rotation.rotate(client, self._me, self._state_dir)
        self._hooks.keys_changed()
        log.warning("this host signs with a new key, %s instead of %s", self._me.key.kid, before)

    # ------------------------------------------------------------------ kinds

    def _inventory(self, _command: Command) -> Optional[str]:
        self._hooks.inventory()
        return None

    def _sample(self, command: Command) -> Optional[str]:
        return self.sampling.begin(command.arguments["interval"], command.arguments["seconds"])

    def _check_configure(self, command: Command) -> None:
        try:
            self._managed.check(command, self._hooks.own_logs())
        except WireError as error:
            raise Refused(error.reason, str(error)) from error

    def _configure(self, command: Command) -> Optional[str]:
        return self._managed.take(command)

    def _rotate(self, _command: Command) -> Optional[str]:
        self._teller.tell()  # accepted: this may take a while
        client, end = self._connect(), time.monotonic() + ROTATE_SECONDS
        backoff = Backoff(0.5, 5.0)
        while True:
            try:
                self._take_new_key(client)
            except GatewayError as error:
                refused = not rotation.pending(self._state_dir)
                if refused or self._stopping.is_set() or time.monotonic() > end:
                    raise CommandFailed(str(error) if refused else f"{error}; it goes on in the background") from error
                self._stopping.wait(0.2 + backoff.next())
            else:
                return f"key {self._me.key.kid}"

    def _stop_all(self, _command: Command) -> Optional[str]:
        return "the figures are collected as usual again" if self.sampling.end() else "nothing was running"

    def _resume(self, _command: Command) -> Optional[str]:
        return None


def directory(state_dir: Path) -> Path:
    """Where journal and log of commands stand."""
    return state_dir / "commands"

"""Commands as they come: checked, written down, done at most once, and what became of them written down again."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

from ezadmin_agent.control.events import Teller
from ezadmin_agent.control.record import ACCEPTED, DONE, FAILED, LOST, REFUSED, Record, RecordError
from ezadmin_agent.log import Repeated
from ezadmin_wire import commands, jsontext, times
from ezadmin_wire.commands import RESUME, Command, SignedCommand
from ezadmin_wire.errors import WireError
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.signing import VerifyKey
from ezadmin_wire.times import parse_time

log = logging.getLogger(__name__)

FORGED_A_MINUTE = 20
"""So many that nobody trusted signed are written down one by one; the others only counted."""
AGAIN_SECONDS = 30.0
"""How long the CMDB has to take note of a state before it is told again."""
MAX_REASON = 500


class Refused(Exception):
    """A command is not done; ``code`` is the stable word for why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def reason(self) -> str:
        """Code and text, as it is told."""
        return f"{self.code}: {self}"[:MAX_REASON]


class CommandFailed(Exception):
    """A command was begun and did not succeed; the text says why."""


Action = Callable[[Command], Optional[str]]
"""Does a command; returns what to say of it. Raises CommandFailed, OSError."""


class Executor:
    """Does the commands of ``host``: those of the kinds ``allow``, as ``accounts``, signed with one of ``keys``.

    ``actions`` do them; ``checks`` may refuse them before they are accepted (raising Refused). One thread.
    """

    def __init__(
        self,
        record: Record,
        teller: Teller,
        *,
        host: str,
        keys: Sequence[str],
        allow: Sequence[str],
        accounts: Sequence[str],
        actions: Mapping[str, Action],
        checks: Mapping[str, Callable[[Command], None]],
    ) -> None:
        self._record = record
        self._teller = teller
        self._host = host
        self._keys = [VerifyKey.from_hex(key) for key in keys]
        self._allow = frozenset(allow)
        self._accounts = frozenset(accounts)
        self._actions = actions
        self._checks = checks
        self._owed: list[tuple[Command, str, str, Optional[str]]] = []  # ends that could not be written down
        self._told: dict[str, float] = {}
        self._forged: set[tuple[str, str]] = set()
        self._forged_left, self._forged_at = FORGED_A_MINUTE, time.monotonic()
        self.forged = 0
        """Commands that nobody trusted here signed, since the start."""
        self._trouble = Repeated(log, logging.ERROR)

    def begin(self) -> None:
        """After a start: what was begun and has no end is lost. Raises RecordError."""
        for entry in self._record.unfinished():
            members = {**vars(entry), "state": LOST, "reason": "the agent ended before it had done it"}
            del members["at"]
            self._record.append(**members)
            log.warning("command %s (%s) is lost: the agent ended while it did it", entry.id, entry.kind)
        self._teller.tell()

    def take(self, found: Sequence[SignedCommand]) -> int:
        """Do what is new among ``found``; returns how many that were."""
        new = 0
        try:
            self._settle()
            for signed in found:
                new += self._take(signed)
        except RecordError as error:
            self._trouble.tell("record", f"no command is taken: {error}")
        else:
            self._trouble.over("record")
        self._teller.tell()
        return new

    def settle(self) -> None:
        """Write down and tell what could not be before."""
        try:
            self._settle()
        except RecordError as error:
            self._trouble.tell("record", f"no command is taken: {error}")
        self._teller.tell()

    # ------------------------------------------------------------------

    def _take(self, signed: SignedCommand) -> bool:
        digest = hashlib.sha256(signed.command.encode("utf-8", "surrogatepass")).hexdigest()
        try:
            value = commands.verify(signed, self._keys)
        except WireError as error:
            self._refuse_forged(digest, error.reason, str(error))
            return False
        try:
            command = commands.decode(signed, self._keys)
        except WireError as error:
            code = "kind_not_allowed" if error.reason == "unknown_kind" else "bad_value"
            return self._refuse_unread(value, digest, Refused(code, str(error)))
        if command.host != self._host:
            self._refuse_forged(digest, "wrong_host", f"it is for host {command.host}")
            return False
        entry = self._record.find(command.id)
        if entry is not None and entry.digest == digest:
            if time.monotonic() - self._told.get(command.id, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                self._told[command.id] = time.monotonic()
                self._teller.again(entry)
            return False
        taken = self._record.holder_of_attempt(command.run, command.attempt)
        if entry is not None or taken is not None:
            # what the CMDB knows by this run is the other one: it must not hear of it
            self._refuse_forged(digest, "replayed", f"it is another command than {taken or command.id} of the same run")
            return False
        self._told[command.id] = time.monotonic()
        while len(self._told) > 1000:
            del self._told[next(iter(self._told))]
        try:
            self._check(command)
        except Refused as refused:
            self._note(command, digest, REFUSED, refused.reason)
            log.warning("command %s (%s) of %s is refused: %s", command.id, command.kind, command.actor, refused.reason)
            return True
        self._note(command, digest, ACCEPTED)
        log.info("command %s (%s) of %s", command.id, command.kind, command.actor)
        state, reason = self._do(command)
        try:
            self._note(command, digest, state, reason)
        except RecordError:
            self._owed.append((command, digest, state, reason))
            raise
        return True

    def _check(self, command: Command) -> None:
        holder = self._record.holder_of_nonce(command.nonce)
        if holder is not None:
            raise Refused("replayed", f"its nonce is that of command {holder}")
        try:
            commands.check_time(command, times.now())
        except WireError as error:
            raise Refused(error.reason, str(error)) from error
        if command.kind not in self._allow or command.kind not in self._actions:
            raise Refused("kind_not_allowed", f"this host does not do {command.kind} ([commands] allow)")
        if command.account is not None and command.account not in self._accounts:
            raise Refused("account_not_allowed", f"not as {command.account} here ([commands] allow_accounts)")
        if self._record.stopped and command.kind != RESUME:
            raise Refused("stopped", "everything was stopped here; resume first")
        check = self._checks.get(command.kind)
        if check is not None:
            check(command)

    def _do(self, command: Command) -> tuple[str, Optional[str]]:
        try:
            reason = self._actions[command.kind](command)
        except (CommandFailed, OSError) as error:
            log.error("command %s (%s) failed: %s", command.id, command.kind, error)
            return FAILED, str(error)[:MAX_REASON]
        except Exception as error:
            log.exception("command %s (%s) failed unexpectedly", command.id, command.kind)
            return FAILED, f"{type(error).__name__}: {error}"[:MAX_REASON]
        return DONE, None if reason is None else reason[:MAX_REASON]

    def _note(self, command: Command, digest: str, state: str, reason: Optional[str] = None) -> None:
        self._record.append(
            state=state,
            digest=digest,
            id=command.id,
            run=command.run,
            attempt=command.attempt,
            kind=command.kind,
            actor=command.actor,
            nonce=command.nonce,
            not_after=command.not_after,
            reason=reason,
        )

    def _settle(self) -> None:
        while self._owed:
            self._note(*self._owed[0])
            self._owed.pop(0)

    def _refuse_unread(self, value: bytes, digest: str, refused: Refused) -> bool:
        """One that was signed, and is none that this version can read: the CMDB is told if it says which one it is."""
        members = _members(value)
        if members is None or members.pop("host") != self._host:
            self._refuse_forged(digest, refused.code, str(refused))
            return False
        known = self._record.find(members["id"])
        if known is not None and known.digest == digest:
            return False
        if known is not None or self._record.holder_of_attempt(members["run"], members["attempt"]) is not None:
            self._refuse_forged(digest, "replayed", "it is another command of the same run")
            return False
        self._record.append(state=REFUSED, digest=digest, reason=refused.reason, **members)
        log.warning("command %s is refused: %s", members["id"], refused.reason)
        return True

    def _refuse_forged(self, digest: str, code: str, text: str) -> None:
        """One that is none of ours: written down, but never as what became of a command. A flood is only counted."""
        self.forged += 1
        if (digest, code) in self._forged:
            return
        now = time.monotonic()
        if now - self._forged_at >= 60.0:
            self._forged_left, self._forged_at = FORGED_A_MINUTE, now
        if self._forged_left == 0:
            self._trouble.tell("forged", f"more commands that are not for this host come in: {code}: {text}", code)
            return
        self._forged_left -= 1
        if len(self._forged) >= 1000:
            self._forged.clear()
        self._forged.add((digest, code))
        reason = f"{code}: {text}"[:MAX_REASON]
        self._record.append(state=REFUSED, digest=digest, known=False, reason=reason)
        log.error("a command that is none of this host's is refused: %s", reason)


def _members(value: bytes) -> Optional[dict[str, Any]]:
    """What a log line needs of a command that cannot be read; None if it does not even say that."""
    try:
        plain = jsontext.loads(value)
        found = {name: plain[name] for name in ("id", "run", "attempt", "kind", "actor", "nonce", "not_after", "host")}
        parse_time(found["not_after"])
    except (ValueError, KeyError, TypeError):
        return None
    texts = [found[name] for name in ("id", "run", "kind", "actor", "nonce", "host")]
    right = (
        all(isinstance(text, str) and len(text) <= 200 and _is_text(text) for text in texts)
        and is_host_id(found["id"])
        and is_host_id(found["run"])
        and isinstance(found["attempt"], int)
        and not isinstance(found["attempt"], bool)
        and 1 <= found["attempt"] < 2**31
        and re.fullmatch("[0-9a-f]{32}", found["nonce"]) is not None
    )
    return found if right else None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

"""What is done, once, and what is refused, and why."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from ezadmin_agent.control import executor as module
from ezadmin_agent.control import record
from ezadmin_agent.control.events import Teller
from ezadmin_agent.control.executor import CommandFailed, Executor, Refused
from ezadmin_agent.control.record import Line, Record, RecordError
from ezadmin_agent.spool import Spool
from ezadmin_wire import commands, jobs, times
from ezadmin_wire.commands import Command, SignedCommand
from ezadmin_wire.ids import new_host_id
from ezadmin_wire.jobs import JobState
from ezadmin_wire.signing import SigningKey

KEY = SigningKey.generate()
HOST = new_host_id()


def at(seconds: float) -> str:
    return times.format_epoch_ms(int((time.time() + seconds) * 1000))


def make(kind: str = "inventory", key: SigningKey = KEY, **changed: Any) -> SignedCommand:
    given: dict[str, Any] = {
        "id": new_host_id(),
        "run": new_host_id(),
        "attempt": 1,
        "kind": kind,
        "host": HOST,
        "actor": "kim",
        "not_before": at(0),
        "not_after": at(60),
        "nonce": SigningKey.generate().public.hex()[:32],
        "arguments": {"reason": "why"} if kind in ("stop", "resume") else {},
    }
    return commands.encode(key, Command(**{**given, **changed}))


def signed(plain: dict[str, Any]) -> SignedCommand:
    """Whatever ``plain`` says, signed by the right key."""
    text = json.dumps(plain)
    signature = base64.urlsafe_b64encode(KEY.sign(commands._signed(KEY.kid, text.encode()))).decode().rstrip("=")
    return SignedCommand(text, KEY.kid, signature)


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[str] = []
        self.fails: Optional[Exception] = None
        self.start()

    def start(self) -> None:
        """As a process starts."""
        self.record = Record(self.folder / "commands")
        self.events, self.states = (Spool(self.folder / name, name) for name in ("own", "jobs"))
        self.executor = Executor(
            self.record,
            Teller(self.record, self.events, self.states),
            host=HOST,
            keys=[KEY.public.hex()],
            allow=[*commands.KINDS[:-3], "stop", "resume"],
            accounts=["deploy"],
            actions=dict.fromkeys(commands.KINDS, self.act),
            checks={"sample": self.check},
        )

    def act(self, command: Command) -> Optional[str]:
        if self.fails is not None:
            raise self.fails
        self.done.append(command.id)
        return "so"

    @staticmethod
    def check(command: Command) -> None:
        raise Refused("bad_value", "not here")

    def lines(self) -> list[Line]:
        return [line for line in record.read(self.folder / "commands") if isinstance(line, Line)]

    def told(self) -> list[JobState]:
        found: list[JobState] = []
        place = self.states.acked
        while (frame := self.states.next_frame(place)) is not None:
            found += [jobs.decode(line) for line in frame.lines()]  # type: ignore[misc]
            place = frame.end
        return found


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_command_is_done_once_however_often_it_comes(rig: Rig) -> None:
    one = make()
    assert rig.executor.take([one]) == 1
    assert rig.executor.take([one, one]) == 0
    assert len(rig.done) == 1
    assert [(state.state, state.reason) for state in rig.told()] == [("accepted", None), ("done", "so")]
    rig.start()
    assert rig.executor.take([one]) == 0
    assert len(rig.done) == 1
    assert [state.state for state in rig.told()] == ["accepted", "done", "done"], "told again: it was asked for"


def test_it_stands_in_the_journal_before_it_is_done(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make()
    seen: list[list[str]] = []

    def look(command: Command) -> None:
        seen.append([line.state for line in rig.lines()])

    monkeypatch.setitem(rig.executor._actions, "inventory", look)  # type: ignore[arg-type]
    rig.executor.take([one])
    assert seen == [["accepted"]]


def test_a_crash_between_journal_and_end_is_lost_and_never_run_again(rig: Rig) -> None:
    class Crash(BaseException):
        pass

    def crash(_: Command) -> None:
        raise Crash

    one = make()
    rig.executor._actions["inventory"] = crash  # type: ignore[index]
    with pytest.raises(Crash):
        rig.executor.take([one])
    rig.start()
    rig.executor.begin()
    assert rig.executor.take([one]) == 0
    assert rig.done == []
    assert [state.state for state in rig.told()] == ["accepted", "lost", "lost"]
    rig.start()
    rig.executor.begin()
    assert [line.state for line in rig.lines()] == ["accepted", "lost"], "lost once"


def test_failures_are_told(rig: Rig) -> None:
    for error, text in (
        (CommandFailed("no way"), "no way"),
        (OSError(28, "No space left"), "No space left"),
        (ZeroDivisionError("x"), "ZeroDivisionError: x"),
    ):
        rig.fails = error
        assert rig.executor.take([make()]) == 1
        last = rig.told()[-1]
        assert last.state == "failed"
        assert text in str(last.reason)


NOW: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"not_before": at(-100), "not_after": at(-1)}, "expired"),
        ({"not_before": at(3600), "not_after": at(7200)}, "too_early"),
        ({"kind": "rotate_key"}, "kind_not_allowed"),
        ({"account": "root"}, "account_not_allowed"),
        ({"kind": "sample", "arguments": {"interval": 1, "seconds": 10}}, "bad_value"),
    ],
)
def test_refused_and_told(rig: Rig, changed: dict[str, Any], reason: str) -> None:
    one = make(**changed)
    assert rig.executor.take([one]) == 1
    assert rig.done == []
    (state,) = rig.told()
    assert state.state == "refused"
    assert str(state.reason).startswith(f"{reason}: ")
    assert rig.executor.take([one]) == 0, "what was refused stays refused"


def test_an_allowed_account_is_taken(rig: Rig) -> None:
    rig.executor.take([make(account="deploy")])
    assert len(rig.done) == 1


@pytest.mark.parametrize("member", ["command", "kid", "sig"])
def test_forged_ones_are_written_down_and_nothing_is_told_of_them(rig: Rig, member: str) -> None:
    one = make()
    text = getattr(one, member)
    altered = replace(one, **{member: text.replace("kim", "lee") if member == "command" else text[::-1]})
    assert rig.executor.take([altered, altered]) == 0
    assert rig.done == rig.told() == []
    (line,) = rig.lines()
    assert (line.state, line.known, line.id) == ("refused", False, None)
    assert str(line.reason).split(":")[0] == ("unknown_key" if member == "kid" else "bad_signature")
    assert rig.executor.take([one]) == 1, "the true one is not hindered by it"


def test_another_key_and_another_host_are_refused_without_a_word_to_the_cmdb(rig: Rig) -> None:
    rig.executor.take([make(key=SigningKey.generate()), make(host=new_host_id())])
    assert rig.done == rig.told() == []
    assert [str(line.reason).split(":")[0] for line in rig.lines()] == ["unknown_key", "wrong_host"]


def test_a_nonce_is_good_once(rig: Rig) -> None:
    rig.executor.take([make(nonce="0" * 32)])
    rig.start()
    rig.executor.take([make(nonce="0" * 32)])
    assert len(rig.done) == 1
    assert rig.told()[-1].state == "refused"
    assert str(rig.told()[-1].reason).startswith("replayed: ")


@pytest.mark.parametrize("same", ["id", "run"])
def test_two_commands_under_one_name_do_not_spoil_the_first(rig: Rig, same: str) -> None:
    first = make()
    name = json.loads(first.command)
    rig.executor.take([first, make(**{same: name[same], **({"run": name["run"]} if same == "id" else {})})])
    assert len(rig.done) == 1
    assert [state.state for state in rig.told()] == ["accepted", "done"]
    assert str(rig.lines()[-1].reason).startswith("replayed: ")


def test_stop_refuses_all_but_resume_also_after_a_restart(rig: Rig) -> None:
    rig.executor.take([make("stop")])
    rig.start()
    rig.executor.begin()
    rig.executor.take([make(), make("resume"), make()])
    assert [(state.state, str(state.reason)[:8]) for state in rig.told() if state.state != "accepted"] == [
        ("done", "so"),
        ("refused", "stopped:"),
        ("done", "so"),
        ("done", "so"),
    ]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"kind": "shell"}, "kind_not_allowed"), ({"more": 1}, "bad_value"), ({"arguments": {"x": 1}}, "bad_value")],
)
def test_what_this_version_cannot_read_is_refused_and_told(rig: Rig, changed: dict[str, Any], reason: str) -> None:
    one = signed({**json.loads(make().command), **changed})
    assert rig.executor.take([one, one]) == 1
    (state,) = rig.told()
    assert (state.state, str(state.reason).split(":")[0]) == ("refused", reason)


@pytest.mark.parametrize(
    "changed", [{"id": 1}, {"nonce": "x"}, {"host": new_host_id(), "more": 1}, {"attempt": True}, {"actor": "\ud800"}]
)
def test_what_does_not_say_which_it_is_stays_here(rig: Rig, changed: dict[str, Any]) -> None:
    assert rig.executor.take([signed({**json.loads(make().command), **changed})]) == 0
    assert rig.told() == []
    assert len(rig.lines()) == 1


def test_a_flood_of_forged_ones_fills_no_disk(rig: Rig) -> None:
    other = SigningKey.generate()
    rig.executor.take([make(key=other) for _ in range(100)])
    assert rig.executor.forged == 100
    assert len(rig.lines()) == module.FORGED_A_MINUTE
    assert rig.executor.take([make()]) == 1


def test_without_a_journal_nothing_is_done(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: Any) -> Line:
        raise RecordError("the disk is full")

    one = make()
    monkeypatch.setattr(rig.record, "append", broken)
    assert rig.executor.take([one]) == 0
    assert rig.done == []
    monkeypatch.undo()
    assert rig.executor.take([one]) == 1, "it comes again"


def test_an_end_that_could_not_be_written_is_written_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    append = rig.record.append

    def at_the_end(**members: Any) -> Line:
        if members["state"] == "done":
            raise RecordError("the disk is full")
        return append(**members)

    one = make()
    monkeypatch.setattr(rig.record, "append", at_the_end)
    rig.executor.take([one])
    monkeypatch.undo()
    assert [state.state for state in rig.told()] == ["accepted"]
    rig.executor.settle()
    assert [state.state for state in rig.told()] == ["accepted", "done"]
    assert len(rig.done) == 1

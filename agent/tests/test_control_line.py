"""The line to the gateway, in the thread that it really is: polls, states, clocks, keys, samples, managed configuration."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Optional

import pytest
from ezadmin_testing.fake_gateway import FakeGateway

from ezadmin_agent.config import Config, load
from ezadmin_agent.control import enrolment, fingerprint, line, managed, rotation
from ezadmin_agent.control.client import Client, GatewayError
from ezadmin_agent.control.effective import settings
from ezadmin_agent.control.enrolment import Enrolment
from ezadmin_agent.control.line import ControlLine, Hooks
from ezadmin_agent.control.managed import Managed
from ezadmin_agent.control.me import Me
from ezadmin_agent.control.sampling import Sampling
from ezadmin_agent.control.transport import GatewayProducer, GatewayRoute
from ezadmin_agent.identity import load_or_make
from ezadmin_agent.sender import Sender
from ezadmin_agent.spool import Spool, Spools, StreamSpec
from ezadmin_wire import commands, jobs, times
from ezadmin_wire.commands import Command
from ezadmin_wire.errors import WireError
from ezadmin_wire.ids import new_host_id
from ezadmin_wire.jobs import JobState
from ezadmin_wire.signing import SigningKey

T = "2026-11-24T08:00:00.000Z"


def wait_for(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Rig:
    """One host's line, and what its agent was told to do."""

    def __init__(self, folder: Path) -> None:
        self.gateway = FakeGateway()
        self.config_file = folder / "agent.toml"
        self.state = folder / "agent"
        self.config_file.write_text(f'state_dir = "{self.state}"\n[[logs]]\npath = "/var/log/a"\nmin_level = "error"\n')
        self.identity = load_or_make(self.state)
        fingerprint.keep(self.state, fingerprint.collect())
        self.gateway.know(self.identity.host_id, self.identity.key.public)
        keys = [self.gateway.key.public.hex()]
        Enrolment(self.identity.host_id, self.gateway.url, "t", command_keys=keys).save(self.state)
        self.held: list[Optional[str]] = []
        self.keys = 0
        self.inventories = 0
        self.line: Optional[ControlLine] = None
        self.spools: list[Spool] = []

    def config(self) -> Config:
        return load(self.config_file)

    def own(self) -> list[Mapping[str, Any]]:
        return managed.own_entries(self.config(), ())

    def start(self) -> ControlLine:
        self.identity = load_or_make(self.state)
        self.me = Me(self.identity.host_id, self.identity.key)
        self.spools = [Spool(self.state / "spool" / name, name) for name in ("own", "jobs")]
        self.managed = Managed(self.state)
        hooks = Hooks(self.held.append, self._keys, lambda made: None, self._inventory, self.own)
        self.line = ControlLine(self.config(), self.identity, self.me, *self.spools, self.managed, hooks)
        self.line.start()
        return self.line

    def stop(self) -> None:
        if self.line is not None:
            begin = time.monotonic()
            self.line.stop()
            assert time.monotonic() - begin < 2, "a poll that waits is ended"
            assert not self.line.is_alive()
            self.line._record.close()
            self.line = None
        for spool in self.spools:
            spool.close()

    def _keys(self) -> None:
        self.keys += 1

    def _inventory(self) -> None:
        self.inventories += 1

    def send(self, kind: str, **changed: Any) -> str:
        signed = self.gateway.command(self.identity.host_id, kind, **changed)
        self.gateway.give(signed)
        return str(json.loads(signed.command)["run"])

    def states(self, run: str) -> list[JobState]:
        found: list[JobState] = []
        spool = self.spools[1]
        place = spool.acked
        while (frame := spool.next_frame(place)) is not None:
            found += [jobs.decode(one) for one in frame.lines()]  # type: ignore[misc]
            place = frame.end
        return [state for state in found if state.run == run]

    def ended(self, run: str) -> JobState:
        wait_for(lambda: [s for s in self.states(run) if s.state in jobs.END_STATES], "the command ends")
        return next(s for s in self.states(run) if s.state in jobs.END_STATES)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(line, "CAP", 0.3)
    monkeypatch.setattr(line, "RARELY", (0.2, 0.3))
    monkeypatch.setattr(line, "WAIT_QUARANTINED", 1)
    rig = Rig(tmp_path)
    yield rig
    rig.stop()
    rig.gateway.close()


def test_a_poll_waits_and_a_command_comes_at_once(rig: Rig) -> None:
    rig.start()
    wait_for(lambda: len(rig.gateway.polls) == 2, "polls")
    time.sleep(0.3)
    assert len(rig.gateway.polls) == 2, "it waits"
    assert rig.line is not None
    assert "?wait=0&" in rig.gateway.polls[0]
    asked = rig.gateway.polls[1]
    wanted = fingerprint.digest(fingerprint.collect())
    assert asked.endswith(f"?wait=50&instance={rig.line.instance}&config=0&fingerprint={wanted}")
    begin = time.monotonic()
    run = rig.send("inventory", arguments={})
    assert rig.ended(run).state == "done"
    assert time.monotonic() - begin < 1.0
    assert rig.inventories == 1
    time.sleep(2.5)
    assert rig.inventories == 1
    assert len(rig.gateway.polls) < 12, "what comes again and again is not asked for without a pause"


def test_a_line_that_is_down_comes_back(rig: Rig) -> None:
    down = [True]
    rig.gateway.answers["/poll"] = lambda: (502, {}) if down[0] else None
    found = rig.start()
    wait_for(lambda: "is not ezadmin's gateway" in str(found.status()["error"]), "the error is shown")
    assert not found.status()["connected"]
    down[0] = False
    wait_for(lambda: rig.gateway.polls, "a poll")
    assert rig.ended(rig.send("inventory", arguments={})).state == "done"
    wait_for(lambda: found.status()["connected"], "connected")
    assert found.status()["error"] is None


def test_a_wrong_clock_is_told_with_both_times(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.gateway.answers["/poll"] = lambda: (401, {"error": "stale_request", "message": "no", "time": T})
    found = rig.start()
    wait_for(lambda: found.status()["error"], "an error")
    text = found.status()["error"]
    assert "this host's clock is wrong" in text
    assert T in text
    assert times.now()[:10] in text
    assert found.status()["clock_ahead_seconds"] != 0


def test_a_clock_that_is_a_little_wrong_is_told_and_polls_go_on(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.gateway.answers["/poll"] = lambda: (200, {"commands": [], "time": T, "state": "active"})
    found = rig.start()
    wait_for(lambda: any("clock is wrong" in r.getMessage() for r in caplog.records), "a warning")
    assert found.status()["connected"]


def test_a_revoked_host_sends_nothing_and_says_so(rig: Rig) -> None:
    found = rig.start()
    wait_for(lambda: found.status()["state"] == "active" and rig.gateway.polls, "active")
    rig.gateway.state = "revoked"
    rig.gateway.give()  # ends the poll that waits
    wait_for(lambda: rig.held[-1:] == ["it was revoked"], "held")
    assert found.status()["state"] == "revoked"
    wait_for(lambda: (known := enrolment.read(rig.state)) is not None and known.state == "revoked", "kept")
    rig.stop()
    rig.held.clear()
    rig.start()
    assert rig.held == ["it was revoked"], "also after a restart, before the first poll"
    rig.gateway.state = "active"
    wait_for(lambda: rig.held[-1] is None, "released")


def test_a_quarantined_host_waits_and_takes_no_command(rig: Rig) -> None:
    rig.gateway.state = "quarantined"
    signed = asdict(rig.gateway.command(rig.identity.host_id, "inventory", arguments={}))
    accepted: list[bool] = []
    rig.gateway.answers["/poll"] = lambda: (
        None if accepted else (200, {"commands": [signed], "time": times.now(), "state": "quarantined"})
    )
    rig.start()
    wait_for(lambda: rig.held[-1:] == ["it waits to be accepted (quarantine)"], "held")
    time.sleep(0.3)
    assert rig.inventories == 0
    rig.gateway.state = "active"
    accepted.append(True)
    wait_for(lambda: rig.held[-1] is None, "released")


def test_what_a_gateway_may_send_instead_of_commands(rig: Rig) -> None:
    for commands_ in (
        None,
        {},
        [1],
        [{"command": 1, "kid": "x", "sig": "y"}],
        [{"command": "\ud800", "kid": "", "sig": ""}],
    ):
        answer = {"commands": commands_, "time": 5, "state": ["x"]}
        rig.gateway.answers["/poll"] = lambda answer=answer: (200, answer)  # type: ignore[misc]
        found = rig.start()
        wait_for(lambda: found.status()["last_poll"], "a poll")  # noqa: B023 - called before the next round
        assert found.is_alive()
        rig.stop()


# ------------------------------------------------------------------ keys


def test_a_key_is_rotated(rig: Rig) -> None:
    before = rig.identity.key.kid
    rig.start()
    end = rig.ended(rig.send("rotate_key", arguments={}))
    assert (end.state, end.reason) == ("done", f"key {rig.me.key.kid}")
    assert rig.me.key.kid != before
    assert rig.keys == 1
    assert load_or_make(rig.state).key.kid == rig.me.key.kid
    assert not rotation.pending(rig.state)
    assert rig.ended(rig.send("inventory", arguments={})).state == "done"


def test_a_key_that_the_gateway_refuses_is_not_taken(rig: Rig) -> None:
    rig.gateway.answers["/keys"] = lambda: (403, {"error": "not_allowed", "message": "no"})
    before = rig.identity.key.kid
    rig.start()
    end = rig.ended(rig.send("rotate_key", arguments={}))
    assert (end.state, end.reason) == ("failed", "no (403 not_allowed)")
    assert load_or_make(rig.state).key.kid == rig.me.key.kid == before
    assert not rotation.pending(rig.state)


@pytest.mark.parametrize("old_is_revoked", [False, True])
def test_a_new_key_on_its_way_is_taken_after_a_crash(rig: Rig, old_is_revoked: bool) -> None:
    new = rotation.make(rig.state)
    if old_is_revoked:  # the answer was lost, days ago
        rig.gateway.hosts[rig.identity.host_id] = {}
        rig.gateway.know(rig.identity.host_id, new.public)
    rig.start()
    wait_for(lambda: rig.me.key.kid == new.kid, "the new key is used")
    assert load_or_make(rig.state).key.kid == new.kid
    assert rig.ended(rig.send("inventory", arguments={})).state == "done"


def test_kill_at_any_request_of_a_rotation_leaves_a_key_that_works(rig: Rig) -> None:
    class Crash(BaseException):
        pass

    client = Client(rig.gateway.url)
    me = Me(rig.identity.host_id, rig.identity.key)
    for when in range(8):
        left = [when]
        signed = client.signed

        def counted(*arguments: Any, left: list[int] = left, **more: Any) -> Any:
            before, left[0] = left[0], left[0] - 1
            if before == 0:
                raise Crash
            answer = signed(*arguments, **more)  # noqa: B023
            if before == 1 and when % 2:  # noqa: B023
                raise Crash  # it came through, but nobody heard the answer
            return answer

        client.signed = counted  # type: ignore[method-assign, assignment]
        try:
            rotation.rotate(client, me, rig.state)
        except Crash:
            pass
        client.signed = signed  # type: ignore[method-assign]
        found = load_or_make(rig.state)
        assert client.signed(found.key, found.host_id, "GET", "/me").status == 200
        me = Me(found.host_id, found.key)
    rotation.rotate(client, me, rig.state)
    client.close()


# ------------------------------------------------------------------ samples


def test_samples_last_as_long_as_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0, 5000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[1])
    sampling = Sampling(tmp_path / "s")
    assert sampling.interval(10) == 10
    assert sampling.begin(1, 60).startswith("each 1 s until 1970-01-01T00:17:40")
    assert sampling.interval(10) == 1
    now[0], now[1] = 1030.0, 9.0
    again = Sampling(tmp_path / "s")
    assert again.interval(10) == 1
    assert again.status() == {"interval": 1, "until": "1970-01-01T00:17:40.000Z"}
    now[1] = 38.9
    assert again.interval(10) == 1
    now[1] = 39.0
    assert again.interval(10) == 10
    now[0] = 0.0  # a clock that was set back makes it no longer than it was to be
    assert Sampling(tmp_path / "s")._now is not None
    now[1] += 60
    assert Sampling(tmp_path / "s").interval(10) == 1
    now[0] = 2000.0
    assert Sampling(tmp_path / "s").interval(10) == 10
    assert Sampling(tmp_path / "s").interval(1) == 1
    (tmp_path / "s").write_text("{")
    assert Sampling(tmp_path / "s").interval(10) == 10
    assert not Sampling(tmp_path / "s").end()
    assert not (tmp_path / "s").exists()


def test_stop_ends_a_sample_and_a_slower_one_changes_nothing(rig: Rig) -> None:
    found = rig.start()
    rig.ended(rig.send("sample", arguments={"interval": 1, "seconds": 600}))
    assert found.sampling.interval(10) == 1
    assert rig.ended(rig.send("stop", arguments={"reason": ""})).reason == "the figures are collected as usual again"
    assert found.sampling.interval(10) == 10
    assert found.status()["stopped"]
    refused = rig.ended(rig.send("sample", arguments={"interval": 1, "seconds": 600}))
    assert (refused.state, str(refused.reason)[:8]) == ("refused", "stopped:")
    rig.ended(rig.send("resume", arguments={"reason": ""}))
    rig.ended(rig.send("sample", arguments={"interval": 60, "seconds": 600}))
    assert found.sampling.interval(10) == 10, "more often, never more rarely"


# ------------------------------------------------------------------ managed configuration


def test_a_managed_configuration_is_taken_whole_or_not_at_all(rig: Rig) -> None:
    rig.start()
    good = {"logs": [{"path": "/var/log/a", "min_level": "info", "exclude": ["x"]}, {"path": "/var/log/b"}]}
    assert rig.ended(rig.send("configure", arguments={"version": 7, "config": good})).reason == "version 7 is in force"
    assert (rig.managed.version, rig.managed.changes) == (7, 1)
    sources = {str(one.path): one for one in managed.merge(rig.managed.entries, rig.own())}
    assert set(sources) == {"/var/log/a", "/var/log/b"}
    assert sources["/var/log/a"].rules.min_level == "error", "what the file says holds"
    assert sources["/var/log/a"].rules.exclude == ("x",)
    wait_for(lambda: "config=7" in rig.gateway.polls[-1], "the version is told")
    for bad, text in (
        ({"logs": [{"path": "/var/log/c"}, {"path": "/d", "min_level": "loud"}]}, "min_level: write one of"),
        ({"kafka": {}}, "kafka: only"),
        ({"logs": [{"path": "/d", "exclude": ["("]}]}, "exclude"),
    ):
        end = rig.ended(rig.send("configure", arguments={"version": 8, "config": bad}))
        assert (end.state, str(end.reason)[:10]) == ("refused", "bad_value:")
        assert text in str(end.reason)
    assert rig.managed.version == 7
    assert Managed(rig.state).version == 7, "it is kept"
    names = {one.name: one for one in settings(rig.config(), rig.config_file)}
    assert names["logs[/var/log/a].exclude"].origin == "managed, version 7"
    assert names["logs[/var/log/a].min_level"].origin == str(rig.config_file)
    assert names["gateway"].origin == "enrolment"
    assert names["interval"].origin == "default"


def test_the_file_may_keep_a_source_to_itself(rig: Rig) -> None:
    rig.config_file.write_text(rig.config_file.read_text() + "managed = false\n")
    entries = [{"path": "/var/log/a", "exclude": ["x"]}, {"path": "/var/log/b"}]
    sources = {str(one.path): one for one in managed.merge(entries, rig.own())}
    assert sources["/var/log/a"].rules.exclude == ()
    assert "/var/log/b" in sources


def test_an_older_configuration_that_comes_late_is_refused(rig: Rig) -> None:
    found = Managed(rig.state)

    def command(version: int, moment: str) -> Command:
        signed = rig.gateway.command(
            rig.identity.host_id,
            "configure",
            not_before=moment,
            not_after="2027-01-01T00:00:00.000Z",
            arguments={"version": version, "config": {}},
        )
        return commands.decode(signed, [_public(rig.gateway.key)])

    for version, moment in ((9, "2026-11-24T08:00:00.000Z"), (3, "2026-11-24T08:00:01.000Z")):
        one = command(version, moment)  # a smaller number is no older one: a host may come into another group
        found.check(one, [])
        found.take(one)
    with pytest.raises(WireError, match="version: 3 is in force and was confirmed later"):
        found.check(command(9, "2026-11-24T08:00:00.500Z"), [])


def test_a_kept_configuration_that_is_damaged_is_not_used(rig: Rig) -> None:
    managed.file(rig.state).write_text('{"version": 1, "config": {"logs": [{"path": "x"}]}}')
    assert Managed(rig.state).version == 0


def _public(key: SigningKey) -> Any:
    from ezadmin_wire.signing import VerifyKey

    return VerifyKey(key.public)


# ------------------------------------------------------------------ the transport https


class Upload:
    def __init__(self, folder: Path) -> None:
        self.gateway = FakeGateway()
        self.me = Me(new_host_id(), SigningKey.generate())
        self.gateway.know(self.me.host, self.me.key.public)
        self.spools = Spools(
            folder, [StreamSpec("logs", "t.logs", 5, False), StreamSpec("metrics", "t.metrics", 1, True)]
        )
        self.sender = Sender(
            self.spools,
            host_id=self.me.host,
            key=self.me.key,
            kafka=GatewayRoute(self.gateway.url),
            make_producer=lambda **_: GatewayProducer(Client(self.gateway.url), self.me),
        )

    def append(self, *lines: bytes, stream: str = "logs") -> None:
        self.spools[stream].append(lines, dataset="d" if stream == "logs" else "*", tmin=T, tmax=T)
        self.spools[stream].sync()


@pytest.fixture
def upload(tmp_path: Path) -> Iterator[Upload]:
    upload = Upload(tmp_path)
    yield upload
    upload.sender.stop(0.2)
    upload.spools.close()
    upload.gateway.close()


def test_batches_leave_in_order_several_in_a_request(upload: Upload) -> None:
    for number in range(300):
        upload.append(b'{"i":%d}' % number)
    upload.append(b'{"m":1}', stream="metrics")
    upload.sender.start()
    assert upload.sender.wait_acked(15)
    logs = [found.seq for found in upload.gateway.batches if found.stream == "logs"]
    assert logs == list(range(300))
    requests = [path for _, path in upload.gateway.asked if path.endswith("/batches")]
    assert len(requests) < 60
    assert upload.sender.connected


def test_what_the_gateway_does_not_take_now_comes_again(upload: Upload, caplog: pytest.LogCaptureFixture) -> None:
    refusals = [
        (503, {"error": "kafka", "message": "later", "retry": 0}),
        (403, {"error": "revoked", "message": "gone"}),
    ]
    upload.gateway.answers["/batches"] = lambda: refusals.pop() if refusals else None
    upload.gateway.judge = lambda found: "unknown_key" if found.seq == 3 and not seen.setdefault("x", False) else None
    seen: dict[str, bool] = {}
    upload.sender.start()
    for number in range(10):
        upload.append(b'{"i":%d}' % number)
    wait_for(lambda: any("unknown_key" in r.getMessage() for r in caplog.records), "told")
    seen["x"] = True
    assert upload.sender.wait_acked(30)
    lines = {found.seq: found.lines() for found in upload.gateway.batches}
    assert sorted(lines) == list(range(10))
    assert any("the gateway did not take a batch: gone (403 revoked)" in r.getMessage() for r in caplog.records)


def test_a_line_that_is_too_large_is_dropped_alone(upload: Upload) -> None:
    upload.gateway.judge = lambda found: "too_large" if len(found.value) > 1000 else None
    upload.sender.start()
    upload.append(b"a" * 10, b"b" * 2000, b"c" * 10)
    assert upload.sender.wait_acked(30)
    assert {found.seq: found.lines() for found in upload.gateway.batches} == {0: [b"a" * 10], 2: [b"c" * 10]}
    assert upload.sender.stats()["logs"]["lines_refused"] == 1


def test_a_held_sender_keeps_everything(upload: Upload) -> None:
    upload.sender.hold(True)
    upload.sender.start()
    upload.append(b"{}")
    time.sleep(0.5)
    assert upload.gateway.batches == []
    assert not upload.sender.connected
    upload.sender.hold(False)
    assert upload.sender.wait_acked(10)


def test_retry_after_is_kept(upload: Upload) -> None:
    refusals = [(503, {"error": "kafka", "message": "later", "retry": 2})]
    upload.gateway.answers["/batches"] = lambda: refusals.pop() if refusals else None
    upload.sender.start()
    begin = time.monotonic()
    upload.append(b"{}")
    assert upload.sender.wait_acked(10)
    assert time.monotonic() - begin >= 2


def test_a_rotated_key_signs_what_comes(upload: Upload) -> None:
    upload.sender.start()
    upload.append(b"1")
    assert upload.sender.wait_acked(10)
    new = SigningKey.generate()
    upload.gateway.know(upload.me.host, new.public)
    upload.me.key = new
    upload.sender.use(key=new)
    upload.append(b"2")
    assert upload.sender.wait_acked(10)
    assert [found.kid == new.kid for found in upload.gateway.batches] == [False, True]


def test_the_state_of_an_enrolment_can_be_written_anew(tmp_path: Path) -> None:
    made = Enrolment("h", "https://g", "p")
    made.save(tmp_path)
    replace(made, state="revoked").save(tmp_path)
    assert enrolment.read(tmp_path) == replace(made, state="revoked")
    with pytest.raises(GatewayError, match="nothing listens"):
        Client("http://127.0.0.1:1").request("GET", "/")


def test_a_gateway_that_ends_says_when_to_come_back(rig: Rig) -> None:
    ends = [{"commands": [], "time": times.now(), "state": "active", "retry_after": 1.2}]
    rig.gateway.answers["/poll"] = lambda: (200, ends.pop()) if ends else None
    rig.start()
    wait_for(lambda: not ends, "the first answer")
    begin = time.monotonic()
    wait_for(lambda: rig.gateway.polls, "the next poll")
    assert time.monotonic() - begin > 0.8


def test_a_state_that_the_gateway_does_not_know_changes_nothing(rig: Rig) -> None:
    answers = [{"commands": [], "time": times.now(), "state": "unknown"}] * 3
    rig.gateway.state = "quarantined"
    found = rig.start()
    wait_for(lambda: found.status()["state"] == "quarantined", "quarantined")
    rig.gateway.answers["/poll"] = lambda: (200, answers.pop()) if answers else None
    wait_for(lambda: not answers, "answers without a state")
    assert found.status()["state"] == "quarantined"
    assert rig.held[-1] is not None


def test_the_system_log_is_that_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"source": "system", "min_level": "error"}]
    log = tmp_path / "messages"
    monkeypatch.setattr(managed, "SYSTEM_LOGS", (str(tmp_path / "syslog"), str(log)))
    (journal,) = managed.merge(entries, [])
    assert (journal.kind, journal.rules.min_level) == ("journal", "error")
    log.touch()
    (one,) = managed.merge(entries, [{"path": str(log), "sample": 3}])
    assert (str(one.path), one.rules.min_level, one.rules.sample) == (str(log), "error", 3), (
        "and what the file says of it"
    )

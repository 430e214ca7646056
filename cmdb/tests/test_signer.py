"""The signer: what it signs, what it refuses, and what its file shows, also after kill -9."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ezadmin_cmdb.main import main
from ezadmin_cmdb.signer import book
from ezadmin_cmdb.signer.client import SignerRefuses, SignerUnavailable, sign
from ezadmin_cmdb.signer.settings import CommandSettingsError, load, parse
from ezadmin_wire import commands as wire
from ezadmin_wire.signing import SigningKey, VerifyKey
from ezadmin_wire.times import format_time


class Running:
    """A signer process on files of its own."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.key = SigningKey.generate()
        self.socket, self.log = folder / "run" / "socket", folder / "signed.ndjson"
        key_file, self.config = folder / "command.key", folder / "cmdb.toml"
        self.key.save(key_file)
        values = {
            "signing_key": str(key_file),
            "signer_socket": str(self.socket),
            "public_key": self.key.public.hex(),
            **settings,
        }
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        self.config.write_text(f'database = "not read"\n[commands]\n{text}')
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, module: str = "ezadmin_cmdb.signer", *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments, "--config", str(self.config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        for _ in range(1200):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                return
            if self.process.poll() is not None:
                raise AssertionError(self.process.communicate()[1].decode())
            time.sleep(0.05)
        raise AssertionError("the signer does not listen")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=10)
        return self.process.returncode, told.decode()

    def raw(self, data: bytes) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
            return answer


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests after which it is as before."""
    running = Running(tmp_path_factory.mktemp("signer"))
    running.start()
    yield running
    running.end()


def command(
    kind: str = wire.INVENTORY, begin: timedelta = timedelta(), life: timedelta = timedelta(minutes=5)
) -> wire.Command:
    start = datetime.now(UTC) + begin
    arguments: dict[str, dict[str, Any]] = {wire.STOP: {"reason": "r"}, wire.SAMPLE: {"interval": 1, "seconds": 60}}
    return wire.Command(
        str(uuid.uuid4()), str(uuid.uuid4()), 1, kind, str(uuid.uuid4()), "kim", format_time(start), format_time(start + life),
        secrets.token_hex(16), arguments.get(kind, {}),
    )  # fmt: skip


def refusal(signer: Running, *given: wire.Command) -> str:
    with pytest.raises(SignerRefuses) as caught:
        sign(signer.socket, given)
    return caught.value.reason


def test_it_signs_what_agents_believe_and_writes_it_down_first(signer: Running) -> None:
    given = [command(), command(wire.SAMPLE)]
    signed = sign(signer.socket, given)
    assert [wire.decode(one, [VerifyKey(signer.key.public)]) for one in signed] == given
    lines = list(book.read(signer.log))
    assert [(line["id"], line["actor"], line["kind"], line["uid"]) for line in lines] == [
        (one.id, "kim", one.kind, os.getuid()) for one in given
    ]
    assert lines[1]["pid"] == os.getpid()
    assert signer.log.stat().st_mode & 0o777 == 0o600
    assert signer.socket.stat().st_mode & 0o777 == 0o600
    assert signer.socket.parent.stat().st_mode & 0o077 == 0o010
    code, told = signer.end()
    assert code == 0
    assert "signed 2 commands" in told
    assert '"warning"' not in told, "who only looks whether it listens is nothing to tell of"
    assert not signer.socket.exists()


def test_the_process_holds_neither_web_application_nor_database() -> None:
    code = "import sys, ezadmin_cmdb.signer.process; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "ezadmin_wire" in loaded
    for name in ("flask", "sqlalchemy", "kafka", "requests", "werkzeug", "click"):
        assert f"'{name}'" not in loaded


def test_the_command_becomes_that_process(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.start("ezadmin_cmdb.main", "signer")
    assert running.process is not None
    assert b"ezadmin_cmdb.signer" in Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
    assert running.end()[0] == 0


def test_what_was_signed_is_not_signed_again_also_after_a_restart(signer: Running) -> None:
    one = command()
    sign(signer.socket, [one])
    assert refusal(signer, one) == "duplicate"
    assert refusal(signer, replace(one, id=str(uuid.uuid4()))) == "duplicate", "its nonce"
    assert refusal(signer, replace(one, nonce=secrets.token_hex(16))) == "duplicate", "its id"
    other = command()
    assert refusal(signer, other, replace(other, id=str(uuid.uuid4()))) == "duplicate", "within one request"
    signer.end(signal.SIGKILL)
    signer.start()
    assert refusal(signer, one) == "duplicate"
    sign(signer.socket, [other])


@pytest.mark.parametrize(
    ("begin", "life", "reason"),
    [
        (timedelta(), timedelta(days=7, seconds=1), "lives_too_long"),
        (timedelta(days=6), timedelta(days=2), "lives_too_long"),
        (timedelta(minutes=-9), timedelta(minutes=5), "expired"),
        (timedelta(minutes=-9), timedelta(minutes=20), "bad_time"),
    ],
)
def test_a_life_is_bounded(shared: Running, begin: timedelta, life: timedelta, reason: str) -> None:
    before = book.verify(shared.log)
    assert refusal(shared, command(begin=begin, life=life)) == reason
    assert book.verify(shared.log) == before


def test_only_so_many_in_a_minute_but_stopping_always_goes(tmp_path: Path) -> None:
    signer = Running(tmp_path, max_hosts_per_minute=5)
    signer.start()
    try:
        sign(signer.socket, [command() for _ in range(3)])
        assert refusal(signer, *(command() for _ in range(3))) == "too_many"
        sign(signer.socket, [command(wire.STOP) for _ in range(20)])
        sign(signer.socket, [command() for _ in range(2)])
        assert refusal(signer, command()) == "too_many"
        assert book.verify(signer.log).number == 25
    finally:
        signer.end()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\n", "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", "bad_request"),
        (b'{"commands": []}\n', "bad_request"),
        (b'{"commands": [{}], "key": 1}\n', "bad_request"),
        (b'{"commands": [{"id": "1"}]}\n', "bad_value"),
        (b'{"commands": ["x"]}\n', "bad_request"),
        (b"[" * 100_000 + b"\n", "bad_request"),
        (b'{"commands": [' + b"1" * 5000 + b"]}\n", "bad_request"),
        (b"\xff\xfe\n", "bad_request"),
        (b'{"commands": [{}]}', "bad_request"),
    ],
)
def test_garbage_is_refused_and_ends_nothing(shared: Running, data: bytes, reason: str) -> None:
    assert shared.raw(data)["error"] == reason
    sign(shared.socket, [command()])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "shell"}, "unknown_kind"),
        ({"arguments": {"x": 1}}, "bad_value"),
        ({"host": "all"}, "bad_value"),
        ({"nonce": "short"}, "bad_value"),
        ({"not_after": "soon"}, "bad_time"),
        ({"attempt": 0}, "bad_value"),
        ({"approved": True}, "bad_request"),
        ({"kind": "configure", "arguments": {"version": 1, "config": {"logs": "x" * wire.MAX_BYTES}}}, "bad_value"),
    ],
)
def test_only_well_formed_commands(shared: Running, change: dict[str, Any], reason: str) -> None:
    plain = {**{name: getattr(command(), name) for name in command().__dataclass_fields__}, **change}
    plain = {name: value for name, value in plain.items() if value is not None}
    before = book.verify(shared.log)
    assert shared.raw(json.dumps({"commands": [plain]}).encode() + b"\n")["error"] == reason
    assert book.verify(shared.log) == before


def test_one_wrong_command_and_none_is_signed(shared: Running) -> None:
    before = book.verify(shared.log)
    assert refusal(shared, command(), command(life=timedelta(days=9))) == "lives_too_long"
    assert book.verify(shared.log) == before


def test_who_sends_nothing_holds_nobody_up(shared: Running) -> None:
    idle = [socket.socket(socket.AF_UNIX) for _ in range(10)]
    for one in idle:
        one.connect(str(shared.socket))
    begin = time.monotonic()
    sign(shared.socket, [command()])
    assert time.monotonic() - begin < 5
    for one in idle:
        one.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_processes_of_other_users_may_not_ask() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is root's alone
        Path(folder).chmod(0o755)
        running = Running(Path(folder))
        running.start()
        try:
            code = (
                f"import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect({str(running.socket)!r});"
                "s.sendall(b'{}\\n'); print(s.makefile().readline())"
            )
            ask = [sys.executable, "-c", code]
            kept_off = subprocess.run(ask, capture_output=True, text=True, check=False)
            assert "Permission denied" in kept_off.stderr
            running.socket.parent.chmod(0o755)
            running.socket.chmod(0o777)
            told = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
            assert json.loads(told)["error"] == "forbidden"
        finally:
            running.end()


def test_the_switch_lets_nothing_through_but_stop(signer: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signer", "halt", "--reason", "a break-in", "--config", str(signer.config)]) == 0
    assert refusal(signer, command()) == "halted"
    with pytest.raises(SignerRefuses, match="a break-in"):
        sign(signer.socket, [command(), command(wire.STOP)])
    sign(signer.socket, [command(wire.STOP)])
    signer.end()
    signer.start()
    assert refusal(signer, command()) == "halted", "also after a restart"
    assert main(["signer", "release", "--config", str(signer.config)]) == 0
    sign(signer.socket, [command()])
    assert main(["signer", "verify", "--config", str(signer.config)]) == 0
    assert "2 lines hold" in capsys.readouterr().out


def test_killed_in_the_middle_its_file_is_whole(signer: Running) -> None:
    """kill -9 while four threads ask: every signature that was given out stands in the file, whose chain holds."""
    given: list[str] = []

    def ask() -> None:
        while True:
            wanted = [command(), command()]
            try:
                sign(signer.socket, wanted)
            except (SignerUnavailable, SignerRefuses):
                return
            given.extend(one.id for one in wanted)

    for _ in range(3):
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for one in threads:
            one.start()
        time.sleep(0.4)
        signer.end(signal.SIGKILL)
        for one in threads:
            one.join(20)
        signer.start()
    lines = [line["id"] for line in book.read(signer.log)]
    assert len(given) > 20
    assert set(given) <= set(lines)
    assert len(lines) == len(set(lines))


def test_a_line_that_was_cut_off_is_removed_and_the_chain_goes_on(signer: Running) -> None:
    sign(signer.socket, [command()])
    signer.end(signal.SIGKILL)
    with signer.log.open("ab") as file:
        file.write(b'{"number": 2, "previous": "')
    signer.start()
    sign(signer.socket, [command()])
    assert book.verify(signer.log).number == 2


@pytest.mark.parametrize("line", [0, 1, 2])
def test_what_was_altered_is_named_and_it_does_not_start(
    signer: Running, line: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        sign(signer.socket, [command()])
    signer.end()
    lines = signer.log.read_bytes().splitlines(keepends=True)
    signer.log.write_bytes(b"".join([*lines[:line], lines[line].replace(b'"kim"', b'"lee"'), *lines[line + 1 :]]))
    assert main(["signer", "verify", "--config", str(signer.config)]) == 1
    assert f"line {line + 1} is not what it was" in capsys.readouterr().err
    with pytest.raises(AssertionError, match="is not what it was"):
        signer.start()


def aged(path: Path, days: list[int]) -> list[dict[str, Any]]:
    """A file of a line for each number of days ago, in a chain that holds."""
    found = book.Book(path)
    for number, ago in enumerate(days):
        moment = format_time(datetime.now(UTC) - timedelta(days=ago))
        found.add([{"time": moment, "id": f"id-{number}", "nonce": f"nonce-{number}"}])
    found.close()
    return list(book.read(path))


def begun(path: Path, since: timedelta) -> tuple[list[int], book.Head]:
    """The numbers of the lines that a start looks at, and what it takes for the end of the file."""
    found = book.Book(path)
    try:
        return [one["number"] for one in found.lines(format_time(datetime.now(UTC) - since))], found.head
    finally:
        found.close()


def test_a_start_reads_what_is_new(tmp_path: Path) -> None:
    path, fortnight = tmp_path / "signed.ndjson", timedelta(days=14)
    lines = aged(path, [100, 50, 20, 3, 1])
    end = book.Head(5, lines[-1]["hash"])
    assert begun(path, fortnight) == ([1, 2, 3, 4, 5], end)
    assert (tmp_path / "signed.ndjson.checkpoint").stat().st_mode & 0o777 == 0o600
    assert begun(path, fortnight) == ([4, 5], end)
    assert begun(path, timedelta(days=60)) == ([1, 2, 3, 4, 5], end), "commands live longer now: it needs older lines"
    assert begun(path, timedelta(hours=1))[1] == end
    assert begun(path, timedelta(hours=1)) == ([], end), "nothing is new, and the chain goes on at its end"
    found = book.Book(path)
    list(found.lines(format_time(datetime.now(UTC))))
    found.add([{"time": format_time(datetime.now(UTC)), "id": "new", "nonce": "new"}])
    found.close()
    assert book.verify(path).number == 6


@pytest.mark.parametrize("change", ["line", "file", "checkpoint"])
def test_a_checkpoint_that_does_not_fit_is_not_believed(tmp_path: Path, change: str) -> None:
    path, fortnight = tmp_path / "signed.ndjson", timedelta(days=14)
    aged(path, [100, 20, 1])
    begun(path, fortnight)
    assert begun(path, fortnight)[0] == [3]
    checkpoint = tmp_path / "signed.ndjson.checkpoint"
    if change == "line":
        path.write_text(path.read_text().replace("id-1", "id-9"))
        with pytest.raises(book.BookError, match="line 2 is not what it was"):
            begun(path, fortnight)
    elif change == "file":
        path.unlink()
        aged(path, [1, 1])
        assert begun(path, fortnight)[0] == [1, 2]
    else:
        checkpoint.write_text("{}")
        assert begun(path, fortnight)[0] == [1, 2, 3]


def test_there_is_one_signer_of_a_file(signer: Running, tmp_path: Path) -> None:
    command_line = [sys.executable, "-m", "ezadmin_cmdb.signer", "--config", str(signer.config)]
    second = subprocess.run(command_line, capture_output=True, text=True, timeout=20, check=False)
    assert (second.returncode, "open in another signer" in second.stderr) == (1, True)
    sign(signer.socket, [command()])


def test_the_key_must_be_its_own(signer: Running, tmp_path: Path) -> None:
    signer.end()
    key = tmp_path / "command.key"
    key.chmod(0o640)
    with pytest.raises(AssertionError, match="readable by others"):
        signer.start()
    key.chmod(0o600)
    signer.socket.parent.chmod(0o777)
    with pytest.raises(AssertionError, match="others may write into"):
        signer.start()
    signer.socket.parent.chmod(0o700)
    signer.config.write_text(signer.config.read_text().replace(signer.key.public.hex(), "0" * 64))
    with pytest.raises(AssertionError, match="public_key is not that of"):
        signer.start()


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"colour": 1}, "unknown setting 'colour'"),
        ({"signer_socket": "relative"}, "write the absolute path"),
        ({"public_key": "xy"}, "64 hex digits"),
        ({"max_hosts_per_minute": 0}, "from 1 to"),
        ({"max_lifetime_hours": 24 * 91}, "from 1 to 2160"),
        ({"keep_days": -1}, "from 0 to 36500"),
        ({"signer_users": "root"}, "write a list of names"),
        ({"signer_users": ["nobody-of-that-name"]}, "there is no user 'nobody-of-that-name'"),
    ],
)
def test_wrong_settings_are_named(table: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(CommandSettingsError, match=text):
        parse(table, "cmdb.toml: [commands]")
    with pytest.raises(CommandSettingsError, match="cannot read"):
        load(tmp_path / "none.toml")


def test_settings() -> None:
    found = parse({"signing_key": "/k/command.key", "signer_users": ["root"], "max_lifetime_hours": 2}, "x")
    assert (found.signer_log, found.signer_users) == (Path("/k/signed.ndjson"), (0,))
    assert (found.halted, found.max_lifetime) == (Path("/k/signed.ndjson.halted"), timedelta(hours=2))
    assert parse({}, "x").halted is None
    assert parse({}, "x").keep == timedelta(days=400)
    assert parse({"keep_days": 30}, "x").keep == timedelta(days=30)
    assert parse({"keep_days": 0}, "x").keep is None


def test_nobody_listening_is_said(tmp_path: Path) -> None:
    with pytest.raises(SignerUnavailable, match="does not answer on"):
        sign(tmp_path / "none", [command()])

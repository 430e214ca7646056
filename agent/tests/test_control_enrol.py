"""Enrolment, and the fingerprint by which copies of a disk are told from the machine itself."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from ezadmin_testing.certificates import Authority
from ezadmin_testing.fake_gateway import FakeGateway

from ezadmin_agent import config
from ezadmin_agent.control import copies, enrolment, fingerprint
from ezadmin_agent.control.client import GatewayError, context
from ezadmin_agent.identity import load_or_make
from ezadmin_agent.main import main
from ezadmin_agent.spool import Spool
from ezadmin_wire.enrolment import Fingerprint, clone_bytes
from ezadmin_wire.ids import new_host_id
from ezadmin_wire.signing import VerifyKey


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def gateway(authority: Authority) -> Iterator[FakeGateway]:
    found = FakeGateway(certificate=authority.issue("gw", ("127.0.0.1",)), ca_file=authority.ca_file)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's own /etc and /sys, as files."""
    root = tmp_path / "root"
    monkeypatch.setenv(fingerprint.ROOT, str(root))
    machine(root)
    return root


def machine(
    root: Path, machine_id: str = "m1", uuid: Optional[str] = "u1", macs: tuple[str, ...] = ("52:54:00:00:00:01",)
) -> None:
    shutil.rmtree(root, ignore_errors=True)
    (root / "etc").mkdir(parents=True)
    (root / "etc/machine-id").write_text(f"{machine_id}\n")
    dmi = root / "sys/class/dmi/id"
    dmi.mkdir(parents=True)
    if uuid is not None:
        (dmi / "product_uuid").write_text(f"{uuid}\n")
    (dmi / "product_serial").write_text("To Be Filled By O.E.M.\n")
    for number, mac in enumerate(macs):
        (root / f"sys/class/net/eth{number}/device").mkdir(parents=True)
        (root / f"sys/class/net/eth{number}/address").write_text(f"{mac}\n")
    (root / "sys/class/net/veth7").mkdir(parents=True, exist_ok=True)
    (root / "sys/class/net/veth7/address").write_text("aa:aa:aa:aa:aa:aa\n")


def pin(authority: Authority) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(authority.ca_file.read_text())).hexdigest()


class Host:
    def __init__(self, folder: Path) -> None:
        self.state = folder / "agent"
        self.config = folder / "agent.toml"
        self.config.write_text(f'state_dir = "{self.state}"\n')

    def enrol(self, token: str, *more: str) -> int:
        return main(["enrol", "--config", str(self.config), token, *more])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_host_enrols_once_and_needs_nothing_more(
    host: Host, gateway: FakeGateway, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    token = gateway.token(ca=pin(authority))
    assert host.enrol(token, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    identity = load_or_make(host.state)
    assert said == {"host.id": identity.host_id, "state": "active", "gateway": gateway.url, "transport": "https"}
    path = enrolment.file(host.state)
    assert path.stat().st_mode & 0o777 == 0o600
    known = enrolment.read(host.state)
    assert known is not None
    assert (known.host, known.gateway, known.prefix) == (identity.host_id, gateway.url, "tfake")
    assert known.command_keys == [gateway.key.public.hex()]
    (asked,) = gateway.enrolments
    assert asked.fingerprint == fingerprint.read(host.state) == fingerprint.collect()
    assert asked.fingerprint.macs == ["52-54-00-00-00-01"]
    before = path.read_bytes()
    assert host.enrol(token) == 0
    assert len(gateway.enrolments) == 1, "the token is used once"
    assert path.read_bytes() == before
    assert main(["config", "check", "--config", str(host.config)]) == 0
    assert "warning" not in capsys.readouterr().out


def test_without_any_file_the_usual_places_are_used(
    gateway: FakeGateway, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "usual"
    monkeypatch.delenv(config.ENVIRONMENT, raising=False)
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "none.toml")
    monkeypatch.setattr(config.Config, "state_dir", state)
    usual = [replace(one, default=str(state)) if one.key == "state_dir" else one for one in config.SETTINGS]
    monkeypatch.setattr(config, "SETTINGS", tuple(usual))
    with pytest.raises(config.ConfigError, match="cannot read the configuration"):
        config.load(None)
    assert main(["enrol", gateway.token(ca=pin(authority))]) == 0
    found = config.load(None)
    assert (found.state_dir, found.gateway, found.transport) == (state, gateway.url, "https")
    assert found.gateway_authority() == authority.ca_file.read_text()
    assert found.command_keys == (gateway.key.public.hex(),)
    with pytest.raises(config.ConfigError, match="cannot read the configuration"):
        config.load(tmp_path / "none.toml")  # one that somebody names must be there


def test_the_token_may_stand_in_a_file(host: Host, gateway: FakeGateway, authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(gateway.token(ca=pin(authority)) + "\n")
    assert main(["enrol", "--config", str(host.config), "--token-file", str(file)]) == 0
    assert main(["enrol", "--config", str(host.config), "--token-file", str(tmp_path / "none")]) == 1


def test_a_known_machine_takes_its_old_name(host: Host, gateway: FakeGateway, authority: Authority) -> None:
    gateway.enrolled_as = new_host_id()
    assert host.enrol(gateway.token(ca=pin(authority))) == 0
    assert load_or_make(host.state).host_id == gateway.enrolled_as
    gateway.enrolled_as = new_host_id()
    assert host.enrol(gateway.token(ca=pin(authority))) == 0
    assert len(gateway.enrolments) == 1


def test_another_authority_in_between_is_refused(
    host: Host, gateway: FakeGateway, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Authority(tmp_path / "other")
    assert host.enrol(gateway.token(ca=pin(other))) == 1
    assert "is not the one that the token was made for" in capsys.readouterr().err
    # it hands out the right certificate, and yet has another one's: it hears nothing of the token
    thief = FakeGateway(certificate=other.issue("gw", ("127.0.0.1",)), ca_file=authority.ca_file)
    try:
        assert host.enrol(thief.token(ca=pin(authority))) == 1
        assert "certificate is not good" in capsys.readouterr().err
        assert [path for _, path in thief.asked] == ["/api/agent/v1/ca.pem"]
    finally:
        thief.close()
    # the right authority, another name
    named = FakeGateway(certificate=authority.issue("named", ("gateway.example",)), ca_file=authority.ca_file)
    try:
        assert host.enrol(named.token(ca=pin(authority))) == 1
        assert "its certificate is not good" in capsys.readouterr().err
    finally:
        named.close()
    # without a pin, only authorities that the system trusts
    assert host.enrol(gateway.token()) == 1
    assert "certificate is not good" in capsys.readouterr().err
    assert gateway.enrolments == []
    assert not enrolment.file(host.state).exists()


def test_plain_http_only_to_this_machine_or_on_request(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    plain = FakeGateway()
    try:
        assert host.enrol(plain.token(url="http://192.0.2.1:1")) == 1
        assert "which is not encrypted" in capsys.readouterr().err
        assert host.enrol(plain.token()) == 0
    finally:
        plain.close()


def test_a_gateway_that_adds_a_command_key_of_its_own_gains_nothing(host: Host, gateway: FakeGateway) -> None:
    plain = FakeGateway()
    try:
        others = [fingerprint.digest(Fingerprint()), plain.key.public.hex()]
        answer = {"host": new_host_id(), "state": "active", "command_keys": others, "prefix": "x"}
        plain.answers["/enrol"] = lambda: (200, answer)
        assert host.enrol(plain.token()) == 0
        known = enrolment.read(host.state)
        assert known is not None
        assert known.command_keys == [plain.key.public.hex()]
        enrolment.file(host.state).unlink()
        plain.answers["/enrol"] = lambda: (200, {**answer, "command_keys": others[:1]})
        assert host.enrol(plain.token()) == 1
        assert not enrolment.file(host.state).exists()
    finally:
        plain.close()


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        (401, "token_unknown", "copy it again, whole, or make a new one"),
        (401, "token_expired", "make a new one"),
        (401, "token_used_up", "for more hosts"),
        (401, "token_revoked", "ask who revoked it"),
        (409, "host_taken", "make a token that may replace hosts"),
        (401, "stale_request", "set this host's clock"),
        (429, "too_many", "try again in 7 s"),
        (500, "", "is not ezadmin's gateway"),
    ],
)
def test_each_refusal_says_what_to_do(
    host: Host, status: int, reason: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = FakeGateway()
    try:
        plain.answers["/enrol"] = lambda: (status, {"error": reason, "message": "no", "retry": 7} if reason else {})
        assert host.enrol(plain.token()) == 1
        said = capsys.readouterr().err
        assert text in said
        assert "Traceback" not in said
    finally:
        plain.close()


def test_a_proxy_that_is_none_is_named_without_its_password(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    plain = FakeGateway()
    try:
        for proxy in ("proxy:3128", "https://proxy:3128", "http://", "http://u:s3cret@proxy:port"):
            assert host.enrol(plain.token(), "--proxy", proxy) == 1
            said = capsys.readouterr().err
            assert "write http://[user:password@]host:port" in said
            assert "s3cret" not in said
        assert host.enrol(plain.token(), "--proxy", "http://u:s3cret@127.0.0.1:1") == 1
        said = capsys.readouterr().err
        assert "through the proxy http://127.0.0.1:1: nothing listens there" in said
    finally:
        plain.close()


def test_wrong_tokens_and_nobody_there(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    plain = FakeGateway()
    token = plain.token()
    plain.close()
    assert host.enrol(token) == 1
    assert "nothing listens there" in capsys.readouterr().err
    assert host.enrol(token[:-4]) == 1
    assert "copy it again, whole" in capsys.readouterr().err
    assert host.enrol("x") == 1
    assert "begins with ezt1." in capsys.readouterr().err


def test_access_to_kafka_stands_in_files_of_the_owner(host: Host) -> None:
    plain = FakeGateway(
        kafka={"bootstrap": "k:9093", "tls": True, "ca": "PEM", "user": "agent-1", "password": "s3cret"}
    )
    try:
        assert host.enrol(plain.token()) == 0
    finally:
        plain.close()
    found = config.load(host.config)
    assert found.transport == "kafka"
    assert found.kafka is not None
    assert (found.kafka.bootstrap, found.kafka.tls, found.kafka.sasl) == ("k:9093", True, "SCRAM-SHA-512")
    assert Path(str(found.kafka.password_file)).read_text() == "s3cret"
    assert Path(str(found.kafka.password_file)).stat().st_mode & 0o777 == 0o600
    assert Path(str(found.kafka.ca_file)).read_text() == "PEM"
    assert "s3cret" not in repr(found)
    host.config.write_text(
        f'state_dir = "{host.state}"\nprefix = "own"\ntransport = "https"\n[kafka]\nbootstrap = "b:1"\n'
    )
    found = config.load(host.config)
    assert found.kafka is not None
    assert (found.names.prefix, found.transport, found.kafka.bootstrap, found.kafka.tls) == (
        "own",
        "https",
        "b:1",
        False,
    )


# ------------------------------------------------------------------ fingerprints and copies

ONE = Fingerprint("m1", "h1", ["A", "B"])


@pytest.mark.parametrize(
    ("now", "is_copy"),
    [
        (ONE, False),
        (Fingerprint("m1", "h1", ["A", "C"]), False),
        (Fingerprint("m1", "h1", ["C"]), False),
        (Fingerprint("m2", "h1", ["A", "B"]), False),
        (Fingerprint("m2", "h1", ["B", "C"]), False),
        (Fingerprint("m2", "h1", ["C"]), True),
        (Fingerprint("m2", "h1", []), True),
        (Fingerprint("m1", "h2", ["A", "B"]), True),
        (Fingerprint("m1", None, ["A"]), False),
        (Fingerprint(None, None, []), False),
        (Fingerprint("m2", None, ["A"]), False),
    ],
)
def test_what_is_a_copy(now: Fingerprint, is_copy: bool) -> None:
    assert (fingerprint.copied(ONE, now) is not None) is is_copy


def test_what_cannot_be_read_now_is_not_forgotten() -> None:
    assert fingerprint.merged(ONE, Fingerprint("m2", None, [])) == Fingerprint("m2", "h1", ["A", "B"])


def test_what_makers_write_where_there_is_nothing_says_nothing(tree: Path) -> None:
    for text in (
        "Not Specified",
        "To be filled by O.E.M.",
        "Default string",
        "00000000-0000-0000-0000-000000000000",
        "0",
    ):
        (tree / "sys/class/dmi/id/product_uuid").write_text(text)
        assert fingerprint.collect().hardware is None
    (tree / "etc/machine-id").write_text("uninitialized\n")
    assert fingerprint.collect().machine is None
    assert fingerprint.collect("/nowhere") == Fingerprint()


def fill(state: Path) -> None:
    """Lines that the original had not sent, positions, and a command that it had begun."""
    spool = Spool(state / "spool/logs", "logs")
    position = {"file:/var/log/a": [1, 2], "errors": ["e", 1, {}]}
    spool.append([b'{"message":"of the original"}'], dataset="d", tmin="t", tmax="t", positions=position)
    spool.close()
    (state / "commands").mkdir(exist_ok=True)
    (state / "commands/log.ndjson").write_text("x\n")


def test_the_same_machine_stays_itself(host: Host, tree: Path) -> None:
    identity = load_or_make(host.state)
    assert copies.settle(host.state) is None
    machine(tree, macs=("52:54:00:00:00:02",))
    assert copies.settle(host.state) is None
    machine(tree, machine_id="m2", macs=("52:54:00:00:00:02",))
    assert copies.settle(host.state) is None, "step by step it may become another"
    assert load_or_make(host.state).host_id == identity.host_id
    assert copies.proof(host.state) is None


def test_a_copy_made_right_after_the_first_start_is_told(host: Host, tree: Path) -> None:
    assert copies.settle(host.state) is None, "nothing is there yet"
    assert not host.state.exists()
    load_or_make(host.state)
    copies.remember(host.state)
    machine(tree, uuid="u2")
    copies.remember(host.state)
    assert copies.settle(host.state) is not None


def test_a_copy_becomes_a_host_of_its_own(host: Host, tree: Path) -> None:
    old = load_or_make(host.state)
    copies.settle(host.state)
    fill(host.state)
    epoch = Spool(host.state / "spool/logs", "logs").epoch
    machine(tree, uuid="u2")
    assert "hardware" in str(copies.settle(host.state))
    new = load_or_make(host.state)
    assert new.host_id != old.host_id
    assert new.key.kid != old.key.kid
    proof = copies.proof(host.state)
    assert proof is not None
    assert (proof.host, proof.kid) == (old.host_id, old.key.kid)
    signed = clone_bytes(old.host_id, new.host_id, new.key.public.hex())
    assert VerifyKey(old.key.public).verify(bytes.fromhex(proof.sig), signed)
    spool = Spool(host.state / "spool/logs", "logs")
    assert spool.epoch != epoch
    assert spool.next_frame(spool.acked) is None, "what the original had not sent, it sends itself"
    assert spool.positions == {"file:/var/log/a": [1, 2]}
    assert not (host.state / "commands").exists()
    assert copies.settle(host.state) is None
    assert load_or_make(host.state).host_id == new.host_id


def test_a_crash_while_a_copy_becomes_its_own(
    host: Host, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each step that changes the disk, and started again: one new identity, whole."""

    class Crash(BaseException):
        pass

    import os

    from ezadmin_agent.control import files

    load_or_make(host.state)
    copies.settle(host.state)
    fill(host.state)
    machine(tree, uuid="u2")
    before = tmp_path / "before"
    shutil.copytree(host.state, before)
    old = load_or_make(before)
    steps = 0
    while True:
        shutil.rmtree(host.state)
        shutil.copytree(before, host.state)
        left = [steps]

        def step(function: Any, left: list[int] = left) -> Any:
            def counted(*arguments: Any, **more: Any) -> Any:
                if left[0] == 0:
                    raise Crash
                left[0] -= 1
                return function(*arguments, **more)

            return counted

        monkeypatch.setattr(files, "write", step(files.write))
        monkeypatch.setattr(files, "remove", step(files.remove))
        monkeypatch.setattr(Path, "rename", step(Path.rename))
        monkeypatch.setattr(shutil, "rmtree", step(shutil.rmtree))
        monkeypatch.setattr(os, "link", step(os.link))
        crashed = False
        try:
            copies.settle(host.state)
        except Crash:
            crashed = True
        monkeypatch.undo()
        monkeypatch.setenv(fingerprint.ROOT, str(tree))
        copies.settle(host.state)
        new = load_or_make(host.state)
        proof = copies.proof(host.state)
        assert new.host_id != old.host_id, f"killed at step {steps}"
        assert proof is not None
        signed = clone_bytes(old.host_id, new.host_id, new.key.public.hex())
        assert VerifyKey(old.key.public).verify(bytes.fromhex(proof.sig), signed)
        spool = Spool(host.state / "spool/logs", "logs")
        assert (spool.positions, spool.pending_lines) == ({"file:/var/log/a": [1, 2]}, 0)
        assert copies.settle(host.state) is None
        steps += 1
        if not crashed:
            break
    assert steps > 10


def test_a_copy_that_is_enrolled_with_a_token_needs_no_proof(host: Host, gateway: FakeGateway, tree: Path) -> None:
    plain = FakeGateway()
    try:
        assert host.enrol(plain.token()) == 0
        machine(tree, uuid="u2")
        assert host.enrol(plain.token()) == 0
        assert copies.proof(host.state) is None
        assert [asked.host for asked in plain.enrolments][1] == load_or_make(host.state).host_id
        assert len({asked.host for asked in plain.enrolments}) == 2
    finally:
        plain.close()


def test_enrol_says_when_the_agent_runs(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    from ezadmin_agent.agent import lock

    plain = FakeGateway()
    held = lock(host.state)
    try:
        assert host.enrol(plain.token()) == 1
        assert "stop the agent first" in capsys.readouterr().err
    finally:
        held.close()
        plain.close()


def test_a_damaged_enrolment_is_named(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.state.mkdir()
    enrolment.file(host.state).write_text("{")
    assert main(["config", "check", "--config", str(host.config)]) == 1
    assert "enrol again" in capsys.readouterr().err


def test_errors_carry_their_hint() -> None:
    assert str(GatewayError("a", "b")) == "a; b"
    with pytest.raises(GatewayError, match="not a PEM"):
        context("x")

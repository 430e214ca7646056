"""The gateway's steps of ``check``: each failure is named by the step that it is in, with what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.certificates import Authority
from ezadmin_testing.fake_gateway import FakeGateway
from ezadmin_testing.proxy import CuttingProxy

from ezadmin_agent.control.enrolment import Enrolment
from ezadmin_agent.identity import load_or_make
from ezadmin_agent.main import main

STEPS = ["identity", "dns", "tcp", "tls", "signature", "clock", "poll", "topic t.state", "topic t.logs", "read back"]


class Host:
    def __init__(self, folder: Path, gateway: FakeGateway, ca: str | None = None) -> None:
        self.config = folder / "agent.toml"
        self.config.write_text(f'state_dir = "{folder}/agent"\n')
        self.state = folder / "agent"
        self.identity = load_or_make(self.state)
        gateway.know(self.identity.host_id, self.identity.key.public)
        self.enrolment = Enrolment(
            self.identity.host_id, gateway.url, "t", command_keys=[gateway.key.public.hex()], ca=ca
        )
        self.enrolment.save(self.state)

    def check(self, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
        """The steps by the last word of their name."""
        main(["check", "--json", "--config", str(self.config)])
        steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {next((name for name in STEPS if name in step["name"]), step["name"]): step for step in steps}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def gateway(authority: Authority) -> Iterator[FakeGateway]:
    found = FakeGateway(certificate=authority.issue("gw", ("127.0.0.1",)), ca_file=authority.ca_file)
    yield found
    found.close()


@pytest.fixture
def host(tmp_path: Path, gateway: FakeGateway, authority: Authority) -> Host:
    return Host(tmp_path, gateway, authority.ca_file.read_text())


def test_all_is_well(host: Host, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    steps = host.check(capsys)
    assert list(steps) == STEPS
    assert [step["ok"] for step in steps.values()] == [True] * 9 + [None]
    assert "certificate of the authority that was pinned at enrolment, valid for 29 more days" in steps["tls"]["text"]
    assert host.identity.key.kid in steps["signature"]["text"]
    assert {found.topic for found in gateway.batches} == {"t.state", "t.logs"}
    assert "wait=0" in gateway.polls[0]


def test_through_a_proxy(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    proxy = CuttingProxy()
    host.config.write_text(host.config.read_text() + f'gateway_proxy = "{proxy.url}"\n')
    assert [step["ok"] for step in host.check(capsys).values()] == [True] * 9 + [None]
    proxy.blocked = True
    steps = host.check(capsys)
    assert not steps["tls"]["ok"]
    assert f"through the proxy {proxy.url}" in steps["tls"]["text"]
    proxy.close()


def test_another_authority(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = f'gateway_ca_file = "{tmp_path / "ca/ca.pem"}"\n'
    config = host.config.read_text()
    host.config.write_text(config + ours)
    assert "certificate of the authority in gateway_ca_file" in host.check(capsys)["tls"]["text"]
    host.config.write_text(config)
    other = Authority(tmp_path / "other")
    host.config.write_text(host.config.read_text() + f'gateway_ca_file = "{other.ca_file}"\n')
    steps = host.check(capsys)
    assert list(steps)[-1] == "tls"
    assert "certificate is not good" in steps["tls"]["text"]
    assert "someone in between" in steps["tls"]["hint"]
    host.config.write_text(host.config.read_text().replace("ca.pem", "none.pem"))
    assert "No such file" in host.check(capsys)["tls"]["text"]


def test_plain_http_where_tls_is_spoken(
    tmp_path: Path, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Host(tmp_path, gateway)
    Enrolment(host.identity.host_id, gateway.url.replace("https://", "http://"), "t").save(host.state)
    steps = host.check(capsys)
    assert list(steps)[-1] == "tls"
    assert steps["tls"]["hint"] == "is it https:// instead?"


@pytest.mark.parametrize(
    ("answer", "step", "text", "hint"),
    [
        ((403, {"error": "revoked", "message": "gone"}), "signature", "gone (403 revoked)", "a person revoked"),
        ((404, {"error": "unknown_host", "message": "no"}), "signature", "unknown_host", "enrol this host"),
        (
            (401, {"error": "stale_request", "message": "no", "time": "2020-01-01T00:00:00.000Z"}),
            "signature",
            "at the gateway 2020-01-01T00:00:00.000Z",
            "set the clock",
        ),
        (
            (200, {"name": "x", "time": "2020-01-01T00:00:00.000Z"}),
            "clock",
            "s ahead of the gateway's",
            "set the clock",
        ),
        ((502, {}), "signature", "is not ezadmin's gateway", "check the address"),
    ],
)
def test_what_is_wrong_is_named(
    host: Host,
    gateway: FakeGateway,
    capsys: pytest.CaptureFixture[str],
    answer: tuple[int, dict[str, Any]],
    step: str,
    text: str,
    hint: str,
) -> None:
    gateway.answers["/me"] = lambda: answer
    steps = host.check(capsys)
    assert list(steps)[-1] == step
    assert not steps[step]["ok"]
    assert text in steps[step]["text"]
    assert hint in steps[step]["hint"]


def test_batches_that_are_refused(host: Host, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.judge = lambda found: "wrong_topic" if found.topic == "t.logs" else None
    steps = host.check(capsys)
    assert steps["topic t.state"]["ok"]
    assert not steps["topic t.logs"]["ok"]
    assert "wrong_topic" in steps["topic t.logs"]["text"]


def test_the_running_agent_s_instance_is_used(
    host: Host, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    (host.state / "status.json").write_text('{"control": {"instance": "00000000000000aa"}, "started": "x"}')
    host.check(capsys)
    assert gateway.polls[0].endswith("instance=00000000000000aa")

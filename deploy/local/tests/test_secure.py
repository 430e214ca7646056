"""A stack with TLS and users: its certificates, its files, and when it is one."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import sys
import threading
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ezadmin_local import certificates, cli, config, health, install, up
from ezadmin_local.config import Endpoints, Settings
from ezadmin_local.console import Console
from ezadmin_local.errors import LocalError
from ezadmin_local.layout import Layout
from ezadmin_local.security import USERS, Security, elasticsearch_files
from ezadmin_local.stack import Stack, write

PORTS = dict.fromkeys(("kafka", "kafka_controller", "elasticsearch", "elasticsearch_transport"), 21001)
PORTS |= dict.fromkeys(("mariadb", "web", "grafana", "gateway"), 21002)
NOW = datetime.now(UTC)


@pytest.fixture
def security(layout: Layout) -> Security:
    made = Security(layout.tls, layout.keys)
    made.tls.mkdir(parents=True)
    certificates.bring(made.tls, NOW)
    for service, users in USERS.items():
        for user in users:
            write(made.password_file(service, user), f"{service}-{user}-word\n")
    return made


@pytest.fixture
def endpoints(layout: Layout, security: Security) -> Endpoints:
    return Endpoints(PORTS, "word-of-mariadb", layout.mariadb_socket, security)


def test_the_certificate_is_renewed_near_its_end_and_the_authority_is_not(security: Security) -> None:
    ca, before = security.ca_file.read_bytes(), security.stamp()
    assert not certificates.bring(security.tls, NOW + timedelta(days=59))
    assert security.stamp() == before
    assert certificates.bring(security.tls, NOW + timedelta(days=61))
    assert security.stamp() != before
    assert security.ca_file.read_bytes() == ca
    authority = x509.load_pem_x509_certificate(ca)
    x509.load_pem_x509_certificate(security.stamp()).verify_directly_issued_by(authority)


def test_keys_and_passwords_are_their_owners_alone(security: Security) -> None:
    files = [path for folder in (security.tls, security.keys) for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 5 + sum(map(len, USERS.values()))
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_server_with_the_certificate_is_believed_and_another_is_not(security: Security, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certificates.bring(other, NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(security.certificate, security.key)

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(1000)
                    secured.sendall(b"\0\0\0\x0a\0\0\0\1\0\0\0\0\0\0")
            except OSError:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert health.kafka_over_tls(address, security.ca_file) is None
        assert "certificate verify failed" in (health.kafka_over_tls(address, other / "ca.pem") or "")
        thread.join()


def test_each_part_signs_in_as_itself_over_tls(layout: Layout, endpoints: Endpoints, security: Security) -> None:
    ca_file = str(security.ca_file)
    cmdb = tomllib.loads(config.cmdb_toml(layout, endpoints, "cd" * 32))
    gateway = tomllib.loads(config.gateway_toml(layout, endpoints, "cd" * 32, "ab" * 32))
    pipeline = tomllib.loads(config.pipeline_toml(layout, endpoints, "ab" * 32))
    for table, user in ((cmdb, "ezadmin-cmdb"), (gateway, "ezadmin-gateway"), (pipeline, "ezadmin-pipeline")):
        assert table["kafka"] == {
            "bootstrap": "127.0.0.1:21001",
            "tls": True,
            "ca_file": ca_file,
            "sasl": "SCRAM-SHA-512",
            "user": user,
            "password_file": str(layout.keys / "kafka" / f"{user}.password"),
        }
    for table, user in ((cmdb, "ezadmin-cmdb"), (pipeline, "ezadmin-pipeline")):
        assert table["elasticsearch"] == {
            "url": "https://127.0.0.1:21001",
            "ca_file": ca_file,
            "user": user,
            "password_file": str(layout.keys / "elasticsearch" / f"{user}.password"),
        }
    assert "elasticsearch" not in gateway
    assert "signing_key" not in gateway["commands"]
    assert gateway["gateway"]["agents_kafka_users"] is True
    assert gateway["gateway"]["cert_file"] == cmdb["web"]["cert_file"] == str(security.certificate)
    assert f"ssl_ca={ca_file}" in cmdb["database"]
    agent = tomllib.loads(config.agent_toml(layout, endpoints, None, "cd" * 32))
    assert "kafka" not in agent
    assert agent["server_ca_file"] == ca_file
    assert agent["gateway"].startswith("https://")


def test_nobody_comes_in_without_tls_and_a_password(layout: Layout, endpoints: Endpoints) -> None:
    kafka = config.kafka_properties(layout.data / "kafka", endpoints)
    assert "PLAINTEXT" not in kafka
    assert "allow.everyone.if.no.acl.found=false" in kafka
    mariadb = config.mariadb_command(Path("mariadbd"), layout, endpoints, None)
    assert "--require-secure-transport=ON" in mariadb
    assert not any("word" in part for part in mariadb)
    assert "ezadmin\\_%" not in config.mariadb_init_sql("x", secure=True)
    elasticsearch = config.elasticsearch_yml(layout, endpoints)
    assert "xpack.security.enabled: true" in elasticsearch
    assert "xpack.security.transport.ssl.enabled: true" in elasticsearch
    assert "protocol = https" in config.grafana_ini(layout, endpoints)


def test_elasticsearch_knows_the_users_by_their_hashes(security: Security) -> None:
    files = elasticsearch_files(security, {"ezadmin_cmdb": {"cluster": ["monitor"]}})
    assert files == elasticsearch_files(security, {"ezadmin_cmdb": {"cluster": ["monitor"]}})
    hashed = dict(line.split(":", 1) for line in files["users"].splitlines())
    assert set(hashed) == set(USERS["elasticsearch"])
    rounds, salt, made = hashed["ezadmin-cmdb"].removeprefix("{PBKDF2}").split("$")
    word = security.password("elasticsearch", "ezadmin-cmdb").encode()
    wanted = hashlib.pbkdf2_hmac("sha512", word, base64.b64decode(salt), int(rounds), 32)
    assert base64.b64decode(made) == wanted
    assert "ezadmin_cmdb:ezadmin-cmdb" in files["users_roles"].splitlines()
    assert files["roles.yml"] == 'ezadmin_cmdb: {"cluster": ["monitor"]}\n'


@pytest.fixture
def stack(layout: Layout) -> Stack:
    """One that has folders and Python, and nothing else yet."""
    layout.keys.mkdir(parents=True)
    python = layout.command("python")
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return Stack(layout, Settings(), Console(), 1.0)


def test_a_first_up_that_fails_before_there_is_data_leaves_the_choice_open(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(*_: object) -> None:
        raise LocalError("no network")

    monkeypatch.setattr(install, "prepare", prepare)
    try:
        assert cli.main(["up", "--secure", "--services-only", "--state", str(layout.state)]) == 1
    finally:
        layout.sockets.rmdir()
    assert "no network" in capsys.readouterr().err
    assert Stack(layout, Settings(), Console(), 1.0).security is None


def test_certificates_of_before_there_was_data_do_not_make_a_stack_secure(stack: Stack) -> None:
    stack.bring_security(secure=True)
    assert stack.security is not None
    stack.refuse_other_choice(secure=False)
    stack.bring_security(secure=False)
    assert stack.security is None
    assert not stack.layout.tls.exists()


def test_a_plain_stack_does_not_become_a_secure_one(stack: Stack) -> None:
    stack.refuse_other_choice(secure=True)
    stack.layout.ports_file.write_text("{}")
    with pytest.raises(LocalError, match="without --secure") as caught:
        stack.refuse_other_choice(secure=True)
    assert f"deploy/local/reset --state {stack.layout.state}" in str(caught.value)
    stack.refuse_other_choice(secure=False)
    stack.bring_security(secure=False)
    stack.complete()
    assert stack.security is None


def test_a_secure_stack_is_told_again_until_it_came_to_its_end(stack: Stack) -> None:
    stack.bring_security(secure=True)
    stack.layout.ports_file.write_text("{}")
    with pytest.raises(LocalError, match="begun with --secure") as caught:
        stack.refuse_other_choice(secure=False)
    for command in ("up --secure", "reset"):
        assert f"deploy/local/{command} --state {stack.layout.state}" in str(caught.value)
    stack.refuse_other_choice(secure=True)
    authority = stack.layout.tls.joinpath("ca.pem").read_bytes()
    stack.complete()
    for secure in (False, True):
        stack.refuse_other_choice(secure)
        stack.bring_security(secure)
        assert stack.security is not None
        assert stack.security.ca_file.read_bytes() == authority


def test_an_agent_enrols_again_when_the_ports_are_others(endpoints: Endpoints, tmp_path: Path) -> None:
    file = tmp_path / "enrolment.json"
    assert not up._enrolled(file, endpoints)
    content = {"gateway": endpoints.gateway, "kafka": {"bootstrap": endpoints.kafka}}
    file.write_text(json.dumps(content))
    assert up._enrolled(file, endpoints)
    for other in ({"gateway": "https://127.0.0.1:1"}, {"kafka": {"bootstrap": "127.0.0.1:1"}}, {"kafka": None}):
        file.write_text(json.dumps(content | other))
        assert not up._enrolled(file, endpoints)

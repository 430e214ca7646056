"""The description of a connection to Kafka, and what it says of brokers that cannot be talked to (servers of our own)."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import pytest
from ezadmin_testing.certificates import Authority
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from ezadmin_wire import WireError
from ezadmin_wire.kafka import KafkaConnection


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def parse(**table: Any) -> KafkaConnection:
    return KafkaConnection.parse({"bootstrap": "k1:9092", **table}, "f.toml: [kafka]")


def secret(path: Path, text: str = "geheim\n", mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_without_security_only_the_brokers_are_given() -> None:
    connection = KafkaConnection.parse({"bootstrap": "k1:9092, [::1]:9093"}, "f")
    assert connection.options() == {"bootstrap_servers": ["k1:9092", "[::1]:9093"], "security_protocol": "PLAINTEXT"}
    assert str(connection) == "k1:9092, [::1]:9093"


def test_everything_reaches_the_client_by_its_own_names(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("client", password="schluessel")
    connection = parse(
        tls=True,
        ca_file=str(authority.ca_file),
        check_hostname=False,
        certificate_file=str(certificate),
        key_file=str(key),
        key_password_file=secret(tmp_path / "key.password", "schluessel"),
        sasl="SCRAM-SHA-512",
        user="ez",
        password_file=secret(tmp_path / "password"),
    )
    options = connection.options()
    assert options == {
        "bootstrap_servers": ["k1:9092"],
        "security_protocol": "SASL_SSL",
        "ssl_check_hostname": False,
        "ssl_cafile": str(authority.ca_file),
        "ssl_certfile": str(certificate),
        "ssl_keyfile": str(key),
        "ssl_password": "schluessel",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ez",
        "sasl_plain_password": "geheim",
    }
    for client in (KafkaConsumer, KafkaProducer, KafkaAdminClient):
        assert set(options) <= set(client.DEFAULT_CONFIG), f"{client.__name__} knows no such option"
    assert "geheim" not in repr(connection) + str(connection)
    assert "schluessel" not in repr(connection) + str(connection)


def test_a_password_is_read_anew_with_every_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = parse(sasl="SCRAM-SHA-256", user="ez", password_file=secret(tmp_path / "p", "one"))
    secret(tmp_path / "p", "two")
    assert connection.options()["sasl_plain_password"] == "two"
    assert connection.options()["security_protocol"] == "SASL_PLAINTEXT"
    monkeypatch.setenv("EZ_PASSWORD", "three")
    assert (
        parse(sasl="SCRAM-SHA-256", user="ez", password_env="EZ_PASSWORD").options()["sasl_plain_password"] == "three"
    )


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"bootstrap": "k1"}, "'k1' is no broker; write \"host:port\""),
        ({"bootstrap": "k1:9092,"}, "'' is no broker"),
        ({"bootstrap": "k1:0"}, "no broker"),
        ({"bootstrap": "http://k1:9092"}, "no broker"),
        ({"bootstrap": ""}, "bootstrap = ''"),
        ({"tls": "yes"}, "tls = 'yes': write true or false"),
        ({"tsl": True}, "unknown setting 'tsl'; known are"),
        ({"password": "x"}, "a password does not stand in this file"),
        ({"ca_file": "/x"}, "ca_file is of no use without TLS: write tls = true"),
        ({"tls": True, "ca_file": "/nowhere/ca.pem"}, "ca_file /nowhere/ca.pem: No such file"),
        ({"tls": True, "key_file": "/x"}, "key_file is there, but no certificate_file"),
        ({"tls": True, "certificate_file": "/x"}, "certificate_file is there, but no key_file"),
        ({"user": "ez"}, "user is of no use without sasl"),
        ({"sasl": "GSSAPI"}, "write one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"sasl": "PLAIN", "user": "ez", "password_env": "X"}, "shows the password to the network"),
        ({"sasl": "SCRAM-SHA-256", "password_env": "X"}, "user is missing"),
        ({"sasl": "SCRAM-SHA-256", "user": "ez"}, "write either password_file or password_env"),
        ({"sasl": "SCRAM-SHA-256", "user": "ez", "password_env": "EZ_NOT_SET"}, "variable EZ_NOT_SET is not set"),
        ({"sasl": "SCRAM-SHA-256", "user": "ez", "password_file": "/nowhere/p"}, "password_file /nowhere/p: No such"),
    ],
)
def test_what_cannot_work_is_named(table: dict[str, Any], text: str) -> None:
    with pytest.raises(WireError) as refused:
        parse(**table)
    assert str(refused.value).startswith("f.toml: [kafka]: ")
    assert text in str(refused.value)


def test_files_that_cannot_work_are_named(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("client")
    _, other = authority.issue("other")
    _, locked = authority.issue("locked", password="p")
    scram = {"sasl": "SCRAM-SHA-256", "user": "ez"}
    mtls = {"tls": True, "certificate_file": str(certificate)}
    for table, text in (
        (
            {**scram, "password_file": secret(tmp_path / "a", mode=0o644)},
            "open to everybody on this machine; run: chmod",
        ),
        ({**scram, "password_file": secret(tmp_path / "b", "")}, "write one line"),
        ({**scram, "password_file": secret(tmp_path / "c", "a\nb\n")}, "write one line"),
        ({"tls": True, "ca_file": secret(tmp_path / "d")}, "ca_file"),
        ({**mtls, "key_file": str(other)}, "key values mismatch"),
        ({**mtls, "key_file": str(locked)}, "key_password_file"),
        ({**mtls, "key_file": secret(tmp_path / "e", key.read_text(), 0o604)}, "open to everybody"),
    ):
        with pytest.raises(WireError) as refused:
            parse(**table)
        assert text in str(refused.value)
        assert "geheim" not in str(refused.value)


@contextmanager
def server(context: Optional[ssl.SSLContext], answer: bytes) -> Iterator[str]:
    """Takes one connection, reads the request and sends ``answer``; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(3)
                    if context is None:
                        connection.recv(100)
                        connection.sendall(answer)
                        return
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(100)
                        secured.sendall(answer)
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


HELLO = b"\0\0\0\x0a\0\0\0\1\0\0\0\0\0\0"
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x50"


def test_the_probe_says_why_a_broker_cannot_be_talked_to(authority: Authority, tmp_path: Path) -> None:
    def context(hosts: tuple[str, ...], ask: bool = False) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*authority.issue("server", hosts))
        if ask:
            made.verify_mode = ssl.CERT_REQUIRED
            made.load_verify_locations(authority.ca_file)
        return made

    def outcome(address: str, **table: Any) -> Optional[str]:
        return parse(bootstrap=address, **table).probe(timeout=2)[address]

    own = {"tls": True, "ca_file": str(authority.ca_file)}
    stranger = Authority(tmp_path / "other", "a stranger")
    here = ("127.0.0.1",)
    with server(None, HELLO) as address:
        assert outcome(address) is None
    with server(context(here), HELLO) as address:
        assert outcome(address, **own) is None
    with server(None, TLS_ALERT) as address:
        assert str(outcome(address)).startswith("it speaks TLS; write tls = true")
    with server(None, b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert "no Kafka broker; write tls = true" in str(outcome(address))
    with server(None, HELLO) as address:
        assert "is this a listener with TLS" in str(outcome(address, **own))
    with server(context(here), HELLO) as address:
        assert "is ca_file the right authority" in str(outcome(address, tls=True, ca_file=str(stranger.ca_file)))
    with server(context(("elsewhere",)), HELLO) as address:
        assert "127.0.0.1" in str(outcome(address, **own))
    with server(context(("elsewhere",)), HELLO) as address:
        assert outcome(address, **own, check_hostname=False) is None
    with server(context(here, ask=True), HELLO) as address:
        assert "certificate_file and key_file" in str(outcome(address, **own))
    certificate, key = authority.issue("client")
    with server(context(here, ask=True), HELLO) as address:
        assert outcome(address, **own, certificate_file=str(certificate), key_file=str(key)) is None
    assert "Connection refused" in str(outcome("127.0.0.1:1"))
    assert outcome("no-such-name.invalid:9092") is not None

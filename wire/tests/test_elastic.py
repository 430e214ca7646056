"""The description of a connection to Elasticsearch: what it says to the client, and what cannot work."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.certificates import Authority

from ezadmin_wire import WireError
from ezadmin_wire.elastic import ElasticConnection


def parse(**table: Any) -> ElasticConnection:
    return ElasticConnection.parse({"url": "https://e1:9200", **table}, "f.toml: [elasticsearch]")


def secret(path: Path, text: str = "geheim\n", mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_one_node_without_security() -> None:
    connection = ElasticConnection.parse({"url": "http://e1:9200/"}, "f")
    assert connection.options() == {"hosts": ["http://e1:9200"]}
    assert connection.authorization() is None
    assert str(connection) == "http://e1:9200"


def test_nodes_with_tls_and_a_user(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca").ca_file
    connection = parse(
        url=["https://e1:9200", "https://e2:9200/es"],
        user="ez",
        password_file=secret(tmp_path / "password"),
        ca_file=str(authority),
    )
    header = "Basic " + base64.b64encode(b"ez:geheim").decode()
    assert connection.options() == {
        "hosts": ["https://e1:9200", "https://e2:9200/es"],
        "verify_certs": True,
        "ca_certs": str(authority),
        "headers": {"authorization": header},
    }
    assert [each.urls for each in connection.each()] == [("https://e1:9200",), ("https://e2:9200/es",)]
    assert all(each.authorization() == header for each in connection.each())
    assert "geheim" not in repr(connection) + str(connection)


def test_an_api_key_and_no_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZ_KEY", "Z2VoZWlt")
    connection = parse(api_key_env="EZ_KEY", verify=False)
    assert connection.authorization() == "ApiKey Z2VoZWlt"
    assert connection.options()["verify_certs"] is False
    assert str(connection) == "https://e1:9200 with an API key"


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"url": []}, "url is missing"),
        ({"url": ["https://e1:9200", 7]}, "url is missing"),
        ({"url": "https://e1"}, "write http://host:port"),
        ({"url": "https://e1:0"}, "write http://host:port"),
        ({"url": "https://e1:9200?x=1"}, "write http://host:port"),
        ({"url": "https://u:geheim@e1:9200"}, "no user and password in it"),
        ({"url": ["https://e1:9200", "http://e2:9200"]}, "for all nodes"),
        ({"url": "http://e1:9200", "verify": False}, "of no use with http://"),
        ({"verify": "no"}, "write true or false"),
        ({"urls": "x"}, "unknown setting 'urls'"),
        ({"password": "geheim"}, "a secret does not stand in this file: write password_file"),
        ({"api_key": "geheim"}, "a secret does not stand in this file: write api_key_file"),
        ({"user": "ez"}, "user needs a password"),
        ({"password_env": "X"}, "of no use without user"),
        ({"user": "ez", "password_env": "X", "password_file": "/x"}, "user needs a password: write either"),
        ({"user": "ez", "password_env": "X", "api_key_env": "Y"}, "write either user with a password, or an API key"),
        ({"api_key_env": "X", "api_key_file": "/x"}, "write either api_key_file or api_key_env"),
        ({"api_key_env": "EZ_NOT_SET"}, "the environment variable EZ_NOT_SET is not set"),
        ({"user": "ez", "password_file": "/nowhere/p"}, "password_file /nowhere/p: No such file"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file /nowhere/ca.pem: No such file"),
        ({"ca_file": ""}, "ca_file = ''"),
    ],
)
def test_what_cannot_work_is_named(table: dict[str, Any], text: str) -> None:
    with pytest.raises(WireError) as refused:
        parse(**table)
    assert str(refused.value).startswith("f.toml: [elasticsearch]: ")
    assert text in str(refused.value)


def test_a_file_open_to_everybody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="open to everybody on this machine; run: chmod"):
        parse(user="ez", password_file=secret(tmp_path / "p", mode=0o644))

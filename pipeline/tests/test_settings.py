"""Settings: what is taken, and that every wrong value is named with its file, its key and what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ezadmin_pipeline import main
from ezadmin_pipeline.settings import ENVIRONMENT, Settings, SettingsError, SurgeSettings, load, parse
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

KEY = SigningKey.generate().public.hex()
RIGHT: dict[str, Any] = {
    "config_public_key": KEY,
    "kafka": {"bootstrap": "127.0.0.1:9092"},
    "elasticsearch": {"url": "http://127.0.0.1:9200"},
}


def test_what_must_be_given_is_enough() -> None:
    assert parse(RIGHT, "f") == Settings(config_public_keys=(KEY,))


def test_everything() -> None:
    other = SigningKey.generate().public.hex()
    table = {
        "prefix": "t-1",
        "kafka": {"bootstrap": "k:1"},
        "elasticsearch": {"url": "https://e:2/path"},
        "signatures": "warn",
        "config_public_key": [KEY, other.upper()],
        "member": "worker-1",
        "partitions": 24,
        "retry_past_index": 1.5,
        "commit_interval": 1,
        "bulk_bytes": 1 << 20,
        "bulk_delay": 0.1,
        "bulk_in_flight": 1,
        "session_timeout": 10,
    }
    found = parse(table, "f")
    assert found == Settings(
        Names("t-1"),
        KafkaConnection("k:1"),
        24,
        ElasticConnection(("https://e:2/path",)),
        "warn",
        (KEY, other),
        1.5,
        1,
        1 << 20,
        0.1,
        1,
        10,
        "worker-1",
    )
    assert [key.public.hex() for key in found.verify_keys()] == [KEY, other]
    assert parse({**RIGHT, "config_public_key": [], "signatures": "off"}, "f").config_public_keys == ()


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"prefx": "a"}, "prefx", "known are"),
    ({"prefix": "A"}, "prefix", "lower-case"),
    ({"prefix": 1}, "prefix", 'write prefix = "…"'),
    ({"prefix": ""}, "prefix", 'write prefix = "…"'),
    ({"kafka": "k:1"}, "kafka", "write [kafka]"),
    ({"kafka": {}}, "bootstrap", 'write bootstrap = "host:port"'),
    ({"kafka": {"bootstrap": 9092}}, "bootstrap", "[kafka]"),
    ({"kafka": {"bootstrap": "k:1", "bootstrp": "x"}}, "bootstrp", "known are bootstrap"),
    ({"elasticsearch": ["http://e:1"]}, "elasticsearch", "write [elasticsearch]"),
    ({"elasticsearch": {}}, "url", "[elasticsearch]"),
    ({"elasticsearch": {"url": "http://e:1", "urls": []}}, "urls", "known are"),
    *(
        ({"elasticsearch": {"url": url}}, "url", "write http://host:port")
        for url in ("e", "e:9200", "http://e", "http://e:x", "http://e:99999", "ftp://e:1", "http://:9200")
    ),
    ({"signatures": "maybe"}, "signatures", "required, warn, off"),
    ({"signatures": True}, "signatures", 'write signatures = "…"'),
    ({"config_public_key": "00"}, "config_public_key", "64 hex digits"),
    ({"config_public_key": [KEY, "zz" * 32]}, "config_public_key", "64 hex digits"),
    ({"config_public_key": 7}, "config_public_key", "64 hex digits"),
    ({"config_public_key": [7]}, "config_public_key", "64 hex digits"),
    ({"config_public_key": []}, "config_public_key", "key generate"),
    ({"member": ""}, "member", 'write member = "…"'),
    ({"member": 1}, "member", 'write member = "…"'),
    *(
        ({key: value}, key, "above 0")
        for key in ("partitions", "retry_past_index", "commit_interval", "bulk_bytes", "bulk_delay", "bulk_in_flight")
        for value in (0, -1, "1", True, [1], float("nan"), float("inf"))
    ),
    ({"partitions": 1.5}, "partitions", "whole number above 0"),
    ({"session_timeout": "45s"}, "session_timeout", "above 0"),
    ({"surges": 600}, "surges", "write [surges]"),
    ({"surges": {"flor": 600}}, "flor", "known are on, floor, factor"),
    *(({"surges": {"floor": value}}, "floor", "whole number above 0") for value in (0, 1.5, True, "600")),
    *(({"surges": {"factor": value}}, "factor", "from 2 on") for value in (1, True, float("inf"), float("nan"))),
    ({"surges": {"on": 1}}, "[surges]: on", "true or false"),
]


WRONG += [
    ({"retention": {"log": 3}}, "log", "known are metrics, logs"),
    *(({"retention": {"logs": value}}, "logs", "whole number of days") for value in (-1, 1.5, True, "3d")),
    ({"indices": {"shard": 1}}, "shard", "known are shards"),
    ({"indices": {"shards": 0}}, "shards", "from 1 to 100"),
    ({"indices": {"replicas": -1}}, "replicas", "from 0 to 10"),
    ({"indices": {"days_ahead": 8}}, "days_ahead", "from 1 to 7"),
]


def test_retention_and_indices() -> None:
    found = parse(
        {**RIGHT, "retention": {"logs": 7, "alerts": 0}, "indices": {"shards": 4, "replicas": 2}}, "f"
    ).indices
    assert (found.kept["logs"], found.kept["alerts"], found.kept["metrics"]) == (7, 0, 30)
    assert (found.shards, found.replicas, found.days_ahead) == (4, 2, 2)


@pytest.mark.parametrize(("change", "key", "advice"), WRONG)
def test_what_is_wrong_is_named(change: dict[str, Any], key: str, advice: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse({**RIGHT, **change}, "/etc/pipeline.toml")
    text = str(caught.value)
    assert text.startswith("/etc/pipeline.toml: ")
    assert key in text
    assert advice in text


def test_surges() -> None:
    surges = {"on": False, "floor": 100, "factor": 3}
    assert parse({**RIGHT, "surges": surges}, "f").surges == SurgeSettings(100, 3, on=False)
    assert parse({**RIGHT, "surges": {"floor": 100}}, "f").surges == SurgeSettings(100, 6.0, on=True)


def test_missing_keys_are_named() -> None:
    for key in ("kafka", "elasticsearch", "config_public_key"):
        with pytest.raises(SettingsError, match=key):
            parse({name: value for name, value in RIGHT.items() if name != key}, "f")


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipeline.toml"
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(SettingsError, match=f"--config FILE or set {ENVIRONMENT}"):
        load(None)
    with pytest.raises(SettingsError, match=r"cannot read .*pipeline\.toml: No such file"):
        load(path)
    for content in (b"prefix = ", b"\xff", b"a = 1\na = 2\n"):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=r"pipeline\.toml"):
            load(path)
    path.write_text(
        f'config_public_key = "{KEY}"\n[kafka]\nbootstrap = "k:1"\n[elasticsearch]\nurl = "http://e:1"\n', "utf-8"
    )
    monkeypatch.setenv(ENVIRONMENT, str(path))
    assert (
        load(None)
        == load(path)
        == Settings(
            kafka=KafkaConnection("k:1"), elasticsearch=ElasticConnection(("http://e:1",)), config_public_keys=(KEY,)
        )
    )


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text("partitions = 0\n")
    assert main.main(["check", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert error == f"ezadmin-pipeline: {path}: partitions = 0: write a whole number above 0\n"

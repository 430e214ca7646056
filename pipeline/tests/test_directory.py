"""What the pipeline believes of the config topic."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError

from ezadmin_pipeline import directory as directory_module
from ezadmin_pipeline.directory import Directory, NoConfiguration, TopicDirectory
from ezadmin_wire import WireError, config
from ezadmin_wire.config import HostKey, HostRecord, LimitRecord, Rule, RulesRecord
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import SigningKey, VerifyKey

CMDB = SigningKey.generate()
HOST_KEY = SigningKey.generate()
NEW_KEY = SigningKey.generate()
HOST = "00000000-0000-4000-8000-00000000000a"
KEY = config.host_key(HOST)


def record(name: str = "web-1", *keys: HostKey, **members: Any) -> HostRecord:
    return HostRecord(name, keys=list(keys) or [HostKey(HOST_KEY.kid, HOST_KEY.public.hex())], **members)


def give(directory: Directory, revision: int, what: config.Record, key: str = KEY, signer: SigningKey = CMDB) -> None:
    directory.take(*config.encode(signer, key, revision, what))


@pytest.fixture
def directory() -> Directory:
    return Directory([VerifyKey(CMDB.public)])


def test_a_host_with_its_key_name_and_labels(directory: Directory) -> None:
    assert directory.find_key(HOST, HOST_KEY.kid) is None
    give(directory, 1, record(labels={"site": "서울"}))
    found = directory.find_key(HOST, HOST_KEY.kid)
    assert found is not None
    assert found.public == HOST_KEY.public
    assert directory.find_key(HOST, NEW_KEY.kid) is None
    assert directory.hosts == 1
    host = directory.host(HOST)
    assert json.loads(host.prefix + b'"}') == {
        "host.id": HOST, "host.name": "web-1", "labels": {"site": "서울"}, "event.ingested": ""
    }  # fmt: skip
    assert host.members == {"host.name": "web-1", "labels": {"site": "서울"}}


def test_groups_are_a_label_of_several_values(directory: Directory) -> None:
    give(directory, 1, record(labels={"site": "서울", "group": "given"}, groups=["결제", "web"]))
    host = directory.host(HOST)
    wanted = {"site": "서울", "group": ["결제", "web"]}
    assert host.members["labels"] == wanted
    assert json.loads(host.prefix + b'"}')["labels"] == wanted


def test_a_host_that_is_not_known_is_named_by_its_id(directory: Directory) -> None:
    host = directory.host(HOST)
    assert json.loads(host.prefix + b'"}') == {"host.id": HOST, "host.name": HOST, "event.ingested": ""}
    assert host.keys == {}
    assert directory.hosts == 0


def test_an_older_revision_is_ignored(directory: Directory) -> None:
    give(directory, 5, record("new"))
    for revision in (0, 1, 4, 5):
        give(directory, revision, record("old"))
    assert directory.host(HOST).members["host.name"] == "new"
    give(directory, 6, record("newest"))
    assert directory.host(HOST).members["host.name"] == "newest"
    assert directory.refused == 0


def test_a_key_that_was_taken_back_does_not_come_back(directory: Directory) -> None:
    before = config.encode(CMDB, KEY, 1, record())
    directory.take(*before)
    give(directory, 2, record("web-1", HostKey(HOST_KEY.kid, HOST_KEY.public.hex(), revoked=True),
                              HostKey(NEW_KEY.kid, NEW_KEY.public.hex())))  # fmt: skip
    assert directory.find_key(HOST, HOST_KEY.kid) is None
    assert directory.find_key(HOST, NEW_KEY.kid) is not None
    directory.take(*before)
    assert directory.find_key(HOST, HOST_KEY.kid) is None


def test_a_tombstone_deletes_and_an_old_record_does_not_come_back(directory: Directory) -> None:
    before = config.encode(CMDB, KEY, 3, record())
    directory.take(*before)
    directory.take(KEY.encode(), [], None)
    assert directory.find_key(HOST, HOST_KEY.kid) is None
    assert directory.hosts == 0
    directory.take(*before)
    assert directory.hosts == 0, "sent again by somebody who kept it"
    give(directory, 4, record())
    assert directory.find_key(HOST, HOST_KEY.kid) is not None
    directory.take(config.host_key("nobody").encode(), [], b"")
    assert directory.refused == 0


def test_a_forged_record_is_refused_and_the_old_one_stays(
    directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    give(directory, 1, record())
    key, headers, value = config.encode(CMDB, KEY, 2, record("other"))
    forged: list[tuple[bytes | None, Any, bytes | None]] = [
        config.encode(SigningKey.generate(), KEY, 2, record("other")),
        (key, headers, value.replace(b"other", b"OTHER")),
        (key, [(n, b"9" if n == "revision" else d) for n, d in headers], value),
        (config.host_key(HOST[:-1] + "b").encode(), headers, value),
        (key, headers[:-1], value),
        (key, [], value),
        (key, [(n, None) for n, _ in headers], value),
        (None, headers, value),
        (b"\xff", headers, value),
        (b"nothing/1", [], None),
    ]
    with caplog.at_level(logging.CRITICAL):
        for message in forged:
            directory.take(*message)
    assert directory.refused == len(forged)
    assert directory.host(HOST).members["host.name"] == "web-1"
    assert directory.hosts == 1


@pytest.mark.parametrize("public", ["", "00", "zz" * 32])
def test_a_record_with_a_key_that_is_none(directory: Directory, public: str) -> None:
    give(directory, 1, record())
    give(directory, 2, record("web-2", HostKey("k", public)))
    assert directory.refused == 1
    assert directory.find_key(HOST, HOST_KEY.kid) is not None
    give(directory, 2, record("web-2"))
    assert directory.host(HOST).members["host.name"] == "web-2", "what was refused does not count as seen"


@pytest.mark.parametrize("state", ["quarantined", "revoked", "retired"])
def test_only_active_hosts_are_listened_to(directory: Directory, state: str) -> None:
    give(directory, 1, record(state=state))
    with pytest.raises(WireError) as caught:
        directory.find_key(HOST, HOST_KEY.kid)
    assert caught.value.reason == "host_not_active"
    assert state in str(caught.value)
    give(directory, 2, record())
    assert directory.find_key(HOST, HOST_KEY.kid) is not None


def test_rules_and_limits(directory: Directory) -> None:
    rules = RulesRecord([Rule("1", "ignore"), Rule("2", "mask")])
    give(directory, 8, rules, config.RULES_KEY)
    assert (directory.rules, directory.rules_revision) == (rules, 8)
    give(directory, 7, RulesRecord(), config.RULES_KEY)
    assert (directory.rules, directory.rules_revision) == (rules, 8)
    give(directory, 1, LimitRecord("system.cpu.total.norm.pct"), config.limit_key("cpu"))
    assert directory.refused == 0
    directory.catch_up()


def test_a_command_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(self: TopicDirectory) -> None:  # Kafka's client does so after 5 s, and leaves a socket to be collected
        raise KafkaConnectionError("Unable to bootstrap from 127.0.0.1:1")

    monkeypatch.setattr(directory_module, "WAIT", 0.5)
    monkeypatch.setattr(TopicDirectory, "_connect", connect)
    with pytest.raises(
        NoConfiguration, match=r"topic t\.config cannot be read within 0 s: 127\.0\.0\.1:1: Connection refused"
    ):
        TopicDirectory.read(KafkaConnection(bootstrap="127.0.0.1:1"), "t.config", [])


def test_of_hosts_that_anyone_may_make_up_the_last_are_remembered(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "MAX_MET", 2)
    for name in ("a", "b", "c"):
        directory.meet(f"id-{name}", name, ("foreign", "t"))
    assert [directory.host(f"id-{name}").members["host.name"] for name in ("a", "b", "c")] == ["id-a", "b", "c"]

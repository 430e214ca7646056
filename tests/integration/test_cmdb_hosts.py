"""Hosts and their services on a real database."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from sqlalchemy import inspect, select, text

from ezadmin_cmdb import migrate, own
from ezadmin_cmdb.actor import Actor, cli_actor
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import Base, db, unit_of_work
from ezadmin_cmdb.errors import Conflict, Forbidden, Invalid, NotFound
from ezadmin_cmdb.hosts import reports, services
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.outbox import services as outbox
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.settings import Settings
from ezadmin_wire import WireError
from ezadmin_wire.config import HostRecord, RulesRecord, host_key
from ezadmin_wire.fields import load
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.own import Identity
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.state import Address, AgentStatus, Disk, Inventory, Nic

ID = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
KIM = cli_actor("kim")


@pytest.fixture(scope="module")
def app(database: str) -> Flask:
    app = create_core(
        Settings(database=database, kafka=KafkaConnection("127.0.0.1:1"), config_signing_key=Path("none"))
    )
    with app.app_context():
        migrate.upgrade(db.engine)
    return app


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    """An empty database, and a context to work in."""
    with app.app_context():
        with db.engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
        yield


def key() -> str:
    return SigningKey.generate().public.hex()


def record(host_id: str = ID) -> tuple[int, HostRecord]:
    row = db.session.get(ConfigRecord, host_key(host_id), populate_existing=True)
    assert row is not None
    assert row.body is not None
    return row.revision, load(HostRecord, row.body.encode())


def changes() -> list[Change]:
    return list(db.session.scalars(select(Change).order_by(Change.id)))


def inventory(collected: str, **members: Any) -> Inventory:
    given: dict[str, Any] = {
        "hostname": "web1", "os_name": "Debian", "memory": 1 << 36, "boot_time": "2026-11-24T00:00:00.000Z",
        "nics": [Nic("eth0", mac="00-00-5E-00-53-23", addresses=[Address("192.0.2.1", 24), Address("2001:db8::1", 64)])],
        "disks": [Disk("sda", size=1 << 40)],
    }  # fmt: skip
    return Inventory(collected=collected, **{**given, **members})


# -- migrations ---


def test_models_and_database_agree() -> None:
    with db.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)
    assert found == []
    assert migrate.current(db.engine) == migrate.head()


def test_down_to_nothing_and_up_again_step_by_step() -> None:
    migrate.downgrade(db.engine, "base")
    assert inspect(db.engine).get_table_names() == ["alembic_version"]
    while migrate.current(db.engine) != migrate.head():
        before = migrate.current(db.engine)
        migrate.upgrade(db.engine, "+1")
        assert migrate.current(db.engine) != before
    migrate.upgrade(db.engine)
    test_models_and_database_agree()


def test_an_upgrade_that_was_cut_off_is_finished_by_the_next() -> None:
    with db.engine.connect() as connection:
        command.stamp(migrate.configuration(connection), "base")
        connection.execute(text("DROP TABLE host_addresses"))
        connection.execute(text("DROP INDEX ix_hosts_serial ON hosts"))
        connection.commit()
    migrate.upgrade(db.engine)
    test_models_and_database_agree()


# -- services ---


def test_add_is_idempotent_for_the_same_id_and_key() -> None:
    public = key()
    for _ in range(2):
        with unit_of_work():
            services.add(KIM, ID, "web1", public, {"site": "seoul"})
    revision, published = record()
    assert revision == 1
    assert (published.name, published.state, published.labels) == ("web1", "active", {"site": "seoul"})
    assert [(one.public, one.revoked) for one in published.keys] == [(public, False)]
    (change,) = changes()
    assert (change.actor, change.source, change.action, change.object_id) == ("kim", "cli", "create", ID)
    assert change.fields["name"] == [None, "web1"]


def test_another_key_is_refused_unless_said() -> None:
    services.add(KIM, ID, "web1", key(), {})
    with pytest.raises(Conflict, match="--add-key"):
        services.add(KIM, ID, "web1", key(), {})
    services.add(KIM, ID, "web1", key(), {}, add_key=True)
    assert len(record()[1].keys) == 2


def test_a_key_belongs_to_one_host() -> None:
    public = key()
    services.add(KIM, ID, "web1", public, {})
    db.session.commit()
    with pytest.raises(Conflict, match=ID):
        services.add(KIM, OTHER, "web2", public, {})


@pytest.mark.parametrize(
    ("host_id", "name", "public", "labels", "said"),
    [
        ("nonsense", "n", None, {}, "UUID"),
        (ID.upper(), "n", None, {}, "UUID"),
        (ID, " ", None, {}, "name"),
        (ID, "a\nb", None, {}, "printable"),
        (ID, "n", "abc", {}, "64 hex digits"),
        (ID, "n", None, {"Site": "x"}, "lower-case"),
        (ID, "n", None, {"site": ""}, "1 to 255"),
    ],
)
def test_what_cannot_be_a_host(host_id: str, name: str, public: str | None, labels: dict[str, str], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        services.add(KIM, host_id, name, public or key(), labels)


def test_every_change_is_recorded_and_is_a_revision() -> None:
    public = SigningKey.generate()
    host = services.add(KIM, ID, "web1", public.public.hex(), {"site": "seoul"})
    services.rename(KIM, host, "web9")
    services.set_labels(KIM, host, {"site": None, "rack": "r1"})
    services.set_state(KIM, host, "quarantined")
    services.revoke_key(KIM, host, public.kid)
    services.set_state(KIM, host, "quarantined")  # no change
    db.session.commit()
    revision, published = record()
    assert revision == 5
    assert (published.name, published.state, published.labels) == ("web9", "quarantined", {"rack": "r1"})
    assert published.keys[0].revoked
    assert [change.fields for change in changes()[1:]] == [
        {"name": ["web1", "web9"]},
        {"labels": [{"site": "seoul"}, {"rack": "r1"}]},
        {"state": ["new", "quarantined"]},
        {"keys": [{public.kid: "valid"}, {public.kid: "revoked"}]},
    ]
    with pytest.raises(Conflict, match="revoked"):
        services.add(KIM, ID, "web9", public.public.hex(), {})
    with pytest.raises(NotFound, match=public.kid):
        services.revoke_key(KIM, host, "0" * 16)
    with pytest.raises(Invalid, match="one of new, active"):
        services.set_state(KIM, host, "lost")


def test_nothing_is_kept_of_a_unit_that_fails() -> None:
    def fail_half_way() -> None:
        with unit_of_work():
            services.add(KIM, ID, "web1", key(), {})
            services.add(KIM, OTHER, "", key(), {})

    with pytest.raises(Invalid):
        fail_half_way()
    assert db.session.scalars(select(Host)).all() == []
    assert outbox.entries(unpublished_only=False) == []


def test_find_by_id_or_name_within_what_is_visible() -> None:
    services.add(KIM, ID, "web1", key(), {})
    services.add(KIM, OTHER, "web2", key(), {})
    assert services.find(KIM, ID).name == "web1"
    assert services.find(KIM, "web2").id == OTHER
    with pytest.raises(NotFound):
        services.find(KIM, "web3")
    with pytest.raises(Forbidden):
        services.find(Actor("guest", "ui"), ID)
    services.rename(KIM, services.find(KIM, ID), "web2")
    with pytest.raises(Conflict, match="more than one"):
        services.find(KIM, "web2")


def test_keys_for_checking_batches() -> None:
    public = SigningKey.generate()
    host = services.add(KIM, ID, "web1", public.public.hex(), {})
    found = services.verify_key(ID, public.kid)
    assert found is not None
    assert found.public == public.public
    assert services.verify_key(OTHER, public.kid) is None
    services.set_state(KIM, host, "quarantined")
    with pytest.raises(WireError, match="quarantined"):
        services.verify_key(ID, public.kid)
    services.set_state(KIM, host, "active")
    services.revoke_key(KIM, host, public.kid)
    assert services.verify_key(ID, public.kid) is None


def test_revisions_grow_across_deletions() -> None:
    outbox.put("rules", RulesRecord())
    outbox.put("rules", None)
    outbox.put("rules", None)
    outbox.put("rules", RulesRecord())
    (entry,) = outbox.entries(unpublished_only=True)
    assert entry.revision == 3
    outbox.mark_published("rules", 3)
    outbox.mark_published("rules", 2)
    assert outbox.entries(unpublished_only=True) == []
    outbox.renew("rules", above=7)
    (entry,) = outbox.entries(unpublished_only=True)
    assert (entry.revision, entry.published_revision) == (8, 3)


# -- reports ---


def rows() -> dict[str, Any]:
    """All that reports write, without the numbers that the database gives."""
    db.session.expire_all()
    host = services.find(KIM, ID)
    return services.snapshot(host) | {
        "collected": (host.inventory_collected, host.agent_collected),
        "agent": (host.agent_spool_bytes, host.agent_lines_sent, host.agent_cpu_pct),
    }


def test_inventory_is_stored_and_its_changes_are_recorded() -> None:
    services.add(KIM, ID, "web1", key(), {})
    assert reports.store(ID, inventory("2026-11-24T10:00:00.000Z"))
    db.session.commit()
    host = services.find(KIM, ID)
    assert (host.memory, host.os_name, host.disks[0].size) == (1 << 36, "Debian", 1 << 40)
    assert [(one.address, one.version, one.prefix) for one in host.nics[0].addresses] == [
        ("192.0.2.1", 4, 24), ("2001:db8::1", 6, 64),
    ]  # fmt: skip
    assert record()[0] == 1, "what the agent observes is not in the config record"
    more = inventory("2026-11-24T11:00:00.000Z", memory=1 << 37, disks=[])
    assert reports.store(ID, more)
    assert reports.store(ID, inventory("2026-11-24T12:00:00.000Z", memory=1 << 37, disks=[]))  # nothing new
    change = changes()[-1]
    assert (change.actor, change.source, change.action) == (ID, "agent", "update")
    disk = {"size": 1 << 40, "model": None, "serial": None, "rotational": None}
    assert change.fields == {"memory": [1 << 36, 1 << 37], "disk sda": [disk, None]}
    assert len(changes()) == 3


def test_a_report_of_nobody() -> None:
    with pytest.raises(WireError, match="no host"):
        reports.store(ID, inventory("2026-11-24T10:00:00.000Z"))


@pytest.mark.parametrize("seed", range(5))
def test_reports_twice_and_in_any_order_end_in_the_same_rows(seed: int) -> None:
    chance = random.Random(seed)
    services.add(KIM, ID, "web1", key(), {})
    db.session.commit()
    documents: list[Inventory | AgentStatus] = []
    for hour in range(6):
        collected = f"2026-11-24T{hour:02}:00:00.000Z"
        nics = [
            Nic(name, mtu=chance.choice([1500, 9000]), addresses=[Address(f"192.0.2.{chance.randrange(9)}", 24)])
            for name in chance.sample(["eth0", "eth1", "eth2"], chance.randrange(4))
        ]
        documents.append(inventory(collected, memory=chance.randrange(1 << 40), nics=nics))
        documents.append(AgentStatus(collected, "1", collected, lines_sent=hour))
    for document in documents:
        reports.store(ID, document)
    db.session.commit()
    in_order = rows()
    for table in ("host_addresses", "host_nics", "host_disks"):
        db.session.execute(text(f"DELETE FROM {table}"))
    db.session.execute(text("UPDATE hosts SET inventory_collected = NULL, agent_collected = NULL, memory = NULL"))
    db.session.commit()
    db.session.expire_all()
    shuffled = chance.sample(documents * 2, len(documents) * 2)
    for document in shuffled:
        reports.store(ID, document)
    db.session.commit()
    assert rows() == in_order


def test_a_clock_that_was_ahead_does_not_shut_out_what_comes_after() -> None:
    services.add(KIM, ID, "web1", key(), {})
    assert reports.store(ID, inventory("2099-01-01T00:00:00.000Z", memory=1))
    assert reports.store(ID, inventory("2026-11-24T10:00:00.000Z", memory=2))
    assert not reports.store(ID, inventory("2026-11-24T09:00:00.000Z", memory=3))
    assert services.find(KIM, ID).memory == 2


# -- the cmdb as a host ---


def test_the_cmdb_is_believed_once_its_record_is_published_and_while_it_is_listened_to(tmp_path: Path) -> None:
    SigningKey.generate().save(tmp_path / "own.key")
    known = Identity.load(tmp_path / "own.key")
    assert not own.believed(known)
    with unit_of_work():
        services.add(KIM, known.host_id, "cmdb", known.key.public.hex(), {})
    assert not own.believed(known), "the pipeline does not know the key before it is in Kafka"
    with unit_of_work():
        outbox.mark_published(host_key(known.host_id), 1)
    assert own.believed(known)
    with unit_of_work():
        host = db.session.get(Host, known.host_id)
        assert host is not None
        host.state = "quarantined"
    assert not own.believed(known), "that is no reason to end the worker"

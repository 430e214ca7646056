"""Sending commands: who may, to which hosts, what is signed and kept; the managed configuration that some of them carry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.commands import signer
from ezadmin_testing.described import KIM, empty, host_id, make
from flask import Flask
from sqlalchemy import func, select, update

from ezadmin_cmdb import migrate
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.audit.models import AuditEntry
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.commands import chain, services, states
from ezadmin_cmdb.commands.models import Command, Run
from ezadmin_cmdb.commands.services import Choice, SignerAway
from ezadmin_cmdb.configs import services as configs
from ezadmin_cmdb.configs.description import CONFIG
from ezadmin_cmdb.configs.models import AgentConfig
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.enrolment.models import HostLine
from ezadmin_cmdb.errors import (
    Conflict,
    DomainError,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionRequired,
    TooManyRequests,
)
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.rights.access import EVERYWHERE, GroupScope, Rights, Scope
from ezadmin_cmdb.rights.models import HostGroup
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.signer import book
from ezadmin_cmdb.signer.settings import CommandSettings
from ezadmin_wire import commands as wire
from ezadmin_wire.jobs import JobState
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import VerifyKey
from ezadmin_wire.times import format_time

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandSettings]:
    with signer(tmp_path_factory.mktemp("signer"), max_hosts_per_minute=100, max_lifetime_hours=48) as settings:
        yield settings


@pytest.fixture(scope="module")
def module_app(database: str, signing: CommandSettings) -> Flask:
    app = create_core(
        Settings(
            database=database, kafka=KafkaConnection("127.0.0.1:1"), config_signing_key=Path("none"), commands=signing
        )
    )
    with app.app_context():
        migrate.upgrade(db.engine)
    return app


@pytest.fixture(autouse=True)
def context(module_app: Flask) -> Iterator[None]:
    empty(module_app)
    with module_app.app_context():
        with unit_of_work():
            for n in (1, 2, 3):
                make("host", n)
        yield
        db.session.rollback()


IDS = (host_id(1), host_id(2), host_id(3))


def send(kind: str = "inventory", choice: Choice | None = None, actor: Actor = KIM, **more: Any) -> Run:
    with unit_of_work():
        run = services.send(actor, choice or Choice(IDS), kind, more.pop("arguments", {}), **more)
        db.session.flush()
    return db.session.get_one(Run, run.id)


def commands(run: Run) -> list[Command]:
    return list(
        db.session.scalars(select(Command).where(Command.run == run.id).order_by(Command.attempt, Command.host_name))
    )


def none_sent() -> bool:
    return db.session.scalar(select(func.count()).select_from(Command)) == 0


def person(*names: str, groups: tuple[int, ...] = ()) -> Actor:
    where = Scope(groups=frozenset(GroupScope(group, None) for group in groups)) if groups else EVERYWHERE
    return Actor("lee", "ui", Rights(permissions=dict.fromkeys(("host.view", *names), where)), "r1", 7)


def test_each_host_is_sent_what_its_agent_believes(signing: CommandSettings) -> None:
    run = send("sample", arguments={"interval": 2, "seconds": 120}, expires=HOUR, expected=3)
    assert (run.kind, run.hosts, run.actor_name, run.arguments) == ("sample", 3, "kim", {"interval": 2, "seconds": 120})
    found = services.waiting(IDS)
    assert {one.host_id for one in found} == set(IDS)
    keys = [VerifyKey.from_hex(signing.public_key or "")]
    for one in found:
        told = wire.decode(one.command, keys)
        assert (told.id, told.run, told.attempt, told.host) == (one.command_id, run.id, 1, one.host_id)
        assert (told.kind, told.arguments, told.actor) == ("sample", {"interval": 2, "seconds": 120}, "kim (cli)")
        row = db.session.get_one(Command, one.command_id)
        assert (format_time(row.not_before), format_time(row.not_after), row.nonce) == (
            told.not_before,
            told.not_after,
            told.nonce,
        )
    lines = [line for line in book.read(signing.signer_log or Path()) if line["run"] == run.id]
    assert {line["host"] for line in lines} == set(IDS)
    assert {line["digest"] for line in lines} == {one.digest for one in commands(run)}
    assert chain.verify().rows == 3


def test_it_stands_in_history_and_audit() -> None:
    run = send()
    change = db.session.scalar(select(Change).where(Change.object_id == run.id))
    assert change is not None
    assert (change.action, change.fields["hosts"], change.fields["names"]) == (
        "create", [None, 3], [None, ["Host 1", "Host 2", "Host 3"]],
    )  # fmt: skip
    entry = db.session.scalar(select(AuditEntry).where(AuditEntry.object_id == run.id))
    assert entry is not None
    assert (entry.actor, entry.object_type, entry.action) == ("kim", "command", "create")


def test_who_may_for_which_hosts() -> None:
    with unit_of_work():
        group = HostGroup(name="g", hosts=[db.session.get_one(Host, host_id(1))])
        db.session.add(group)
        db.session.flush()
        mine = group.id
    lee = person("command.inventory", groups=(mine,))
    assert send(choice=Choice(IDS[:1]), actor=lee).hosts == 1
    assert send(choice=Choice(filter="q="), actor=lee, expected=1).hosts == 1, "of all that match, his own"
    with pytest.raises(NotFound):
        send(choice=Choice(IDS[:2]), actor=lee)
    sees_all = replace(lee, rights=Rights(permissions={**lee.rights.permissions, "host.view": EVERYWHERE}))
    with pytest.raises(Forbidden):
        send(choice=Choice(IDS[:2]), actor=sees_all)
    for kind in ("stop", "configure", "rotate_key"):
        with pytest.raises(Forbidden):
            send(kind, choice=Choice(IDS[:1]), actor=lee)
    with pytest.raises(Forbidden):
        send(actor=person("command.view"))


def test_a_filter_means_what_was_confirmed() -> None:
    with pytest.raises(PreconditionRequired):
        send(choice=Choice(filter="name=Host 1&name=Host 2"))
    with pytest.raises(Conflict, match="2 hosts are meant now, 3 were confirmed"):
        send(choice=Choice(filter="name=Host 1&name=Host 2"), expected=3)
    run = send(choice=Choice(filter="name=Host 1&name=Host 2"), expected=2)
    assert ([one.host_name for one in commands(run)], run.chosen) == (["Host 1", "Host 2"], "name=Host 1&name=Host 2")
    with pytest.raises(Invalid):
        send(choice=Choice(filter="colour=red"), expected=2)


def test_who_is_not_listened_to_is_sent_nothing() -> None:
    with unit_of_work():
        db.session.execute(update(Host).where(Host.id == host_id(2)).values(state="quarantined"))
    found = services.targets(KIM, services.kind_of("inventory"), Choice(IDS))
    assert ([h.name for h in found.hosts], [h.name for h in found.deaf]) == (["Host 1", "Host 3"], ["Host 2"])
    with pytest.raises(Conflict, match="None of these hosts"):
        send(choice=Choice((host_id(2),)))


@pytest.mark.parametrize(
    ("kind", "arguments", "expires", "field"),
    [
        ("shell", {}, None, "kind"),
        ("inventory", {"x": 1}, None, "arguments"),
        ("sample", {"interval": 0, "seconds": 60}, None, "arguments"),
        ("configure", {"config": {}}, None, "arguments"),
        ("inventory", {}, timedelta(hours=49), "expires"),
        ("inventory", {}, timedelta(seconds=1), "expires"),
    ],
)
def test_what_cannot_be_sent(kind: str, arguments: dict[str, Any], expires: timedelta | None, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        send(kind, arguments=arguments, expires=expires)
    assert caught.value.field == field
    assert none_sent()


def test_without_a_signer_nothing_is_sent(module_app: Flask, signing: CommandSettings, tmp_path: Path) -> None:
    known = module_app.extensions["ezadmin_settings"]
    try:
        for path, text in ((None, "not set up"), (tmp_path / "none", "does not answer")):
            module_app.extensions["ezadmin_settings"] = replace(known, commands=replace(signing, signer_socket=path))
            with pytest.raises(SignerAway, match=text) as caught:
                send()
            assert caught.value.status == 503
            db.session.rollback()
    finally:
        module_app.extensions["ezadmin_settings"] = known
    assert none_sent()
    assert db.session.scalar(select(func.count()).select_from(Run)) == 0


def test_what_the_signer_refuses_is_not_sent(signing: CommandSettings) -> None:
    halted = signing.halted
    assert halted is not None
    halted.write_text("a break-in\n")
    try:
        with pytest.raises(Conflict, match="a break-in"):
            send()
        db.session.rollback()
        assert none_sent()
        assert send("stop", arguments={"reason": "break-in"}).hosts == 3
    finally:
        halted.unlink()


def said(command: Command, state: str) -> None:
    with unit_of_work():
        services.state_changed(JobState(command.run, command.attempt, state, format_time(utc_now())), command.host_id)


def test_stopped_again_and_cancelled() -> None:
    run = send("stop", arguments={"reason": "why"})
    one, two, three = commands(run)
    said(one, "failed")
    with unit_of_work():
        services.mark_sent([two.id])
    with unit_of_work():
        assert services.cancel(KIM, run) == 1
    assert [row.state for row in commands(run)] == ["failed", "sent", "cancelled"]
    assert services.counts(KIM, [run.id]) == {run.id: {"sent": 1, "failed": 1, "cancelled": 1}}
    with pytest.raises(Conflict, match="1 hosts are meant now, 2"):
        services.again(KIM, run, expected=2)
    with unit_of_work():
        assert services.again(KIM, run, expected=1) == 1
    newest = {row.host_id: (row.attempt, row.state) for row in services.latest(KIM, run)}
    assert newest == {one.host_id: (2, "queued"), two.host_id: (1, "sent"), three.host_id: (1, "cancelled")}
    assert services.counts(KIM, [run.id]) == {run.id: {"queued": 1, "sent": 1, "cancelled": 1}}, (
        "of the newest attempts"
    )
    said(one, "done")
    assert states.history(one)[-1].state == "done", "what comes late about the first attempt is about that"
    assert db.session.get_one(Command, one.id).state == "failed"
    with pytest.raises(Conflict, match="no host to which"):
        services.again(KIM, run)
    history = db.session.scalars(select(Change.fields).where(Change.object_id == run.id).order_by(Change.id)).all()
    assert [set(fields) for fields in history][1:] == [{"cancelled"}, {"again"}]


def test_who_may_not_send_may_not_cancel() -> None:
    run = send()
    with pytest.raises(Forbidden):
        services.cancel(person("command.view"), run)
    with pytest.raises(Forbidden):
        services.find_run(person(), run.id)
    assert services.find_run(person("command.view"), run.id) is run


def test_what_is_seen_is_that_of_visible_hosts() -> None:
    with unit_of_work():
        group = HostGroup(name="g", hosts=[db.session.get_one(Host, host_id(1))])
        db.session.add(group)
        db.session.flush()
        mine = group.id
    lee = person("command.view", groups=(mine,))
    run, other = send(), send(choice=Choice(IDS[1:]))
    assert [one.host_id for one in services.latest(lee, services.find_run(lee, run.id))] == [host_id(1)]
    assert services.counts(lee, [run.id]) == {run.id: {"queued": 1}}
    assert services.names(lee, [run.id], 5) == {run.id: [(host_id(1), "Host 1")]}
    with pytest.raises(NotFound):
        services.find_run(lee, other.id)
    with pytest.raises(NotFound):
        services.find(lee, commands(other)[0].id)
    assert services.of_host(lee, db.session.get_one(Host, host_id(1)), 5)
    assert services.of_host(person(), db.session.get_one(Host, host_id(1)), 5) == []


# -- the managed configuration ---


def config(name: str, content: str, group: int | None = None, priority: int = 0, active: bool = True) -> AgentConfig:
    with unit_of_work():
        values = {"name": name, "content": content, "priority": priority, "active": active}
        if group is not None:
            values["group"] = db.session.get_one(HostGroup, group)
        made: AgentConfig = described.create(KIM, CONFIG, values)
    return made


def grouped(*numbers: int) -> int:
    with unit_of_work():
        hosts = [db.session.get_one(Host, host_id(n)) for n in numbers]
        group = HostGroup(name=f"group {numbers}", hosts=hosts)
        db.session.add(group)
        db.session.flush()
        for host in hosts:
            host.member_of = {**(host.member_of or {}), str(group.id): group.name}
        return group.id


APP = '[[logs]]\npath = "/var/log/app.log"\nmin_level = "info"\nexclude = ["health"]\n'


def test_a_hosts_configuration_is_merged_and_says_where_it_comes_from() -> None:
    web = grouped(1, 2)
    config("all", APP)
    config(
        "web",
        '[[logs]]\npath = "/var/log/app.log"\nmin_level = "error"\n[[logs]]\nsource = "system"\nsample = 10\n',
        web,
        5,
    )
    config("off", '[[logs]]\npath = "/var/log/app.log"\nmin_level = "trace"\n', priority=100, active=False)
    one, three = (configs.effective(db.session.get_one(Host, host_id(n))) for n in (1, 3))
    assert one.content == {
        "logs": [
            {"path": "/var/log/app.log", "min_level": "error", "exclude": ["health"]}, {"source": "system", "sample": 10},
        ]
    }  # fmt: skip
    assert {part.key: part.origin.name for part in one.parts["/var/log/app.log"]} == {
        "path": "web", "min_level": "web", "exclude": "all",
    }  # fmt: skip
    assert three.content["logs"][0]["min_level"] == "info"
    versions = {
        row.id: row.agent_config_wanted for row in db.session.execute(select(Host.id, Host.agent_config_wanted))
    }
    assert versions == {host_id(1): one.version, host_id(2): one.version, host_id(3): three.version}
    assert one.version != three.version
    assert configs.content_of(one.version) == one.content


def test_of_equal_priority_that_of_a_group_holds() -> None:
    web = grouped(1)
    config("web", '[[logs]]\npath = "/a"\nsample = 2\n', web)
    config("all", '[[logs]]\npath = "/a"\nsample = 3\n')
    samples = [configs.effective(db.session.get_one(Host, host_id(n))).content["logs"][0]["sample"] for n in (1, 2)]
    assert samples == [2, 3]


def test_its_version_counts_and_the_same_content_has_the_same_number() -> None:
    made = config("all", APP)
    first = configs.effective(db.session.get_one(Host, host_id(1))).version
    for content, version in ((APP.replace("info", "error"), 2), (APP, 3)):
        with unit_of_work():
            described.update(KIM, CONFIG, made, {"content": content})
        assert made.revision == version
    with unit_of_work():
        described.update(KIM, CONFIG, made, {"note": "agents do not see it"})
    assert made.revision == 3
    assert configs.effective(db.session.get_one(Host, host_id(1))).version == first
    with unit_of_work():
        described.delete(KIM, CONFIG, made)
    assert db.session.scalars(select(Host.agent_config_wanted)).all() == [0, 0, 0]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[[logs", "not TOML"),
        ('[kafka]\nbootstrap = "evil:9092"\n', r"only \[\[logs\]\] are managed"),
        ('[[logs]]\npath = "/a"\ninclude = ["(a+)+"]\n', "repeats a repeat"),
        ('[[logs]]\npath = "/a"\nmin_level = 2026-01-01\n', "JSON serializable|min_level"),
    ],
)
def test_what_no_agent_would_take_is_not_kept(content: str, text: str) -> None:
    with pytest.raises(Invalid, match=text) as caught:
        config("bad", content)
    db.session.rollback()
    assert "content" in caught.value.fields
    assert db.session.scalar(select(func.count()).select_from(AgentConfig)) == 0


def has(n: int, version: int) -> None:
    with unit_of_work():
        db.session.merge(HostLine(host_id=host_id(n), config=version))


def test_configure_brings_each_host_its_own_and_only_where_it_differs() -> None:
    web = grouped(1)
    config("all", APP)
    config("web", '[[logs]]\npath = "/w"\n', web)
    wanted = {row.id: row.agent_config_wanted for row in db.session.execute(select(Host.id, Host.agent_config_wanted))}
    has(2, wanted[host_id(2)])
    kind = services.kind_of("configure")
    found = services.targets(KIM, kind, Choice(differing=True))
    assert [host.name for host in found.hosts] == ["Host 1", "Host 3"]
    run = send("configure", choice=Choice(differing=True), expected=2)
    told = {one.host_id: states.with_text(one.id).arguments for one in commands(run)}
    assert told[host_id(1)]["version"] == wanted[host_id(1)]
    assert [entry["path"] for entry in told[host_id(1)]["config"]["logs"]] == ["/var/log/app.log", "/w"]
    assert told[host_id(3)] == {"version": wanted[host_id(3)], "config": configs.content_of(wanted[host_id(3)])}
    has(1, wanted[host_id(1)]), has(3, wanted[host_id(3)])
    with pytest.raises(Conflict):
        send("configure", choice=Choice(differing=True), expected=0)


def test_the_difference_is_shown() -> None:
    before = {"logs": [{"path": "/a", "min_level": "info"}]}
    after = {"logs": [{"path": "/a", "min_level": "error", "mask": [{"regex": "x", "with": "y"}]}]}
    lines = configs.difference(before, after)
    assert '-min_level = "info"' in lines
    assert '+min_level = "error"' in lines
    assert '+mask = [{ regex = "x", with = "y" }]' in lines
    assert configs.difference(after, after) == []
    assert configs.read(configs.write(after)) == after


def test_too_many_in_a_minute(signing: CommandSettings) -> None:
    caught: DomainError | None = None
    for _ in range(40):
        try:
            send()
        except TooManyRequests as error:
            caught = error
            db.session.rollback()
            break
    assert caught is not None
    assert caught.headers == {"Retry-After": "60"}
    assert send("stop", arguments={"reason": "now"}).hosts == 3

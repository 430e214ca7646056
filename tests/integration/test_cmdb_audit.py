"""The audit log on the real database: what it holds, what altering it looks like, many at once, and its events."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ezadmin_testing.cmdb import read, settings_file, worker
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, make, sign_in
from ezadmin_testing.processes import wait_until
from flask import Flask
from sqlalchemy import func, select, text

from ezadmin_cmdb import own
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.audit import chain
from ezadmin_cmdb.audit.models import AuditEntry
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Conflict
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.main import cli
from ezadmin_cmdb.settings import load
from ezadmin_wire import batch
from ezadmin_wire.names import Names
from ezadmin_wire.signing import VerifyKey


@pytest.fixture(scope="module")
def app(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    names = Names(f"t{secrets.token_hex(5)}")
    folder = tmp_path_factory.mktemp("web")
    with application(database, folder, kafka=stack.kafka, elasticsearch=stack.elasticsearch, names=names) as app:
        yield app


@pytest.fixture
def clean(app: Flask) -> Flask:
    empty(app)
    return app


def entries() -> list[AuditEntry]:
    return list(db.session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


def test_changes_and_denials_become_entries_and_what_is_rolled_back_does_not(clean: Flask) -> None:
    with clean.app_context():
        with unit_of_work():
            contact = make("contact", 1)
            services.update(KIM, find("contact"), contact, {"company": "한빛"})
            accounts.create_user(KIM, "lee", PASSWORD, admin=False)
            services.create(KIM, find("site"), {"name": "A", "code": "S1", "status": "active"})
            with pytest.raises(Conflict):
                services.create(KIM, find("site"), {"name": "B", "code": "S1", "status": "active"})
        make("contact", 2)
        db.session.flush()
        db.session.rollback()
    client = sign_in(clean, "lee")
    assert client.get("/sites/", environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 403
    with clean.app_context():
        found = [one for one in entries() if one.kind in ("change", "denial")]
        assert [(one.kind, one.action, one.outcome, one.actor, one.object_type, one.object_name) for one in found] == [
            ("change", "create", "success", "kim", "contact", "Contact 1"),
            ("change", "update", "success", "kim", "contact", "Contact 1"),
            ("change", "create", "success", "kim", "user", "lee"),
            ("change", "create", "success", "kim", "site", "A"),
            ("denial", "site.view", "failure", "lee", None, None),
        ]  # fmt: skip
        assert json.loads(found[1].details)["fields"] == {"company": [None, "한빛"]}
        assert found[-1].address == "192.0.2.7"
        assert found[-1].request_id
        assert chain.verify() == chain.Verdict(len(entries()), chain.last_entry())


@pytest.mark.parametrize(
    ("harm", "broken", "says"),
    [
        ("UPDATE audit_entries SET actor = 'lee' WHERE id = 3", 3, "not what it was"),
        ("UPDATE audit_entries SET details = '{}' WHERE id = 3", 3, "not what it was"),
        ("UPDATE audit_entries SET time = time + INTERVAL 1 MICROSECOND WHERE id = 3", 3, "not what it was"),
        ("DELETE FROM audit_entries WHERE id = 3", 3, "is missing"),
        ("DELETE FROM audit_entries WHERE id = 1", 1, "is missing"),
        ("DELETE FROM audit_entries WHERE id = 6", 6, "the chain was longer"),
        ("DELETE FROM audit_head", 6, "audit_head is missing"),
        ("UPDATE audit_head SET number = 5", 5, "another one than audit_head says"),
        ("UPDATE changes SET fields = JSON_SET(fields, '$.name[1]', 'other') WHERE object_name = 'Contact 4'",
         4, "says something else"),
        ("DELETE FROM changes WHERE object_name = 'Contact 4'", 4, "is missing"),
        ("UPDATE audit_entries a JOIN audit_entries b ON a.id = 2 AND b.id = 3 SET a.details = b.details", 2, "not what it was"),
    ],
)  # fmt: skip
def test_what_is_altered_is_found_where_it_begins(clean: Flask, harm: str, broken: int, says: str) -> None:
    with clean.app_context():
        with unit_of_work():
            for number in range(1, 7):
                make("contact", number)
        assert chain.verify().broken is None
        with unit_of_work():
            db.session.execute(text(harm))
        verdict = chain.verify()
        assert verdict.broken == broken
        assert says in verdict.why


def test_a_chain_that_was_made_anew_is_found_by_an_anchor(clean: Flask) -> None:
    with clean.app_context():
        with unit_of_work():
            for number in range(1, 4):
                make("contact", number)
        anchor = chain.last_entry()
        with unit_of_work():  # as somebody does who knows how: one entry forged, all after it hashed again
            previous = chain.START
            for entry in entries():
                entry.actor = "somebody else"
                entry.previous = previous
                entry.hash = previous = chain.hash_of(previous, {name: getattr(entry, name) for name in chain.HASHED})
            db.session.execute(text("UPDATE audit_head SET hash = :hash"), {"hash": previous})
        assert chain.verify().broken is None
        verdict = chain.verify([anchor])
        assert verdict.broken == 3
        assert "anchor" in verdict.why
        assert chain.verify([chain.Anchor(9, "x")]).broken == 4


def test_many_at_once_make_one_chain_and_wait_little(clean: Flask, record_property: Any) -> None:
    threads, each, waits = 8, 40, []

    def work(number: int) -> None:
        for turn in range(each):
            with clean.app_context():
                began = time.monotonic()
                with unit_of_work():
                    services.create(KIM, find("contact"), {"name": f"C {number} {turn}", "kind": "person"})
                waits.append(time.monotonic() - began)

    began = time.monotonic()
    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    seconds = time.monotonic() - began
    with clean.app_context():
        assert db.session.scalar(select(func.count()).select_from(AuditEntry)) == threads * each
        assert chain.verify().broken is None
    waits.sort()
    print(f"{threads * each / seconds:.0f} commits/s, median {1000 * waits[len(waits) // 2]:.1f} ms, "
          f"p99 {1000 * waits[int(len(waits) * 0.99)]:.1f} ms")  # fmt: skip
    assert len(waits) == threads * each
    assert waits[int(len(waits) * 0.99)] < 5.0


def test_commands(clean: Flask, stack: Any, database: str, tmp_path: Path) -> None:
    config = settings_file(tmp_path, database, stack.kafka, Names(f"t{secrets.token_hex(5)}"))
    with clean.app_context(), unit_of_work():
        make("contact", 1)
        make("contact", 2)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, [*arguments, "--config", str(config)], standalone_mode=False)

    anchors = tmp_path / "anchors"
    anchors.write_text(run("audit", "anchor").stdout)
    assert json.loads(anchors.read_text())["number"] == 2
    good = run("audit", "verify", "--anchors", str(anchors))
    assert good.return_value == 0
    assert "2 entries hold" in good.stdout
    with clean.app_context(), unit_of_work():
        db.session.execute(text("UPDATE audit_entries SET actor = 'x' WHERE id = 2"))
    bad = run("audit", "verify")
    assert bad.return_value == 1
    assert "broken at entry 2" in bad.stderr
    anchors.write_text("nonsense\n")
    assert "line 1 is no anchor" in str(run("audit", "verify", "--anchors", str(anchors)).exception)


def test_pages_and_api_show_it_and_nobody_can_change_it(clean: Flask) -> None:
    with clean.app_context(), unit_of_work():
        accounts.create_user(KIM, "root", PASSWORD, admin=True)
        make("contact", 1)
    client = sign_in(clean, "root")
    page = client.get("/audit/?object_name__contains=Contact").text
    assert "Contact 1" in page
    assert "added" in page
    (found,) = client.get("/api/v1/audit?object_type=contact").get_json()["items"]
    assert found["actor"] == "kim"
    assert len(found["hash"]) == 64
    assert "audit verify" in client.get(f"/audit/{found['id']}").text
    for method in ("patch", "delete", "post"):
        answer = client.open(
            f"/api/v1/audit/{found['id']}", method=method.upper(), json={}, headers={"X-CSRFToken": csrf(client)}
        )
        assert answer.status_code == 405


def test_each_entry_is_an_event_once_also_when_the_worker_is_killed(
    clean: Flask, stack: Any, database: str, names: Names, tmp_path: Path
) -> None:
    config = settings_file(tmp_path, database, stack.kafka, names, own=f'key = "{tmp_path / "own.key"}"')
    known = own.identity(load(config), make=True)
    with clean.app_context(), unit_of_work():
        hosts.add(KIM, known.host_id, "cmdb", known.key.public.hex(), {})
        for number in range(1, 4):
            make("contact", number)

    def told() -> bool:
        """Whether each entry is an event, those that the worker itself adds (it hears of the host) too."""
        with clean.app_context():
            return {one.id for one in entries()} == set(_events(stack.kafka, names, known))

    process = worker(config, tmp_path / "worker.log").start()
    try:
        wait_until(told, 40, "the entries are events")
        process.kill()
        with clean.app_context(), unit_of_work():
            db.session.execute(
                text("UPDATE audit_stream SET sent = 2")
            )  # as if it had died before it noted the last two
            make("contact", 4)
        process = worker(config, tmp_path / "worker.log").start()
        wait_until(told, 40, "the rest is sent")
    finally:
        process.stop()
    with clean.app_context():
        sent = _events(stack.kafka, names, known)
        hashes = {one.id: one.hash for one in entries()}
        assert {number: one["fields"]["audit.hash"] for number, one in sent.items()} == {n: hashes[n] for n in sent}
        assert set(range(1, 6)) <= set(sent)
        assert sent[2]["event.dataset"] == "cmdb.audit"
        assert sent[2]["fields"]["object.name"] == "Contact 1"
        assert "kim: change create contact Contact 1: success" in sent[2]["message"]


def _events(kafka: str, names: Names, known: Any) -> dict[int, Any]:
    """Events by their number in the stream; one that came twice must be the same."""
    found: dict[int, Any] = {}
    epochs = set()
    for message in read(kafka, names.logs):
        got = batch.decode(
            names.logs, message.key, message.headers, message.value, lambda *_: VerifyKey(known.key.public)
        )
        if got.stream != "audit":
            continue
        epochs.add(got.epoch)
        for number, one in enumerate(got.lines(), got.seq):
            document = json.loads(one)
            assert found.setdefault(number, document) == document
    assert len(epochs) <= 1
    return found

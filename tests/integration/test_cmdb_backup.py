"""A dump holds everything at one moment and no key; restored, the database is row for row what it was, and work goes on."""

from __future__ import annotations

import gzip
import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.cmdb import command, settings_file
from ezadmin_testing.described import KIM, PASSWORD, SAMPLES, application, empty, make, sign_in
from ezadmin_testing.processes import Process, wait_until
from flask import Flask
from sqlalchemy import create_engine, insert, inspect, text

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import second_factor
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.audit.models import AuditStream
from ezadmin_cmdb.backup import services
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe.description import known
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.outbox.publisher import read_topic
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

Rows = dict[str, list[tuple[Any, ...]]]


def rows_of(url: str) -> Rows:
    """Everything in a database, exact: floats as the doubles that they are."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found: Rows = {}
        for table in sorted(inspect(connection).get_table_names()):
            columns = inspect(connection).get_columns(table)
            wanted = ", ".join(
                f"`{one['name']}` + 0e0" if str(one["type"]) == "FLOAT" else f"`{one['name']}`" for one in columns
            )
            rows = connection.execute(text(f"SELECT {wanted} FROM `{table}`"))
            found[table] = sorted((tuple(row) for row in rows), key=repr)
    engine.dispose()
    return found


@pytest.fixture
def other_database(stack: Any, database: str) -> Iterator[str]:
    """An empty database without tables."""
    name = f"ezadmin_t{secrets.token_hex(5)}"
    engine = create_engine(database)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    engine.dispose()
    yield database.replace(database.rpartition("/")[2].partition("?")[0], name)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))
    engine.dispose()


@pytest.fixture(scope="module")
def full(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Something of every model, odd values, a second factor, and a session."""
    folder = tmp_path_factory.mktemp("web")
    with application(database, folder) as app:
        empty(app)
        with app.app_context(), unit_of_work():
            kim = accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            for name in SAMPLES:
                for n in (1, 2):
                    make(name, n)
            db.session.flush()
            second_factor.begin(kim)
        sign_in(app, "kim")
        with app.app_context(), unit_of_work():
            odd = "한글 \u2028 '\" \\ %s :p0 \N{PILE OF POO} \t\n"
            db.session.execute(
                text("UPDATE hosts SET agent_cpu_pct = 0.1, note = :odd WHERE name = 'Host 1'"), {"odd": odd}
            )
            db.session.execute(text("UPDATE hosts SET agent_cpu_pct = 1e0/3 WHERE name = 'Host 2'"))
            db.session.add(AuditStream(id=1, epoch="0123456789abcdef", sent=3))
        yield app


@pytest.fixture
def run(tmp_path: Path, full: Flask) -> Callable[..., int]:
    """Runs a command on a database; nothing else is connected to it."""

    def run_on(url: str, *words: str | Path) -> int:
        with full.app_context():
            db.engine.dispose()
        folder = tmp_path / secrets.token_hex(3)
        folder.mkdir()
        config = settings_file(folder, url, "127.0.0.1:1", Names("x"))
        done = subprocess.run(command(*map(str, words), "--config", config), capture_output=True, text=True, timeout=60)
        print(done.stdout)
        print(done.stderr, file=sys.stderr)
        return done.returncode

    return run_on


def test_restored_is_what_was_dumped(
    full: Flask, database: str, other_database: str, run: Callable[..., int], tmp_path: Path
) -> None:
    assert not [d.name for d in known() if not rows_of(database)[d.model.__tablename__]], "every model has rows"
    file = tmp_path / "ezadmin.dump"
    before = rows_of(database)
    assert before["user_sessions"]
    assert run(database, "dump", file) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert run(other_database, "restore", file) == 0
    after = rows_of(other_database)
    assert after.keys() == before.keys()
    (entry,) = set(after["audit_entries"]) - set(before["audit_entries"])
    assert {"database", "restore"} <= set(entry)
    assert after["user_sessions"] == []
    assert after["audit_stream"][0][1] != "0123456789abcdef", "numbers will be given again: another stream"
    different = {table for table in before if before[table] != after[table]}
    assert different == {"audit_entries", "audit_head", "audit_stream", "user_sessions"}
    assert run(other_database, "audit", "verify") == 0
    assert run(other_database, "db", "current") == 0


def test_a_dump_holds_no_key(full: Flask, database: str, run: Callable[..., int], tmp_path: Path) -> None:
    secret_file = full.extensions["ezadmin_settings"].secret_key_file
    file = tmp_path / "ezadmin.dump"
    assert run(database, "dump", file) == 0
    held = gzip.decompress(file.read_bytes()).decode()
    assert secret_file.read_text().strip() not in held
    assert "PRIVATE KEY" not in held
    assert PASSWORD not in held
    header = json.loads(held.splitlines()[0])
    assert (header["ezadmin-cmdb-dump"], header["revision"]) == (1, migrate.head())
    assert '"table":"user_sessions"' not in held


def test_what_is_refused(
    full: Flask, database: str, other_database: str, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    file = tmp_path / "ezadmin.dump"
    assert run(database, "dump", file) == 0
    assert run(database, "restore", file) == 1
    assert "--replace" in capsys.readouterr().err
    lines = gzip.decompress(file.read_bytes()).decode().splitlines(keepends=True)

    def refused(name: str, content: bytes, *expected: str, url: str = other_database) -> None:
        wrong = tmp_path / name
        wrong.write_bytes(content)
        before = rows_of(url)
        app = create_core(replace(full.extensions["ezadmin_settings"], database=url))
        with app.app_context(), pytest.raises(DomainError) as caught:
            services.restore(KIM, db.engine, wrong, replace=True)
        with app.app_context():
            db.engine.dispose()
        assert not [text for text in expected if text not in str(caught.value)], caught.value
        assert {k: v for k, v in rows_of(url).items() if k in before} == before, "nothing of it is kept"

    def packed(changed: list[str]) -> bytes:
        return gzip.compress("".join(changed).encode())

    head = json.loads(lines[0])
    newer = [json.dumps({**head, "revision": "9999", "program": "9.1"}) + "\n", *lines[1:]]
    older = [json.dumps({**head, "revision": "0018"}) + "\n", *lines[1:]]
    refused("text", b"hello", "is not whole, or no dump")
    refused("other.gz", gzip.compress(b'{"a": 1}\n'), "is no dump of ezadmin-cmdb")
    refused("newer", packed(newer), "9999", migrate.head(), "9.1")
    refused("older", packed(older), "0018", "empty database", url=database)
    refused("format", packed([json.dumps({**head, "ezadmin-cmdb-dump": 2}) + "\n"]), "format 2")
    named = [line.replace('"table":"sites"', '"table":"sites` (id) SELECT 1 -- "') for line in lines]
    assert named != lines
    refused("named", packed(named), "names what is no table or column", url=database)
    refused("cut", file.read_bytes()[:-900], "is not whole", url=database)
    refused("no-end", packed(lines[:-1]), "does not end", url=database)
    refused("less", packed([*lines[:-2], lines[-1]]), "does not end", url=database)
    somebody = create_engine(database)
    with somebody.connect():
        refused("others", file.read_bytes(), "connections use the database", url=database)
    somebody.dispose()
    (tmp_path / "text").write_text("hello")
    for words, expected in [
        ((database, "restore", tmp_path / "text"), "is not whole, or no dump"),
        ((other_database, "dump", tmp_path / "x"), "no tables"),
        ((database, "dump", tmp_path / "nowhere" / "x"), "cannot write"),
    ]:
        assert run(*words) == 1
        said = capsys.readouterr().err
        assert expected in said
        assert "Traceback" not in said
    assert not list(tmp_path.glob("*.part"))


def test_a_dump_of_an_older_program(full: Flask, other_database: str, run: Callable[..., int], tmp_path: Path) -> None:
    """It is brought up to this one's revision."""
    assert run(other_database, "db", "upgrade", "0012") == 0
    engine = create_engine(other_database)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO hosts (id, name, state, created, updated) VALUES ('h', 'n', 'active', NOW(), NOW())")
        )
    file = tmp_path / "old.dump"
    assert run(other_database, "dump", file) == 0
    with engine.begin() as connection:
        connection.execute(text("SET foreign_key_checks = 0"))
        for table in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE `{table}`"))
    engine.dispose()
    assert run(other_database, "restore", file) == 0
    assert [row[:2] for row in rows_of(other_database)["hosts"]] == [("h", "n")]
    assert run(other_database, "db", "current") == 0


def test_a_dump_is_of_one_moment(full: Flask, database: str, run: Callable[..., int], tmp_path: Path) -> None:
    """While two tables are written together all the time, a dump has as many rows of the one as of the other."""
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM changes"))
        connection.execute(text("DELETE FROM denials"))
    stopping = threading.Event()

    def write() -> None:
        n = 0
        while not stopping.wait(0.002):
            n += 1
            with engine.begin() as connection:
                connection.execute(
                    insert(Change),
                    [{"time": utc_now(), "actor": "a", "source": "ui", "action": "update", "object_type": "x",
                      "object_id": str(n), "object_name": "x" * 200, "fields": {}}] * 20,
                )  # fmt: skip
                connection.execute(
                    text("INSERT INTO denials (time, actor, source, permission) VALUES (NOW(), 'a', 'ui', 'x.view')")
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(2):
            file = tmp_path / f"{n}.dump"
            assert run(database, "dump", file) == 0
            counts = json.loads(gzip.decompress(file.read_bytes()).decode().splitlines()[-1])["rows"]
            assert counts["changes"] == 20 * counts["denials"] > 0
    finally:
        stopping.set()
        writer.join(10)
        engine.dispose()


def test_the_worker_goes_on_after_an_older_dump(
    stack: Any, names: Names, database: str, other_database: str, run: Callable[..., int], tmp_path: Path
) -> None:
    """Kafka is ahead of the database then: what the database says stands in the topic again, under revisions that readers
    believe, and a host that was made after the dump is no longer in it."""
    config = settings_file(tmp_path, other_database, stack.kafka, names)
    key = SigningKey.load(tmp_path / "config.key")
    at = KafkaConnection(stack.kafka)

    def state(*words: str) -> None:
        done = subprocess.run(command(*words, "--config", config), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def worker() -> Process:
        return Process(command("worker", "--config", config), tmp_path / f"worker-{secrets.token_hex(2)}.log").start()

    def held() -> dict[str, tuple[int, bytes]]:
        return {name: (one.revision, one.value) for name, one in read_topic(at, names.config, key).items()}

    def add(n: int) -> str:
        host_id = f"00000000-0000-4000-8000-{n:012d}"
        state("host", "add", "--id", host_id, "--name", f"h{n}", "--public-key", SigningKey.generate().public.hex())
        return f"host/{host_id}"

    state("db", "upgrade")
    first = add(1)
    process = worker()
    wait_until(lambda: first in held(), 30, "the first host")
    file = tmp_path / "x.dump"
    state("dump", str(file))
    body = held()[first][1]
    state("host", "label", "h1", "rack=r9")
    second = add(2)
    wait_until(lambda: second in held() and held()[first][1] != body, 30, "the second host and the label")
    ahead = held()[first][0]
    assert process.stop() == 0
    state("restore", str(file), "--replace")
    process = worker()
    try:
        wait_until(lambda: held().get(first, (0, b""))[1] == body and second not in held(), 30, "what the dump says")
        assert held()[first][0] > ahead, "readers ignore what is not newer"
        third = add(3)
        wait_until(lambda: third in held(), 30, "a host that is made after it")
    finally:
        assert process.stop() == 0
    engine = create_engine(other_database)
    with engine.connect() as connection:
        waiting = connection.execute(
            text("SELECT record_key FROM config_records WHERE published_revision < revision")
        ).all()
    engine.dispose()
    assert waiting == []

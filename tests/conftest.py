"""What all tests on real services share: one stack for the whole run, and names of their own on it.

``EZADMIN_TEST_STACK=<state>/stack.json`` uses a stack that is running already (``deploy/local/up --services-only``).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient

from ezadmin_pipeline import install
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names

ROOT = Path(__file__).resolve().parent.parent
LOG_BYTES = 4_000
"""Of the end of each log that a failed test shows."""


def pytest_configure(config: pytest.Config) -> None:
    """kafka-python 3.0 leaves the socket of a client that is closed while it connects to the garbage collector."""
    given = os.environ.get("EZADMIN_TEST_STACK")
    if given:
        port = json.loads(Path(given).read_text())["kafka"].rpartition(":")[2]
        message = f"Exception ignored in. <socket.socket .* raddr=.'127.0.0.1', {port}"
        config.addinivalue_line("filterwarnings", f"ignore:{message}:pytest.PytestUnraisableExceptionWarning")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A test that failed shows the ends of the logs that the commands it started wrote into its directory."""
    report = yield
    directory = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and directory is not None:
        for log in sorted(directory.glob("*.log")):
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - LOG_BYTES))
                report.sections.append((log.name, file.read().decode("utf-8", "replace")))
    return report


@dataclass(frozen=True)
class Stack:
    """Endpoints of the running services."""

    kafka: str
    elasticsearch: str
    mariadb: dict[str, Any]
    state: Path


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Kafka, Elasticsearch and MariaDB, started by the product's own command and stopped at the end."""
    given = os.environ.get("EZADMIN_TEST_STACK")
    if given:
        yield _read(Path(given))
        return
    state = tmp_path_factory.mktemp("stack")
    up = [ROOT / "deploy/local/up", "--services-only", "--state", state]
    try:
        subprocess.run(up, check=True, timeout=900)
        yield _read(state / "stack.json")
    finally:
        subprocess.run([ROOT / "deploy/local/down", "--state", state], check=True, timeout=120)


def _read(path: Path) -> Stack:
    table = json.loads(path.read_text())
    return Stack(table["kafka"], table["elasticsearch"], table["mariadb"], path.parent)


@contextmanager
def _installations(stack: Stack) -> Iterator[Callable[..., Names]]:
    """Makes :class:`Names` of an own prefix, with topics and index templates; all of it is removed afterwards."""
    made: list[Names] = []

    def make(partitions: int = 3) -> Names:
        names = Names(f"t{secrets.token_hex(5)}")
        made.append(names)
        install.make_topics(KafkaConnection(stack.kafka), names, partitions)
        elastic = ElasticClient(ElasticConnection((stack.elasticsearch,)))
        install.make_templates(elastic, names)
        elastic.close()
        return names

    yield make
    for names in made:
        _remove(stack, names)


@pytest.fixture
def make_names(stack: Stack) -> Iterator[Callable[..., Names]]:
    """Makes names of this test alone."""
    with _installations(stack) as make:
        yield make


@pytest.fixture(scope="module")
def module_names(stack: Stack) -> Iterator[Names]:
    """Topics and index templates of this module alone, three partitions a topic."""
    with _installations(stack) as make:
        yield make()


@pytest.fixture
def names(make_names: Callable[..., Names]) -> Names:
    """Topics and index templates of this test alone, three partitions a topic."""
    return make_names()


def _remove(stack: Stack, names: Names) -> None:
    admin = KafkaAdminClient(bootstrap_servers=stack.kafka)
    there = [topic for topic in admin.list_topics() if topic.startswith(f"{names.prefix}.")]
    admin.delete_topics(there)
    admin.close()
    elastic = ElasticClient(ElasticConnection((stack.elasticsearch,)))
    for index in elastic.request("GET", f"/{names.prefix}-*/_settings", params={"expand_wildcards": "all"})[1]:
        elastic.request("DELETE", f"/{index}")
    for name, _ in install.templates(names):
        elastic.request("DELETE", f"/_index_template/{name}")
        elastic.request("DELETE", f"/_component_template/{install.package(name)}")
    elastic.close()


@pytest.fixture
def elastic(stack: Stack) -> Iterator[ElasticClient]:
    """The real Elasticsearch."""
    client = ElasticClient(ElasticConnection((stack.elasticsearch,)))
    yield client
    client.close()


@pytest.fixture(scope="session")
def tables(stack: Stack) -> list[str]:
    """The statements that make what the CMDB's migrations make: a tenth of their time."""
    from sqlalchemy import create_engine

    from ezadmin_cmdb import migrate

    with _database(stack) as (url, cursor):
        engine = create_engine(url)
        migrate.upgrade(engine)
        engine.dispose()
        cursor.execute("SHOW TABLES")
        names = [name for (name,) in cursor.fetchall()]
        statements = ["SET foreign_key_checks = 0"]
        for name in names:
            cursor.execute(f"SHOW CREATE TABLE `{name}`")
            statements.append(cursor.fetchone()[1])
            cursor.execute(f"SELECT count(*) FROM `{name}`")
            assert cursor.fetchone()[0] == (name == "alembic_version"), f"the migrations leave rows in {name}"
        return [*statements, f"INSERT INTO alembic_version VALUES ('{migrate.head()}')", "SET foreign_key_checks = 1"]


@pytest.fixture(scope="module")
def database(stack: Stack, tables: list[str]) -> Iterator[str]:
    """URL of a database of this module alone, with the CMDB's tables, empty."""
    with _database(stack) as (url, cursor):
        for statement in tables:
            cursor.execute(statement)
        cursor.execute("USE information_schema")  # a restore wants to be alone in it
        yield url


@contextmanager
def _database(stack: Stack) -> Iterator[tuple[str, Any]]:
    """A new database, and a cursor in it; it is removed afterwards."""
    import pymysql

    given = stack.mariadb
    name = f"ezadmin_t{secrets.token_hex(5)}"  # the stack's user may make databases of this prefix
    connection = pymysql.connect(
        host=given["host"], port=given["port"], user=given["user"], password=given["password"], autocommit=True
    )
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        cursor.execute(f"USE {name}")
        yield (
            f"mysql+pymysql://{given['user']}:{given['password']}@{given['host']}:{given['port']}/{name}?charset=utf8mb4",
            cursor,
        )
        cursor.execute(f"DROP DATABASE {name}")
    connection.close()

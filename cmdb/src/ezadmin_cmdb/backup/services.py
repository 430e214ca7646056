"""Writing a dump, and restoring one.

A dump is gzip of JSON lines: a header with the revision of the tables, then each table (its name and columns, and a line for
each row), then how many rows each has, so that a file that ends early is noticed. It is read in one transaction that sees one
moment, while people work. Neither ``alembic_version`` is in it (the header says it) nor ``user_sessions``: whoever was
signed in then signs in again. The keys lie in files of their own and are in no dump.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.dialects import mysql

from ezadmin_cmdb import __version__, migrate
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.audit import services as audit
from ezadmin_cmdb.audit.models import AuditStream
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.datacenter.reminders import ReminderStream
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_wire.ids import new_epoch
from ezadmin_wire.times import format_time

FORMAT = 1
LEFT_OUT = ("alembic_version", "user_sessions")
AT_ONCE = 500
"""Rows a statement."""
LEAVING_SECONDS = 3.0


@dataclass(frozen=True)
class Header:
    """What a dump says of itself: the revision of its tables, when it was made, and by which version."""

    revision: str
    time: str
    program: str


@dataclass(frozen=True)
class Restored:
    """What was restored: rows by table, and the revision that the database has now."""

    header: Header
    rows: Mapping[str, int]
    revision: str


# -- writing ---


def dump(engine: Engine, file: Path) -> dict[str, int]:
    """Write the whole database into ``file`` (mode 0600), which is there only once it is whole; returns rows by table.

    Raises Conflict for a database without tables, or while its tables are being changed; OSError.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        with migrate.alone(engine), engine.connect() as connection:
            connection.execution_options(isolation_level="REPEATABLE READ")  # from the first query on, one moment
            revision = connection.scalar(text("SELECT version_num FROM alembic_version")) if _tables(connection) else ""
            if not revision:
                raise Conflict("the database has no tables: there is nothing to dump")
            with open(part, "wb", opener=_only_mine) as raw:
                with gzip.open(raw, "wt", encoding="utf-8", newline="") as out:
                    counts = _write(connection, revision, out)
                raw.flush()
                os.fsync(raw.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return counts


def _only_mine(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_TRUNC, 0o600)


def _write(connection: Connection, revision: str, out: IO[str]) -> dict[str, int]:
    header = {
        "ezadmin-cmdb-dump": FORMAT, "revision": revision, "time": format_time(utc_now()), "program": __version__,
    }  # fmt: skip
    _line(out, header)
    counts = {}
    for table in _tables(connection):
        columns = inspect(connection).get_columns(table)
        _line(out, {"table": table, "columns": [one["name"] for one in columns]})
        # a FLOAT as text has fewer digits than it holds
        wanted = [f"`{one['name']}`{' + 0e0' if isinstance(one['type'], mysql.FLOAT) else ''}" for one in columns]
        query = text(f"SELECT {', '.join(wanted)} FROM `{table}`")  # noqa: S608  # nosec B608 - names of our own tables
        rows = connection.execution_options(stream_results=True, yield_per=AT_ONCE).execute(query)
        counts[table] = 0
        for row in rows:
            _line(out, [_written(value) for value in row])
            counts[table] += 1
    _line(out, {"rows": counts})
    return counts


def _line(out: IO[str], value: Any) -> None:
    out.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def _written(value: Any) -> Any:
    """Times, dates and decimals as the database writes them; bytes as base64."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, timedelta):  # of no column of ours: a TIME would lose its sign
        raise TypeError("a dump holds no TIME")
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


def _tables(connection: Connection) -> list[str]:
    return sorted(set(inspect(connection).get_table_names()) - set(LEFT_OUT))


# -- reading ---


class _Reader:
    """A dump that is read once, from its beginning to its end. Raises Invalid for what is none, or not whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lines = self._read()
        first = next(self._lines, None)
        if not isinstance(first, dict) or "ezadmin-cmdb-dump" not in first:
            raise Invalid(f"{file} is no dump of ezadmin-cmdb")
        if first["ezadmin-cmdb-dump"] != FORMAT:
            raise Invalid(
                f"{file} is written in format {first['ezadmin-cmdb-dump']}, this program reads {FORMAT}; "
                f"restore it with ezadmin-cmdb {first.get('program', 'of the version that wrote it')}"
            )
        self.header = Header(first["revision"], first["time"], first["program"])

    def _read(self) -> Iterator[Any]:
        try:
            with gzip.open(self._file, "rt", encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    yield json.loads(line)
        except (EOFError, gzip.BadGzipFile, UnicodeDecodeError, ValueError) as error:
            raise Invalid(f"{self._file} is not whole, or no dump: {error}") from error

    def tables(self) -> Iterator[tuple[str, list[str], Iterable[list[Any]]]]:
        """(table, columns, rows), to be read in this order."""
        counts: dict[str, int] = {}
        line = next(self._lines, None)
        while isinstance(line, dict) and "table" in line:
            table, columns = line["table"], line["columns"]
            counts[table] = 0
            following: list[Any] = []

            def rows(name: str = table, behind: list[Any] = following) -> Iterator[list[Any]]:
                for one in self._lines:
                    if not isinstance(one, list):
                        behind.append(one)
                        return
                    counts[name] += 1
                    yield [_value(value) for value in one]

            yield table, columns, rows()
            line = following[0] if following else None
        if not isinstance(line, dict) or line.get("rows") != counts:
            raise Invalid(f"{self._file} is not whole: it does not end as it should")
        self.counts = counts


def _value(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def restore(actor: Actor, engine: Engine, file: Path, replace: bool) -> Restored:
    """Make the database what ``file`` holds: all of it, or nothing. Needs an application context.

    A database without tables is brought to the dump's revision, and from there up to this program's. One with tables must be
    of the dump's revision, and without rows unless ``replace``. Raises Invalid for a file that cannot be used; Conflict.
    """
    reader = _Reader(file)
    if reader.header.revision not in migrate.revisions():
        raise Conflict(
            f"{file} is of revision {reader.header.revision}, this program knows up to {migrate.head()}: "
            f"restore it with ezadmin-cmdb {reader.header.program} or a newer one"
        )
    with engine.connect() as connection:
        others, deadline = _others(connection), time.monotonic() + LEAVING_SECONDS
        while others and time.monotonic() < deadline:  # the server notices a moment later that a program has ended
            time.sleep(0.1)
            others = _others(connection)
        tables = _tables(connection)
    if others:
        raise Conflict(f"{others} connections use the database: stop ezadmin-cmdb web and ezadmin-cmdb worker first")
    there = migrate.current(engine)
    if not tables:
        migrate.upgrade(engine, reader.header.revision)
    elif there != reader.header.revision:
        raise Conflict(
            f"the database is at revision {there or 'none'}, {file} at {reader.header.revision}: restore into an empty "
            "database, which is brought to the dump's revision, filled, and then brought up to this program's"
        )
    with migrate.alone(engine), engine.begin() as connection:
        _fill(connection, reader, replace)
    migrate.upgrade(engine)
    with unit_of_work():
        _begin_anew(actor, reader)
    return Restored(reader.header, reader.counts, migrate.head())


def _others(connection: Connection) -> int:
    query = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    return int(connection.scalar(text(query)) or 0)


def _fill(connection: Connection, reader: _Reader, replace: bool) -> None:
    connection.execute(text("SET SESSION foreign_key_checks = 0"))
    try:
        for table in [*_tables(connection), "user_sessions"]:
            if not replace and connection.scalar(text(f"SELECT 1 FROM `{table}` LIMIT 1")):  # noqa: S608  # nosec B608 - ours
                raise Conflict(
                    f"the database is not empty (table {table}); --replace deletes all that it holds in favour of the dump"
                )
            connection.execute(text(f"DELETE FROM `{table}`"))  # noqa: S608  # nosec B608 - ours
        for table, columns, rows in reader.tables():
            if not all(re.fullmatch(r"\w+", name) for name in (table, *columns)):
                raise Invalid(f"the dump names what is no table or column: {[table, *columns]!r:.200}")
            names = ", ".join(f"`{name}`" for name in columns)
            places = ", ".join(f":p{at}" for at in range(len(columns)))
            insert = text(f"INSERT INTO `{table}` ({names}) VALUES ({places})")  # noqa: S608  # nosec B608 - words, looked at above
            for portion in _portions(rows):
                connection.execute(insert, [{f"p{at}": value for at, value in enumerate(row)} for row in portion])
    finally:
        connection.execute(text("SET SESSION foreign_key_checks = 1"))


def _portions(rows: Iterable[list[Any]]) -> Iterator[Sequence[list[Any]]]:
    portion: list[list[Any]] = []
    for row in rows:
        portion.append(row)
        if len(portion) == AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion


def _begin_anew(actor: Actor, reader: _Reader) -> None:
    """New streams: numbers that were sent after the dump will be given again, to other events. An entry of the audit log."""
    for state in (AuditStream, ReminderStream):
        row: Any = db.session.get(state, 1)
        if row is not None:
            row.epoch = new_epoch()
    details = {"dump": reader.header.time, "revision": reader.header.revision, "rows": sum(reader.counts.values())}
    audit.note("database", "restore", actor, details=details)

"""The database: base of the models, the session, and the one place that commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import DateTime, MetaData, String, TypeDecorator
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import DeclarativeBase

DEADLOCK = 1213
LOCK_WAIT_TIMEOUT = 1205
NO_SUCH_TABLE = 1146

ENGINE_OPTIONS: dict[str, Any] = {
    "pool_pre_ping": True,  # a connection that died while it lay idle is noticed before it is used
    "pool_recycle": 280,
    "pool_timeout": 5,
    "isolation_level": "READ COMMITTED",  # a long-running worker sees what others committed; fewer gap locks
    "connect_args": {
        "connect_timeout": 5,
        "read_timeout": 30,
        "write_timeout": 30,
        # a value that does not fit is an error, whatever the server's own mode
        "init_command": "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone='+00:00'",
    },
}


class Base(DeclarativeBase):
    """Base of all models; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


TABLE = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_unicode_ci"}
"""Table options: text is compared without regard to case; :func:`exact` is for what must not be."""

db = SQLAlchemy(model_class=Base)


def exact(length: int) -> String:
    """Text that is compared byte by byte: ids, keys, names of devices."""
    return String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware in Python, stored in UTC with microseconds."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """DATETIME(6)."""
        return dialect.type_descriptor(mysql.DATETIME(fsp=6))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses a naive time: its zone would be a guess."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone: {value!r}")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


def utc_now() -> datetime:
    """The current moment."""
    return datetime.now(UTC)


@contextmanager
def unit_of_work() -> Iterator[None]:
    """Commit what was done inside, or nothing of it: the end of a command, or of a worker's batch.

    A web request has its own, in :mod:`ezadmin_cmdb.web.requests`. Needs an application context.
    """
    try:
        yield
        db.session.commit()
    except BaseException:
        db.session.rollback()
        raise


def error_code(error: DBAPIError) -> int:
    """The server's or driver's number of an error, 0 if it gave none."""
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def unavailable(error: BaseException) -> bool:
    """Whether the database cannot be reached or is too busy, so that the same may work later."""
    if isinstance(error, InterfaceError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, OperationalError) and error_code(error) not in (1054, 1305)

"""Bringing the database to the version that this code needs, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from ezadmin_cmdb.errors import Conflict

LOCK_SECONDS = 60


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration with the revisions of this package, for work on ``connection``."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def head() -> str:
    """The newest revision."""
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def revisions() -> list[str]:
    """All revisions that this program knows."""
    return [one.revision for one in ScriptDirectory.from_config(configuration()).walk_revisions()]


def current(engine: Engine) -> str | None:
    """The revision of the database, None if it is empty."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the database up to ``revision``; does nothing if it is there. Raises Conflict if another one is at it."""
    with alone(engine) as connection:
        command.upgrade(configuration(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Bring the database down to ``revision`` (``base``: empty), with the loss of what the later ones hold."""
    with alone(engine) as connection:
        command.downgrade(configuration(connection), revision)


@contextmanager
def alone(engine: Engine) -> Iterator[Connection]:
    """DDL cannot be rolled back on MariaDB and MySQL, so two at once would leave a mixture."""
    with engine.connect() as connection:
        name = f"{connection.engine.url.database}.migrate"[:64]
        if connection.scalar(text("SELECT GET_LOCK(:name, :seconds)"), {"name": name, "seconds": LOCK_SECONDS}) != 1:
            raise Conflict(
                f"another process has been changing the database for {LOCK_SECONDS} s; try again when it is done"
            )
        connection.commit()
        try:
            yield connection
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
            connection.commit()

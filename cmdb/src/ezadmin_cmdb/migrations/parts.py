"""Parts of revisions. DDL cannot be rolled back here, so a revision that was cut off must be able to run again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

TABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_unicode_ci",
    "if_not_exists": True,
}


def exact(length: int) -> sa.types.TypeEngine[str]:
    """Text that is compared byte by byte."""
    return mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")


def moment() -> sa.types.TypeEngine[Any]:
    """A time in UTC with microseconds."""
    return mysql.DATETIME(fsp=6)


def create_index(name: str, table: str, columns: list[str]) -> None:
    """Make an index, unless it is there (MySQL knows no CREATE INDEX IF NOT EXISTS)."""
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)

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


def drop_index(name: str, table: str) -> None:
    """Drop an index, if it is there."""
    if name in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.drop_index(name, table)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column, unless it is there."""
    if column.name not in {one["name"] for one in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def create_foreign_key(name: str, table: str, column: str, target: str, ondelete: str | None = None) -> None:
    """Let a column refer to the ids of another table, unless it does."""
    if name not in {one["name"] for one in sa.inspect(op.get_bind()).get_foreign_keys(table)}:
        op.create_foreign_key(name, table, target, [column], ["id"], ondelete=ondelete)


def drop_column(table: str, column: str) -> None:
    """Drop a column with its index and what it refers to, as far as they are there."""
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table(table) or column not in {one["name"] for one in inspector.get_columns(table)}:
        return
    for key in inspector.get_foreign_keys(table):
        if key["constrained_columns"] == [column] and key["name"]:
            op.drop_constraint(key["name"], table, type_="foreignkey")
    for index in inspector.get_indexes(table):
        if index["column_names"] == [column] and index["name"]:
            op.drop_index(index["name"], table)
    op.drop_column(table, column)

"""Addresses of hosts as bytes, by which a network finds those within."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from ezadmin_cmdb.migrations.parts import add_column, create_index, drop_column
from ezadmin_cmdb.search.words import packed

revision = "0014"
down_revision = "0013"
BATCH = 1000


def upgrade() -> None:
    add_column("host_addresses", sa.Column("number", mysql.VARBINARY(16), nullable=True))
    create_index("ix_host_addresses_number", "host_addresses", ["number"])
    table = sa.table("host_addresses", sa.column("id"), sa.column("address"), sa.column("number"))
    rows = op.get_bind().execute(sa.select(table.c.id, table.c.address).where(table.c.number.is_(None))).all()
    known = [{"key": row.id, "bytes": number} for row in rows if (number := packed(row.address)) is not None]
    change = table.update().where(table.c.id == sa.bindparam("key")).values(number=sa.bindparam("bytes"))
    for at in range(0, len(known), BATCH):
        op.get_bind().execute(change, known[at : at + BATCH])


def downgrade() -> None:
    drop_column("host_addresses", "number")

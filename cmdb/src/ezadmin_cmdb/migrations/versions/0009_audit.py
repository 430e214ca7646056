"""The audit log; records of changes and denials say from where and with which token."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from ezadmin_cmdb.migrations.parts import TABLE, add_column, create_index, drop_column, exact, moment

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", moment(), nullable=False),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("action", exact(64), nullable=False),
        sa.Column("outcome", exact(16), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("source", exact(16), nullable=False),
        sa.Column("address", exact(45), nullable=True),
        sa.Column("request_id", exact(36), nullable=True),
        sa.Column("object_type", exact(32), nullable=True),
        sa.Column("object_id", exact(64), nullable=True),
        sa.Column("object_name", sa.String(length=255), nullable=True),
        sa.Column("details", mysql.MEDIUMTEXT(), nullable=False),
        sa.Column("previous", exact(64), nullable=False),
        sa.Column("hash", exact(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
        **TABLE,
    )
    create_index("ix_audit_entries_actor", "audit_entries", ["actor", "time"])
    create_index("ix_audit_entries_object", "audit_entries", ["object_type", "object_id"])
    create_index("ix_audit_entries_time", "audit_entries", ["time"])
    op.create_table(
        "audit_head",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", exact(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        **TABLE,
    )
    op.create_table(
        "audit_stream",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", exact(16), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_stream"),
        **TABLE,
    )
    add_column("changes", sa.Column("address", exact(45), nullable=True))
    for table in ("changes", "denials"):
        add_column(table, sa.Column("token", sa.String(length=64), nullable=True))


def downgrade() -> None:
    for table in ("changes", "denials"):
        drop_column(table, "token")
    drop_column("changes", "address")
    for table in ("audit_stream", "audit_head", "audit_entries"):
        op.drop_table(table, if_exists=True)

"""Saved filters of lists, and those with which lists open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "saved_filters",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("object_type", exact(32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_saved_filters_owner_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_saved_filters"),
        sa.UniqueConstraint("owner_id", "object_type", "name", name="uq_saved_filters_owner_id"),
        **TABLE,
    )
    create_index("ix_saved_filters_object_type", "saved_filters", ["object_type", "shared"])
    op.create_table(
        "default_filters",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("object_type", exact(32), nullable=False),
        sa.Column("filter_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_default_filters_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["filter_id"], ["saved_filters.id"], name="fk_default_filters_filter_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "object_type", name="pk_default_filters"),
        **TABLE,
    )
    create_index("ix_default_filters_filter_id", "default_filters", ["filter_id"])


def downgrade() -> None:
    for table in ("default_filters", "saved_filters"):
        op.drop_table(table, if_exists=True)

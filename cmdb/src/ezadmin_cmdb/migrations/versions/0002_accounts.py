"""Accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact, moment

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "failed_sign_ins",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("time", moment(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("address", exact(45), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_failed_sign_ins"),
        **TABLE,
    )
    create_index("ix_failed_sign_ins_address", "failed_sign_ins", ["address", "time"])
    create_index("ix_failed_sign_ins_name", "failed_sign_ins", ["name", "time"])
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("password_hash", exact(255), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("language", exact(8), nullable=True),
        sa.Column("created", moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name", name="uq_users_name"),
        **TABLE,
    )
    op.create_table(
        "user_sessions",
        sa.Column("token_hash", exact(64), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.Column("last_seen", moment(), nullable=False),
        sa.Column("address", exact(45), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_sessions_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_user_sessions"),
        **TABLE,
    )


def downgrade() -> None:
    op.drop_table("user_sessions", if_exists=True)
    op.drop_table("users", if_exists=True)
    op.drop_table("failed_sign_ins", if_exists=True)

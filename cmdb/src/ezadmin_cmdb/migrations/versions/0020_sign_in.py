"""Signing in: tokens, second factor, failures by name and address; users whom others know, browsers of sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, add_column, create_index, drop_column, exact, moment

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    add_column("users", sa.Column("origin", exact(16), nullable=False, server_default="local"))
    add_column("users", sa.Column("external", exact(255), nullable=True))
    if "uq_users_external" not in {one["name"] for one in sa.inspect(op.get_bind()).get_unique_constraints("users")}:
        op.create_unique_constraint("uq_users_external", "users", ["external"])
    add_column("user_sessions", sa.Column("browser", sa.String(length=255), nullable=True))
    op.create_table(
        "sign_in_guards",
        sa.Column("subject", exact(128), nullable=False),
        sa.Column("name", exact(64), nullable=True),
        sa.Column("address", exact(45), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last", moment(), nullable=False),
        sa.Column("until", moment(), nullable=True),
        sa.PrimaryKeyConstraint("subject", name="pk_sign_in_guards"),
        **TABLE,
    )
    create_index("ix_sign_in_guards_name", "sign_in_guards", ["name"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("token_hash", exact(64), nullable=False),
        sa.Column("hint", exact(16), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("networks", sa.JSON(), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.Column("expires", moment(), nullable=False),
        sa.Column("last_used", moment(), nullable=True),
        sa.Column("last_address", exact(45), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_tokens_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_api_tokens_token_hash"),
        **TABLE,
    )
    create_index("ix_api_tokens_user_id", "api_tokens", ["user_id"])
    op.create_table(
        "second_factors",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("secret", exact(255), nullable=False),
        sa.Column("confirmed", moment(), nullable=True),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_second_factors_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name="pk_second_factors"),
        **TABLE,
    )
    op.create_table(
        "recovery_codes",
        sa.Column("code_hash", exact(64), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_recovery_codes_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("code_hash", name="pk_recovery_codes"),
        **TABLE,
    )
    create_index("ix_recovery_codes_user_id", "recovery_codes", ["user_id"])
    op.drop_table("failed_sign_ins", if_exists=True)


def downgrade() -> None:
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
    for table in ("recovery_codes", "second_factors", "api_tokens", "sign_in_guards"):
        op.drop_table(table, if_exists=True)
    drop_column("user_sessions", "browser")
    drop_column("users", "external")
    drop_column("users", "origin")

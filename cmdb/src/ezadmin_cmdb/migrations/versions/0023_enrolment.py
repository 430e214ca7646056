"""Enrolment: tokens, what came by them, machines known again, lines to the gateway; keys that end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, add_column, create_index, drop_column, exact, moment

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    add_column("host_keys", sa.Column("ends", moment(), nullable=True))
    op.create_table(
        "enrolment_tokens",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("secret_hash", exact(64), nullable=False),
        sa.Column("uses_max", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("quarantine", sa.Boolean(), nullable=False),
        sa.Column("replaces", sa.Boolean(), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=True),
        sa.Column("group_id", sa.BigInteger(), nullable=True),
        sa.Column("created", moment(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("expires", moment(), nullable=False),
        sa.Column("revoked", moment(), nullable=True),
        sa.Column("last_used", moment(), nullable=True),
        sa.Column("last_address", exact(45), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_enrolment_tokens_site_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["group_id"], ["host_groups.id"], name="fk_enrolment_tokens_group_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_enrolment_tokens"),
        sa.UniqueConstraint("secret_hash", name="uq_enrolment_tokens_secret_hash"),
        **TABLE,
    )
    for column in ("name", "site_id", "group_id", "expires"):
        create_index(f"ix_enrolment_tokens_{column}", "enrolment_tokens", [column])
    op.create_table(
        "enrolments",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("time", moment(), nullable=False),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("host_name", sa.String(length=253), nullable=False),
        sa.Column("asked", exact(36), nullable=False),
        sa.Column("public", exact(64), nullable=False),
        sa.Column("token_id", sa.BigInteger(), nullable=True),
        sa.Column("token_name", sa.String(length=128), nullable=True),
        sa.Column("address", exact(45), nullable=True),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("other", exact(36), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_enrolments"),
        **TABLE,
    )
    create_index("ix_enrolments_host_id", "enrolments", ["host_id", "time"])
    create_index("ix_enrolments_public", "enrolments", ["public"])
    create_index("ix_enrolments_token_id", "enrolments", ["token_id"])
    create_index("ix_enrolments_other", "enrolments", ["other"])
    op.create_table(
        "host_machines",
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("machine", exact(64), nullable=True),
        sa.Column("hardware", exact(64), nullable=True),
        sa.Column("macs", sa.JSON(), nullable=False),
        sa.Column("cloned_from", exact(36), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_host_machines_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", name="pk_host_machines"),
        **TABLE,
    )
    create_index("ix_host_machines_machine", "host_machines", ["machine"])
    create_index("ix_host_machines_hardware", "host_machines", ["hardware"])
    op.create_table(
        "host_lines",
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("seen", moment(), nullable=True),
        sa.Column("address", exact(45), nullable=True),
        sa.Column("instance", exact(16), nullable=True),
        sa.Column("config", sa.BigInteger(), nullable=True),
        sa.Column("fingerprint", exact(64), nullable=True),
        sa.Column("twins", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_host_lines_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", name="pk_host_lines"),
        **TABLE,
    )
    create_index("ix_host_lines_seen", "host_lines", ["seen"])


def downgrade() -> None:
    for table in ("host_lines", "host_machines", "enrolments", "enrolment_tokens"):
        op.drop_table(table, if_exists=True)
    drop_column("host_keys", "ends")

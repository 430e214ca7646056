"""Commands, what becomes of them, and the managed configuration of agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from ezadmin_cmdb.migrations.parts import TABLE, add_column, create_index, drop_column, exact, moment

revision = "0024"
down_revision = "0023"

HOST_COLUMNS = ("agent_config_wanted", "agent_transport")


def upgrade() -> None:
    op.create_table(
        "command_runs",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("kind", exact(32), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("account", exact(64), nullable=True),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("actor_name", sa.String(length=255), nullable=False),
        sa.Column("source", exact(16), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.Column("not_after", moment(), nullable=False),
        sa.Column("hosts", sa.Integer(), nullable=False),
        sa.Column("chosen", sa.String(length=1000), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_command_runs"),
        **TABLE,
    )
    create_index("ix_command_runs_kind", "command_runs", ["kind"])
    create_index("ix_command_runs_actor_id", "command_runs", ["actor_id"])
    create_index("ix_command_runs_created", "command_runs", ["created"])
    create_index("ix_command_runs_actor", "command_runs", ["actor_name", "created"])
    op.create_table(
        "commands",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("run", exact(36), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("host_name", sa.String(length=253), nullable=False),
        sa.Column("kind", exact(32), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("account", exact(64), nullable=True),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("actor_name", sa.String(length=255), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.Column("not_before", moment(), nullable=False),
        sa.Column("not_after", moment(), nullable=False),
        sa.Column("nonce", exact(32), nullable=False),
        sa.Column("signed", mysql.MEDIUMTEXT(), nullable=False),
        sa.Column("kid", exact(16), nullable=False),
        sa.Column("sig", exact(86), nullable=False),
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("state", exact(16), nullable=False),
        sa.Column("source", exact(16), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("heard", moment(), nullable=False),
        sa.Column("sent_at", moment(), nullable=True),
        sa.Column("accepted_at", moment(), nullable=True),
        sa.Column("ended_at", moment(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["command_runs.id"], name="fk_commands_run"),
        sa.PrimaryKeyConstraint("id", name="pk_commands"),
        sa.UniqueConstraint("run", "host_id", "attempt", name="uq_commands_run"),
        sa.UniqueConstraint("nonce", name="uq_commands_nonce"),
        **TABLE,
    )
    create_index("ix_commands_host_id", "commands", ["host_id", "created"])
    create_index("ix_commands_state", "commands", ["state", "not_after"])
    op.create_table(
        "command_states",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("command_id", exact(36), nullable=False),
        sa.Column("state", exact(16), nullable=False),
        sa.Column("at", moment(), nullable=False),
        sa.Column("time", moment(), nullable=False),
        sa.Column("source", exact(16), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("previous", exact(64), nullable=False),
        sa.Column("hash", exact(64), nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.id"], name="fk_command_states_command_id"),
        sa.PrimaryKeyConstraint("id", name="pk_command_states"),
        **TABLE,
    )
    create_index("ix_command_states_command_id", "command_states", ["command_id", "id"])
    op.create_table(
        "command_head",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", exact(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_command_head"),
        **TABLE,
    )
    op.create_table(
        "command_stream",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", exact(16), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_command_stream"),
        **TABLE,
    )
    op.create_table(
        "agent_configs",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("1"), nullable=False),
        sa.Column("content", mysql.MEDIUMTEXT(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("note", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(["group_id"], ["host_groups.id"], name="fk_agent_configs_group_id"),
        sa.PrimaryKeyConstraint("id", name="pk_agent_configs"),
        sa.UniqueConstraint("name", name="uq_agent_configs_name"),
        **TABLE,
    )
    create_index("ix_agent_configs_group_id", "agent_configs", ["group_id"])
    op.create_table(
        "effective_configs",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("digest", exact(64), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_effective_configs"),
        sa.UniqueConstraint("digest", name="uq_effective_configs_digest"),
        **TABLE,
    )
    add_column("hosts", sa.Column("agent_config_wanted", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    add_column("hosts", sa.Column("agent_transport", exact(16), nullable=True))


def downgrade() -> None:
    for column in HOST_COLUMNS:
        drop_column("hosts", column)
    for table in (
        "effective_configs", "agent_configs", "command_stream", "command_head", "command_states", "commands", "command_runs",
    ):  # fmt: skip
        op.drop_table(table, if_exists=True)

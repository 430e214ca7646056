"""Since when a host is in its state, and whether a rule said so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import add_column, create_index, drop_column, moment

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    add_column("hosts", sa.Column("state_since", moment(), nullable=True))
    add_column("hosts", sa.Column("state_by_rule", sa.Boolean(), nullable=False, server_default=sa.text("0")))
    create_index("ix_hosts_state", "hosts", ["state"])
    op.execute("UPDATE hosts SET state_since = UTC_TIMESTAMP(6) WHERE state_since IS NULL")
    op.execute(
        "UPDATE hosts SET state = 'new', state_by_rule = 1"
        " WHERE state = 'active' AND agent_collected IS NULL AND inventory_collected IS NULL"
    )


def downgrade() -> None:
    if "state_by_rule" in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("hosts")}:
        op.execute(
            "UPDATE hosts SET state = 'active' WHERE state IN ('new', 'silent') OR (state = 'retired' AND state_by_rule)"
        )
    drop_column("hosts", "state_by_rule")
    drop_column("hosts", "state_since")
    if "ix_hosts_state" in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("hosts")}:
        op.drop_index("ix_hosts_state", "hosts")

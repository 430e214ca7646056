"""What agents observed and people declare of hosts, and where both differ."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, add_column, create_index, drop_column, exact, moment

revision = "0008"
down_revision = "0007"

OBSERVED = (
    "hostname", "fqdn", "os_name", "os_version", "os_family", "kernel", "architecture", "timezone", "vendor", "model",
    "serial", "bios_version", "virtualization", "cpu_model", "cpu_sockets", "cpu_physical", "cpu_logical", "memory",
    "swap", "disk_total",
)  # fmt: skip


def upgrade() -> None:
    add_column("hosts", sa.Column("observed", sa.JSON(), nullable=True))
    since = "DATE_FORMAT(inventory_collected, '%Y-%m-%dT%H:%i:%s.000Z')"
    pairs = ", ".join(f"'{name}', JSON_ARRAY({name}, {since})" for name in OBSERVED)
    # so far every value was an agent's
    op.execute(
        f"UPDATE hosts SET observed = JSON_OBJECT({pairs}) "  # noqa: S608 - of the names above  # nosec B608
        "WHERE observed IS NULL AND inventory_collected IS NOT NULL"
    )
    op.create_table(
        "host_declarations",
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("field", exact(64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("declared_by", sa.String(length=255), nullable=True),
        sa.Column("source", exact(16), nullable=True),
        sa.Column("since", moment(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_host_declarations_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", "field", name="pk_host_declarations"),
        **TABLE,
    )
    op.create_table(
        "drifts",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("field", exact(64), nullable=False),
        sa.Column("declared", sa.JSON(), nullable=False),
        sa.Column("observed", sa.JSON(), nullable=False),
        sa.Column("since", moment(), nullable=False),
        sa.Column("status", exact(16), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_drifts_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_drifts"),
        **TABLE,
    )
    create_index("ix_drifts_host_id", "drifts", ["host_id", "field"])
    create_index("ix_drifts_since", "drifts", ["since"])
    create_index("ix_drifts_status", "drifts", ["status"])
    op.create_table(
        "host_field_policies",
        sa.Column("field", exact(64), nullable=False),
        sa.Column("policy", exact(16), nullable=False),
        sa.PrimaryKeyConstraint("field", name="pk_host_field_policies"),
        **TABLE,
    )


def downgrade() -> None:
    for table in ("host_field_policies", "drifts", "host_declarations"):
        op.drop_table(table, if_exists=True)
    drop_column("hosts", "observed")

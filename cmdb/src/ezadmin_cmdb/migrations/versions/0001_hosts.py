"""Hosts, changes and the outbox of config records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact, moment

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("time", moment(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("source", exact(16), nullable=False),
        sa.Column("request_id", exact(36), nullable=True),
        sa.Column("action", exact(16), nullable=False),
        sa.Column("object_type", exact(32), nullable=False),
        sa.Column("object_id", exact(64), nullable=False),
        sa.Column("object_name", sa.String(length=255), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        **TABLE,
    )
    create_index("ix_changes_object", "changes", ["object_type", "object_id", "time"])
    create_index("ix_changes_time", "changes", ["time"])
    op.create_table(
        "config_records",
        sa.Column("record_key", exact(128), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("body", mysql.MEDIUMTEXT(), nullable=True),
        sa.Column("published_revision", sa.BigInteger(), nullable=False),
        sa.Column("updated", moment(), nullable=False),
        sa.PrimaryKeyConstraint("record_key", name="pk_config_records"),
        **TABLE,
    )
    op.create_table(
        "hosts",
        sa.Column("id", exact(36), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("state", exact(16), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.Column("updated", moment(), nullable=False),
        sa.Column("hostname", sa.String(length=253), nullable=True),
        sa.Column("fqdn", sa.String(length=253), nullable=True),
        sa.Column("os_name", sa.String(length=128), nullable=True),
        sa.Column("os_version", sa.String(length=128), nullable=True),
        sa.Column("os_family", sa.String(length=64), nullable=True),
        sa.Column("kernel", sa.String(length=128), nullable=True),
        sa.Column("architecture", sa.String(length=32), nullable=True),
        sa.Column("vendor", sa.String(length=128), nullable=True),
        sa.Column("model", sa.String(length=128), nullable=True),
        sa.Column("serial", sa.String(length=128), nullable=True),
        sa.Column("bios_version", sa.String(length=128), nullable=True),
        sa.Column("virtualization", sa.String(length=32), nullable=True),
        sa.Column("cpu_model", sa.String(length=128), nullable=True),
        sa.Column("cpu_sockets", sa.Integer(), nullable=True),
        sa.Column("cpu_physical", sa.Integer(), nullable=True),
        sa.Column("cpu_logical", sa.Integer(), nullable=True),
        sa.Column("memory", sa.BigInteger(), nullable=True),
        sa.Column("swap", sa.BigInteger(), nullable=True),
        sa.Column("disk_total", sa.BigInteger(), nullable=True),
        sa.Column("boot_time", moment(), nullable=True),
        sa.Column("timezone", sa.String(length=64), nullable=True),
        sa.Column("fingerprint", exact(128), nullable=True),
        sa.Column("agent_version", sa.String(length=64), nullable=True),
        sa.Column("inventory_collected", moment(), nullable=True),
        sa.Column("agent_collected", moment(), nullable=True),
        sa.Column("agent_started", moment(), nullable=True),
        sa.Column("agent_spool_bytes", sa.BigInteger(), nullable=True),
        sa.Column("agent_spool_lines", sa.BigInteger(), nullable=True),
        sa.Column("agent_lines_sent", sa.BigInteger(), nullable=True),
        sa.Column("agent_lines_dropped", sa.BigInteger(), nullable=True),
        sa.Column("agent_rss_bytes", sa.BigInteger(), nullable=True),
        sa.Column("agent_cpu_pct", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_hosts"),
        **TABLE,
    )
    create_index("ix_hosts_hostname", "hosts", ["hostname"])
    create_index("ix_hosts_name", "hosts", ["name"])
    create_index("ix_hosts_serial", "hosts", ["serial"])
    op.create_table(
        "host_disks",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("name", exact(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("model", sa.String(length=128), nullable=True),
        sa.Column("serial", sa.String(length=128), nullable=True),
        sa.Column("rotational", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_host_disks_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_host_disks"),
        sa.UniqueConstraint("host_id", "name", name="uq_host_disks_host_id"),
        **TABLE,
    )
    op.create_table(
        "host_keys",
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("kid", exact(16), nullable=False),
        sa.Column("public", exact(64), nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_host_keys_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", "kid", name="pk_host_keys"),
        sa.UniqueConstraint("public", name="uq_host_keys_public"),
        **TABLE,
    )
    op.create_table(
        "host_labels",
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("name", exact(64), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_host_labels_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host_id", "name", name="pk_host_labels"),
        **TABLE,
    )
    op.create_table(
        "host_nics",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("name", exact(64), nullable=False),
        sa.Column("mac", exact(64), nullable=True),
        sa.Column("mtu", sa.BigInteger(), nullable=True),
        sa.Column("speed_mbps", sa.BigInteger(), nullable=True),
        sa.Column("up", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_host_nics_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_host_nics"),
        sa.UniqueConstraint("host_id", "name", name="uq_host_nics_host_id"),
        **TABLE,
    )
    create_index("ix_host_nics_mac", "host_nics", ["mac"])
    op.create_table(
        "host_addresses",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("nic_id", sa.BigInteger(), nullable=False),
        sa.Column("address", exact(45), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("prefix", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["nic_id"], ["host_nics.id"], name="fk_host_addresses_nic_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_host_addresses"),
        sa.UniqueConstraint("nic_id", "address", name="uq_host_addresses_nic_id"),
        **TABLE,
    )
    create_index("ix_host_addresses_address", "host_addresses", ["address"])


def downgrade() -> None:
    op.drop_table("host_addresses", if_exists=True)
    op.drop_table("host_nics", if_exists=True)
    op.drop_table("host_labels", if_exists=True)
    op.drop_table("host_keys", if_exists=True)
    op.drop_table("host_disks", if_exists=True)
    op.drop_table("hosts", if_exists=True)
    op.drop_table("config_records", if_exists=True)
    op.drop_table("changes", if_exists=True)

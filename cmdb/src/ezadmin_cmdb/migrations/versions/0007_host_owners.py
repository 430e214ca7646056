"""Whose a host is, who looks after it, where it stands."""

from __future__ import annotations

import sqlalchemy as sa

from ezadmin_cmdb.migrations.parts import add_column, create_foreign_key, create_index, drop_column

revision = "0007"
down_revision = "0006"

REFERENCES = {
    "customer_id": "customers",
    "site_id": "sites",
    "primary_manager_id": "contacts",
    "secondary_manager_id": "contacts",
}


def upgrade() -> None:
    for column, table in REFERENCES.items():
        add_column("hosts", sa.Column(column, sa.BigInteger(), nullable=True))
        create_index(f"ix_hosts_{column}", "hosts", [column])
        create_foreign_key(f"fk_hosts_{column}", "hosts", column, table)
    add_column("hosts", sa.Column("note", sa.Text(), nullable=True))


def downgrade() -> None:
    for column in (*REFERENCES, "note"):
        drop_column("hosts", column)

"""Where in a rack a host stands, its environment, contract and warranty."""

from __future__ import annotations

import sqlalchemy as sa

from ezadmin_cmdb.migrations.parts import add_column, create_foreign_key, create_index, drop_column, exact

revision = "0013"
down_revision = "0012"

REFERENCES = {"rack_id": "racks", "device_type_id": "device_types", "contract_id": "contracts"}
COLUMNS: dict[str, sa.types.TypeEngine[object]] = {
    "rack_unit": sa.Integer(), "rack_face": exact(8), "rack_height": sa.Integer(), "rack_depth": exact(8),
}  # fmt: skip
INDEXED: dict[str, sa.types.TypeEngine[object]] = {"environment": exact(16), "warranty_end": sa.Date()}


def upgrade() -> None:
    for column, table in REFERENCES.items():
        add_column("hosts", sa.Column(column, sa.BigInteger(), nullable=True))
        create_index(f"ix_hosts_{column}", "hosts", [column])
        create_foreign_key(f"fk_hosts_{column}", "hosts", column, table)
    for column, kind in (COLUMNS | INDEXED).items():
        add_column("hosts", sa.Column(column, kind, nullable=True))
    for column in INDEXED:
        create_index(f"ix_hosts_{column}", "hosts", [column])


def downgrade() -> None:
    for column in (*REFERENCES, *COLUMNS, *INDEXED):
        drop_column("hosts", column)

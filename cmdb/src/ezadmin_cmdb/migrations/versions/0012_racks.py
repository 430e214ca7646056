"""Rooms, racks, types of devices, devices, contracts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "rooms",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("floor", sa.String(length=32), nullable=True),
        sa.Column("contact_id", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_rooms_site_id"),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name="fk_rooms_contact_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rooms"),
        sa.UniqueConstraint("name", name="uq_rooms_name"),
        **TABLE,
    )
    op.create_table(
        "device_types",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("manufacturer", sa.String(length=128), nullable=True),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("depth", exact(8), nullable=False),
        sa.Column("weight", sa.Float(), nullable=True),
        sa.Column("power", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_device_types"),
        sa.UniqueConstraint("name", name="uq_device_types_name"),
        **TABLE,
    )
    op.create_table(
        "racks",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("room_id", sa.BigInteger(), nullable=False),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("row", sa.String(length=32), nullable=True),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("numbering", exact(8), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("depth", sa.Integer(), nullable=True),
        sa.Column("max_weight", sa.Float(), nullable=True),
        sa.Column("max_power", sa.Integer(), nullable=True),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("primary_manager_id", sa.BigInteger(), nullable=True),
        sa.Column("secondary_manager_id", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_racks_room_id"),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name="fk_racks_customer_id"),
        sa.ForeignKeyConstraint(["primary_manager_id"], ["contacts.id"], name="fk_racks_primary_manager_id"),
        sa.ForeignKeyConstraint(["secondary_manager_id"], ["contacts.id"], name="fk_racks_secondary_manager_id"),
        sa.PrimaryKeyConstraint("id", name="pk_racks"),
        sa.UniqueConstraint("name", name="uq_racks_name"),
        **TABLE,
    )
    op.create_table(
        "contracts",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("number", sa.String(length=64), nullable=True),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("vendor", sa.String(length=128), nullable=True),
        sa.Column("contact_id", sa.BigInteger(), nullable=True),
        sa.Column("begin", sa.Date(), nullable=True),
        sa.Column("end", sa.Date(), nullable=True),
        sa.Column("notice", sa.Integer(), nullable=True),
        sa.Column("renews", sa.Boolean(), nullable=False),
        sa.Column("url", sa.String(length=500), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name="fk_contracts_customer_id"),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name="fk_contracts_contact_id"),
        sa.PrimaryKeyConstraint("id", name="pk_contracts"),
        sa.UniqueConstraint("name", name="uq_contracts_name"),
        **TABLE,
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("serial", sa.String(length=128), nullable=True),
        sa.Column("asset_tag", sa.String(length=64), nullable=True),
        sa.Column("address", exact(49), nullable=True),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("site_id", sa.BigInteger(), nullable=True),
        sa.Column("primary_manager_id", sa.BigInteger(), nullable=True),
        sa.Column("contract_id", sa.BigInteger(), nullable=True),
        sa.Column("warranty_end", sa.Date(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("device_type_id", sa.BigInteger(), nullable=True),
        sa.Column("rack_id", sa.BigInteger(), nullable=True),
        sa.Column("rack_unit", sa.Integer(), nullable=True),
        sa.Column("rack_face", exact(8), nullable=True),
        sa.Column("rack_height", sa.Integer(), nullable=True),
        sa.Column("rack_depth", exact(8), nullable=True),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name="fk_devices_customer_id"),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_devices_site_id"),
        sa.ForeignKeyConstraint(["primary_manager_id"], ["contacts.id"], name="fk_devices_primary_manager_id"),
        sa.ForeignKeyConstraint(["contract_id"], ["contracts.id"], name="fk_devices_contract_id"),
        sa.ForeignKeyConstraint(["device_type_id"], ["device_types.id"], name="fk_devices_device_type_id"),
        sa.ForeignKeyConstraint(["rack_id"], ["racks.id"], name="fk_devices_rack_id"),
        sa.PrimaryKeyConstraint("id", name="pk_devices"),
        sa.UniqueConstraint("name", name="uq_devices_name"),
        **TABLE,
    )
    for table, columns in {
        "rooms": ("site_id", "contact_id"),
        "device_types": ("manufacturer",),
        "racks": ("room_id", "customer_id", "primary_manager_id", "secondary_manager_id"),
        "contracts": ("number", "customer_id", "contact_id", "end"),
        "devices": (
            "serial", "asset_tag", "customer_id", "site_id", "primary_manager_id", "contract_id", "warranty_end",
            "device_type_id", "rack_id",
        ),
    }.items():  # fmt: skip
        for column in columns:
            create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    for table in ("devices", "contracts", "racks", "device_types", "rooms"):
        op.drop_table(table, if_exists=True)

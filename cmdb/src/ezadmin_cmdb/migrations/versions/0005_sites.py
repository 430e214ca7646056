"""Contacts, customers, sites."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "contacts",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("title", sa.String(length=128), nullable=True),
        sa.Column("company", sa.String(length=128), nullable=True),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("phone", sa.String(length=64), nullable=True),
        sa.Column("mobile", sa.String(length=64), nullable=True),
        sa.Column("on_call", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_contacts"),
        **TABLE,
    )
    create_index("ix_contacts_name", "contacts", ["name"])
    op.create_table(
        "customers",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=True),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("contact_id", sa.BigInteger(), nullable=True),
        sa.Column("manager_id", sa.BigInteger(), nullable=True),
        sa.Column("contract", sa.String(length=64), nullable=True),
        sa.Column("contract_begin", sa.Date(), nullable=True),
        sa.Column("contract_end", sa.Date(), nullable=True),
        sa.Column("url", sa.String(length=500), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name="fk_customers_contact_id"),
        sa.ForeignKeyConstraint(["manager_id"], ["contacts.id"], name="fk_customers_manager_id"),
        sa.PrimaryKeyConstraint("id", name="pk_customers"),
        sa.UniqueConstraint("name", name="uq_customers_name"),
        sa.UniqueConstraint("code", name="uq_customers_code"),
        **TABLE,
    )
    for column in ("contact_id", "manager_id", "contract_end"):
        create_index(f"ix_customers_{column}", "customers", [column])
    op.create_table(
        "sites",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=True),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("provider", sa.String(length=128), nullable=True),
        sa.Column("address", sa.String(length=500), nullable=True),
        sa.Column("country", sa.String(length=64), nullable=True),
        sa.Column("latitude", mysql.DOUBLE(asdecimal=False), nullable=True),
        sa.Column("longitude", mysql.DOUBLE(asdecimal=False), nullable=True),
        sa.Column("primary_contact_id", sa.BigInteger(), nullable=True),
        sa.Column("secondary_contact_id", sa.BigInteger(), nullable=True),
        sa.Column("phone", sa.String(length=64), nullable=True),
        sa.Column("opened", sa.Date(), nullable=True),
        sa.Column("url", sa.String(length=500), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["primary_contact_id"], ["contacts.id"], name="fk_sites_primary_contact_id"),
        sa.ForeignKeyConstraint(["secondary_contact_id"], ["contacts.id"], name="fk_sites_secondary_contact_id"),
        sa.PrimaryKeyConstraint("id", name="pk_sites"),
        sa.UniqueConstraint("name", name="uq_sites_name"),
        sa.UniqueConstraint("code", name="uq_sites_code"),
        **TABLE,
    )
    for column in ("primary_contact_id", "secondary_contact_id"):
        create_index(f"ix_sites_{column}", "sites", [column])


def downgrade() -> None:
    for table in ("sites", "customers", "contacts"):
        op.drop_table(table, if_exists=True)

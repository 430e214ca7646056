"""Custom fields with typed values, tags."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact

revision = "0018"
down_revision = "0017"


def _belongs(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("object_type", exact(32), nullable=False),
        sa.Column("number_id", sa.BigInteger(), nullable=True),
        sa.Column("host_id", exact(36), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=f"fk_{table}_host_id", ondelete="CASCADE"),
    ]


def upgrade() -> None:
    op.create_table(
        "custom_fields",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("object_type", exact(32), nullable=False),
        sa.Column("name", exact(40), nullable=False),
        sa.Column("label_en", sa.String(length=128), nullable=False),
        sa.Column("label_ko", sa.String(length=128), nullable=False),
        sa.Column("hint", sa.String(length=255), nullable=True),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("refers_to", exact(32), nullable=True),
        sa.Column("choices", sa.Text(), nullable=True),
        sa.Column("required", sa.Boolean(), nullable=False),
        sa.Column("initial", sa.String(length=500), nullable=True),
        sa.Column("pattern", sa.String(length=255), nullable=True),
        sa.Column("least", mysql.DOUBLE(asdecimal=False), nullable=True),
        sa.Column("most", mysql.DOUBLE(asdecimal=False), nullable=True),
        sa.Column("digits", sa.Integer(), nullable=True),
        sa.Column("section", sa.String(length=128), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("searched", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_custom_fields"),
        sa.UniqueConstraint("object_type", "name", name="uq_custom_fields_object_type"),
        **TABLE,
    )
    op.create_table(
        "custom_values",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("field_id", sa.BigInteger(), nullable=False),
        *_belongs("custom_values"),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(length=500), nullable=True),
        sa.Column("number", mysql.DOUBLE(asdecimal=False), nullable=True),
        sa.Column("day", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["field_id"], ["custom_fields.id"], name="fk_custom_values_field_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_custom_values"),
        **TABLE,
    )
    create_index("ix_custom_values_number_id", "custom_values", ["object_type", "number_id"])
    create_index("ix_custom_values_host_id", "custom_values", ["host_id"])
    for column in ("text", "number", "day"):
        create_index(f"ix_custom_values_{column}", "custom_values", ["field_id", column])
    op.create_table(
        "tags",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("color", exact(16), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tags"),
        sa.UniqueConstraint("name", name="uq_tags_name"),
        **TABLE,
    )
    op.create_table(
        "tag_links",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("tag_id", sa.BigInteger(), nullable=False),
        *_belongs("tag_links"),
        sa.ForeignKeyConstraint(["tag_id"], ["tags.id"], name="fk_tag_links_tag_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_tag_links"),
        **TABLE,
    )
    create_index("ix_tag_links_number_id", "tag_links", ["object_type", "number_id"])
    create_index("ix_tag_links_host_id", "tag_links", ["host_id"])
    create_index("ix_tag_links_tag_id", "tag_links", ["tag_id", "object_type"])


def downgrade() -> None:
    for table in ("tag_links", "tags", "custom_values", "custom_fields"):
        op.drop_table(table, if_exists=True)

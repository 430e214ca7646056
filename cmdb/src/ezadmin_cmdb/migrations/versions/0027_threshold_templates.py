"""Threshold templates: sets of limits, and where they are assigned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, add_column, create_foreign_key, create_index, drop_column, exact

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.create_table(
        "threshold_templates",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=True),
        sa.Column("starter", exact(32), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_threshold_templates"),
        sa.UniqueConstraint("name", name="uq_threshold_templates_name"),
        sa.UniqueConstraint("starter", name="uq_threshold_templates_starter"),
        **TABLE,
    )
    op.create_table(
        "threshold_assignments",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("template_id", sa.BigInteger(), nullable=False),
        sa.Column("level", exact(16), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=True),
        sa.Column("site_id", sa.BigInteger(), nullable=True),
        sa.Column("group_id", sa.BigInteger(), nullable=True),
        sa.Column("host_id", exact(36), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_id"], ["threshold_templates.id"], name="fk_threshold_assignments_template_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_threshold_assignments_site_id"),
        sa.ForeignKeyConstraint(["group_id"], ["host_groups.id"], name="fk_threshold_assignments_group_id"),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_threshold_assignments_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_threshold_assignments"),
        **TABLE,
    )
    for column in ("template_id", "site_id", "group_id", "host_id"):
        create_index(f"ix_threshold_assignments_{column}", "threshold_assignments", [column])
    add_column("limits", sa.Column("template_id", sa.BigInteger(), nullable=True))
    add_column("limits", sa.Column("position", sa.Integer(), nullable=False, server_default="0"))
    add_column("limits", sa.Column("off", sa.Boolean(), nullable=False, server_default="0"))
    create_index("ix_limits_template_id", "limits", ["template_id"])
    create_foreign_key("fk_limits_template_id", "limits", "template_id", "threshold_templates", ondelete="CASCADE")


def downgrade() -> None:
    op.execute("DELETE FROM limits WHERE template_id IS NOT NULL")
    for column in ("template_id", "position", "off"):
        drop_column("limits", column)
    op.drop_table("threshold_assignments", if_exists=True)
    op.drop_table("threshold_templates", if_exists=True)

"""Limits of figures, and whom they are for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact, moment

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "limits",
        sa.Column("id", exact(64), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("comment", sa.String(length=255), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_limits"),
        **TABLE,
    )
    op.create_table(
        "limit_assignments",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("limit_id", exact(64), nullable=False),
        sa.Column("host_id", exact(36), nullable=True),
        sa.Column("label", exact(64), nullable=True),
        sa.Column("value", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(["limit_id"], ["limits.id"], name="fk_limit_assignments_limit_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_limit_assignments_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_limit_assignments"),
        **TABLE,
    )
    create_index("ix_limit_assignments_limit_id", "limit_assignments", ["limit_id"])
    create_index("ix_limit_assignments_host_id", "limit_assignments", ["host_id"])


def downgrade() -> None:
    op.drop_table("limit_assignments", if_exists=True)
    op.drop_table("limits", if_exists=True)

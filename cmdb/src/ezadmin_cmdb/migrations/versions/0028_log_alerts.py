"""Alerts on searches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact, moment

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.create_table(
        "log_alerts",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("severity", exact(16), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.Column("checked", moment(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_log_alerts_owner_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_log_alerts"),
        **TABLE,
    )
    create_index("ix_log_alerts_checked", "log_alerts", ["checked"])
    create_index("ix_log_alerts_owner_id", "log_alerts", ["owner_id"])


def downgrade() -> None:
    op.drop_table("log_alerts", if_exists=True)

"""Reminders of what ends, and the stream of their events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, exact, moment

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "reminders",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("object_id", exact(64), nullable=False),
        sa.Column("object_name", sa.String(length=253), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False),
        sa.Column("time", moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reminders"),
        sa.UniqueConstraint("kind", "object_id", "day", "threshold", name="uq_reminders_kind"),
        **TABLE,
    )
    op.create_table(
        "reminder_stream",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", exact(64), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reminder_stream"),
        **TABLE,
    )


def downgrade() -> None:
    for table in ("reminder_stream", "reminders"):
        op.drop_table(table, if_exists=True)

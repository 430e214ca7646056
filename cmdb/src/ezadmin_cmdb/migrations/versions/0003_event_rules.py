"""Rules of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, exact, moment

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "event_rules",
        sa.Column("id", exact(64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("action", exact(16), nullable=False),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("expires", moment(), nullable=True),
        sa.Column("comment", sa.String(length=255), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event_rules"),
        **TABLE,
    )


def downgrade() -> None:
    op.drop_table("event_rules", if_exists=True)

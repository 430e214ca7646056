"""What callers of the API have left."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, exact, moment

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "request_quotas",
        sa.Column("subject", exact(64), nullable=False),
        sa.Column("full_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_request_quotas"),
        **TABLE,
    )


def downgrade() -> None:
    op.drop_table("request_quotas", if_exists=True)

"""Users of hosts in Kafka."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact, moment

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.create_table(
        "kafka_users",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("salt", mysql.VARBINARY(64), nullable=False),
        sa.Column("salted", mysql.VARBINARY(64), nullable=False),
        sa.Column("iterations", sa.Integer(), nullable=False),
        sa.Column("made", moment(), nullable=False),
        sa.Column("made_known", moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_kafka_users"),
        sa.UniqueConstraint("host_id", name="uq_kafka_users_host_id"),
        **TABLE,
    )
    create_index("ix_kafka_users_made_known", "kafka_users", ["made_known"])


def downgrade() -> None:
    op.drop_table("kafka_users")

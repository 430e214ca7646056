"""Jobs: bulk changes and imports, looked at before they are written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact, moment

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("action", exact(16), nullable=False),
        sa.Column("object_type", exact(32), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("language", exact(8), nullable=False),
        sa.Column("address", exact(45), nullable=True),
        sa.Column("request_id", exact(36), nullable=True),
        sa.Column("created", moment(), nullable=False),
        sa.Column("state", exact(16), nullable=False),
        sa.Column("skip", sa.Boolean(), nullable=False),
        sa.Column("given", sa.JSON(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done_rows", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("heartbeat", moment(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_jobs_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        **TABLE,
    )
    for column in ("user_id", "created", "state"):
        create_index(f"ix_jobs_{column}", "jobs", [column])
    op.create_table(
        "job_rows",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("object_id", exact(64), nullable=True),
        sa.Column("version", exact(20), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("texts", sa.JSON(), nullable=True),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("errors", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_rows_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_job_rows"),
        **TABLE,
    )
    create_index("ix_job_rows_status", "job_rows", ["status"])


def downgrade() -> None:
    op.drop_table("job_rows", if_exists=True)
    op.drop_table("jobs", if_exists=True)

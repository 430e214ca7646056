"""The groups that a host is in, as they are published; limits for groups."""

from __future__ import annotations

import sqlalchemy as sa

from ezadmin_cmdb.migrations.parts import add_column, create_foreign_key, create_index, drop_column

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    add_column("hosts", sa.Column("member_of", sa.JSON(), nullable=True))
    add_column("limit_assignments", sa.Column("group_id", sa.BigInteger(), nullable=True))
    create_index("ix_limit_assignments_group_id", "limit_assignments", ["group_id"])
    create_foreign_key("fk_limit_assignments_group_id", "limit_assignments", "group_id", "host_groups")


def downgrade() -> None:
    drop_column("limit_assignments", "group_id")
    drop_column("hosts", "member_of")

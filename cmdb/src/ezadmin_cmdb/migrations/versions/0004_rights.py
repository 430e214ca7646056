"""Rights: roles, groups of hosts, teams, grants, denials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact, moment

revision = "0004"
down_revision = "0003"


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "roles",
        _id(),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_roles"),
        sa.UniqueConstraint("name", name="uq_roles_name"),
        **TABLE,
    )
    op.create_table(
        "host_groups",
        _id(),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("filter", sa.String(length=2000), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_host_groups"),
        sa.UniqueConstraint("name", name="uq_host_groups_name"),
        **TABLE,
    )
    op.create_table(
        "host_group_members",
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("host_id", exact(36), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["host_groups.id"], name="fk_host_group_members_group_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name="fk_host_group_members_host_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("group_id", "host_id", name="pk_host_group_members"),
        **TABLE,
    )
    create_index("ix_host_group_members_host_id", "host_group_members", ["host_id"])
    op.create_table(
        "teams",
        _id(),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_teams"),
        sa.UniqueConstraint("name", name="uq_teams_name"),
        **TABLE,
    )
    op.create_table(
        "team_members",
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_team_members_team_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_team_members_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("team_id", "user_id", name="pk_team_members"),
        **TABLE,
    )
    create_index("ix_team_members_user_id", "team_members", ["user_id"])
    op.create_table(
        "grants",
        _id(),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("team_id", sa.BigInteger(), nullable=True),
        sa.Column("role_id", sa.BigInteger(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_grants_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_grants_team_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["role_id"], ["roles.id"], name="fk_grants_role_id"),
        sa.ForeignKeyConstraint(["group_id"], ["host_groups.id"], name="fk_grants_group_id"),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
        **TABLE,
    )
    for column in ("user_id", "team_id", "role_id", "group_id"):
        create_index(f"ix_grants_{column}", "grants", [column])
    op.create_table(
        "denials",
        _id(),
        sa.Column("time", moment(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("source", exact(16), nullable=False),
        sa.Column("request_id", exact(36), nullable=True),
        sa.Column("permission", exact(64), nullable=False),
        sa.Column("object_type", exact(32), nullable=True),
        sa.Column("object_id", exact(64), nullable=True),
        sa.Column("address", exact(45), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_denials"),
        **TABLE,
    )
    create_index("ix_denials_actor", "denials", ["actor", "time"])
    create_index("ix_denials_time", "denials", ["time"])


def downgrade() -> None:
    for table in ("denials", "grants", "team_members", "teams", "host_group_members", "host_groups", "roles"):
        op.drop_table(table, if_exists=True)

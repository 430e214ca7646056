"""Changes by requests and by people."""

from __future__ import annotations

from ezadmin_cmdb.migrations.parts import create_index, drop_index

revision = "0021"
down_revision = "0020"

INDEXES = {"ix_changes_request": ["request_id", "id"], "ix_changes_actor": ["actor", "id"]}


def upgrade() -> None:
    for name, columns in INDEXES.items():
        create_index(name, "changes", columns)


def downgrade() -> None:
    for name in INDEXES:
        drop_index(name, "changes")

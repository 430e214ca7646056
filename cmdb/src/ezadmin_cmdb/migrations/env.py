"""Alembic's entry: runs the revisions on the connection that it was given."""

from __future__ import annotations

from alembic import context

from ezadmin_cmdb import app  # noqa: F401 - knows all tables
from ezadmin_cmdb.database import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()

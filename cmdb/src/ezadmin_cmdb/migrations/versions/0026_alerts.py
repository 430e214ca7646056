"""Alerts, maintenance windows, notifications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from ezadmin_cmdb.migrations.parts import TABLE, create_index, exact, moment

revision = "0026"
down_revision = "0025"


def _key(name: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _refers(table: str, column: str, target: str, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}", ondelete=ondelete)


def upgrade() -> None:
    op.create_table(
        "maintenance_windows",
        _key("id"),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("starts", exact(16), nullable=False),
        sa.Column("timezone", exact(64), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("repeats", exact(16), nullable=False),
        sa.Column("weekdays", sa.JSON(), nullable=False),
        sa.Column("rule", sa.String(length=255), nullable=True),
        sa.Column("last", sa.Date(), nullable=True),
        _key("group_id", nullable=True),
        sa.Column("filter", sa.String(length=2000), nullable=True),
        _refers("maintenance_windows", "group_id", "host_groups"),
        sa.PrimaryKeyConstraint("id", name="pk_maintenance_windows"),
        sa.UniqueConstraint("name", name="uq_maintenance_windows_name"),
        **TABLE,
    )
    create_index("ix_maintenance_windows_group_id", "maintenance_windows", ["group_id"])
    op.create_table(
        "maintenance_window_hosts",
        _key("window_id"),
        sa.Column("host_id", exact(36), nullable=False),
        _refers("maintenance_window_hosts", "window_id", "maintenance_windows", "CASCADE"),
        _refers("maintenance_window_hosts", "host_id", "hosts", "CASCADE"),
        sa.PrimaryKeyConstraint("window_id", "host_id", name="pk_maintenance_window_hosts"),
        **TABLE,
    )
    create_index("ix_maintenance_window_hosts_host_id", "maintenance_window_hosts", ["host_id"])
    op.create_table(
        "alerts",
        _key("id"),
        sa.Column("host_id", exact(36), nullable=False),
        sa.Column("rule", exact(64), nullable=False),
        sa.Column("item", exact(500), nullable=False),
        sa.Column("dataset", exact(32), nullable=False),
        sa.Column("field", exact(255), nullable=False),
        sa.Column("state", exact(16), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("previous", exact(16), nullable=False),
        sa.Column("reason", exact(32), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("limit_value", sa.Double(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("since", moment(), nullable=False),
        sa.Column("opened", moment(), nullable=True),
        sa.Column("acknowledged_until", moment(), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=255), nullable=True),
        sa.Column("suppressed", sa.Boolean(), nullable=False),
        _key("window_id", nullable=True),
        sa.Column("unsettled", sa.Boolean(), nullable=False),
        _refers("alerts", "host_id", "hosts", "CASCADE"),
        _refers("alerts", "window_id", "maintenance_windows", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
        sa.UniqueConstraint("host_id", "rule", "item", name="uq_alerts_host_id"),
        **TABLE,
    )
    create_index("ix_alerts_severity", "alerts", ["severity", "since"])
    create_index("ix_alerts_window_id", "alerts", ["window_id"])
    create_index("ix_alerts_unsettled", "alerts", ["unsettled"])
    op.create_table(
        "alert_events",
        _key("id"),
        _key("alert_id"),
        sa.Column("event_id", exact(64), nullable=True),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("time", moment(), nullable=False),
        sa.Column("received", moment(), nullable=False),
        sa.Column("state", exact(16), nullable=True),
        sa.Column("previous", exact(16), nullable=True),
        sa.Column("reason", exact(32), nullable=True),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("limit_value", sa.Double(), nullable=True),
        sa.Column("actor", sa.String(length=255), nullable=True),
        sa.Column("until", moment(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        _refers("alert_events", "alert_id", "alerts", "CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_alert_events"),
        sa.UniqueConstraint("event_id", name="uq_alert_events_event_id"),
        **TABLE,
    )
    create_index("ix_alert_events_alert_id", "alert_events", ["alert_id", "time"])
    create_index("ix_alert_events_time", "alert_events", ["time"])
    op.create_table(
        "notification_channels",
        _key("id"),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", exact(16), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("language", exact(8), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=True),
        sa.Column("sender", sa.String(length=254), nullable=True),
        sa.Column("smtp_host", sa.String(length=253), nullable=True),
        sa.Column("smtp_port", sa.Integer(), nullable=True),
        sa.Column("smtp_security", exact(16), nullable=True),
        sa.Column("smtp_user", sa.String(length=255), nullable=True),
        sa.Column("url", sa.String(length=500), nullable=True),
        sa.Column("target", sa.String(length=255), nullable=True),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("failing_since", moment(), nullable=True),
        sa.Column("paused_until", moment(), nullable=True),
        sa.Column("notice", sa.String(length=500), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_notification_channels"),
        sa.UniqueConstraint("name", name="uq_notification_channels_name"),
        **TABLE,
    )
    op.create_table(
        "notification_rules",
        _key("id"),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        _key("channel_id"),
        sa.Column("minimum", exact(16), nullable=False),
        _key("group_id", nullable=True),
        _key("site_id", nullable=True),
        sa.Column("filter", sa.String(length=2000), nullable=True),
        sa.Column("repeat_minutes", sa.Integer(), nullable=True),
        sa.Column("clears", sa.Boolean(), nullable=False),
        sa.Column("collect_seconds", sa.Integer(), nullable=False),
        _refers("notification_rules", "channel_id", "notification_channels"),
        _refers("notification_rules", "group_id", "host_groups"),
        _refers("notification_rules", "site_id", "sites"),
        sa.PrimaryKeyConstraint("id", name="pk_notification_rules"),
        sa.UniqueConstraint("name", name="uq_notification_rules_name"),
        **TABLE,
    )
    for column in ("channel_id", "group_id", "site_id"):
        create_index(f"ix_notification_rules_{column}", "notification_rules", [column])
    op.create_table(
        "notification_states",
        _key("id"),
        _key("rule_id"),
        _key("alert_id"),
        sa.Column("told", exact(16), nullable=False),
        sa.Column("pending_since", moment(), nullable=True),
        sa.Column("repeat_at", moment(), nullable=True),
        _refers("notification_states", "rule_id", "notification_rules", "CASCADE"),
        _refers("notification_states", "alert_id", "alerts", "CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_notification_states"),
        sa.UniqueConstraint("rule_id", "alert_id", name="uq_notification_states_rule_id"),
        **TABLE,
    )
    for column in ("alert_id", "pending_since", "repeat_at"):
        create_index(f"ix_notification_states_{column}", "notification_states", [column])
    op.create_table(
        "notifications",
        _key("id"),
        _key("channel_id"),
        _key("rule_id", nullable=True),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("body", mysql.MEDIUMTEXT(), nullable=False),
        sa.Column("alerts", sa.Integer(), nullable=False),
        sa.Column("created", moment(), nullable=False),
        sa.Column("status", exact(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt", moment(), nullable=True),
        sa.Column("answered", moment(), nullable=True),
        sa.Column("answer_status", sa.Integer(), nullable=True),
        sa.Column("answer", mysql.MEDIUMTEXT(), nullable=True),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("milliseconds", sa.Integer(), nullable=True),
        _refers("notifications", "channel_id", "notification_channels", "CASCADE"),
        _refers("notifications", "rule_id", "notification_rules", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
        **TABLE,
    )
    create_index("ix_notifications_due", "notifications", ["channel_id", "status", "next_attempt"])
    create_index("ix_notifications_created", "notifications", ["created"])
    create_index("ix_notifications_rule_id", "notifications", ["rule_id"])


def downgrade() -> None:
    for table in (
        "notifications", "notification_states", "notification_rules", "notification_channels", "alert_events", "alerts",
        "maintenance_window_hosts", "maintenance_windows",
    ):  # fmt: skip
        op.drop_table(table, if_exists=True)

"""Tables of notifications. A message is written in the transaction that decides about it: the table is the outbox."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.alerts.models import OK, Alert
from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now
from ezadmin_cmdb.datacenter.sites import Site
from ezadmin_cmdb.rights.models import HostGroup
from ezadmin_cmdb.webhooks.models import WAITING


class Channel(Base):
    """A way to tell people: mail, or calls to the ``url`` of a service. ``secret`` (password, token) is sealed.

    ``target``: the room or chat of services that want one; ``body``: what is sent instead of the service's own form, as
    JSON with named fields. The last three are as those of webhooks.
    """

    __tablename__ = "notification_channels"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    kind: Mapped[str] = mapped_column(exact(16))
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    language: Mapped[str] = mapped_column(exact(8))
    recipients: Mapped[str | None] = mapped_column(Text)
    sender: Mapped[str | None] = mapped_column(String(254))
    smtp_host: Mapped[str | None] = mapped_column(String(253))
    smtp_port: Mapped[int | None] = mapped_column(Integer)
    smtp_security: Mapped[str | None] = mapped_column(exact(16))
    smtp_user: Mapped[str | None] = mapped_column(String(255))
    url: Mapped[str | None] = mapped_column(String(500))
    target: Mapped[str | None] = mapped_column(String(255))
    secret: Mapped[str | None] = mapped_column(Text)
    body: Mapped[str | None] = mapped_column(Text)
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paused_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    notice: Mapped[str | None] = mapped_column(String(500))


class NotificationRule(Base):
    """Which alerts a channel is told of: from the state ``minimum`` on, of hosts of the group, site and filter.

    What comes within ``collect_seconds`` is one message for each site; it is repeated each ``repeat_minutes`` until
    somebody acknowledges it or it is over.
    """

    __tablename__ = "notification_rules"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    channel_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("notification_channels.id"), index=True)
    minimum: Mapped[str] = mapped_column(exact(16))
    group_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("host_groups.id"), index=True)
    site_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("sites.id"), index=True)
    filter: Mapped[str | None] = mapped_column(String(2000))
    repeat_minutes: Mapped[int | None] = mapped_column(Integer)
    clears: Mapped[bool] = mapped_column(Boolean, default=True)
    collect_seconds: Mapped[int] = mapped_column(Integer, default=30)

    channel: Mapped[Channel] = relationship()
    group: Mapped[HostGroup | None] = relationship()
    site: Mapped[Site | None] = relationship()


class NotificationState(Base):
    """What a rule's channel knows of an alert. ``pending_since``: there is news for it since then; ``repeat_at``: when it
    is told again."""

    __tablename__ = "notification_states"
    __table_args__ = (
        UniqueConstraint("rule_id", "alert_id"),
        Index("ix_notification_states_pending_since", "pending_since"),
        Index("ix_notification_states_repeat_at", "repeat_at"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    rule_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("notification_rules.id", ondelete="CASCADE"))
    alert_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("alerts.id", ondelete="CASCADE"), index=True)
    told: Mapped[str] = mapped_column(exact(16), default=OK)
    pending_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    repeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    rule: Mapped[NotificationRule] = relationship()
    alert: Mapped[Alert] = relationship()


class Notification(Base):
    """One message for one channel, and what was answered last. ``body``: a mail's text, or the JSON of a call."""

    __tablename__ = "notifications"
    __table_args__ = (
        Index("ix_notifications_due", "channel_id", "status", "next_attempt"),
        Index("ix_notifications_created", "created"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    channel_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("notification_channels.id", ondelete="CASCADE"))
    rule_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("notification_rules.id", ondelete="SET NULL"), index=True
    )
    subject: Mapped[str] = mapped_column(String(255))
    body: Mapped[str] = mapped_column(mysql.MEDIUMTEXT())
    alerts: Mapped[int] = mapped_column(Integer, default=0)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    status: Mapped[str] = mapped_column(exact(16), default=WAITING)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_attempt: Mapped[datetime | None] = mapped_column(UtcDateTime, default=utc_now)
    answered: Mapped[datetime | None] = mapped_column(UtcDateTime)
    answer_status: Mapped[int | None] = mapped_column(Integer)
    answer: Mapped[str | None] = mapped_column(mysql.MEDIUMTEXT())
    error: Mapped[str | None] = mapped_column(String(500))
    milliseconds: Mapped[int | None] = mapped_column(Integer)

    channel: Mapped[Channel] = relationship()
    rule: Mapped[NotificationRule | None] = relationship()

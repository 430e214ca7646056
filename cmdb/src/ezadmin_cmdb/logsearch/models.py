"""Table of alerts on searches."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now


class LogAlert(Base):
    """Raised for each host of which a search finds ``threshold`` events or more within ``minutes``.

    It sees the hosts that its owner sees. ``checked``: when the worker looked last; ``problem``: why that was in vain.
    """

    __tablename__ = "log_alerts"
    __table_args__ = (Index("ix_log_alerts_checked", "checked"), Index("ix_log_alerts_owner_id", "owner_id"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    query: Mapped[str] = mapped_column(Text)
    threshold: Mapped[int] = mapped_column(Integer)
    minutes: Mapped[int] = mapped_column(Integer)
    severity: Mapped[str] = mapped_column(exact(16))
    owner_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    checked: Mapped[datetime | None] = mapped_column(UtcDateTime)
    problem: Mapped[str | None] = mapped_column(Text)

    owner: Mapped[User] = relationship()

    @property
    def rule(self) -> str:
        """The name of its rule among the alerts."""
        return f"search-{self.id}"

"""Tables of saved filters."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.database import TABLE, Base, exact


class SavedFilter(Base):
    """What a list was asked, as it stands in its address. ``object_type`` names the description whose list it is."""

    __tablename__ = "saved_filters"
    __table_args__ = (
        UniqueConstraint("owner_id", "object_type", "name"),
        Index("ix_saved_filters_object_type", "object_type", "shared"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    object_type: Mapped[str] = mapped_column(exact(32))
    name: Mapped[str] = mapped_column(String(128))
    query: Mapped[str] = mapped_column(Text)
    shared: Mapped[bool] = mapped_column(default=False)
    owner_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))

    owner: Mapped[User] = relationship()


class DefaultFilter(Base):
    """The saved filter with which a user's list opens."""

    __tablename__ = "default_filters"
    __table_args__ = (TABLE,)

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    object_type: Mapped[str] = mapped_column(exact(32), primary_key=True)
    filter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("saved_filters.id", ondelete="CASCADE"), index=True)

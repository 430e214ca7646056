"""Tables of custom fields and tags.

A value stands in the column of its type, so that filters use an index. What it belongs to is named by the description's
name and the object's id: ``number_id`` where ids are numbers, ``host_id`` for hosts.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import BigInteger, Date, Double, ForeignKey, Index, Integer, String, Text, UniqueConstraint, and_
from sqlalchemy.orm import Mapped, foreign, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.hosts.models import HOST_ID

TEXT_MAX = 500


class CustomField(Base):
    """The definition of a field that people added to a model."""

    __tablename__ = "custom_fields"
    __table_args__ = (UniqueConstraint("object_type", "name"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    object_type: Mapped[str] = mapped_column(exact(32))
    name: Mapped[str] = mapped_column(exact(40))
    label_en: Mapped[str] = mapped_column(String(128))
    label_ko: Mapped[str] = mapped_column(String(128))
    hint: Mapped[str | None] = mapped_column(String(255))
    kind: Mapped[str] = mapped_column(exact(16))
    refers_to: Mapped[str | None] = mapped_column(exact(32))
    choices: Mapped[str | None] = mapped_column(Text)
    required: Mapped[bool] = mapped_column(default=False)
    initial: Mapped[str | None] = mapped_column(String(TEXT_MAX))
    pattern: Mapped[str | None] = mapped_column(String(255))
    least: Mapped[float | None] = mapped_column(Double)
    most: Mapped[float | None] = mapped_column(Double)
    digits: Mapped[int | None] = mapped_column(Integer)
    section: Mapped[str | None] = mapped_column(String(128))
    position: Mapped[int | None] = mapped_column(Integer)
    listed: Mapped[bool] = mapped_column(default=False)
    searched: Mapped[bool] = mapped_column(default=False)


class CustomValue(Base):
    """A value of a custom field; of a multi-select one row each, in the order of ``position``."""

    __tablename__ = "custom_values"
    __table_args__ = (
        Index("ix_custom_values_number_id", "object_type", "number_id"),
        Index("ix_custom_values_text", "field_id", "text"),
        Index("ix_custom_values_number", "field_id", "number"),
        Index("ix_custom_values_day", "field_id", "day"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    field_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("custom_fields.id", ondelete="CASCADE"))
    object_type: Mapped[str] = mapped_column(exact(32))
    number_id: Mapped[int | None] = mapped_column(BigInteger)
    host_id: Mapped[str | None] = mapped_column(HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"), index=True)
    position: Mapped[int] = mapped_column(Integer, default=0)
    text: Mapped[str | None] = mapped_column(String(TEXT_MAX))
    number: Mapped[float | None] = mapped_column(Double)
    day: Mapped[date | None] = mapped_column(Date)


class Tag(Base):
    """A tag; ``color`` is one of the palette's names."""

    __tablename__ = "tags"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    color: Mapped[str] = mapped_column(exact(16), default="grey")
    description: Mapped[str | None] = mapped_column(String(255))


class TagLink(Base):
    """An object has a tag."""

    __tablename__ = "tag_links"
    __table_args__ = (
        Index("ix_tag_links_number_id", "object_type", "number_id"),
        Index("ix_tag_links_tag_id", "tag_id", "object_type"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tag_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tags.id", ondelete="CASCADE"))
    object_type: Mapped[str] = mapped_column(exact(32))
    number_id: Mapped[int | None] = mapped_column(BigInteger)
    host_id: Mapped[str | None] = mapped_column(HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"), index=True)

    tag: Mapped[Tag] = relationship(lazy="joined")


def object_id(table: Any, model: type[Any]) -> Any:
    """The column of ``table`` that holds the ids of a model."""
    return table.number_id if model.__table__.c.id.type.python_type is int else table.host_id


def extend(model: type[Any], object_type: str) -> None:
    """Give a model the relations ``custom_values`` and ``tag_links``."""
    for name, table in (("custom_values", CustomValue), ("tag_links", TagLink)):
        joined = and_(model.id == foreign(object_id(table, model)), table.object_type == object_type)
        parts = relationship(table, primaryjoin=joined, cascade="save-update, delete", order_by=table.id, overlaps=name)
        setattr(model, name, parts)

"""The table of hosts' users in Kafka."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Integer, LargeBinary
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now


class KafkaUser(Base):
    """The user of a host, named by its host.id, as SCRAM keeps it: the password itself is nowhere but on the host.

    ``made_known``: since when Kafka has it; None while the worker has still to tell. A row outlives its host until Kafka has
    forgotten the user.
    """

    __tablename__ = "kafka_users"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    host_id: Mapped[str] = mapped_column(exact(36), unique=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary(64).with_variant(mysql.VARBINARY(64), "mysql"))
    salted: Mapped[bytes] = mapped_column(LargeBinary(64).with_variant(mysql.VARBINARY(64), "mysql"))
    iterations: Mapped[int] = mapped_column(Integer)
    made: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    made_known: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)

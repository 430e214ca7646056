"""Uptime, moment of boot, signed-in users."""

from __future__ import annotations

from ezadmin_agent.collectors import Collector, Document, Sample
from ezadmin_agent.fields import Field, gauge, keyword
from ezadmin_agent.reader import Reader
from ezadmin_wire.times import format_epoch_ms

FIELDS = (
    gauge("system.uptime.duration.ms", "long", "ms", "Time since boot"),
    Field("system.boot.time", "date", "", "date", False, "Moment of boot, to the second"),
)
USERS_FIELDS = (
    gauge("system.users.count", "integer", "", "Sessions of signed-in users"),
    keyword("system.users.names", "Who is signed in, each once, at most 20"),
)


def collect(reader: Reader, _previous: None) -> Sample:
    """One fragment of the host document."""
    boot = format_epoch_ms(int(reader.boot_time()) * 1000)
    return Sample([{"system.uptime.duration.ms": int(reader.uptime() * 1000), "system.boot.time": boot}])


def collect_users(reader: Reader, _previous: None) -> Sample:
    """One fragment of the host document."""
    users = reader.users()
    document: Document = {"system.users.count": len(users)}
    if users:
        document["system.users.names"] = sorted(set(users))[:20]
    return Sample([document])


HOST = Collector("uptime", "system.host", FIELDS, collect, slow=[field.name for field in FIELDS])
USERS = Collector("users", "system.host", USERS_FIELDS, collect_users, slow=("system.users.names",))

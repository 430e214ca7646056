"""Lock-out: after some failures nothing is tried for a while, which doubles with each further one.

Counted in the database, by name and address together, by address (of IPv6 its /64), and by name alone. The last allows far
more, so that a stranger cannot easily lock somebody out. Names that nobody has are counted like others: the answers tell nothing.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask_babel import gettext as _
from sqlalchemy import delete, or_, select
from sqlalchemy.dialects.mysql import insert

from ezadmin_cmdb.accounts.models import SignInGuard, User
from ezadmin_cmdb.accounts.services import require_admin
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.audit import services as audit
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import TooManyRequests

FAILURES_BY_PAIR = 5
FAILURES_BY_ADDRESS = 20
FAILURES_BY_NAME = 50
"""So many failures are free: of one name from one address, from one address, of one name."""
FIRST_DELAY = timedelta(seconds=30)
LONGEST_DELAY = timedelta(hours=1)
MEMORY = timedelta(days=1)
"""Failures older than that are forgotten."""


class LockedOut(TooManyRequests):
    """Too many failures; nothing is checked for a while."""


@dataclass(frozen=True)
class Attempt:
    """An attempt of ``name`` (as the account writes it, if there is one) from ``address``, whose rows are locked."""

    name: str
    address: str
    guards: list[tuple[SignInGuard, int]]

    def failed(self) -> bool:
        """Count it; whether this one begins a lock-out."""
        now, locked = utc_now(), False
        for guard, free in self.guards:
            guard.failures += 1
            guard.last = now
            if guard.failures >= free:
                guard.until = now + delay(guard.failures - free)
                locked = True
        return locked

    def succeeded(self) -> None:
        """Forget the failures of this name; half of the address's, which many people may share."""
        for guard, _free in self.guards:
            if guard.name is not None:
                db.session.delete(guard)
            else:
                guard.failures //= 2
        db.session.execute(delete(SignInGuard).where(SignInGuard.last < utc_now() - MEMORY))


def delay(beyond: int) -> timedelta:
    """How long nothing is tried, ``beyond`` failures after the last free one: 30 s, 1 min, 2 min … 1 h."""
    return min(LONGEST_DELAY, FIRST_DELAY * (1 << min(beyond, 20)))


def begin(user: User | None, name: str, address: str) -> Attempt:
    """Begin to judge an attempt. Raises LockedOut."""
    known = (user.name if user is not None else name).casefold()[:64]
    whence = source(address)
    now = utc_now()
    wanted = [  # always in this order, so that attempts wait for one another and never in a circle
        (f"address {whence}", None, whence, FAILURES_BY_ADDRESS),
        (f"name {known}", known, None, FAILURES_BY_NAME),
        (f"pair {whence} {known}", known, whence, FAILURES_BY_PAIR),
    ]
    guards: list[tuple[SignInGuard, int]] = []
    until: datetime | None = None
    for text, by_name, by_address, free in wanted:
        subject = hashlib.sha256(text.encode()).hexdigest()
        row = {"subject": subject, "name": by_name, "address": by_address, "failures": 0, "last": now, "until": None}
        made = insert(SignInGuard).values(row)
        db.session.execute(made.on_duplicate_key_update(subject=made.inserted.subject))
        query = select(SignInGuard).where(SignInGuard.subject == subject).with_for_update()
        guard = db.session.scalars(query.execution_options(populate_existing=True)).one()
        if guard.failures and now - guard.last > MEMORY:
            guard.failures, guard.until = 0, None
        if guard.until is not None and guard.until > now:
            until = max(until or guard.until, guard.until)
        guards.append((guard, free))
    if until is not None:
        seconds = math.ceil((until - now).total_seconds())
        minutes = math.ceil(seconds / 60)
        raise LockedOut(_("Too many failed attempts. Try again in %(minutes)d minutes.", minutes=minutes), seconds)
    return Attempt(known, whence, guards)


def source(address: str) -> str:
    """What counts as one address: of IPv6 its /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:45]
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def locked_until(user: User) -> datetime | None:
    """Until when a user is locked out, from anywhere or from some address."""
    query = select(SignInGuard.until).where(SignInGuard.name == user.name.casefold(), SignInGuard.until > utc_now())
    return max(filter(None, db.session.scalars(query)), default=None)


def unlock(actor: Actor, user: User | None = None, address: str | None = None) -> int:
    """Forget the failures of a user, of an address, or both; how many counters that were. Raises Forbidden."""
    require_admin(actor, user)
    which = []
    if user is not None:
        which.append(SignInGuard.name == user.name.casefold())
    if address is not None:
        which.append(SignInGuard.address == source(address))
    result = db.session.execute(delete(SignInGuard).where(or_(*which)))
    about = None if user is None else ("user", user.id, user.name)
    audit.note("account", "unlock", actor, about=about, details={"address": address} if address else None)
    return int(getattr(result, "rowcount", 0))

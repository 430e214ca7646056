"""How many requests a caller of the API may make: a token bucket for each token, and for each address that sends wrong ones.

A bucket is one moment in the database: when it will be full again (the generic cell rate algorithm: each request moves it on by
the time in which one is refilled). It is moved by one statement and the database's clock, in a short transaction before the
request's own, so that it holds for all processes and machines, and no request waits for another one of the same token.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import Connection, text

from ezadmin_cmdb.accounts.guards import source
from ezadmin_cmdb.database import db
from ezadmin_cmdb.errors import TooManyRequests
from ezadmin_cmdb.settings import ApiLimits

_TAKE = text(
    "UPDATE request_quotas SET full_at = GREATEST(full_at, NOW(6)) + INTERVAL :step MICROSECOND"
    " WHERE subject = :subject AND full_at <= NOW(6) + INTERVAL :room MICROSECOND"
)
_READ = text("SELECT full_at, NOW(6) FROM request_quotas WHERE subject = :subject")
_ADD = text(  # not IGNORE: that one locks a row which is there so that two of them can wait for each other
    "INSERT INTO request_quotas (subject, full_at) VALUES (:subject, NOW(6)) ON DUPLICATE KEY UPDATE subject = subject"
)
_FORGET = text("DELETE FROM request_quotas WHERE full_at < NOW(6) - INTERVAL 1 DAY LIMIT 100")
_KNOWN = text("SELECT 1 FROM api_tokens WHERE token_hash = :subject")


@dataclass(frozen=True)
class Policy:
    """``burst`` requests at once, and ``per_minute`` on and on; no limit if that is 0."""

    name: str
    per_minute: int
    burst: int

    @property
    def step(self) -> int:
        """In how many microseconds one request is refilled."""
        return math.ceil(60_000_000 / self.per_minute)


@dataclass(frozen=True)
class Quota:
    """What a caller has left after a request: ``remaining`` now, all of it in ``full`` seconds, one more in ``wait``."""

    policy: Policy
    taken: bool
    remaining: int
    full: int
    wait: int

    @property
    def headers(self) -> Mapping[str, str]:
        """RateLimit fields of draft-ietf-httpapi-ratelimit-headers."""
        name, window = self.policy.name, math.ceil(self.policy.step * self.policy.burst / 1_000_000)
        return {
            "RateLimit-Policy": f'"{name}";q={self.policy.burst};w={window}',
            "RateLimit": f'"{name}";r={self.remaining};t={self.full}',
        }


def digest(token: str) -> str:
    """As which a token is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def charge(limits: ApiLimits, token: str, address: str) -> Quota | None:
    """Take one request from the bucket of a token; from that of the address, if there is no such token.

    None without a limit. Raises TooManyRequests.
    """
    policy = Policy("token", limits.requests_per_minute, limits.burst)
    wrong = Policy("wrong tokens", limits.wrong_tokens_per_minute, limits.wrong_tokens_per_minute)
    subject = digest(token)
    with db.engine.begin() as connection:
        quota = _take(connection, policy, subject) if policy.per_minute else None
        if quota is None and connection.execute(_KNOWN, {"subject": subject}).first() is None:
            policy, subject = wrong, f"address {source(address)}"
            quota = _take(connection, policy, subject) if policy.per_minute else None
    if quota is None and policy.per_minute:
        quota = _begin(policy, subject)
    if quota is not None and not quota.taken:
        refused = TooManyRequests(
            _("Too many requests. The next one is answered in %(seconds)d seconds.", seconds=quota.wait), quota.wait
        )
        refused.headers = {**refused.headers, **quota.headers}
        raise refused
    return quota


def _begin(policy: Policy, subject: str) -> Quota | None:
    """The first request of a bucket; others that have long been full again are forgotten."""
    with db.engine.begin() as connection:  # by itself, for it may wait for rows of others
        connection.execute(_FORGET)
    with db.engine.begin() as connection:
        connection.execute(_ADD, {"subject": subject})
        return _take(connection, policy, subject)


def _take(connection: Connection, policy: Policy, subject: str) -> Quota | None:
    """None if there is no such bucket yet."""
    room = policy.step * (policy.burst - 1)
    given: dict[str, Any] = {"subject": subject, "step": policy.step, "room": room}
    taken = connection.execute(_TAKE, given).rowcount == 1
    row = connection.execute(_READ, given).first()
    if row is None:
        return None
    full, now = row
    ahead = max(0, round((full - now).total_seconds() * 1_000_000))
    left = max(0, (policy.step * policy.burst - ahead) // policy.step)
    wait = max(1, math.ceil((ahead - room) / 1_000_000))
    return Quota(policy, taken, left, math.ceil(ahead / 1_000_000), wait)

"""Who does something: every service is told, and every change record names it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ezadmin_cmdb.rights.access import ALL, NONE, Rights


@dataclass(frozen=True)
class Actor:
    """A person or program. ``source``: by which way (``ui``, ``api``, ``cli``, ``import``, ``agent``).

    ``rights``: what it may do, by default nothing. ``request_id`` groups the changes of one request; ``user_id`` is its
    account's, ``address`` where it came from, ``token`` the name of the token that it came with, if it has one.
    """

    name: str
    source: str
    rights: Rights = field(default=NONE, repr=False)
    request_id: str | None = None
    user_id: int | None = None
    address: str | None = None
    token: str | None = None


def cli_actor(user: str) -> Actor:
    """Who runs a command on the server: allowed everything, as he could read the database's password anyway."""
    return Actor(user, "cli", ALL)


def agent_actor(host_id: str) -> Actor:
    """The agent of a host, which reports about itself."""
    return Actor(host_id, "agent")

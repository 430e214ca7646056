"""Who does something: every service is told, and every change record names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """A person or program. ``source``: by which way (``ui``, ``api``, ``cli``, ``agent``).

    ``all_hosts``: whether every host is visible to it. ``request_id`` groups the changes of one request.
    """

    name: str
    source: str
    all_hosts: bool = False
    request_id: str | None = None


def cli_actor(user: str) -> Actor:
    """Who runs a command on the server: allowed everything, as he could read the database's password anyway."""
    return Actor(user, "cli", all_hosts=True)


def agent_actor(host_id: str) -> Actor:
    """The agent of a host, which reports about itself."""
    return Actor(host_id, "agent")

"""What an actor may do, as plain values: loaded once a request, then asked without the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GroupScope:
    """A group of hosts that a grant is limited to; ``filter`` is that of a dynamic group, as it stands in an address."""

    id: int
    filter: str | None = None


@dataclass(frozen=True)
class Scope:
    """Where a permission holds: for every host and for all that is no host (``everywhere``), or for groups of hosts."""

    everywhere: bool = False
    groups: frozenset[GroupScope] = frozenset()

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.groups)

    def __or__(self, other: Scope) -> Scope:
        if self.everywhere or other.everywhere:
            return EVERYWHERE
        return Scope(groups=self.groups | other.groups)

    def covers(self, other: Scope) -> bool:
        """Whether all of ``other`` lies within."""
        return self.everywhere or (not other.everywhere and other.groups <= self.groups)


EVERYWHERE = Scope(everywhere=True)
NOWHERE = Scope()


@dataclass(frozen=True)
class Rights:
    """The permissions of an actor by name, each with its scope; ``all``: an administrator's, every one everywhere."""

    all: bool = False
    permissions: Mapping[str, Scope] = field(default_factory=dict)

    def scope(self, permission: str) -> Scope:
        """Where ``permission`` holds."""
        return EVERYWHERE if self.all else self.permissions.get(permission, NOWHERE)

    def only(self, permissions: Collection[str]) -> Rights:
        """These rights, cut down to ``permissions``: what a token of this actor may do at most."""
        return Rights(permissions={name: scope for name in permissions if (scope := self.scope(name))})


ALL = Rights(all=True)
NONE = Rights()

"""The registry of permissions: ``<object>.<action>``. A role holds names of these, a view and a service ask for one.

``change`` holds creation too; whoever may ``change`` or ``delete`` may ``view``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flask_babel import lazy_gettext as _l

VIEW, CHANGE, DELETE = "view", "change", "delete"
ACTION_TITLES = {VIEW: _l("see"), CHANGE: _l("add and change"), DELETE: _l("delete")}


@dataclass(frozen=True)
class Permission:
    """A permission. ``hosts``: it is about hosts, so it can hold for groups of them; any other holds everywhere or not."""

    name: str
    title: object
    hosts: bool = False

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.name.partition(".")[0]

    @property
    def action(self) -> str:
        """What may be done with it."""
        return self.name.partition(".")[2]


_registry: dict[str, Permission] = {}


def declare(name: str, title: object, hosts: bool = False) -> str:
    """Make a permission known; returns its name. Raises ValueError for a name that means something else already."""
    made = Permission(name, title, hosts)
    known = _registry.setdefault(name, made)
    if known.hosts != hosts:
        raise ValueError(f"permission {name} is declared twice, about hosts and not")
    return name


def known() -> list[Permission]:
    """All permissions by name."""
    return [_registry[name] for name in sorted(_registry)]


def find(name: str) -> Permission:
    """The permission of this name. Raises LookupError."""
    try:
        return _registry[name]
    except KeyError:
        raise LookupError(f"permission {name} is not declared") from None


def with_implied(names: Iterable[str]) -> set[str]:
    """The declared ones of ``names``, and what they imply."""
    given = {name for name in names if name in _registry}
    views = {f"{_registry[name].subject}.{VIEW}" for name in given}
    return given | (views & _registry.keys())


STATUS_VIEW = declare("status.view", _l("Status of the system: see"))
RULES_VIEW = declare("rules.view", _l("Rules of events: see"))
RULES_CHANGE = declare("rules.change", _l("Rules of events: add and change"))
LIMITS_VIEW = declare("limits.view", _l("Limits of hosts: see"))
LIMITS_CHANGE = declare("limits.change", _l("Limits of hosts: add and change"))
EVENTS_VIEW = declare("events.view", _l("Events of hosts: see"), hosts=True)
METRICS_VIEW = declare("metrics.view", _l("Figures of hosts: see"), hosts=True)

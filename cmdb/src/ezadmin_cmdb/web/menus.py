"""What the main navigation shows: what the user may see, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from ezadmin_cmdb.describe.description import MENUS, Description, Menu, MenuPage
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.web.signin import current_actor, current_user


def may(permission: str) -> bool:
    """Whether the signed-in user has a permission somewhere."""
    return current_user() is not None and rights.may(current_actor(), permission)


def shown() -> list[tuple[Menu, list[Description], Sequence[MenuPage]]]:
    """The menus with those of their descriptions that the user may see, and their pages; no empty ones."""
    if current_user() is None:
        return []
    found = [(menu, [one for one in menu.descriptions if may(one.view)]) for menu in MENUS.values()]
    return [(menu, visible, menu.pages) for menu, visible in found if visible]

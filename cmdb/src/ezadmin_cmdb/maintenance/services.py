"""What maintenance windows say about hosts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import selectinload

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.describe import query as queries
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.maintenance.models import MaintenanceWindow, MaintenanceWindowHost
from ezadmin_cmdb.maintenance.times import Times, current, occurrences
from ezadmin_cmdb.rights import groups

TIMES_SHOWN = 5
HOSTS_SHOWN = 10


def times_of(window: MaintenanceWindow) -> Times:
    """When a window is."""
    return Times(
        window.starts, window.timezone, window.minutes, window.repeats, tuple(window.weekdays or ()), window.rule, window.last
    )  # fmt: skip


def hosts_of(window: MaintenanceWindow) -> ColumnElement[bool]:
    """The condition that a host is one of the window's."""
    found: list[ColumnElement[bool]] = [
        Host.id.in_(select(MaintenanceWindowHost.host_id).where(MaintenanceWindowHost.window_id == window.id))
        if window.id is not None
        else Host.id.in_([host.id for host in window.hosts])
    ]
    if window.group is not None:
        found.append(groups.holds([groups.scope_of(window.group)]))
    if window.filter:
        found.append(queries.matching(find("host"), window.filter))
    return or_(*found)


def active(session: Any, host_ids: Collection[str], at: datetime) -> dict[str, MaintenanceWindow]:
    """The window that each host is in at a moment; hosts in none are missing. Of several it is the one that ends last."""
    if not host_ids:
        return {}
    windows = session.scalars(
        select(MaintenanceWindow).where(MaintenanceWindow.active).options(selectinload(MaintenanceWindow.group))
    )
    found: dict[str, MaintenanceWindow] = {}
    now = [(times[1], window) for window in windows if (times := current(times_of(window), at)) is not None]
    for _end, window in sorted(now, key=lambda one: (one[0], one[1].id)):
        for host_id in session.scalars(select(Host.id).where(Host.id.in_(host_ids), hosts_of(window))):
            found[host_id] = window
    return found


@dataclass(frozen=True)
class Preview:
    """What a window would do: how many hosts it is for now, some of their names, its next times."""

    count: int
    names: list[str]
    times: list[tuple[datetime, datetime]]


def preview(actor: Actor, window: MaintenanceWindow) -> Preview:
    """What a window does; of hosts, those that the actor may see."""
    mine = hosts.visible(actor).where(hosts_of(window))
    count = db.session.scalar(select(func.count()).select_from(mine.with_only_columns(Host.id).subquery())) or 0
    names = db.session.scalars(mine.with_only_columns(Host.name).order_by(Host.name).limit(HOSTS_SHOWN)).all()
    return Preview(count, list(names), list(islice(occurrences(times_of(window), utc_now()), TIMES_SHOWN)))


def check_filter(text: str | None) -> str | None:
    """A filter of hosts, as the address of their list holds it, in the form in which it is kept. Raises Invalid."""
    if not text:
        return None
    try:
        query = queries.parse_text(find("host"), text, strict=True)
    except Invalid as error:
        raise Invalid(_("The filter cannot be understood: %(error)s", error=error), "filter") from error
    if not query.filter_text:
        raise Invalid(_("The filter is empty: it would hold every host."), "filter")
    return query.filter_text


def until(window: MaintenanceWindow, at: datetime) -> Any:
    """When the window that is at a moment ends."""
    found = current(times_of(window), at)
    return None if found is None else found[1]

"""What else there is to a host's state beside its figures: alerts that are open, and windows of maintenance."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.alerts import services as alerts
from ezadmin_cmdb.alerts.services import OpenAlert
from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.maintenance import services as maintenance
from ezadmin_cmdb.maintenance.models import MaintenanceWindow
from ezadmin_cmdb.thresholds import judging


@dataclass(frozen=True)
class Standing:
    """The open alerts of hosts that an actor may see, the worst first, and the windows that hosts are in."""

    alerts: dict[str, list[OpenAlert]] = field(default_factory=dict)
    windows: dict[str, MaintenanceWindow] = field(default_factory=dict)

    def state(self, host_id: str, states: Iterable[str]) -> tuple[str, str]:
        """The state of a host whose figures are of ``states``, and what is to be said of it."""
        if host_id in self.windows:
            return judging.MAINTENANCE, self.windows[host_id].name
        opened = self.alerts.get(host_id, ())
        found = judging.worst([*states, *(one.raised for one in opened)])
        said = next((one.message for one in opened if one.raised == found), "")
        return found, said

    def of_figures(self, host_id: str) -> dict[tuple[str, str], OpenAlert]:
        """The worst open alert of each figure of a host, by field and item: also of one whose newest value is good."""
        found: dict[tuple[str, str], OpenAlert] = {}
        for one in self.alerts.get(host_id, ()):
            found.setdefault((one.field, one.item), one)
        return found


def of(actor: Actor, host_ids: Collection[str], at: datetime) -> Standing:
    """How hosts stand; three queries and one for each window that is open, however many hosts."""
    if not host_ids:
        return Standing()
    scope = actor.rights.scope(alerts.VIEW)
    mine = host_ids
    if not scope.everywhere:
        seen = set(db.session.scalars(hosts.visible(actor, alerts.VIEW).with_only_columns(Host.id))) if scope else set()
        mine = [one for one in host_ids if one in seen]
    opened = alerts.open_states(db.session(), mine) if mine else {}
    return Standing(opened, maintenance.active(db.session, host_ids, at))

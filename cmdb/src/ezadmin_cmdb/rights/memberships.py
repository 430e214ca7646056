"""The part of the worker that keeps ``hosts.member_of`` true, and with it the ``groups`` and limits of config records.

Which hosts a dynamic group holds changes with every host, so it is found out anew every few seconds: one query a group.
"""

from __future__ import annotations

import logging
import threading
import time

from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.rights.groups import holds, scope_of
from ezadmin_cmdb.rights.models import HostGroup, HostGroupMember
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
ROUND_SECONDS = 15.0
COMPARED_SECONDS = 600.0
_STEP = 200
Memberships = dict[str, str]
"""Names of groups by their ids."""


def found() -> dict[str, Memberships]:
    """The groups that hosts are in now; hosts that are in none are missing."""
    members: dict[str, Memberships] = {}
    groups = db.session.scalars(select(HostGroup).order_by(HostGroup.id)).all()
    names = {group.id: group.name for group in groups}
    for group_id, host_id in db.session.execute(select(HostGroupMember.group_id, HostGroupMember.host_id)):
        if group_id in names:
            members.setdefault(host_id, {})[str(group_id)] = names[group_id]
    for group in groups:
        if group.filter is not None:
            for host_id in db.session.scalars(select(Host.id).where(holds([scope_of(group)]))):
                members.setdefault(host_id, {})[str(group.id)] = group.name
    return members


def refresh() -> int:
    """Write down what has changed, and publish those hosts anew; returns how many. Commits in steps."""
    with unit_of_work():
        members = found()
        known = db.session.execute(select(Host.id, Host.member_of)).all()
        changed = sorted(host_id for host_id, before in known if (before or {}) != members.get(host_id, {}))
    for first in range(0, len(changed), _STEP):
        with unit_of_work():
            locked = hosts.lock(changed[first : first + _STEP])
            for host in locked:
                host.member_of = members.get(host.id, {})
                host.updated = Host.updated  # nobody has changed it
            db.session.flush()
            hosts.publish_many(locked)
    return len(changed)


def publish_all() -> int:
    """Compare the config record of each host with what it should be, and write those that differ anew; returns how many.

    A template and the place of a host that are changed at the same moment may each miss the other.
    """
    ids = db.session.scalars(select(Host.id).order_by(Host.id)).all()
    written = 0
    for first in range(0, len(ids), _STEP):
        with unit_of_work():
            written += hosts.publish_ids(ids[first : first + _STEP])
    return written


class MembershipKeeper(Part):
    """Refreshes until ``stopping`` is set. Two of them do no harm: what one has written the other finds done."""

    def __init__(self, app: Flask, stopping: threading.Event) -> None:
        super().__init__("memberships", stopping)
        self._app = app

    def work(self) -> None:
        """Refresh, and try again what fails."""
        waiting, compared = False, time.monotonic()
        while not self.stopping.is_set():
            try:
                with self._app.app_context():
                    if count := refresh():
                        _log.info("groups of %d hosts have changed", count)
                    if time.monotonic() - compared > COMPARED_SECONDS:
                        if count := publish_all():
                            _log.warning("config records of %d hosts were not what they should be: mended", count)
                        compared = time.monotonic()
                waiting = False
            except (DBAPIError, PoolTimeout) as error:
                if not waiting:
                    _log.warning("groups of hosts are not kept, tried again each %g s: %s", ROUND_SECONDS, error)
                waiting = True
            self.stopping.wait(ROUND_SECONDS)

"""Many hosts changed at once, as :func:`.services.changing` changes one."""

from __future__ import annotations

from collections.abc import Sequence

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.describe.description import Changed, Many
from ezadmin_cmdb.hosts import services, values
from ezadmin_cmdb.hosts.models import Host


def _settle(actor: Actor, hosts: Sequence[Host]) -> None:
    policy = values.policies()
    for host in hosts:
        values.settle(host, actor, policy)


def _publish(actor: Actor, changed: Sequence[Changed]) -> None:
    services.publish_many([host for host, _before, _after in changed])


MANY = Many(services.lock, services.snapshot, _settle, _publish)

"""Which hosts are parts of ezadmin itself: pipeline and CMDB, which tell of themselves as hosts but are no machines."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select

from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts.models import HostKey
from ezadmin_wire.own import KEY_PREFIX, host_id_of


def ids(among: Collection[str] | None = None) -> frozenset[str]:
    """The ids of the parts, of all hosts or of some: those whose id is made of their key. One query."""
    hashed = func.sha2(func.concat(KEY_PREFIX, func.unhex(HostKey.public)), 256)
    alike = func.left(func.replace(HostKey.host_id, "-", ""), 12) == func.left(hashed, 12)  # few, and looked at below
    query = select(HostKey.host_id, HostKey.public).where(alike)
    if among is not None:
        query = query.where(HostKey.host_id.in_(among))
    rows = db.session.execute(query).all()
    return frozenset(row.host_id for row in rows if host_id_of(bytes.fromhex(row.public)) == row.host_id)

"""The pages of groups of hosts: the generated ones, and what a group holds or would hold."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from sqlalchemy import ColumnElement, false, func, select

from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.describe import query as queries
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.services import visible
from ezadmin_cmdb.rights import groups
from ezadmin_cmdb.rights.descriptions import HOST_GROUP
from ezadmin_cmdb.rights.models import HostGroup
from ezadmin_cmdb.rights.services import may
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("host-groups", __name__, url_prefix="/host-groups")
pages.add(bp, HOST_GROUP, pages.actions(HOST_GROUP))
SHOWN = 20


@bp.get("/members")
@needs(HOST_GROUP.view)
def members() -> str:
    """What the group ``id`` holds, or, with ``filter``, would hold; of that, what the reader may see. And who depends on it."""
    actor = current_actor()
    group = db.session.get(HostGroup, request.args.get("id", 0, int))
    text = request.args.get("filter")
    wrong, address = None, None
    condition: ColumnElement[bool] = false()
    if text is None and group is not None:
        condition, address = groups.holds([groups.scope_of(group)]), f"groups={group.id}"
    elif text and text.strip():
        try:
            query = queries.parse_text(find("host"), text, strict=True)
            condition, address = queries.matching(find("host"), query.filter_text), query.filter_text
        except Invalid as error:
            wrong = str(error)
    start = visible(actor).where(condition)
    total = db.session.scalar(select(func.count()).select_from(start.with_only_columns(Host.id).subquery())) or 0
    shown = db.session.scalars(start.order_by(Host.name, Host.id).limit(SHOWN)).all()
    grants = groups.grants_of(group) if group is not None and may(actor, "grant.view") else []
    return render_template(
        "rights/_members.html", total=total, shown=shown, wrong=wrong, address=address, grants=grants,
        asked=text, editing=text is not None,
    )  # fmt: skip

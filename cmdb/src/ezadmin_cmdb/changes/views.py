"""The page of all changes: by requests, unless an order or columns are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, render_template, request

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import groups
from ezadmin_cmdb.changes.description import CHANGE
from ezadmin_cmdb.describe import pages, query
from ezadmin_cmdb.describe.pages import Answer, Pages
from ezadmin_cmdb.describe.query import Query
from ezadmin_cmdb.web.signin import current_actor

MEMBERS = "members-"
"""Targets that a page asks the changes of one request for begin so."""

bp = Blueprint(CHANGE.path, __name__, url_prefix=f"/{CHANGE.path}")


class _Changes(Pages):
    """The pages of changes."""

    def index(self) -> Answer:
        """The list; the changes of one request for a page that unfolds it."""
        if request.headers.get("HX-Target", "").startswith(MEMBERS):
            asked = self._asked()
            found = query.page(current_actor(), self.description, asked)
            return render_template("changes/_members.html", d=self.description, query=asked, found=found)
        return super().index()

    def _list(self, actor: Actor, asked: Query, saved: Sequence[Any]) -> Answer:
        if asked.sort or asked.columns:
            return super()._list(actor, asked, saved)
        found, older = groups.page(actor, self.description, asked, request.args.get("before", None, int))
        template = "changes/_groups.html" if request.headers.get("HX-Target") == "list" else "changes/list.html"
        return render_template(
            template, d=self.description, query=asked, groups=found, older=older, first="before" not in request.args,
            chips=self.chips(asked), allowed=self._allowed(), saved=saved,
        )  # fmt: skip


pages.add(bp, CHANGE, pages.actions(CHANGE), _Changes)

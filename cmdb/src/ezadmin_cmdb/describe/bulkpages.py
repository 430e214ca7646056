"""The pages of a description for many objects: bulk change and deletion, import, and the job that comes of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Response, flash, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import bulk, importing
from ezadmin_cmdb.describe.description import Description
from ezadmin_cmdb.describe.fields import Field, MultiSelect, References
from ezadmin_cmdb.describe.query import Query, parse
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_cmdb.jobs import services as jobs
from ezadmin_cmdb.jobs.models import Job
from ezadmin_cmdb.web.signin import current_actor

Answer = str | BaseResponse | tuple[str, int]
LEAVE, SET, CLEAR = "", "set", "clear"
SIDES = ("add", "remove")
"""Of a field that refers to several: what else can be done with it."""
STATES = {jobs.CHECKING, jobs.WRITING}
"""In which a page asks again and again."""


class BulkPages:
    """Views of one description."""

    description: Description

    def _choices(self, one: Field) -> list[tuple[Any, str]] | None:
        raise NotImplementedError

    def _all_matching(self) -> Query:
        """What the list asked, in the address; values of a form with the same names do not count."""
        return parse(self.description, request.args.items(multi=True))

    def _chosen(self) -> list[Any]:
        """The ids that were ticked, or all that the list's query matches."""
        if request.method == "GET" or request.form.get("all"):
            return bulk.matching(current_actor(), self.description, self._all_matching())
        texts = request.form.getlist("id")
        if self.description.numbered:
            return [int(text) for text in texts if text.isdecimal() and len(text) < 19]
        return texts

    def bulk(self) -> Answer:
        """The form for many objects, and, once it is sent, the job that shows what would come of it."""
        actor, d = current_actor(), self.description
        ids = self._chosen()
        if not ids:
            flash(_("Choose rows first."), "warning")
            return redirect(url_for(".index") + self._all_matching().address())
        fields = bulk.editable(actor, d)
        if request.form.get("step") != "preview":
            return self._bulk_form(ids, fields)
        texts: dict[str, Any] = {}
        sides: dict[str, str] = {}
        for one in fields:
            mode = request.form.get(f"mode.{one.name}", LEAVE)
            if mode in SIDES and isinstance(one, References):
                sides[one.name] = mode
            if mode == SET or one.name in sides:
                multi = isinstance(one, MultiSelect) or one.kind == "tags"
                texts[one.name] = request.form.getlist(one.name) if multi else request.form.get(one.name, "")
            elif mode == CLEAR:
                texts[one.name] = [] if isinstance(one, MultiSelect) else ""
        try:
            job = jobs.begin_edit(actor, d, ids, texts, sides)
        except Invalid as error:
            return self._bulk_form(ids, fields, error), error.status
        return redirect(url_for(".job", job_id=job.id))

    def _bulk_form(self, ids: Sequence[Any], fields: Sequence[Field], error: Invalid | None = None) -> str:
        every = request.method == "GET" or bool(request.form.get("all"))
        return render_template(
            "describe/bulk.html", d=self.description, ids=[] if every else ids, count=len(ids), every=every,
            fields=fields, choices=self._choices, query=self._all_matching(), given=request.form,
            error=None if error is None else str(error), errors=error.fields if error else {},
        )  # fmt: skip

    def bulk_delete(self) -> Answer:
        """The deletion of many: a job that says what would go, and what others still use."""
        ids = self._chosen()
        if not ids:
            flash(_("Choose rows first."), "warning")
            return redirect(url_for(".index") + self._all_matching().address())
        job = jobs.begin_delete(current_actor(), self.description, ids)
        return redirect(url_for(".deletion", job_id=job.id))

    def import_file(self) -> Answer:
        """The form for a file of CSV, and, once it is sent, the job that shows what would come of it."""
        d, error = self.description, None
        if request.method == "POST":
            sent = request.files.get("file")
            try:
                if sent is None or not sent.filename:
                    raise Invalid(_("Choose a file."), "file")
                data = sent.stream.read(importing.SIZE_MAX + 1)
                sent.close()  # a large one is a file on the disk
                job = jobs.begin_import(current_actor(), d, data, sent.filename)
                return redirect(url_for(".job", job_id=job.id))
            except Invalid as refused:
                db.session.rollback()
                error = str(refused)
        page = render_template(
            "describe/import.html", d=d, error=error, limits={"rows": bulk.ROWS_MAX, "size": importing.SIZE_MAX},
            importable=[one for one in d.all_fields() if one.importable], natural=d.natural_fields(),
        )  # fmt: skip
        return page if error is None else (page, 422)

    def job(self, job_id: int) -> Answer:
        """A bulk change or an import: what would come of it, the confirmation, how far it is, what came of it."""
        return self._job(job_id, (jobs.EDIT, jobs.IMPORT), "job")

    def deletion(self, job_id: int) -> Answer:
        """A deletion of many: the same."""
        return self._job(job_id, (jobs.DELETE,), "deletion")

    def _job(self, job_id: int, actions: Sequence[str], endpoint: str) -> Answer:
        actor = current_actor()
        job = jobs.find_job(actor, self.description, job_id, actions)
        if request.method == "GET":
            return self._job_page(job, endpoint)
        try:
            if request.form.get("do") == "cancel":
                jobs.cancel(job)
                flash(_("Given up. Nothing was written."))
                return redirect(url_for(".index"))
            jobs.confirm(actor, job, bool(request.form.get("skip")))
        except Conflict as error:
            db.session.rollback()
            return self._job_page(
                jobs.find_job(actor, self.description, job_id, actions), endpoint, error
            ), error.status
        return redirect(url_for(f".{endpoint}", job_id=job.id))

    def _job_page(self, job: Job, endpoint: str, error: Conflict | None = None) -> str:
        status = request.args.get("status")
        status = status if status in bulk.STATUSES else None
        number = max(1, request.args.get("page", 1, int))
        working = job.state in STATES
        rows, pages = ([], 1) if working else jobs.rows(job, status, number)
        return render_template(
            "describe/job.html", d=self.description, job=job, rows=rows, number=min(number, pages), last=pages,
            status=status, statuses=bulk.STATUSES, working=working, endpoint=f".{endpoint}",
            error=None if error is None else str(error),
        )  # fmt: skip

    def job_errors(self, job_id: int) -> Answer:
        """The lines of an import that could not be taken, as CSV with what is wrong, to be mended and imported again."""
        job = jobs.find_job(current_actor(), self.description, job_id, (jobs.IMPORT,))
        answer = Response(importing.with_errors(job.given["header"], jobs.wrong_lines(job)), mimetype="text/csv")
        answer.headers["Content-Disposition"] = f'attachment; filename="{self.description.path}-errors.csv"'
        return answer

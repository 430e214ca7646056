"""Beginning, checking and writing jobs.

A job is checked by doing it and rolling it back: what is shown is what the database says to it. It is written in one
transaction with its new state: a worker that dies in between leaves it as it was, and the next one begins it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from flask_babel import force_locale
from flask_babel import gettext as _
from sqlalchemy import delete, func, insert, or_, select, update

from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.describe import bulk, importing, services
from ezadmin_cmdb.describe.bulk import Item
from ezadmin_cmdb.describe.description import Description, find
from ezadmin_cmdb.describe.fields import Members
from ezadmin_cmdb.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from ezadmin_cmdb.jobs.models import Job, JobRow
from ezadmin_cmdb.rights import services as rights

EDIT, DELETE, IMPORT = "edit", "delete", "import"
CHECKING, CHECKED, WRITING, DONE, FAILED, CANCELLED = "checking", "checked", "writing", "done", "failed", "cancelled"
AT_ONCE = 200
"""Up to so many rows are worked off within the request; more by the worker."""
LOST_AFTER = timedelta(seconds=60)
"""Who works on a job says so with each step; after this silence another one begins it anew."""
ATTEMPTS = 3
KEPT = timedelta(days=7)
PAGE = 100


def begin_edit(
    actor: Actor,
    description: Description,
    ids: Sequence[Any],
    texts: Mapping[str, Any],
    sides: Mapping[str, str] | None = None,
) -> Job:
    """A change of some objects: ``texts`` of the fields that are set, empty for those that are cleared. ``sides``: fields
    to which what their text names is added ("add"), or from which it is taken ("remove").

    Raises Forbidden; Invalid if nothing is chosen or a text cannot be used.
    """
    rights.require(actor, description.change)
    if not texts:
        raise Invalid(_("Choose a field that is to be changed."))
    values = services.values_of(actor, description, texts, texts)
    wrong, sides = {}, sides or {}
    for name, value in values.items():
        try:
            if name in sides and not value:
                raise Invalid(_("Choose one at least."))
            if name not in sides:
                description.field(name).check(value)
        except Invalid as error:
            wrong[name] = str(error)
    if wrong:
        raise Invalid(" ".join(wrong.values()), fields=wrong)
    return _begin(actor, description, EDIT, {"texts": dict(texts), "sides": dict(sides)}, _rows_of(ids))


def begin_delete(actor: Actor, description: Description, ids: Sequence[Any]) -> Job:
    """The deletion of some objects. Raises Forbidden; Invalid if none is chosen."""
    rights.require(actor, description.delete)
    return _begin(actor, description, DELETE, {}, _rows_of(ids))


def begin_import(actor: Actor, description: Description, data: bytes, file_name: str) -> Job:
    """An import of CSV. Raises Forbidden; Invalid for what is no table, or has no column that could be taken."""
    rights.require(actor, description.change)
    table = importing.read(data)
    columns = importing.columns(actor, description, table.header)
    given = {"file": file_name[:200], "encoding": table.encoding, "delimiter": table.delimiter, **columns.plain()}
    rows = [{"number": number, "texts": texts, "errors": errors} for number, texts, errors in table.rows]
    return _begin(actor, description, IMPORT, given, rows)


def _rows_of(ids: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"number": number, "object_id": str(one)} for number, one in enumerate(dict.fromkeys(ids), 1)]


def _begin(
    actor: Actor, description: Description, action: str, given: dict[str, Any], rows: list[dict[str, Any]]
) -> Job:
    if not rows:
        raise Invalid(_("Nothing is chosen."))
    if len(rows) > bulk.ROWS_MAX:
        raise Invalid(_("These are more than %(n)d rows.", n=bulk.ROWS_MAX))
    if actor.user_id is None:
        raise Forbidden("a job belongs to a user")
    from ezadmin_cmdb.web.i18n import locale

    job = Job(
        action=action, object_type=description.name, user_id=actor.user_id, language=locale(), address=actor.address,
        state=CHECKING, given=given, total=len(rows), done_rows=0, counts={}, attempts=0, skip=False,
    )  # fmt: skip
    db.session.add(job)
    db.session.flush()
    _put_rows(job.id, rows)
    if len(rows) <= AT_ONCE:
        work(job, actor)
    return job


def _put_rows(job_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    db.session.execute(delete(JobRow).where(JobRow.job_id == job_id))
    whole: dict[str, Any] = {
        "object_id": None,
        "version": None,
        "name": "",
        "status": "",
        "texts": None,
        "changes": {},
        "errors": {},
    }
    for first in range(0, len(rows), 1000):
        db.session.execute(insert(JobRow), [{"job_id": job_id, **whole, **row} for row in rows[first : first + 1000]])


def find_job(actor: Actor, description: Description, job_id: int, actions: Sequence[str]) -> Job:
    """A job of the actor's own. Raises NotFound."""
    job = db.session.get(Job, job_id)
    mine = job is not None and job.user_id == actor.user_id and job.object_type == description.name
    if job is None or not mine or job.action not in actions:
        raise NotFound(_("There is no such job, or it is not yours."))
    return job


def confirm(actor: Actor, job: Job, skip: bool) -> None:
    """Write what was checked; ``skip``: without the rows that are wrong. Raises Conflict if there are any, or none else."""
    db.session.refresh(job, with_for_update=True)
    if job.state != CHECKED:
        raise Conflict(_("This was written or cancelled already."))
    wrong = job.counts.get(bulk.WRONG, 0)
    if wrong and not skip:
        raise Conflict(_("%(n)d rows are wrong. Nothing is written unless you leave them out.", n=wrong))
    job.state, job.skip, job.request_id, job.heartbeat, job.done_rows, job.attempts = (
        WRITING, skip, actor.request_id, None, 0, 0,
    )  # fmt: skip
    db.session.flush()
    if job.total <= AT_ONCE:
        work(job, actor)


def cancel(job: Job) -> None:
    """Give a job up that was not written yet."""
    if job.state not in (CHECKED, CHECKING):
        raise Conflict(_("This was written or cancelled already."))
    job.state = CANCELLED


def rows(job: Job, status: str | None, page: int) -> tuple[Sequence[JobRow], int]:
    """A page of a job's rows, those that are wrong first, and the number of pages."""
    query = select(JobRow).where(JobRow.job_id == job.id)
    if status is not None:
        query = query.where(JobRow.status == status)
    total = db.session.scalar(select(func.count()).select_from(query.with_only_columns(JobRow.number).subquery())) or 0
    pages = max(1, -(-total // PAGE))
    order = (JobRow.status != bulk.WRONG, JobRow.status == bulk.UNCHANGED, JobRow.number)
    found = db.session.scalars(query.order_by(*order).limit(PAGE).offset((min(page, pages) - 1) * PAGE)).all()
    return found, pages


def wrong_lines(job: Job) -> list[tuple[Mapping[str, str], Mapping[str, str]]]:
    """(cells, errors) of the lines that could not be taken."""
    query = select(JobRow.texts, JobRow.errors).where(JobRow.job_id == job.id, JobRow.status == bulk.WRONG)
    return [(texts or {}, errors) for texts, errors in db.session.execute(query.order_by(JobRow.number))]


# -- the work ---


def actor_of(job: Job) -> Actor:
    """Who works, where it is not the request of the user himself: he, with the rights that he has now.

    Raises Forbidden if he may do nothing any more.
    """
    user = db.session.get(User, job.user_id)
    if user is None or not user.active:
        raise Forbidden(_("This user is not active."))
    return Actor(user.name, "ui", rights.rights_of(user), job.request_id, user.id, job.address)


def work(job: Job, actor: Actor, progress: Callable[[int], None] | None = None) -> None:
    """Check or write a job, as its state says; commits nothing."""
    if job.action == IMPORT:
        from dataclasses import replace

        actor = replace(actor, source="import")
    description, writing = find(job.object_type), job.state == WRITING
    before = db.session.execute(
        select(JobRow.number, JobRow.object_id, JobRow.version, JobRow.name, JobRow.status, JobRow.texts, JobRow.errors)
        .where(JobRow.job_id == job.id)
        .order_by(JobRow.number)
    ).all()
    speaking: AbstractContextManager[Any] = nullcontext() if progress is None else force_locale(job.language)
    with speaking:
        try:
            items = _items(actor, description, job, before)
            if writing:
                _as_checked(items, before)
            point = db.session.begin_nested()
            do = bulk.delete if job.action == DELETE else bulk.write
            do(actor, description, items, not writing, progress)
        except DomainError as error:
            job.state, job.message = FAILED, str(error)
            return
        counts = bulk.counts(items)
        written = writing and (job.skip or not counts[bulk.WRONG])
        if written:
            point.commit()
        else:
            point.rollback()
        texts = {row.number: row.texts for row in before}
        _put_rows(job.id, [_row(one, texts[one.number]) for one in items])
        job.counts, job.done_rows, job.heartbeat = counts, job.total, None
        job.state = DONE if written else CHECKED
        job.message = None if written or not writing else _("Nothing was written: rows have become wrong meanwhile.")


def _items(actor: Actor, description: Description, job: Job, before: Sequence[Any]) -> list[Item]:
    if job.action == IMPORT:
        columns = importing.Columns.of(job.given)
        lines = [(row.number, row.texts or {}, row.errors if job.state == CHECKING else {}) for row in before]
        return importing.items(actor, description, columns, lines)
    values: dict[str, Any] = {}
    if job.action == EDIT:
        values = services.values_of(actor, description, job.given["texts"], job.given["texts"])
        values |= {name: Members(**{side: values[name]}) for name, side in job.given["sides"].items()}
    convert = int if description.numbered else str
    return [Item(row.number, convert(row.object_id), row.version, values) for row in before]


def _as_checked(items: Sequence[Item], before: Sequence[Any]) -> None:
    """What was wrong stays so; what is no longer as it was shown is refused."""
    for one, row in zip(items, before, strict=True):
        if row.status == bulk.WRONG:
            one.errors, one.name = dict(row.errors), row.name
        elif ("" if one.object_id is None else str(one.object_id)) != (row.object_id or ""):
            one.refuse(_("It was changed by somebody else meanwhile. Load it anew and change that."))
        else:
            one.version = row.version


def _row(one: Item, texts: dict[str, str] | None) -> dict[str, Any]:
    return {
        "number": one.number, "object_id": None if one.object_id is None else str(one.object_id),
        "version": one.version, "name": one.name[:255], "status": one.status, "texts": texts, "changes": one.changes,
        "errors": one.errors,
    }  # fmt: skip


def claim() -> int | None:
    """The oldest job that nobody works on, taken; the caller commits. None if there is none."""
    job = db.session.scalar(
        select(Job)
        .where(Job.state.in_((CHECKING, WRITING)), or_(Job.heartbeat.is_(None), Job.heartbeat < utc_now() - LOST_AFTER))
        .order_by(Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if job is None:
        return None
    job.heartbeat, job.attempts = utc_now(), job.attempts + 1
    if job.attempts > ATTEMPTS:
        job.state = FAILED
        with force_locale(job.language):
            job.message = _("It was begun %(n)d times and never ended. Nothing was written.", n=ATTEMPTS)
    return job.id


def note_progress(job_id: int, done: int) -> None:
    """Tell how far a job is, past its transaction."""
    with db.engine.begin() as connection:
        connection.execute(update(Job).where(Job.id == job_id).values(done_rows=done, heartbeat=utc_now()))


def forget_old() -> None:
    """Delete jobs after a while; what they changed stands in the change records."""
    db.session.execute(delete(Job).where(Job.created < utc_now() - KEPT))

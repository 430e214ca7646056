"""The part of the worker that works off jobs of many rows."""

from __future__ import annotations

import logging
import threading
import time

from flask import Flask
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import db, unavailable, unit_of_work
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.jobs import services
from ezadmin_cmdb.jobs.models import Job
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
POLL_SECONDS = 1.0
PAUSE_SECONDS = 5.0
FORGET_SECONDS = 3600.0


class JobRunner(Part):
    """Looks for jobs, one after the other."""

    def __init__(self, app: Flask, stopping: threading.Event) -> None:
        super().__init__("jobs", stopping)
        self._app = app
        self._forgot = 0.0

    def work(self) -> None:
        """Until the worker ends."""
        pause = 0.0
        while not self.stopping.wait(pause):
            pause = POLL_SECONDS
            try:
                with self._app.app_context():
                    while not self.stopping.is_set() and run_next():
                        pass
                    if time.monotonic() - self._forgot > FORGET_SECONDS:
                        with unit_of_work():
                            services.forget_old()
                        self._forgot = time.monotonic()
            except (DBAPIError, PoolTimeout) as error:
                if not isinstance(error, PoolTimeout) and not unavailable(error):
                    raise
                _log.warning("the database does not answer, jobs wait: %s", error)
                pause = PAUSE_SECONDS


def run_next() -> bool:
    """Work off the oldest job; returns whether there was one. Needs an application context."""
    with unit_of_work():
        job_id = services.claim()
    if job_id is None:
        return False
    try:
        with unit_of_work():
            job = db.session.get(Job, job_id)
            if job is not None and job.state in (services.CHECKING, services.WRITING):
                actor = services.actor_of(job)
                services.work(job, actor, lambda done: services.note_progress(job_id, done))
                _log.info("job %d (%s of %s): %s", job_id, job.action, job.object_type, job.state)
    except DomainError as error:
        _fail(job_id, str(error))
    except DBAPIError as error:
        if unavailable(error):
            raise
        _log.exception("job %d failed", job_id)
        _fail(job_id, "the database refused it; the worker's log says why")
    except Exception:  # noqa: BLE001 - whatever it is, the job must end and the next one be begun
        _log.exception("job %d failed", job_id)
        _fail(job_id, "an error in the program; the worker's log says which")
    return True


def _fail(job_id: int, text: str) -> None:
    with unit_of_work():
        job = db.session.get(Job, job_id)
        if job is not None:
            job.state, job.message, job.heartbeat = services.FAILED, text, None

"""The database, asked in threads: what is done there waits for the network, which the event loop must not."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from flask import Flask
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import DEADLOCK, LOCK_WAIT_TIMEOUT, db, error_code, unavailable
from ezadmin_cmdb.enrolment.services import Refused
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.gateway.problems import Problem

_log = logging.getLogger(__name__)
THREADS = 6
WAITING_MAX = 500
"""Calls that may wait for a thread; more are answered 503."""
TRIES = 4

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """Runs functions in the application, each as one unit of work."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="database")
        self._under_way = 0
        self.away = False

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What ``function`` returns, committed. Raises Problem, also for Refused and DomainError; 503 without a database."""
        if self._under_way >= WAITING_MAX:
            raise Problem(503, "busy", "too much is asked at once", retry=5)
        self._under_way += 1
        try:
            call = functools.partial(self._run, functools.partial(function, *arguments, **named))
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        finally:
            self._under_way -= 1

    def _run(self, function: Callable[[], T]) -> T:
        for last in [False] * (TRIES - 1) + [True]:
            with self._app.app_context():
                try:
                    result = function()
                    db.session.commit()
                    self._found(None)
                    return result
                except (Refused, DomainError) as error:
                    db.session.rollback()
                    db.session.commit()  # what must be told of although it was refused
                    reason = error.reason if isinstance(error, Refused) else "bad_value"
                    retry = 60 if error.status == 429 else None
                    raise Problem(error.status, reason, str(error), retry=retry) from error
                except (DBAPIError, PoolTimeout) as error:
                    self._roll_back()
                    if isinstance(error, DBAPIError) and not last and _may_work_again(error):
                        time.sleep(0.02)
                        continue
                    if isinstance(error, PoolTimeout) or unavailable(error):
                        self._found(error)
                        raise Problem(503, "database_away", "the database cannot be asked now", retry=5) from error
                    raise
                except BaseException:
                    self._roll_back()
                    raise
        raise AssertionError("the last try returns or raises")

    def _roll_back(self) -> None:
        try:
            db.session.rollback()
        except DBAPIError:
            db.session.remove()

    def _found(self, error: Any) -> None:
        if error is None and self.away:
            _log.info("the database answers again")
        elif error is not None and not self.away:
            _log.warning("the database cannot be asked: %s", error)
        self.away = error is not None

    def close(self) -> None:
        """Wait for nothing that has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _may_work_again(error: DBAPIError) -> bool:
    """Two did the same at once: the second one finds what the first has done."""
    return isinstance(error, IntegrityError) or error_code(error) in (DEADLOCK, LOCK_WAIT_TIMEOUT)

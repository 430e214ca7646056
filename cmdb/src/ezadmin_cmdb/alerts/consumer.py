"""The part of the worker that stores alerts of ``<prefix>.alerts``: what comes twice is there once, by the alert's id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import DataError, IntegrityError

from ezadmin_cmdb.alerts import states
from ezadmin_cmdb.consuming import TopicConsumer
from ezadmin_cmdb.database import db
from ezadmin_cmdb.deadletters import DeadLetter
from ezadmin_wire import WireError

ID_MAX = 64


class AlertConsumer(TopicConsumer):
    """Stores alerts. The pipeline writes them, one a message and not signed: only it may write to their topic."""

    group = "cmdb-worker-alerts"
    what = "alerts"

    def store(self, host: str, line: bytes) -> None:
        """Not how alerts come: their messages are no batches."""
        raise WireError("unexpected", "alerts are no batches")

    def _store_messages(self, messages: Sequence[Any]) -> list[DeadLetter]:
        letters = []
        for message in messages:
            try:
                with db.session.begin_nested():
                    states.take(states.decode(message.value or b""), _id(message))
            except WireError as error:
                letters.append(DeadLetter(message, error.reason, str(error)))
            except (DataError, IntegrityError) as error:
                letters.append(DeadLetter(message, "database_refused", f"the database refuses it: {error.orig}"))
        return letters


def _id(message: Any) -> str:
    """The alert's id. Raises WireError for a message without."""
    found: bytes = dict(message.headers).get("id") or b""
    try:
        text = found.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not 0 < len(text) <= ID_MAX:
        raise WireError("bad_header", "no id of an alert")
    return text

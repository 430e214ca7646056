"""Commands for tests."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

from ezadmin_cmdb.commands import states
from ezadmin_cmdb.commands.models import Command, Run
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.hosts.models import Host
from ezadmin_wire import commands as wire
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

KEY = SigningKey.generate()
"""What signs the commands that :func:`queued` makes."""


def queued(
    host_id: str, kind: str = "inventory", arguments: dict[str, Any] | None = None, *, run: str | None = None,
    attempt: int = 1, not_before: datetime | None = None, not_after: datetime | None = None, key: SigningKey = KEY,
) -> Command:  # fmt: skip
    """A command of kim's as it stands in the database once he has confirmed it; the caller commits."""
    now = utc_now()
    host = db.session.get_one(Host, host_id)
    begin, end, run_id = not_before or now, not_after or now + timedelta(minutes=5), run or str(uuid.uuid4())
    told = wire.Command(
        str(uuid.uuid4()), run_id, attempt, kind, host_id, "kim", format_time(begin), format_time(end),
        secrets.token_hex(16), arguments or {},
    )  # fmt: skip
    signed = wire.encode(key, told)
    if db.session.get(Run, run_id) is None:
        of_run = {"kind": kind, "arguments": told.arguments, "actor_name": "kim", "source": "ui", "hosts": 1}
        db.session.add(Run(id=run_id, created=now, not_after=end, **of_run))
        db.session.flush()
    made = Command(
        id=told.id, run=run_id, attempt=attempt, host_id=host_id, host_name=host.name, kind=kind, arguments=told.arguments,
        actor_name="kim", created=now, not_before=begin, not_after=end, nonce=told.nonce, signed=signed.command, kid=signed.kid,
        sig=signed.sig, digest=hashlib.sha256(signed.command.encode()).hexdigest(), state=states.QUEUED, source=states.CMDB,
        heard=now,
    )  # fmt: skip
    db.session.add(made)
    states.enter_queued([made], "kim")
    return made

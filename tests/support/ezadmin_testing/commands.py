"""Commands for tests."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ezadmin_cmdb.commands import states
from ezadmin_cmdb.commands.models import Command, Run
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.signer.settings import CommandSettings, load
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
    states.note_queued([(made.id, made.digest)], now, "kim")
    return made


@contextlib.contextmanager
def signer(folder: Path, **more: int) -> Iterator[CommandSettings]:
    """A running signer with a key of its own; ``more``: other settings of ``[commands]``."""
    key = SigningKey.generate()
    key.save(folder / "command.key")
    config, path = folder / "signer.toml", folder / "signer" / "socket"
    config.write_text(
        f'[commands]\nsigning_key = "{folder}/command.key"\nsigner_socket = "{path}"\npublic_key = "{key.public.hex()}"\n'
        + "".join(f"{name} = {value}\n" for name, value in more.items())
    )
    process = subprocess.Popen([sys.executable, "-m", "ezadmin_cmdb.signer", "--config", str(config)])
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
                break
            assert process.poll() is None, "the signer ended"
            time.sleep(0.05)
        yield load(config)
    finally:
        process.terminate()
        process.wait(10)

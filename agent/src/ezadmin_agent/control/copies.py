"""A disk that was copied: the copy becomes a host of its own, before anything of it is sent.

Whoever clones a machine clones its identity. At each start the fingerprint of the machine is compared with the one beside
the identity; if it is another machine, then host.id and key are made anew, with new spools, whose epochs are new and
which hold nothing of what the original had not sent yet (it sends it itself). Only where the log files were read up to is
kept. Then the copy makes itself known with a proof made with the original's key.

All of it is staged in ``identity.new`` and done from there, again after a crash, until that is gone.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, Optional

from ezadmin_agent.control import files, fingerprint
from ezadmin_agent.identity import IdentityError, load_or_make
from ezadmin_agent.spool import Spool, SpoolError
from ezadmin_wire.enrolment import CloneProof, Fingerprint, clone_proof
from ezadmin_wire.fields import dump, load
from ezadmin_wire.ids import new_host_id
from ezadmin_wire.signing import SigningKey

log = logging.getLogger(__name__)

_KEPT = ("file:", "glob:", "journal", "kernel", "syslog")
"""Positions of sources on this disk; the others are about what the original sent."""


def settle(state_dir: Path, now: Optional[Fingerprint] = None) -> Optional[str]:
    """Called at the start, by the holder of the lock, before the identity is read; returns why this is a copy, if it is.

    Raises IdentityError, WireError for an identity that cannot be read.
    """
    try:
        if _staged(state_dir).exists():
            _finish(state_dir)
        if not (state_dir / "host.key").exists():
            return None
        now = now or fingerprint.collect()
        before = fingerprint.read(state_dir)
        reason = None if before is None else fingerprint.copied(before, now)
        if reason is None:
            fingerprint.keep(state_dir, now if before is None else fingerprint.merged(before, now))
            return None
        old, new = _stage(state_dir, now)
        _finish(state_dir)
    except OSError as error:
        raise IdentityError(f"cannot use the state directory {state_dir}: {error.strerror or error}") from error
    except SpoolError as error:
        raise IdentityError(str(error)) from error
    log.warning("this disk is a copy of host %s's: %s. It is a host of its own from now on: %s", old, reason, new)
    return reason


def remember(state_dir: Path) -> None:
    """Keep the fingerprint of the machine beside a new identity: an image may be made of it at any time from now on.

    Raises IdentityError.
    """
    try:
        if fingerprint.read(state_dir) is None:
            fingerprint.keep(state_dir, fingerprint.collect())
    except OSError as error:
        raise IdentityError(f"cannot use the state directory {state_dir}: {error.strerror}") from error


def proof(state_dir: Path) -> Optional[CloneProof]:
    """What a copy has to show, until it is known as a host of its own. Raises OSError, WireError."""
    try:
        return load(CloneProof, _proof(state_dir).read_bytes())
    except FileNotFoundError:
        return None


def enrolled(state_dir: Path) -> None:
    """The copy is known. Raises OSError."""
    files.remove(_proof(state_dir))


def _proof(state_dir: Path) -> Path:
    return state_dir / "clone.json"


def _staged(state_dir: Path) -> Path:
    return state_dir / "identity.new"


def _stage(state_dir: Path, now: Fingerprint) -> tuple[str, str]:
    old = load_or_make(state_dir)
    key, host = SigningKey.generate(), new_host_id()
    draft = state_dir / "identity.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    key.save(draft / "host.key")
    files.write(draft / "host.id", f"{host}\n".encode())
    files.write(draft / "fingerprint.json", dump(now) + b"\n")
    files.write(draft / "clone.json", dump(clone_proof(old.key, old.host_id, host, key.public.hex())) + b"\n")
    files.write(draft / "positions", json.dumps(_positions(state_dir)).encode())
    draft.rename(_staged(state_dir))
    files.sync_directory(state_dir)
    return old.host_id, host


def _positions(state_dir: Path) -> dict[str, Any]:
    directory = state_dir / "spool" / "logs"
    if not directory.exists():
        return {}
    try:
        spool = Spool(directory, "logs")
        found = spool.positions
        spool.close()
    except SpoolError as error:
        log.warning("where logs were read up to is not known: %s", error)
        return {}
    return {name: position for name, position in found.items() if name.startswith(_KEPT)}


def _finish(state_dir: Path) -> None:
    staged = _staged(state_dir)
    for name in ("spool", "commands"):
        shutil.rmtree(state_dir / name, ignore_errors=True)
    files.remove(state_dir / "host.key.new")
    positions = json.loads((staged / "positions").read_bytes())
    if positions:
        spool = Spool(state_dir / "spool" / "logs", "logs")
        spool.mark(positions)
        spool.close()
    for name in ("clone.json", "fingerprint.json", "host.key", "host.id"):
        files.write(state_dir / name, (staged / name).read_bytes())
    done = state_dir / "identity.draft"
    shutil.rmtree(done, ignore_errors=True)
    staged.rename(done)
    files.sync_directory(state_dir)
    shutil.rmtree(done, ignore_errors=True)

"""Locks between commands at work on the same folder. The kernel frees them when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import LocalError


@contextmanager
def hold(path: Path, what: str, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds the lock of a file that says who holds it.

    what: what the holder does, for others to read. on_wait: called with who holds it before waiting for its end;
    without it a held lock raises LocalError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another command"
            if on_wait is None:
                raise LocalError(
                    f"{holder} is at work in {path.parent}. Wait until it has ended, then try again."
                ) from None
            on_wait(holder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} ({what})".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)

"""Ids.

``host.id`` is a random UUID made on the host at enrolment; nothing of the machine is in it, so a renamed or re-imaged
machine keeps or loses it on purpose, never by accident. A *stream* is one spool queue of an agent; its *epoch* names
one life of that queue, within which every line has its own ``seq``, without gaps. (host, stream, epoch, seq) is thus
the name of a line for ever, and the ``_id`` of an event is made of it alone: a re-send is the same document.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import uuid

EPOCH_PATTERN = re.compile(r"[0-9a-f]{16}")
STREAM_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


def new_host_id() -> str:
    """A random host.id (UUID 4)."""
    return str(uuid.uuid4())


def is_host_id(text: str) -> bool:
    """Whether ``text`` is a UUID in its one usual form (lower case, hyphens)."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def new_epoch() -> str:
    """A random epoch (16 hex digits)."""
    return os.urandom(8).hex()


def event_id_prefix(host_id: str, stream: str, epoch: str) -> str:
    """The 12 characters that the ``_id`` of every event of this stream and epoch begin with (72 bits of BLAKE2b)."""
    digest = hashlib.blake2b(f"{host_id}\n{stream}\n{epoch}".encode(), digest_size=9).digest()
    return base64.urlsafe_b64encode(digest).decode()


def event_id(prefix: str, seq: int) -> str:
    """The ``_id`` of the event with number ``seq``; ``prefix`` from :func:`event_id_prefix`."""
    return f"{prefix}{seq:x}"

"""Documents of the topic ``jobs``: what becomes of a command on a host. One JSON object a line of a batch.

States only go forward, in the order of :data:`STATES`; a document about an earlier state than one already seen changes
nothing. Output travels as chunks with their place, so that a chunk that comes twice writes the same bytes twice.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Optional, Union

from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import dump_tagged, load_tagged
from ezadmin_wire.times import parse_time

STATES = ("queued", "sent", "accepted", "running", "done", "failed", "cancelled", "expired", "refused", "lost")
END_STATES = ("done", "failed", "cancelled", "expired", "refused", "lost")
TOLD_STATES = ("accepted", "running", "done", "failed", "refused", "lost")
"""What an agent may say; the others are the cmdb's own words."""
MAX_CHUNK = 128 * 1024
"""Bytes of output in one chunk, before base64."""


@dataclass(frozen=True)
class JobState:
    """``type: state``: a run on a host came into ``state`` at ``at``; ``reason`` says why it ended."""

    run: str
    attempt: int
    state: str
    at: str
    reason: Optional[str] = None
    exit_code: Optional[int] = None

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise WireError("bad_value", f"state: {self.state!r} is none of {', '.join(STATES)}")
        parse_time(self.at)


@dataclass(frozen=True)
class JobMilestone:
    """``type: milestone``: the script said that it reached step ``number`` (of ``total``)."""

    run: str
    attempt: int
    number: int
    at: str
    text: str = ""
    total: Optional[int] = None

    def __post_init__(self) -> None:
        parse_time(self.at)


@dataclass(frozen=True)
class JobOutput:
    """``type: output``: ``data`` (base64) of ``file`` (``stdout``, ``stderr``, a result file) from byte ``offset``."""

    run: str
    attempt: int
    file: str
    offset: int
    data: str
    last: bool = False

    def __post_init__(self) -> None:
        if self.offset < 0 or len(self.bytes()) > MAX_CHUNK:
            raise WireError("bad_value", f"output of {self.file}: a chunk has at most {MAX_CHUNK} bytes, offset >= 0")

    def bytes(self) -> bytes:
        """The chunk itself. Raises WireError (``bad_value``) if ``data`` is not base64."""
        try:
            return base64.b64decode(self.data, validate=True)
        except ValueError as error:
            raise WireError("bad_value", f"data: not base64 ({error})") from error


JobDocument = Union[JobState, JobMilestone, JobOutput]
TYPES: dict[str, type[JobDocument]] = {"state": JobState, "milestone": JobMilestone, "output": JobOutput}


def encode(document: JobDocument) -> bytes:
    """One line (without newline) of a ``jobs`` batch."""
    return dump_tagged(document, TYPES)


def decode(line: bytes) -> JobDocument:
    """Decode one line. Raises WireError (``bad_value``, ``unknown_type``, ``bad_time``) that names the member."""
    return load_tagged(line, TYPES)

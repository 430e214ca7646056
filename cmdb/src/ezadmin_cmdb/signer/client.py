"""Asking the signer."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ezadmin_wire.commands import Command, SignedCommand
from ezadmin_wire.fields import dump

TIMEOUT_SECONDS = 15.0
CHUNK_BYTES = 8 << 20
CHUNK = 500


class SignerRefuses(Exception):
    """It signs nothing of this; ``reason`` as in :mod:`.process`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class SignerUnavailable(Exception):
    """It cannot be reached."""


def sign(path: Path, commands: Sequence[Command]) -> list[SignedCommand]:
    """Have commands signed, in their order. Raises SignerRefuses, SignerUnavailable."""
    found: list[SignedCommand] = []
    for chunk in _chunks([dump(one) for one in commands]):
        answer = _ask(path, b'{"commands":[' + b",".join(chunk) + b"]}\n")
        if "error" in answer:
            raise SignerRefuses(str(answer["error"]), str(answer.get("message")))
        found += [SignedCommand(**one) for one in answer["signed"]]
    return found


def _chunks(texts: Sequence[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for text in texts:
        if chunk and (len(chunk) >= CHUNK or size + len(text) > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def _ask(path: Path, line: bytes) -> dict[str, Any]:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(str(path))
            with contextlib.suppress(BrokenPipeError):  # it answers at once whom it does not listen to
                connection.sendall(line)
            with connection.makefile("rb") as file:
                raw = file.readline()
        answer = json.loads(raw)
    except (OSError, ValueError) as error:
        raise SignerUnavailable(f"the signer does not answer on {path}: {error}") from error
    if not isinstance(answer, dict):
        raise SignerUnavailable(f"what answers on {path} is no signer")
    return answer

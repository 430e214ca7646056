"""Who this host is: a random host.id and an Ed25519 key, made at the first start and kept in the state directory."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from ezadmin_wire.ids import is_host_id, new_host_id
from ezadmin_wire.signing import SigningKey


class IdentityError(Exception):
    """The state directory cannot hold an identity, or holds a damaged one; the text says what to do."""


@dataclass(frozen=True)
class Identity:
    """``host_id`` and ``key``; ``host_name`` is only what people call the host, and may change."""

    host_id: str
    host_name: str
    key: SigningKey


def host_name() -> str:
    """The host's name in lower case."""
    return socket.gethostname().lower()


def load_or_make(state_dir: Path) -> Identity:
    """The identity in ``state_dir`` (made with mode 0700 if missing). Raises IdentityError; WireError for a bad key."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        id_file, key_file = state_dir / "host.id", state_dir / "host.key"
        if not key_file.exists():
            if id_file.exists():
                raise IdentityError(
                    f"{id_file} is there, but its key {key_file} is not. Restore the key, or remove {id_file} to make "
                    "this a new host"
                )
            SigningKey.generate().save(key_file)
        key = SigningKey.load(key_file)
        if not id_file.exists():
            _write(id_file, new_host_id())
        text = id_file.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise IdentityError(f"cannot use the state directory {state_dir}: {error.strerror}") from error
    if not is_host_id(text):
        raise IdentityError(
            f"{id_file} holds no host.id (a UUID): {text[:50]!r}. Restore it, or remove it and {key_file}"
        )
    return Identity(text, host_name(), key)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

"""Ed25519 keys, and what exactly is signed.

A signature covers :func:`signed_bytes`: a context (``ezadmin/batch/1``, ``ezadmin/config/1`` …), so that a signature
made for one purpose is worth nothing for another, then every part with its length before it, so that no two lists of
parts give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ezadmin_wire.errors import WireError


def key_id(public: bytes) -> str:
    """The kid of a raw 32-byte public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def signed_bytes(context: str, parts: Iterable[bytes]) -> bytes:
    """The bytes that a signature covers: ``context``, then each part, each with its length (4 bytes, big-endian)."""
    out: list[bytes] = []
    for part in (context.encode(), *parts):
        out.append(struct.pack(">I", len(part)))
        out.append(part)
    return b"".join(out)


class SigningKey:
    """A private key: signs, and knows its public half and kid."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.kid = key_id(self.public)

    @classmethod
    def generate(cls) -> SigningKey:
        """A new random key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a PEM PKCS8 file. Raises WireError (``bad_key``) if it is none, or if others may read it."""
        try:
            mode = path.stat().st_mode
            data = path.read_bytes()
        except OSError as error:
            raise WireError("bad_key", f"cannot read the key file {path}: {error.strerror}") from error
        if mode & 0o077:
            raise WireError("bad_key", f"the key file {path} is readable by others; run: chmod 600 {path}")
        try:
            private = load_pem_private_key(data, password=None)
        except (ValueError, TypeError) as error:
            raise WireError("bad_key", f"{path} holds no unencrypted PEM private key") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise WireError("bad_key", f"{path} holds a key that is not Ed25519")
        return cls(private)

    def save(self, path: Path) -> None:
        """Write a PEM PKCS8 file of mode 0600, fsynced. Raises FileExistsError rather than overwrite a key."""
        pem = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike rename, fails if the name is taken
        finally:
            os.unlink(temporary)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature of ``data``."""
        return self._private.sign(data)


class VerifyKey:
    """A public key: verifies, and knows its kid. Raises WireError (``bad_key``) if ``public`` is not 32 bytes."""

    def __init__(self, public: bytes) -> None:
        try:
            self._public = Ed25519PublicKey.from_public_bytes(public)
        except ValueError as error:
            raise WireError("bad_key", "a public key is 32 bytes (64 hex digits)") from error
        self.public = public
        self.kid = key_id(public)

    @classmethod
    def from_hex(cls, text: str) -> VerifyKey:
        """Read 64 hex digits. Raises WireError (``bad_key``) for anything else."""
        if not re.fullmatch("[0-9a-fA-F]{64}", text):  # bytes.fromhex would take spaces
            raise WireError("bad_key", f"not a public key of 64 hex digits: {text!r}")
        return cls(bytes.fromhex(text))

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` is this key's over ``data``."""
        try:
            self._public.verify(signature, data)
        except InvalidSignature:
            return False
        return True

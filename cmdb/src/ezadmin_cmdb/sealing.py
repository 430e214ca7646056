"""Secrets that must be read again (those that webhooks sign with) lie encrypted in the database, so that a dump shows none."""

from __future__ import annotations

import base64
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE = 12


class SealBroken(ValueError):
    """It was sealed with another key, or for another purpose."""


def seal(key: bytes, purpose: str, text: str) -> str:
    """Encrypt a text with the key of ``secret_key_file``; ``purpose`` binds it to its place. Base64."""
    nonce = secrets.token_bytes(_NONCE)
    return base64.b64encode(nonce + _cipher(key).encrypt(nonce, text.encode(), purpose.encode())).decode()


def unseal(key: bytes, purpose: str, sealed: str) -> str:
    """Decrypt what :func:`seal` wrote. Raises SealBroken."""
    data = base64.b64decode(sealed)
    try:
        return _cipher(key).decrypt(data[:_NONCE], data[_NONCE:], purpose.encode()).decode()
    except InvalidTag:
        raise SealBroken("it was encrypted with another secret_key_file") from None


def _cipher(key: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=b"ezadmin sealing").derive(key))

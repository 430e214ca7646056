"""Tokens and the proof of a copied disk."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_wire import WireError, enrolment
from ezadmin_wire.enrolment import EnrolRequest, Fingerprint, Token
from ezadmin_wire.fields import dump, load
from ezadmin_wire.signing import SigningKey, VerifyKey

KEY = SigningKey.generate()
TOKEN = Token("https://gateway.example:8443", enrolment.new_secret(), KEY.public.hex(), "0" * 64)
HOSTS = ("00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b")


def test_a_token_is_one_word_and_comes_through() -> None:
    text = enrolment.write_token(TOKEN)
    assert text.startswith(enrolment.PREFIX)
    assert text.replace(".", "").replace("-", "").replace("_", "").isalnum()
    assert enrolment.read_token(f" {text}\n") == TOKEN
    assert TOKEN.secret not in repr(TOKEN)


@given(st.integers(0), st.integers(0, 255))
def test_a_changed_sign_is_noticed(at: int, sign: int) -> None:
    text = enrolment.write_token(TOKEN)
    at %= len(text) - 1  # the last sign has bits that stand for nothing
    changed = text[:at] + chr(sign) + text[at + 1 :]
    if changed.strip() == text:
        return
    with pytest.raises(WireError):
        enrolment.read_token(changed)


@given(st.text() | st.text().map(lambda text: enrolment.PREFIX + text))
def test_any_text_is_a_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        enrolment.read_token(text)


@given(st.binary())
def test_any_bytes_within_are_a_wire_error(value: bytes) -> None:
    data = base64.urlsafe_b64encode(zlib.crc32(value).to_bytes(4, "big") + value).decode().rstrip("=")
    with pytest.raises(WireError):
        enrolment.read_token(enrolment.PREFIX + data)


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "ftp://host",
        "https://host/",
        "https://host/x",
        "https://user@host",
        "https://host:port",
        "https://host:",
        "https://ho st",
        "https://host?x",
        "https://[::1",
        "https://host:8443\n",
    ],
)
def test_a_url_is_scheme_host_and_port(url: str) -> None:
    with pytest.raises(WireError, match=r"not http\(s\)://host"):
        Token(url, "x", KEY.public.hex())


def test_these_urls_are_right() -> None:
    for url in ("https://host", "http://127.0.0.1:80", "https://[2001:db8::1]:8443", "https://서버.example:1"):
        Token(url, "x", KEY.public.hex())


def test_a_request_has_a_secret_or_a_proof() -> None:
    given_: dict[str, Any] = {"host": HOSTS[0], "public_key": KEY.public.hex(), "name": "a", "version": "1"}
    proof = enrolment.clone_proof(KEY, *HOSTS, KEY.public.hex())
    for more in ({}, {"secret": "x", "clone": proof}):
        with pytest.raises(WireError, match="exactly one"):
            EnrolRequest(**given_, fingerprint=Fingerprint(), **more)  # type: ignore[arg-type]
    request = EnrolRequest(**given_, fingerprint=Fingerprint(macs=["00-00-5E-00-53-01"]), clone=proof)
    assert load(EnrolRequest, dump(request)) == request


@given(st.binary())
def test_any_request_is_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        load(EnrolRequest, data)


def test_a_clone_proof_is_for_one_old_and_one_new_host_and_key() -> None:
    public = SigningKey.generate().public.hex()
    proof = enrolment.clone_proof(KEY, *HOSTS, public)
    key = VerifyKey(KEY.public)
    signature = bytes.fromhex(proof.sig)
    assert (proof.host, proof.kid) == (HOSTS[0], KEY.kid)
    assert key.verify(signature, enrolment.clone_bytes(*HOSTS, public))
    assert not key.verify(signature, enrolment.clone_bytes(HOSTS[1], HOSTS[0], public))
    assert not key.verify(signature, enrolment.clone_bytes(*HOSTS, KEY.public.hex()))

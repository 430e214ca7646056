"""Keys, key files and what a signature covers."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_wire import WireError
from ezadmin_wire.signing import SigningKey, VerifyKey, key_id, signed_bytes

KEY = SigningKey.generate()
_lists = st.tuples(st.text(max_size=4), st.lists(st.binary(max_size=4), max_size=4))


@given(_lists, _lists)
def test_no_two_part_lists_give_the_same_bytes(first: tuple[str, list[bytes]], second: tuple[str, list[bytes]]) -> None:
    assert (signed_bytes(*first) == signed_bytes(*second)) == (first == second)


@given(st.text(max_size=4), st.lists(st.binary(max_size=6), min_size=1, max_size=4), st.data())
def test_moving_a_boundary_changes_the_bytes(context: str, parts: list[bytes], data: st.DataObject) -> None:
    # the same bytes in a row, cut at other places
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    other = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)])]
    assert (signed_bytes(context, parts) == signed_bytes(context, other)) == (parts == other)


def test_the_bytes_are_those_of_the_specification() -> None:
    assert signed_bytes("ctx", [b"", b"ab"]) == b"\0\0\0\3ctx" + b"\0\0\0\0" + b"\0\0\0\2ab"


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_a_signature_is_for_its_bytes_and_key(data: bytes, other: bytes) -> None:
    signature = KEY.sign(data)
    assert VerifyKey(KEY.public).verify(signature, data)
    assert VerifyKey(KEY.public).verify(signature, other) == (data == other)
    assert not VerifyKey(SigningKey.generate().public).verify(signature, data)


@given(st.binary(max_size=100))
def test_random_bytes_are_no_signature(signature: bytes) -> None:
    assert not VerifyKey(KEY.public).verify(signature, b"data")


def test_ids_of_keys() -> None:
    assert KEY.kid == VerifyKey(KEY.public).kid == VerifyKey.from_hex(KEY.public.hex()).kid == key_id(KEY.public)
    assert len(KEY.kid) == 16
    # RFC 8032, test 1
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert key_id(public) == "21fe31dfa154a261"


@pytest.mark.parametrize("text", ["", "00", "00" * 31, "00" * 33, "zz" * 32, " ".join(["00"] * 32), "0x" + "00" * 32])
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(WireError) as caught:
        VerifyKey.from_hex(text)
    assert caught.value.reason == "bad_key"
    assert "64 hex digits" in str(caught.value)


def test_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "host.key"
    old = os.umask(0)
    try:
        KEY.save(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert SigningKey.load(path).public == KEY.public
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        SigningKey.generate().save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["host.key"], "nothing is left behind"


def test_a_key_file_that_cannot_be_used(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(WireError) as caught:
            SigningKey.load(path)
        assert caught.value.reason == "bad_key"
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "No such file" in refused(tmp_path / "missing")
    path = tmp_path / "host.key"
    KEY.save(path)
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        assert f"chmod 600 {path}" in refused(path)
    path.chmod(0o600)
    path.write_text("no key")
    assert "no unencrypted PEM" in refused(path)
    path.write_bytes(b"\xff\x00")
    refused(path)
    rsa = generate_private_key(65537, 2048)
    path.write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert "not Ed25519" in refused(path)

"""Signed commands: exactly what was signed is read, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_wire import WireError, commands
from ezadmin_wire.commands import Command, SignedCommand
from ezadmin_wire.signing import SigningKey, VerifyKey

KEY = SigningKey.generate()
KEYS = [VerifyKey(KEY.public)]
HOST = "00000000-0000-4000-8000-00000000000a"
COMMAND = Command(
    id="00000000-0000-4000-8000-000000000001",
    run="00000000-0000-4000-8000-000000000002",
    attempt=1,
    kind="sample",
    host=HOST,
    actor="김",
    not_before="2026-11-24T08:00:00.000Z",
    not_after="2026-11-24T09:00:00.000Z",
    nonce="0" * 32,
    arguments={"interval": 1, "seconds": 60},
)
SIGNED = commands.encode(KEY, COMMAND)


def signed(text: str) -> SignedCommand:
    """``text`` as it stands, signed by the right key: what a faulty signer could bring about."""
    import base64

    signature = KEY.sign(commands._signed(KEY.kid, text.encode()))
    return SignedCommand(text, KEY.kid, base64.urlsafe_b64encode(signature).decode().rstrip("="))


def test_a_command_comes_through() -> None:
    assert commands.decode(SIGNED, KEYS) == COMMAND
    assert json.loads(SIGNED.command)["actor"] == "김"


@given(st.data())
def test_every_flipped_bit_is_refused(data: st.DataObject) -> None:
    member = data.draw(st.sampled_from(["command", "kid", "sig"]))
    before = bytearray(getattr(SIGNED, member).encode())
    at = data.draw(st.integers(0, len(before) * 8 - 1))
    before[at // 8] ^= 1 << at % 8
    altered = replace(SIGNED, **{member: before.decode("utf-8", "surrogateescape")})
    with pytest.raises(WireError):
        commands.decode(altered, KEYS)


def test_every_bit_of_the_signature_s_text_counts() -> None:
    for at in range(len(SIGNED.sig) * 8):
        text = bytearray(SIGNED.sig.encode())
        text[at // 8] ^= 1 << at % 8
        with pytest.raises(WireError, match="signature"):
            commands.decode(replace(SIGNED, sig=text.decode("latin-1")), KEYS)
    for more in ("=", "==", "A", "\n"):
        with pytest.raises(WireError, match="signature"):
            commands.decode(replace(SIGNED, sig=SIGNED.sig + more), KEYS)


@given(st.text(), st.text() | st.just(KEY.kid), st.text() | st.just(SIGNED.sig))
def test_anything_else_is_a_wire_error(command: str, kid: str, sig: str) -> None:
    with pytest.raises(WireError):
        commands.decode(SignedCommand(command, kid, sig), KEYS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*vars(COMMAND)]), inner),
)


@given(st.text() | JSON.map(json.dumps))
def test_what_is_signed_and_yet_no_command_is_a_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        commands.decode(signed(text.encode("utf-8", "replace").decode()), KEYS)


@given(st.sampled_from([*vars(COMMAND)]), JSON)
def test_a_wrong_member_is_named_or_read(name: str, value: Any) -> None:
    try:
        found = commands.decode(signed(json.dumps({**vars(COMMAND), name: value})), KEYS)
    except WireError:
        return
    assert getattr(found, name) == (value if not isinstance(value, float) else float(value))


@pytest.mark.parametrize(
    ("changed", "reason", "text"),
    [
        ({"more": 1}, "bad_value", "more: this version knows no such member"),
        ({"kind": "shell"}, "unknown_kind", "kind: 'shell' is none of"),
        ({"arguments": {"interval": 1}}, "bad_value", "arguments.seconds: missing"),
        ({"arguments": {"interval": 1, "seconds": 60, "x": 1}}, "bad_value", "arguments.x: sample has no such"),
        ({"arguments": {"interval": True, "seconds": 60}}, "bad_value", "arguments.interval: expected a whole number"),
        ({"attempt": 0}, "bad_value", "attempt"),
        ({"nonce": "0" * 31}, "bad_value", "nonce"),
        ({"id": "X"}, "bad_value", "id"),
        ({"not_after": COMMAND.not_before}, "bad_value", "not_after"),
        ({"kind": "stop", "arguments": {"reason": "\ud800"}}, "bad_value", "JSON"),
        ({"kind": "configure", "arguments": {"version": 1, "config": {"a": float("nan")}}}, "bad_value", "JSON"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, Any], reason: str, text: str) -> None:
    with pytest.raises(WireError, match=text) as caught:
        commands.decode(signed(json.dumps({**vars(COMMAND), **changed})), KEYS)
    assert caught.value.reason == reason


def test_a_nest_that_is_too_deep_is_refused() -> None:
    with pytest.raises(WireError):
        commands.decode(signed("[" * 100_000 + "]" * 100_000), KEYS)
    text = json.dumps({**vars(COMMAND), "kind": "configure"}).replace(
        '"arguments": {', '"arguments": {"config": ' + "[" * 900 + "]" * 900 + ", "
    )
    with pytest.raises(WireError):
        commands.decode(signed(text), KEYS)


def test_another_key_is_unknown_and_a_large_one_is_not_read() -> None:
    with pytest.raises(WireError) as caught:
        commands.decode(SIGNED, [VerifyKey(SigningKey.generate().public)])
    assert caught.value.reason == "unknown_key"
    with pytest.raises(WireError, match="at most"):
        commands.decode(signed(" " * (commands.MAX_BYTES + 1)), KEYS)
    large = replace(COMMAND, kind="configure", arguments={"version": 1, "config": {"x": "y" * commands.MAX_BYTES}})
    with pytest.raises(WireError, match="at most"):
        commands.encode(KEY, large)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("2026-11-24T07:58:59.999Z", "too_early"),
        ("2026-11-24T07:59:00.000Z", None),
        ("2026-11-24T09:00:00.000Z", None),
        ("2026-11-24T09:00:00.001Z", "expired"),
    ],
)
def test_time(at: str, reason: str | None) -> None:
    if reason is None:
        commands.check_time(COMMAND, at)
        return
    with pytest.raises(WireError) as caught:
        commands.check_time(COMMAND, at)
    assert caught.value.reason == reason

"""Signed requests: what is signed cannot be changed, and what is no such header is refused."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ezadmin_wire import WireError
from ezadmin_wire.requests import authorization, parse
from ezadmin_wire.signing import SigningKey, VerifyKey
from ezadmin_wire.times import format_time

HOST = "00000000-0000-4000-8000-00000000000a"
KEY = SigningKey.generate()
PUBLIC = VerifyKey(KEY.public)
TIME = "2026-11-24T08:15:30.123Z"


def header(**changed: str) -> str:
    return authorization(KEY, **{"host": HOST, "method": "GET", "target": "/api/v1/x?y=1", "time": TIME, **changed})  # type: ignore[arg-type]


def test_a_request_is_its_host_s_as_it_was_signed() -> None:
    claim = parse(header())
    assert (claim.host, claim.kid, claim.time) == (HOST, KEY.kid, TIME)
    assert claim.signed_by(PUBLIC, "GET", "/api/v1/x?y=1")
    assert not claim.signed_by(VerifyKey(SigningKey.generate().public), "GET", "/api/v1/x?y=1")
    assert not claim.signed_by(PUBLIC, "POST", "/api/v1/x?y=1")
    assert not claim.signed_by(PUBLIC, "GET", "/api/v1/x?y=2")
    assert not claim.signed_by(PUBLIC, "GET", "/api/v1/x?y=1", b"body")


@pytest.mark.parametrize("part", [HOST, TIME, KEY.kid], ids=["host", "time", "kid"])
def test_no_part_of_the_claim_can_be_changed(part: str) -> None:
    end = "1" if part[-1] == "0" else "0"
    other = part[:-2] + "1Z" if part == TIME else part[:-1] + end
    assert not parse(header().replace(part, other)).signed_by(PUBLIC, "GET", "/api/v1/x?y=1")


def test_age() -> None:
    claim = parse(header())
    moment = datetime(2026, 11, 24, 8, 15, 30, 123000, tzinfo=timezone.utc)
    assert claim.age(format_time(moment + timedelta(seconds=301))) == 301
    assert claim.age(format_time(moment - timedelta(seconds=5))) == -5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer abc",
        header() + "x",
        header() + "\n",
        header().replace("Ezadmin ", "ezadmin "),
        header().replace(HOST, HOST[:-1] + "-"),
        header().replace(TIME, "2026-13-24T08:15:30.123Z"),
        header().replace("signature=", "signature=+"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="not one that a host makes"):
        parse(text)

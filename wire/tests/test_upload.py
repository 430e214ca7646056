"""Uploads: batches come out as they were put in; a body that is torn is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_wire import WireError, upload

NAMES = st.text(max_size=60).filter(lambda text: len(text.encode("utf-8", "replace")) < 256).filter(str.isprintable)
BATCHES = st.lists(
    st.tuples(st.lists(st.tuples(NAMES, st.binary(max_size=200)), max_size=20), st.binary(max_size=2000)),
    min_size=1,
    max_size=upload.MAX_BATCHES,
)


@given(BATCHES)
def test_batches_come_through(batches: list[tuple[list[tuple[str, bytes]], bytes]]) -> None:
    assert upload.decode(upload.encode(batches)) == batches


@given(BATCHES, st.data())
def test_a_torn_body_is_refused(batches: list[tuple[list[tuple[str, bytes]], bytes]], data: st.DataObject) -> None:
    body = upload.encode(batches)
    ends = {len(upload.encode(batches[:count])) for count in range(1, len(batches) + 1)}
    cut = data.draw(st.integers(0, len(body) - 1))
    if cut in ends:
        assert upload.decode(body[:cut]) == batches[: sorted(ends).index(cut) + 1]
        return
    with pytest.raises(WireError) as caught:
        upload.decode(body[:cut])
    assert caught.value.reason == "bad_upload"


@given(st.binary())
def test_any_bytes_are_batches_or_a_wire_error(body: bytes) -> None:
    try:
        found = upload.decode(body)
    except WireError:
        return
    assert upload.encode(found) == body


def test_bounds() -> None:
    one: tuple[list[tuple[str, bytes]], bytes] = ([], b"x")
    with pytest.raises(WireError, match="more than 64"):
        upload.decode(upload.encode([one] * (upload.MAX_BATCHES + 1)))
    with pytest.raises(WireError, match="at most"):
        upload.decode(bytes(upload.MAX_BODY + 1))
    with pytest.raises(WireError, match="no batch"):
        upload.decode(b"")

"""What is not done to dead letters."""

from __future__ import annotations

import pytest

from ezadmin_pipeline.letters import Box, Letter
from ezadmin_wire.batch import deflate


def test_a_letter_of_an_unknown_kind_is_not_settled_by_a_replay_and_neither_are_its_companions() -> None:
    box = object.__new__(Box)  # without services: nothing may be asked of them
    letters = [Letter("known", {"kind": b"line"}, None, b"{}"), Letter("strange", {"kind": b"parcel"}, None, b"")]
    with pytest.raises(LookupError, match="strange is of kind 'parcel'"):
        box.replay(letters)


def test_a_compact_message_is_shown_as_lines_and_kept_as_it_came() -> None:
    value = deflate(b'{"a":1}\n')
    compact = {"kind": b"message", "orig.v": b"2"}
    for headers, found, shown in (
        (compact, value, b'{"a":1}\n'),
        (compact, value[:-2], value[:-2]),  # broken: that may be why it is dead
        ({**compact, "orig.v": b"1"}, value, value),
        ({**compact, "kind": b"line"}, b"{}", b"{}"),
    ):
        letter = Letter("1", headers, None, found)
        assert (letter.plain(), letter.value) == (shown, found)

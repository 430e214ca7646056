"""What is not done to dead letters."""

from __future__ import annotations

import pytest

from ezadmin_pipeline.letters import Box, Letter


def test_a_letter_of_an_unknown_kind_is_not_settled_by_a_replay_and_neither_are_its_companions() -> None:
    box = object.__new__(Box)  # without services: nothing may be asked of them
    letters = [Letter("known", {"kind": b"line"}, None, b"{}"), Letter("strange", {"kind": b"parcel"}, None, b"")]
    with pytest.raises(LookupError, match="strange is of kind 'parcel'"):
        box.replay(letters)

"""The list of processes as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_wire import WireError
from ezadmin_wire.processes import COLUMNS, Row, decode, encode

WORDS = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=("Cs",)), min_size=1, max_size=20)
ROWS = st.builds(
    Row,
    pid=st.integers(1, 1 << 22),
    parent=st.none() | st.integers(0, 1 << 22),
    user=st.none() | WORDS,
    state=st.sampled_from("RSDIZT"),
    cpu=st.integers(0, 64_000).map(lambda tenths: tenths / 10),
    memory=st.integers(0, 1 << 22),
    threads=st.integers(1, 5000),
    start=st.none() | st.integers(0, 1 << 31),
    command=WORDS,
)


@given(st.lists(ROWS, max_size=30))
def test_what_goes_in_comes_out(rows: list[Row]) -> None:
    text = encode(rows)
    assert decode(text) == rows
    assert len(text.split("\n")) == len(COLUMNS)


def test_what_is_as_before_or_was_told_costs_a_tab() -> None:
    row = Row(4711, 1, "www", "S", 0.04, 0, 1, 100, "a\tb\n")
    assert encode([row, row._replace(pid=4712, parent=None, user=None, start=None)]) == (
        "pid\t4711\t1\nparent\t1\t\nuser\twww\t\nstate\tS\t\ncpu\t\t\nmemory\t\t\nthreads\t\t\nstart\t100\t\n"
        "command\ta b \t"
    )


@pytest.mark.parametrize("text", ["", "pid\t1", encode([]).replace("user", "uid"), encode([]) + "\tx"])
def test_another_text_is_told(text: str) -> None:
    with pytest.raises(WireError, match="a list of processes begins"):
        decode(text)


def test_a_number_that_is_none_is_told() -> None:
    with pytest.raises(WireError, match="no number"):
        decode(encode([Row(1, 0, "root", "S", 0.0, 0, 1, 0, "init")]).replace("parent\t0", "parent\tx"))

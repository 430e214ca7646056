"""Ranges of numbers against a plain set of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ezadmin_pipeline.ranges import MAX_RANGES, Ranges

_range = st.tuples(st.integers(0, 60), st.integers(0, 60))


def members(ranges: Ranges) -> set[int]:
    return {number for start, end in ranges.to_list() for number in range(start, end)}


def runs(numbers: set[int]) -> list[list[int]]:
    """The ranges of a set, the plain way."""
    out: list[list[int]] = []
    for number in sorted(numbers):
        if out and out[-1][1] == number:
            out[-1][1] = number + 1
        else:
            out.append([number, number + 1])
    return out


@given(st.lists(_range, max_size=12), _range)
def test_as_a_set(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    ranges, plain = Ranges(), set[int]()
    for start, end in added:
        ranges.add(start, end)
        plain |= set(range(start, end))
        assert ranges.to_list() == runs(plain)
    assert ranges.missing(*asked) == [tuple(pair) for pair in runs(set(range(*asked)) - plain)]
    assert Ranges((a, b) for a, b in ranges.to_list()).to_list() == ranges.to_list()


@given(st.lists(_range, max_size=6), _range)
def test_what_was_missing_and_added_is_there(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    ranges = Ranges(added)
    before = members(ranges)
    new = ranges.missing(*asked)
    ranges.add(*asked)
    assert ranges.missing(*asked) == []
    assert members(ranges) == before | {number for start, end in new for number in range(start, end)}


@given(st.lists(_range, max_size=6), _range)
def test_a_copy_is_independent(added: list[tuple[int, int]], more: tuple[int, int]) -> None:
    ranges = Ranges(added)
    before = ranges.to_list()
    copy = ranges.copy()
    copy.add(*more)
    assert ranges.to_list() == before


def test_large_numbers() -> None:
    ranges = Ranges()
    ranges.add(10**18 - 2, 10**18)
    ranges.add(0, 1)
    assert ranges.missing(0, 10**18) == [(1, 10**18 - 2)]


@given(st.permutations(range(MAX_RANGES + 20)))
def test_too_many_gaps_are_closed_from_below(order: list[int]) -> None:
    ranges = Ranges()
    for i in order:
        ranges.add(1000 * i, 1000 * i + 1)
        assert len(ranges.to_list()) <= MAX_RANGES
    found = ranges.to_list()
    assert {1000 * i for i in order} <= {number for start, end in found for number in (*range(start, end),)}
    assert found[0][0] == 0
    # only at the low end is more taken as seen than was seen
    assert all(end - start == 1 for start, end in found[1:])


def test_newest_gaps_stay() -> None:
    ranges = Ranges()
    for i in range(MAX_RANGES + 100):
        ranges.add(10 * i, 10 * i + 1)
    last = 10 * (MAX_RANGES + 99)
    assert ranges.missing(last - 9, last) == [(last - 9, last)]

"""What is nested too deep is refused before it is read, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_wire.jsontext import DEEPEST, loads


@pytest.mark.parametrize("nest", [("[", "]"), ('{"a":', "}"), ('[{"]":', "}]")])
@pytest.mark.parametrize("kind", [str, bytes])
def test_levels_are_counted(nest: tuple[str, str], kind: type) -> None:
    levels = sum(one in "[{" for one in nest[0].replace('"]"', ""))
    times = DEEPEST // levels
    for more, refused in ((0, False), (1, True), (100_000, True)):
        text = nest[0] * (times + more) + "1" + nest[1] * (times + more)
        given_text: Any = text if kind is str else text.encode()
        if refused:
            with pytest.raises(ValueError, match="nested deeper than 100 levels"):
                loads(given_text)
        else:
            assert loads(given_text) == json.loads(text)


def test_brackets_in_texts_and_beside_each_other_are_no_levels() -> None:
    value = {'[{"\\': "[" * 1000, "beside": [[1]] * 1000, 'quoted \\" [': {"a": '\\"[[['}}
    assert loads(json.dumps(value)) == value


@given(st.text(alphabet='[]{}",:\\ 1', max_size=400) | st.binary(max_size=200))
def test_it_is_the_library_else(text: Any) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - of either kind
            loads(text)
    else:
        assert loads(text) == wanted

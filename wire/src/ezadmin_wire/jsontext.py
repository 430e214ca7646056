"""Reading JSON that others wrote: what is nested deeper than anything of ours is refused before it is read.

Reading until Python's recursion limit is no refusal one can rely on: CPython 3.9 ends the whole process ("Cannot recover from
stack overflow") when the garbage collector runs a finaliser in that moment.
"""

from __future__ import annotations

import json
import re
from typing import Any, Union

DEEPEST = 100
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def loads(text: Union[bytes, str]) -> Any:
    """The value of a JSON text. Raises ValueError, also for one with more than :data:`DEEPEST` levels."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if data.count(b"[") + data.count(b"{") > DEEPEST and _depth(data) > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    return json.loads(text)


def _depth(data: bytes) -> int:
    """The greatest number of brackets that are open at once, outside of texts."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(_TEXT.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest

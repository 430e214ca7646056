"""What a person sees of a page in a browser."""

from __future__ import annotations

import re

from playwright.sync_api import Locator


def is_red(one: Locator) -> bool:
    """Whether a text is red to the eye."""
    colour = one.evaluate("one => getComputedStyle(one).color")
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    return red > green + 60 and red > blue + 60

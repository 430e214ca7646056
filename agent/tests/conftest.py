"""What all tests of the agent share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """The commands set the level of all logging; the next test has it as it was."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)

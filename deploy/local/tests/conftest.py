"""Makes the package importable: it is run from its folder and never installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from ezadmin_local.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A stack of a checkout that holds nothing yet."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    return Layout.find(str(tmp_path / "state"), checkout)

"""docs/api-reference.md is what the OpenAPI description says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ezadmin_cmdb.web import reference

TOOL = Path(__file__).resolve().parents[2] / "cmdb" / "tools" / "api_reference.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_reference", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["api_reference.py", "--check"])
    assert tool.main() == 0


def test_a_reference_that_is_not_is_found(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["api_reference.py", "--check"])
    monkeypatch.setattr(tool, "FILE", tmp_path / "old.md")
    (tmp_path / "old.md").write_text("# Reference of the REST API\n")
    assert tool.main() == 1
    assert "run python cmdb/tools/api_reference.py" in capsys.readouterr().err


def test_each_request_stands_in_it_with_its_permission(tool: ModuleType) -> None:
    spec = tool.description()
    text = reference.markdown(spec)
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            if method in reference.METHODS:
                assert f"| `{method.upper()} {path}` |" in text
                for scheme in operation["security"]:
                    assert all(f"`{name}`" in text for name in scheme["token"])
    assert "| `DELETE /api/v1/sites/bulk` | Delete many of Sites | `site.delete` | `SiteBulkDelete` |" in text
    assert "| `name` | `string, at most 128` | required | Name |" in text
    assert "| `state` | `=` `not` `empty` |" in text

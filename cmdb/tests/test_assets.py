"""What stands in the package is what its lock and its catalogues say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

CMDB = Path(__file__).resolve().parent.parent
PACKAGE = CMDB / "src" / "ezadmin_cmdb"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CMDB / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_vendored_assets_are_those_of_the_lock() -> None:
    vendor = tool("vendor")
    lock = vendor.json.loads(vendor.LOCK.read_text())
    assert vendor.problems(lock) == []
    for package in lock["packages"]:
        assert package["license"] in ("MIT", "0BSD")
        assert package["integrity"].startswith("sha512-")
        assert "LICENSE" in package["files"]


def test_a_changed_asset_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = tool("vendor")
    monkeypatch.setattr(vendor, "STATIC", tmp_path)
    file = tmp_path / "vendor" / "x-1" / "a.js"
    file.parent.mkdir(parents=True)
    file.write_text("evil")
    package = {"name": "x", "version": "1", "files": {"a.js": vendor.digest(b"good"), "b.js": vendor.digest(b"")}}
    assert [problem.split(":")[0] for problem in vendor.problems({"packages": [package]})] == ["missing", "changed"]


def test_every_text_is_translated() -> None:
    translations = tool("translations")
    assert [problem for language in translations.LANGUAGES for problem in translations.problems(language)] == []


def test_a_missing_and_a_fuzzy_text_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    translations = tool("translations")
    texts = translations.extract()
    texts.add("A text that nobody has translated")
    catalog = translations.read("ko")
    catalog["Hosts"].flags.add("fuzzy")
    monkeypatch.setattr(translations, "extract", lambda: texts)
    monkeypatch.setattr(translations, "read", lambda language: catalog)
    found = "\n".join(translations.problems("ko"))
    assert "not in the catalogue: 'A text that nobody has translated'" in found
    assert "fuzzy: 'Hosts'" in found


def test_every_icon_of_the_templates_is_vendored() -> None:
    icons = {path.stem for path in (PACKAGE / "static" / "vendor").rglob("icons/*.svg")}
    for template in (PACKAGE / "templates").rglob("*.html"):
        for name in re.findall(r'icon\("([a-z-]+)"\)', template.read_text()):
            assert name in icons, f"{template.name}: {name}"


def test_templates_need_no_exception_from_the_security_policy() -> None:
    for template in (PACKAGE / "templates").rglob("*.html"):
        text = template.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", text), template
        assert "|safe" not in re.sub(r"\s", "", text), template
        for address in re.findall(r'(?:src|href)="(https?:[^"]*)"', text):
            pytest.fail(f"{template}: {address} is not ours")

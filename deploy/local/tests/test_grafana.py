"""Which Grafana `up` uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ezadmin_local import grafana
from ezadmin_local.errors import LocalError


def make_home(folder: Path, program: str = "grafana") -> Path:
    for name in ("bin", "public"):
        (folder / name).mkdir(parents=True)
    (folder / "bin" / program).write_text("#!/bin/sh\n")
    (folder / "bin" / program).chmod(0o755)
    return folder


def test_the_one_that_is_named_by_url_comes_first(tmp_path: Path) -> None:
    home = make_home(tmp_path / "g")
    found = grafana.find({"GRAFANA_URL": "http://g:3000/", "GRAFANA_HOME": str(home), "PATH": ""})
    assert found == grafana.Running("http://g:3000")


@pytest.mark.parametrize(("program", "words"), [("grafana", ["server"]), ("grafana-server", [])])
def test_a_home_says_how_its_server_is_started(tmp_path: Path, program: str, words: list[str]) -> None:
    home = make_home(tmp_path / "g", program)
    assert grafana.find({"GRAFANA_HOME": str(home), "PATH": ""}) == grafana.Installed(
        home, [str(home / "bin" / program), *words]
    )


def test_one_on_the_path_is_found_with_its_home(tmp_path: Path) -> None:
    home = make_home(tmp_path / "g")
    found = grafana.find({"PATH": str(home / "bin")})
    assert isinstance(found, grafana.Installed)
    assert found.home == home


def test_none_is_no_error_but_a_wrong_home_is(tmp_path: Path) -> None:
    assert grafana.find({"PATH": str(tmp_path)}) is None
    with pytest.raises(LocalError, match=r"GRAFANA_HOME=.* holds no Grafana"):
        grafana.find({"GRAFANA_HOME": str(tmp_path), "PATH": ""})

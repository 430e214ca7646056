from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ezadmin_local import cli
from ezadmin_local.config import Settings
from ezadmin_local.errors import LocalError
from ezadmin_local.layout import STATE_ENTRIES, Layout

STARTERS = Path(__file__).parents[1]


def test_each_command_takes_its_options() -> None:
    parse = cli.parser().parse_args
    assert parse(["up"]).services_only is False
    options = parse(["up", "--services-only", "--state", "/x"])
    assert options.services_only
    assert options.state == "/x"
    assert parse(["status", "--json"]).json
    options = parse(["logs", "kafka", "-f", "-n", "5"])
    assert (options.name, options.follow, options.lines) == ("kafka", True, 5)
    assert parse(["reset", "--yes"]).yes
    assert parse(["down"]).state is None


def test_unknown_part_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["logs", "kafak"])
    assert "elasticsearch" in capsys.readouterr().err


def test_settings_come_from_the_environment() -> None:
    assert cli.settings({}) == (Settings("1g", "512m"), 120.0)
    given = {"EZADMIN_ES_HEAP": "2g", "EZADMIN_KAFKA_HEAP": "256M", "EZADMIN_START_TIMEOUT": "30"}
    assert cli.settings(given) == (Settings("2g", "256M"), 30.0)


@pytest.mark.parametrize(
    ("name", "value"), [("EZADMIN_ES_HEAP", "big"), ("EZADMIN_KAFKA_HEAP", "0m"), ("EZADMIN_START_TIMEOUT", "1.5")]
)
def test_a_bad_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(LocalError, match=f"{name}={value}"):
        cli.settings({name: value})


@pytest.mark.parametrize("path", ["/a b", "/a,b", "/a:b", "/a%b", "/a;b", "/ä", "/a'b"])
def test_paths_that_others_would_cut_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(LocalError, match="state folder"):
        Layout.find(path, tmp_path)


def test_default_state_lies_in_the_checkout(tmp_path: Path) -> None:
    assert Layout.find(None, tmp_path).state == tmp_path / ".ezadmin"


def test_a_folder_with_other_things_in_it_is_not_taken(layout: Layout) -> None:
    layout.state.mkdir()
    (layout.state / "thesis.tex").touch()
    with pytest.raises(LocalError, match=r"thesis\.tex"):
        layout.make_folders()


def test_folders_are_their_owners_alone(layout: Layout) -> None:
    layout.make_folders()
    layout.make_folders()
    try:
        for folder in (layout.etc, layout.keys, layout.data, layout.log, layout.sockets):
            assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        layout.sockets.rmdir()


def test_a_socket_folder_that_others_may_enter_is_refused(layout: Layout) -> None:
    layout.sockets.mkdir(mode=0o755)
    try:
        with pytest.raises(LocalError, match="mode 0700"):
            layout.make_folders()
    finally:
        layout.sockets.rmdir()


def test_reset_deletes_the_state_and_not_what_the_checkout_shares(tmp_path: Path) -> None:
    layout = Layout.find(None, tmp_path)
    layout.make_folders()
    for name in STATE_ENTRIES:
        if name.endswith(".json"):
            (layout.state / name).write_text("{}")
        else:
            (layout.state / name).mkdir(exist_ok=True)
    layout.lock_file.touch()
    layout.venv.mkdir()
    layout.dist.mkdir()
    assert cli.main(["reset", "--yes", "--state", str(layout.state)]) == 0
    assert {entry.name for entry in layout.state.iterdir()} == {"venv", "dist"}
    assert not layout.sockets.exists()


def test_reset_and_down_of_nothing_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("down", "reset"):
        assert cli.main([command, "--state", str(tmp_path / "none")]) == 0
        assert "no stack" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_reset_without_a_terminal_does_not_delete(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    layout.make_folders()
    layout.ports_file.write_text("{}")
    try:
        assert cli.main(["reset", "--state", str(layout.state)]) == 1
        assert "--yes" in capsys.readouterr().err
        assert layout.ports_file.exists()
    finally:
        layout.sockets.rmdir()


def test_status_of_nothing_is_an_error_that_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--state", str(tmp_path / "none")]) == 1
    assert "deploy/local/up" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["up", "down", "status", "logs", "reset"])
def test_starters_are_executable_and_name_themselves(name: str) -> None:
    result = subprocess.run([STARTERS / name, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"usage: deploy/local/{name} ")


def test_an_old_python_is_named(tmp_path: Path) -> None:
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
        old = tmp_path / name
        old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
        old.chmod(0o755)
    result = subprocess.run(
        [STARTERS / "up"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=False,
    )
    assert result.returncode == 1
    assert "Python 3.11 or newer" in result.stderr
    assert "Python 3.9.2" in result.stderr

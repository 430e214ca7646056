"""What a user sees of the command without a database: results and messages, never a traceback."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ezadmin_cmdb.main import main
from ezadmin_wire.signing import SigningKey

CLOSED_PORT = 1


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands set up the log for their process, which is this one here."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "cmdb.toml"
    file.write_text(
        f'database = "mysql+pymysql://u:secret@127.0.0.1:{CLOSED_PORT}/d"\nconfig_signing_key = "{tmp_path}/key"\n'
        '[kafka]\nbootstrap = "127.0.0.1:1"\n'
    )
    return file


def test_key_generate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.key"
    assert main(["key", "generate", "--out", str(file)]) == 0
    assert capsys.readouterr().out.strip() == SigningKey.load(file).public.hex()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert main(["key", "generate", "--out", str(file)]) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_database_that_does_not_answer(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["host", "list", "--config", str(config)]) == 1
    said = capsys.readouterr().err
    assert f"mysql+pymysql://u:***@127.0.0.1:{CLOSED_PORT}/d cannot be used" in said
    assert "Is it running" in said
    assert "secret" not in said
    assert "Traceback" not in said


def test_no_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("EZADMIN_CMDB_CONFIG", raising=False)
    assert main(["host", "list"]) == 2
    assert "EZADMIN_CMDB_CONFIG" in capsys.readouterr().err


def test_the_worker_needs_its_key(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "--config", str(config)]) == 2
    assert "cannot read the key file" in capsys.readouterr().err


def test_a_label_without_value(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--id", "x", "--name", "n", "--public-key", "k", "--label", "site", "--config", str(config)]
    assert main(["host", "add", *options]) in (1, 2)
    assert "NAME=VALUE" in capsys.readouterr().err

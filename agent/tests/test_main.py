"""The command line without services."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ezadmin_agent.agent import AlreadyRunning, batches, lock
from ezadmin_agent.main import main


def test_once_prints_documents_and_cost_and_keeps_nothing(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["once", "--stdout", "--only", "cpu,core", "--cost"]) == 0
    out, err = capfdbinary.readouterr()
    documents = [json.loads(line) for line in out.splitlines()]
    assert documents[0]["event.dataset"] == "system.host"
    assert 0 <= documents[0]["system.cpu.total.norm.pct"] <= 1
    assert documents[1]["event.dataset"] == "system.core"
    assert b"core" in err
    assert b"ms" in err
    assert list(tmp_path.iterdir()) == []


def test_a_users_mistakes_give_one_line_and_no_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["once", "--stdout", "--only", "gpu"]) == 2
    assert "unknown collector: gpu; there are cpu" in capsys.readouterr().err
    config = tmp_path / "agent.toml"
    config.write_text(f'state_dir = "{tmp_path / "s"}"')
    assert main(["status", "--config", str(config)]) == 1
    assert "no agent has run" in capsys.readouterr().err
    assert main(["run", "--config", str(config)]) == 1
    assert 'write bootstrap = "host:port" under [kafka]' in capsys.readouterr().err
    assert main(["status", "--config", "/does/not/exist"]) == 1
    with pytest.raises(SystemExit) as version:
        main(["--version"])
    assert version.value.code == 0


def test_two_agents_never_share_a_state_directory(tmp_path: Path) -> None:
    held = lock(tmp_path)
    with pytest.raises(AlreadyRunning, match=r"another agent \(process [0-9]+\) uses"):
        lock(tmp_path)
    held.close()
    lock(tmp_path).close()


def test_a_tick_is_one_batch_unless_it_is_very_large() -> None:
    assert batches([b"x" * 700] * 300) == [[b"x" * 700] * 300]
    assert [len(run) for run in batches([b"x"] * 1100)] == [500, 500, 100]
    assert [len(run) for run in batches([b"x" * 100_000] * 5)] == [2, 2, 1]


def test_logs_try_names_the_rule_of_each_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[[logs]]\npath = "{tmp_path}/*.log"\nmin_level = "info"\nexclude = ["health"]\n'
        'mask = [{ regex = "pw=\\\\S+", with = "pw=***" }]\nmultiline = { continue = "^ " }\n'
    )
    log = tmp_path / "a.log"
    log.write_text("INFO GET /health\nDEBUG x\nERROR pw=geheim failed\n  at one\n  at two\n")
    assert main(["logs", "try", str(log), "--config", str(config)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["drop", "exclude", "'health'", "INFO", "GET", "/health"]
    assert out[1].split() == ["drop", "min_level", "info", "DEBUG", "x"]
    assert out[2].split() == ["keep", "error", "ERROR", "pw=***", "failed\\n", "at", "one\\n", "at", "two"]
    assert out[3] == "3 events: 1 kept, 2 dropped"
    other = tmp_path / "other.txt"
    other.write_text("INFO x\n")
    assert main(["logs", "try", str(other), "--config", str(config)]) == 1
    assert "no [[logs]] has a path that fits" in capsys.readouterr().err
    assert main(["logs", "try", str(other), "--as", str(log), "--json", "--config", str(config)]) == 0
    assert '"message": "INFO x"' in capsys.readouterr().out
    assert main(["logs", "try", str(tmp_path / "none.log"), "--config", str(config)]) == 1
    assert "cannot read" in capsys.readouterr().err

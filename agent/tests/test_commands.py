"""check, config, diagnose: what they find without any service."""

from __future__ import annotations

import gc
import json
import socket
import tarfile
import threading
from pathlib import Path

import pytest

from ezadmin_agent.config import load
from ezadmin_agent.main import main


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "agent.toml"
    path.write_text(f'state_dir = "{tmp_path / "state"}"\n{text}')
    return str(path)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_check_names_the_step_that_fails_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, f'[kafka]\nbootstrap = "127.0.0.1:{closed_port()},no.such.host.invalid:9092"\n')
    assert main(["check", "--config", config, "--json"]) == 1
    steps = {(step := json.loads(line))["name"].split(":")[0]: step for line in capsys.readouterr().out.splitlines()}
    assert steps["identity"]["ok"] is True
    assert steps["dns 127.0.0.1"]["ok"] is True
    assert steps["tcp 127.0.0.1"]["ok"] is False
    assert "nothing listens there" in steps["tcp 127.0.0.1"]["hint"]
    assert steps["dns no.such.host.invalid"]["ok"] is False
    assert "kafka" not in steps
    assert all(step["ms"] >= 0 for step in steps.values())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client that fails leaves a socket
def test_check_tells_what_listens_but_is_no_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = write(tmp_path, f'[kafka]\nbootstrap = "127.0.0.1:{other.getsockname()[1]}"\n')
        assert main(["check", "--config", config]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "does not answer as Kafka" in out
    assert "-> look into the broker's log" in out
    gc.collect()


def test_check_tells_a_listener_with_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            for _ in range(2):  # the step tcp connects as well
                connection, _ = listener.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(b"\x15\x03\x03\x00\x02\x02\x50")  # as Kafka's

        thread = threading.Thread(target=refuse)
        thread.start()
        config = write(tmp_path, f'[kafka]\nbootstrap = "127.0.0.1:{listener.getsockname()[1]}"\n')
        assert main(["check", "--config", config]) == 1
        thread.join()
    out = capsys.readouterr().out
    assert "it speaks TLS" in out
    assert "-> write tls = true under [kafka], and ca_file" in out


def test_check_without_a_broker_says_what_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", write(tmp_path, "")]) == 1
    assert 'write bootstrap = "host:port" under [kafka]' in capsys.readouterr().out


def test_config_check_and_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "")
    assert main(["config", "check", "--config", path]) == 0
    assert "warning: no broker" in capsys.readouterr().out
    assert main(["config", "check", "--config", write(tmp_path, "intervall = 3\n")]) == 1
    assert "line 2: intervall: unknown key" in capsys.readouterr().err
    assert main(["config", "example"]) == 0
    example = tmp_path / "example.toml"
    example.write_text(capsys.readouterr().out)
    load(example)


def test_diagnose_holds_what_helps_and_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(
        tmp_path, f'[kafka]\nbootstrap = "127.0.0.1:{closed_port()}"\nproxy = "http://ann:hunter2@127.0.0.1:1"\n'
    )
    target = tmp_path / "d.tar.gz"
    assert main(["diagnose", "--config", config, "--out", str(target)]) == 0
    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as archive:
        texts = {
            name: file.read().decode() for name in archive.getnames() if (file := archive.extractfile(name)) is not None
        }
    assert "http://ann:***@" in texts["ezadmin-agent/config.toml"]
    assert "system.host" in texts["ezadmin-agent/once.txt"]
    assert "tcp 127.0.0.1" in texts["ezadmin-agent/check.txt"]
    assert "not here: FileNotFoundError" in texts["ezadmin-agent/status.json"]
    secrets = ("hunter2", (tmp_path / "state/host.key").read_text().splitlines()[1])
    assert not [name for name, text in texts.items() for secret in secrets if secret in text]
    assert main(["diagnose", "--config", config, "--out", str(target)]) == 1  # never writes over a file
    assert "File exists" in capsys.readouterr().err

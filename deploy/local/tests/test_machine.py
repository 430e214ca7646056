from __future__ import annotations

from pathlib import Path

import pytest

from ezadmin_local import install, machine
from ezadmin_local.errors import LocalError
from ezadmin_local.layout import Layout


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing: the folder is all of PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setattr(machine, "find_program", lambda name: programs / name if (programs / name).exists() else None)
    monkeypatch.setattr(machine, "find_java", lambda: None)
    return programs


def test_a_bare_machine_lacks_everything(bare: Path) -> None:
    missing = machine.missing_packages(need_maven=True, need_venv=False)
    assert missing == ["default-jre-headless", "maven", "mariadb-server-core", "mariadb-client-core", "util-linux"]


def test_only_what_is_missing_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mvn", "setpriv", "unshare", "mariadb"):
        (bare / name).touch()
    monkeypatch.setattr(machine, "find_java", lambda: Path("/usr/lib/jvm/java-17"))
    assert machine.missing_packages(need_maven=True, need_venv=False) == ["mariadb-server-core"]


def test_maven_is_needed_for_the_first_fetch_only(bare: Path) -> None:
    assert "maven" not in machine.missing_packages(need_maven=False, need_venv=False)


def test_missing_packages_are_told_with_the_command(bare: Path) -> None:
    (bare / "apt-get").touch()
    with pytest.raises(LocalError, match=r"apt-get install --no-install-recommends maven util-linux"):
        machine.refuse_missing(["maven", "util-linux"])


def test_without_apt_no_command_of_apt_is_told(bare: Path) -> None:
    with pytest.raises(LocalError, match="no apt-get"):
        machine.refuse_missing(["maven"])


def test_apt_removes_nothing() -> None:
    update, add = machine.apt_commands(["maven"])
    assert "update" in update
    assert "--no-remove" in add
    assert add[-1] == "maven"


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ('JAVA_VERSION="17.0.15"\n', 17),
        ('X="1"\nJAVA_VERSION="21"\n', 21),
        ('JAVA_VERSION="1.8.0_412"\n', 8),
        ("", None),
    ],
)
def test_java_version_is_read_from_its_release_file(tmp_path: Path, release: str, version: int | None) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    (tmp_path / "release").write_text(release)
    assert machine.java_version(tmp_path) == version
    assert machine.java_version(tmp_path / "none") is None


def test_java_home_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    (tmp_path / "release").write_text('JAVA_VERSION="11.0.2"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert machine.find_java() != tmp_path


def test_without_a_listener_for_log_messages_the_stacks_own_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "LOG_SOCKET", tmp_path / "log")
    monkeypatch.setattr(machine, "JOURNAL_SOCKET", tmp_path / "journal")
    assert machine.log_source(tmp_path / "events.log") == machine.LogSource(tmp_path / "events.log", own=True)


def test_with_a_listener_the_system_log_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        (tmp_path / "syslog").touch()
        monkeypatch.setattr(machine, "LOG_SOCKET", tmp_path / "log")
        monkeypatch.setattr(machine, "SYSTEM_LOG_FILES", (tmp_path / "none", tmp_path / "syslog"))
        assert machine.log_source(tmp_path / "events.log") == machine.LogSource(tmp_path / "syslog", own=False)


def test_maven_progress_counts_what_came() -> None:
    progress = install.MavenProgress()
    assert progress.feed("[INFO] Downloading from central: https://host/a/b-1.jar") == "Maven: 0 files, 0 MB, b-1.jar"
    assert (
        progress.feed("[INFO] Downloaded from central: https://host/a/b-1.jar (98 MB at 45 MB/s)")
        == "Maven: 1 files, 98 MB"
    )
    assert (
        progress.feed("[INFO] Downloaded from central: https://host/c.pom (500 kB at 2 B/s)") == "Maven: 2 files, 98 MB"
    )
    assert progress.feed("something else") == "Maven: 2 files, 98 MB"


def test_packages_are_those_that_can_be_installed_and_a_change_is_seen(layout: Layout) -> None:
    assert install.packages(layout) == []
    before = install.venv_stamp(layout)
    (layout.checkout / "agent").mkdir()
    (layout.checkout / "agent" / "pyproject.toml").write_text("[project]\n")
    assert install.packages(layout) == ["agent"]
    added = install.venv_stamp(layout)
    assert added != before
    (layout.checkout / "agent" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert install.venv_stamp(layout) not in (before, added)

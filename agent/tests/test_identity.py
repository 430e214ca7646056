"""Identity: made once, kept, guarded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ezadmin_agent.identity import IdentityError, load_or_make
from ezadmin_agent.main import main
from ezadmin_wire.errors import WireError
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.signing import VerifyKey


def test_is_made_once_and_private(tmp_path: Path) -> None:
    state = tmp_path / "agent"
    first = load_or_make(state)
    assert is_host_id(first.host_id)
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "host.key").stat().st_mode & 0o777 == 0o600
    again = load_or_make(state)
    assert (again.host_id, again.key.public) == (first.host_id, first.key.public)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_or_make(tmp_path)
    (tmp_path / "host.key").chmod(0o644)
    with pytest.raises(WireError, match="chmod 600"):
        load_or_make(tmp_path)


def test_a_lost_key_or_damaged_id_is_told_not_replaced(tmp_path: Path) -> None:
    load_or_make(tmp_path)
    (tmp_path / "host.id").write_text("what?\n")
    with pytest.raises(IdentityError, match=r"holds no host\.id"):
        load_or_make(tmp_path)
    (tmp_path / "host.key").unlink()
    with pytest.raises(IdentityError, match="Restore the key, or remove"):
        load_or_make(tmp_path)


def test_identity_command_prints_what_the_cmdb_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"')
    assert main(["identity", "--config", str(config)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"host.id", "host.name", "kid", "public_key"}
    assert VerifyKey.from_hex(printed["public_key"]).kid == printed["kid"]
    assert main(["identity", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == printed

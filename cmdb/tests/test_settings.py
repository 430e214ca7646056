from __future__ import annotations

from pathlib import Path

import pytest

from ezadmin_cmdb import settings
from ezadmin_cmdb.settings import SettingsError
from ezadmin_wire.signing import SigningKey

GOOD = {
    "database": "mysql+pymysql://u:secret@h:1/d?charset=utf8mb4",
    "config_signing_key": "/k",
    "kafka": {"bootstrap": "h:2"},
}


def test_reads_what_the_local_stack_writes(tmp_path: Path) -> None:
    file = tmp_path / "cmdb.toml"
    file.write_text(
        'prefix = "p"\ndatabase = "mysql+pymysql://u:secret@h:1/d"\nconfig_signing_key = "/k"\n[kafka]\nbootstrap = "h:2"\n'
    )
    found = settings.load(file)
    assert (found.names.prefix, found.kafka.bootstrap, str(found.config_signing_key)) == ("p", "h:2", "/k")
    assert "secret" not in found.database_shown


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"database": "postgresql://u@h/d"}, r"mysql\+pymysql://"),
        ({"database": "nonsense"}, r"mysql\+pymysql://"),
        ({"database": ""}, "database is missing"),
        ({"kafka": {}}, "bootstrap is missing"),
        ({"kafka": "h:1"}, r"write \[kafka\]"),
        ({"prefix": "Big"}, "lower-case"),
        ({"databse": "x"}, "unknown setting 'databse'"),
        ({"api": {"burst": 0}}, r"\[api\]: burst = 0: write a whole number from 1 to"),
        ({"api": {"requests_per_minute": True}}, "requests_per_minute = True"),
        ({"api": {"rate": 5}}, "unknown setting 'rate'"),
        ({"web": {"cert_file": "/x"}}, r"\[web\]: cert_file and key_file belong together"),
    ],
)
def test_a_wrong_setting_is_named(changed: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        settings.parse({**GOOD, **changed}, "cmdb.toml")


def test_a_file_that_is_not_there_or_broken(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*none\.toml"):
        settings.load(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = ")
    with pytest.raises(SettingsError, match=r"broken\.toml"):
        settings.load(broken)


def test_a_key_that_others_may_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    SigningKey.generate().save(file)
    loaded = settings.parse({**GOOD, "config_signing_key": str(file)}, "cmdb.toml")
    assert len(loaded.signing_key().public) == 32
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        loaded.signing_key()

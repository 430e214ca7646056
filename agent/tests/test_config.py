"""The configuration file: what is read, and what a user is told when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ezadmin_agent.config import Config, ConfigError, example, load
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.logs.rules import Multiline
from ezadmin_wire.logs.settings import LogConfig


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return path


def test_all_keys(tmp_path: Path) -> None:
    config = load(
        write(
            tmp_path,
            """
            prefix = "site-a"
            state_dir = "/srv/agent"
            interval = 5
            server = "https://ezadmin.example.com/"
            kafka.bootstrap = "k1:9092, [::1]:9093"
            kafka.proxy = "http://proxy:3128"
            spool.cap_bytes = 10485760
            [[logs]]
            path = "/var/log/syslog"
            [[logs]]
            path = "/var/log/app.log"
            dataset = "app"
            from = "start"
            """,
        )
    )
    assert config.names.metrics == "site-a.metrics"
    assert config == Config(
        state_dir=Path("/srv/agent"),
        names=config.names,
        interval=5,
        server="https://ezadmin.example.com",
        kafka=KafkaConnection("k1:9092, [::1]:9093"),
        proxy="http://proxy:3128",
        cap_bytes=10485760,
        logs=(
            LogConfig(Path("/var/log/syslog"), "system.syslog", True, False),
            LogConfig(Path("/var/log/app.log"), "app", False, True),
        ),
    )


def test_an_empty_file_gives_the_defaults_and_the_environment_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EZADMIN_AGENT_CONFIG", str(write(tmp_path, "")))
    assert load(None) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interval = 10\nintervall = 5\n", "line 2: intervall: unknown key; there are state_dir, prefix, interval"),
        ("interval = '10'", "line 1: interval: write whole seconds, such as 10"),
        ("interval = true", "line 1: interval: write whole seconds"),
        ("interval = 0", "line 1: interval: write 1 to 60 seconds"),
        ("prefix = 'Upper'", "line 1: prefix: prefix 'Upper': use lower-case"),
        ("[kafka]\nbootstrap = 'k1'", "line 2: kafka.bootstrap: 'k1' is no broker; write \"host:port\""),
        ("state_dir = '/x'\n[spool]\ncap_bytes = 5", "line 3: spool.cap_bytes: write at least 1048576"),
        ("kafka = 5", "line 1: kafka: write a table [kafka]"),
        ("[[logs]]\npath = 'relative'", "line 2: logs.path: write the absolute path"),
        ("[[logs]]\npath = '/x'\nfrom = 'middle'", 'line 3: logs.from: write "end" or "start"'),
        ("[[logs]]\npath = '/x'\ndataset = 'Ü'", "line 3: logs.dataset: use lower-case"),
        ("[kafka]\npath = 'x'\n", "line 2: kafka.path: unknown key; there are bootstrap, tls"),
        ("[kafka]\nbootstrap = 'k:1'\npassword = 'x'\n", "line 3: kafka.password: a password does not stand here"),
        ("[kafka]\nbootstrap = 'k:1'\nca_file = '/x'\n", "line 3: kafka.ca_file: ca_file is of no use without TLS"),
        ("[kafka]\nbootstrap = 'k:1'\nsasl = 'SCRAM-SHA-256'\n", "kafka.user: user is missing"),
        ("[kafka]\nbootstrap = 'k:1'\nsasl = 'PLAIN'\n", "line 3: kafka.sasl: sasl PLAIN shows the password"),
        ("server = 'ezadmin:8080'\n", 'line 1: server: write "https://host"'),
        ("[kafka]\nproxy = 'proxy:3128'\n", 'line 2: kafka.proxy: write "http://host:port"'),
        ("interval = = 5", "not TOML"),
    ],
)
def test_errors_name_file_line_key_and_what_to_write(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_the_files_of_a_connection_need_not_be_there_to_read_the_configuration(tmp_path: Path) -> None:
    config = load(
        write(
            tmp_path,
            "[kafka]\nbootstrap = 'k:1'\ntls = true\nca_file = '/none/ca'\nsasl = 'PLAIN'\nuser = 'u'\n"
            "password_file = '/none/password'\n",
        )
    )
    assert config.kafka == KafkaConnection(
        "k:1", True, "/none/ca", sasl="PLAIN", user="u", password_file="/none/password"
    )


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file.*--config FILE or EZADMIN_AGENT_CONFIG"):
        load(tmp_path / "none.toml")


def test_the_example_is_valid_as_it_is_and_with_every_setting_switched_on(tmp_path: Path) -> None:
    assert load(write(tmp_path, example())) == Config()
    switched_on = "\n".join(
        line[1:] if line.startswith("#") and line[1] != " " else line for line in example().split("\n")
    )
    for either in ("listen =", "password_env ="):  # a source is a file or a socket, a password in a file or a variable
        switched_on = switched_on.replace(either, f"#{either}")
    switched_on = switched_on.replace("tls = false", "tls = true")
    config = load(write(tmp_path, switched_on))
    assert config.kafka is not None
    assert config.kafka.bootstrap == "kafka1:9092,kafka2:9092"
    assert config.logs is not None
    (entry,) = config.logs
    assert (entry.path, entry.dataset, entry.kind) == (Path("/var/log/app.log"), "log.file", "file")
    assert entry.rules.multiline == Multiline(start=r"^\d{4}-")
    assert entry.rules.mask == ((r"password=\S+", "password=***"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path = "/a"\nexclude = ["(a+)+b"]', "line 3: logs.exclude: '(a+)+b' repeats a repeat"),
        ('path = "/a"\ninclude = [".*.*.*x"]', "line 3: logs.include: '.*.*.*x' takes too long"),
        ('path = "/a"\nmask = [{regex = "(", with = ""}]', "line 3: logs.mask: '(' is no regular expression"),
        ('path = "/a"\nmultiline = {begin = "x"}', "line 3: logs.multiline: write { start"),
        ('path = "/a"\nparse = {regex = "a(b)"}', 'line 3: logs.parse: write "json", "kv"'),
        ('path = "/a"\nmin_level = "warn"', "line 3: logs.min_level: write one of emergency"),
        ('path = "/a"\nencoding = "latin-1"', 'line 3: logs.encoding: write "utf-8"'),
        ('source = "syslog"', "logs.listen: write listen"),
        ('source = "journal"\npath = "/a"', "logs.path: write the absolute path"),
    ],
)
def test_wrong_rules_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, f"[[logs]]\n{text}\n"))
    assert message in str(caught.value)


def test_limits(tmp_path: Path) -> None:
    config = load(write(tmp_path, "[limits]\ncpu_percent = 1\nmemory_mib = 64\n"))
    assert (config.cpu_percent, config.memory_mib) == (1.0, 64)
    with pytest.raises(ConfigError, match=r"line 2: limits.cpu_percent: write at least 0.1"):
        load(write(tmp_path, "[limits]\ncpu_percent = 0\n"))

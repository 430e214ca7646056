from __future__ import annotations

import configparser
import json
import shlex
import tomllib
from pathlib import Path

import pytest

from ezadmin_local import config
from ezadmin_local.config import Endpoints, Program
from ezadmin_local.layout import PARTS, Layout
from ezadmin_local.processes import MARK

PORTS = {
    "kafka": 21001,
    "kafka_controller": 21002,
    "elasticsearch": 21003,
    "elasticsearch_transport": 21004,
    "mariadb": 21005,
    "web": 21006,
    "grafana": 21007,
    "gateway": 21008,
}


@pytest.fixture
def endpoints(layout: Layout) -> Endpoints:
    return Endpoints(PORTS, "secret", layout.mariadb_socket)


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_kafka_listens_on_loopback_only_and_makes_no_topics_by_itself(endpoints: Endpoints) -> None:
    found = properties(config.kafka_properties(Path("/state/data/kafka"), endpoints))
    assert found["listeners"] == "DATA://127.0.0.1:21001,CONTROLLER://127.0.0.1:21002"
    assert found["advertised.listeners"] == "DATA://127.0.0.1:21001"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:21002"
    assert found["auto.create.topics.enable"] == "false"
    assert found["message.max.bytes"] == str(4 << 20)
    assert found["group.initial.rebalance.delay.ms"] == "0"
    assert found["log.dirs"] == "/state/data/kafka"


def test_cluster_id_is_what_kafka_takes() -> None:
    assert len(config.CLUSTER_ID) == 22


def test_elasticsearch_listens_on_loopback_only_with_absolute_watermarks(layout: Layout, endpoints: Endpoints) -> None:
    lines = config.elasticsearch_yml(layout, endpoints).splitlines()
    assert "network.host: 127.0.0.1" in lines
    assert "http.port: 21003" in lines
    assert "transport.port: 21004" in lines
    assert f'path.data: "{layout.data}/elasticsearch"' in lines
    assert "cluster.routing.allocation.disk.watermark.flood_stage: 500mb" in lines


def test_jvm_options_lose_the_files_and_keep_the_rest() -> None:
    shipped = "# a comment\n-XX:+UseG1GC\n-XX:ErrorFile=hs_err_pid%p.log\n-Xlog:gc*:file=gc.log:utctime\n20-:--add-modules=x\n"
    assert config.elasticsearch_jvm_options(shipped) == "# a comment\n-XX:+UseG1GC\n20-:--add-modules=x\n"


def test_mariadb_reads_no_settings_of_the_machine(layout: Layout, endpoints: Endpoints) -> None:
    command = config.mariadb_command(Path("/usr/sbin/mariadbd"), layout, endpoints, "root")
    assert command[1] == "--no-defaults"  # MariaDB takes it in the first place only
    assert "--bind-address=127.0.0.1" in command
    assert "--user=root" in command
    assert not any(word.startswith("--user") for word in config.mariadb_command(Path("m"), layout, endpoints, None))


def test_mariadb_password_is_in_no_command(layout: Layout, endpoints: Endpoints) -> None:
    command = config.mariadb_command(Path("/usr/sbin/mariadbd"), layout, endpoints, None)
    assert "secret" not in " ".join(command)
    assert "IDENTIFIED BY 'secret'" in config.mariadb_init_sql("secret")
    assert "password=secret" in config.mariadb_client_cnf(endpoints)


def test_socket_paths_are_short_however_long_the_state_path_is(tmp_path: Path) -> None:
    layout = Layout.find("/" + "a" * 200, tmp_path)
    assert len(str(layout.mariadb_socket)) <= 107
    assert layout.sockets != Layout.find("/" + "a" * 201, tmp_path).sockets


def test_part_configurations_are_toml_with_the_agreed_keys(layout: Layout, endpoints: Endpoints) -> None:
    agent = tomllib.loads(config.agent_toml(layout, endpoints, layout.log / "events.log", "cd" * 32))
    assert agent == {
        "prefix": "ezadmin",
        "state_dir": str(layout.state / "agent"),
        "interval": 10,
        "server": "http://127.0.0.1:21006",
        "gateway": "http://127.0.0.1:21008",
        "commands": {"command_keys": ["cd" * 32]},
        "kafka": {"bootstrap": "127.0.0.1:21001"},
        "logs": [{"path": str(layout.log / "events.log")}],
    }
    assert "logs" not in tomllib.loads(config.agent_toml(layout, endpoints, None, "cd" * 32))
    assert tomllib.loads(config.pipeline_toml(layout, endpoints, "ab" * 32)) == {
        "prefix": "ezadmin",
        "signatures": "required",
        "config_public_key": "ab" * 32,
        "kafka": {"bootstrap": "127.0.0.1:21001"},
        "elasticsearch": {"url": "http://127.0.0.1:21003"},
        "own": {"key": str(layout.keys / "pipeline.key")},
    }
    assert tomllib.loads(config.cmdb_toml(layout, endpoints, "cd" * 32)) == {
        "prefix": "ezadmin",
        "database": "mysql+pymysql://ezadmin:secret@127.0.0.1:21005/ezadmin?charset=utf8mb4",
        "config_signing_key": str(layout.keys / "config.key"),
        "secret_key_file": str(layout.keys / "web.secret"),
        "kafka": {"bootstrap": "127.0.0.1:21001"},
        "elasticsearch": {"url": "http://127.0.0.1:21003"},
        "web": {"port": 21006, "workers": 1},
        "gateway": {
            "port": 21008,
            "url": "http://127.0.0.1:21008",
            "files": str(layout.bundle),
            "agents_kafka": "127.0.0.1:21001",
        },
        "commands": {
            "public_key": "cd" * 32,
            "signing_key": str(layout.keys / "command.key"),
            "signer_socket": str(layout.signer_socket),
        },
        "own": {"key": str(layout.keys / "cmdb.key")},
    }
    assert tomllib.loads(config.cmdb_toml(layout, endpoints, "cd" * 32, "http://g"))["grafana_url"] == "http://g"


@pytest.mark.parametrize("part", PARTS)
def test_parts_end_with_their_parent_and_get_their_configuration(layout: Layout, part: str) -> None:
    command = config.part_command(layout, part)
    assert command[:3] == ["setpriv", "--pdeathsig", "TERM"]
    assert command[-2:] == ["--config", str(layout.config_of(part))]
    assert list(config.part_environment(layout, part).values()) == [str(layout.config_of(part))]


def test_supervisord_starts_nothing_by_itself_and_marks_every_program(layout: Layout) -> None:
    program = Program("kafka", ["java", "-Dx=50%", "a b"], Path("/dir"), 5, {"NAME": "100%"}, stamp="abc")
    parsed = configparser.RawConfigParser(inline_comment_prefixes=(";", " #"))
    parsed.read_string(config.supervisord_conf(layout, [program], "root"))
    section = dict(parsed["program:kafka"])
    assert section["autostart"] == "false"
    assert shlex.split(section["command"].replace("%%", "%")) == program.command
    assert f'{MARK}="{layout.state}:kafka"' in section["environment"]
    assert 'EZADMIN_STAMP="abc"' in section["environment"]
    assert 'NAME="100%%"' in section["environment"]
    assert parsed["supervisord"]["umask"] == "077"
    assert parsed["supervisord"]["user"] == "root"
    assert "user" not in config.supervisord_conf(layout, [program], None)


def test_a_changed_configuration_changes_the_programs_section(layout: Layout) -> None:
    one = Program("kafka", ["java"], Path("/"), 5, stamp=config.stamp("a", "b"))
    two = Program("kafka", ["java"], Path("/"), 5, stamp=config.stamp("ab", ""))
    assert config.supervisord_conf(layout, [one], None) != config.supervisord_conf(layout, [two], None)


def test_stack_json_holds_every_endpoint(layout: Layout, endpoints: Endpoints) -> None:
    content = config.stack_json(layout, endpoints, "root", None, {"id": "1", "name": "h"})
    assert json.loads(json.dumps(content)) == {
        "kafka": "127.0.0.1:21001",
        "kafka_connection": {"bootstrap": "127.0.0.1:21001"},
        "elasticsearch": "http://127.0.0.1:21003",
        "elasticsearch_connection": {"url": "http://127.0.0.1:21003"},
        "ca_file": None,
        "web": "http://127.0.0.1:21006",
        "gateway": "http://127.0.0.1:21008",
        "mariadb": {
            "host": "127.0.0.1",
            "port": 21005,
            "user": "ezadmin",
            "password": "secret",
            "database": "ezadmin",
            "socket": str(layout.mariadb_socket),
            "admin": "root",
            "url": "mysql+pymysql://ezadmin:secret@127.0.0.1:21005/ezadmin?charset=utf8mb4",
        },
        "prefix": "ezadmin",
        "venv": str(layout.venv),
        "state": str(layout.state),
        "log_file": None,
        "host": {"id": "1", "name": "h"},
    }

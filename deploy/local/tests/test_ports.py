from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from ezadmin_local import ports
from ezadmin_local.errors import LocalError

KEPT = {name: 20000 + number for number, name in enumerate(ports.NAMES)}


def test_first_choice_gives_each_name_a_port_of_its_own_outside_the_range_of_outgoing_connections() -> None:
    chosen, replaced = ports.choose({}, (), "seed", free=lambda port: True)
    assert set(chosen) == set(ports.NAMES)
    assert len(set(chosen.values())) == len(ports.NAMES)
    assert all(ports.FIRST <= port <= ports.LAST < 32768 for port in chosen.values())
    assert replaced == {}


def test_two_stacks_begin_at_different_places() -> None:
    one, _ = ports.choose({}, (), "/one/.ezadmin", free=lambda port: True)
    two, _ = ports.choose({}, (), "/two/.ezadmin", free=lambda port: True)
    assert not set(one.values()) & set(two.values())


def test_kept_ports_stay() -> None:
    assert ports.choose(KEPT, (), "seed", free=lambda port: True) == (KEPT, {})


def test_a_port_taken_by_another_program_is_replaced_and_the_others_stay() -> None:
    chosen, replaced = ports.choose(KEPT, (), "seed", free=lambda port: port != KEPT["kafka"])
    assert replaced == {"kafka": chosen["kafka"]}
    assert chosen["kafka"] not in KEPT.values()
    assert {name: port for name, port in chosen.items() if name != "kafka"} == {
        name: port for name, port in KEPT.items() if name != "kafka"
    }


def test_ports_of_running_programs_are_not_asked_for_they_are_taken_by_themselves() -> None:
    asked = []

    def free(port: int) -> bool:
        asked.append(port)
        return True

    assert ports.choose(KEPT, ("kafka", "mariadb"), "seed", free)[0] == KEPT
    assert asked == [KEPT[name] for name in ("elasticsearch", "elasticsearch_transport", "web", "gateway", "grafana")]


def test_a_full_range_is_an_error_that_names_what_got_none() -> None:
    with pytest.raises(LocalError, match=r"no free port .* for kafka"):
        ports.choose({}, (), "seed", free=lambda port: False)


def test_the_same_port_kept_twice_is_mended() -> None:
    chosen, _ = ports.choose({**KEPT, "mariadb": KEPT["kafka"]}, (), "seed", free=lambda port: True)
    assert len(set(chosen.values())) == len(ports.NAMES)


def test_is_free_asks_the_machine() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_is_free_sees_a_server_on_all_addresses() -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert not ports.is_free(server.getsockname()[1])


@pytest.mark.parametrize("content", ["", "[1]", '{"kafka": "x", "other": 1, "mariadb": 70000}', "{"])
def test_a_spoilt_file_counts_as_no_ports(tmp_path: Path, content: str) -> None:
    (tmp_path / "ports.json").write_text(content)
    assert ports.read(tmp_path / "ports.json") == {}


def test_read_gives_what_was_kept(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text(json.dumps(KEPT))
    assert ports.read(tmp_path / "ports.json") == KEPT
    assert ports.read(tmp_path / "none.json") == {}

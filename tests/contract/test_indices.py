"""Index care and upgrades of templates on the real Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from ezadmin_pipeline import care, families, install, upgrade
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_pipeline.families import IndexSettings
from ezadmin_pipeline.settings import Settings
from ezadmin_wire.names import Names

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = "2026-11-24T12:00:00.000Z"


@pytest.fixture
def names(bare_names: Names) -> Names:
    return bare_names


def put(elastic: ElasticClient, path: str, body: Any = None) -> Any:
    status, answer = elastic.request("PUT", path, body=None if body is None else orjson.dumps(body))
    assert status in (200, 201), answer
    return answer


def settings_of(elastic: ElasticClient, index: str) -> dict[str, Any]:
    return dict(elastic.request("GET", f"/{index}/_settings", params={"flat_settings": "true"})[1][index]["settings"])


def fields_of(elastic: ElasticClient, index: str) -> dict[str, Any]:
    return upgrade.flattened(elastic.request("GET", f"/{index}/_mapping")[1][index]["mappings"]["properties"])


def there(elastic: ElasticClient, names: Names) -> set[str]:
    return {index.name for index in families.there(elastic, names)}


def write(elastic: ElasticClient, index: str) -> None:
    put(elastic, f"/{index}/_doc/1?refresh=true", {"@timestamp": DAY, "message": "m"})


def test_made_ahead_and_dropped_when_old(elastic: ElasticClient, names: Names) -> None:
    settings = Settings(names=names, indices=IndexSettings(kept={**families.KEPT, "logs": 10}))
    strangers = [f"{names.prefix}-logs-2026.10", f"{names.prefix}-other-2020.01.01", f"{names.prefix}x-logs-2020.01.01"]
    old, young = names.logs_index("2026-11-13"), names.logs_index("2026-11-14")
    for index in (*strangers, old, young, names.logs_index(DAY), names.state_index):
        write(elastic, index)
    put(elastic, f"/{old}/_alias/{names.prefix}-logs-2020.01.01")
    try:
        todo = care.plan(NOW, settings, families.there(elastic, names), 1)
        assert [index.name for index in todo.drop] == [old]
        lines = care.apply(elastic, todo)
        assert f"dropped {old}" in "\n".join(lines)
        left = set(elastic.request("GET", f"/{names.prefix}*/_settings")[1])
        assert old not in left
        assert {*strangers, young, names.state_index} <= left
        for ahead in range(3):
            day = f"{NOW + timedelta(days=ahead):%Y-%m-%d}"
            assert {names.metrics_index(day), names.logs_index(day), names.rollup_index("logs-1m", day)} <= left
        made = names.metrics_index("2026-11-26")
        assert settings_of(elastic, made)["index.mode"] == "time_series"
        assert "host.id" in fields_of(elastic, made)
        assert care.apply(elastic, todo) == [], "again: nothing to be done, and nothing wrong"
        assert care.plan(NOW, settings, families.there(elastic, names), 1) == care.Plan({}, [])
    finally:
        elastic.request("DELETE", f"/{strangers[2]}")


def test_shards_and_replicas(elastic: ElasticClient, names: Names) -> None:
    wanted = IndexSettings(shards=2, replicas=0)
    install.make_templates(elastic, names, wanted, 1)
    settings = Settings(names=names, indices=wanted)
    care.apply(elastic, care.plan(NOW, settings, [], 1))
    late = names.logs_index("2026-11-01")  # made by a document that came late, so by the template alone
    write(elastic, late)
    for index in (names.logs_index(DAY), late):
        found = settings_of(elastic, index)
        assert (found["index.number_of_shards"], found["index.number_of_replicas"]) == ("2", "0")
        assert found.get("index.auto_expand_replicas", "false") == "false"
    assert settings_of(elastic, names.alerts_index(DAY))["index.number_of_shards"] == "1"
    assert families.data_nodes(elastic) >= 1


def test_a_users_own_component_template_wins_and_stays(elastic: ElasticClient, names: Names) -> None:
    own = install.custom(f"{names.prefix}-logs")
    mine = {
        "template": {
            "settings": {"index.refresh_interval": "7s"},
            "mappings": {"properties": {"my.own": {"type": "ip"}, "log.logger": {"type": "text"}}},
        }
    }
    put(elastic, f"/_component_template/{own}", mine)
    try:
        install.make_templates(elastic, names)
        index = names.logs_index("2026-11-02")
        write(elastic, index)
        assert settings_of(elastic, index)["index.refresh_interval"] == "7s"
        assert fields_of(elastic, index)["my.own"] == {"type": "ip"}
        assert "host.id" in fields_of(elastic, index)
        assert upgrade.upgrade(elastic, names, NOW) == [], "a field of the user's is none of ours"
        kept = elastic.request("GET", f"/_component_template/{own}")[1]["component_templates"][0]["component_template"]
        assert json.dumps(kept).count("7s") == 1
    finally:
        elastic.request("DELETE", f"/_index_template/{names.prefix}-logs")
        elastic.request("DELETE", f"/_component_template/{own}")


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The templates of a next version: what the test puts into the properties of logs (None takes a field away)."""
    change: dict[str, Any] = {}
    shipped = install.templates

    def templates(names: Names) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, body in shipped(names):
            if name.endswith("-logs"):
                body["template"]["mappings"]["properties"] |= change
                body["_meta"]["ezadmin"]["version"] += 1
            yield name, body

    monkeypatch.setattr(install, "templates", templates)
    monkeypatch.setattr(upgrade, "templates", templates)
    return change


def test_indices_just_made_need_no_upgrade(elastic: ElasticClient, names: Names) -> None:
    care.apply(elastic, care.plan(NOW, Settings(names=names), [], 1))
    write(elastic, names.state_index)
    assert upgrade.upgrade(elastic, names, NOW) == []


def test_fields_that_came_are_added(elastic: ElasticClient, names: Names, changed: dict[str, Any]) -> None:
    index = names.logs_index(DAY)
    write(elastic, index)
    changed["new.field"] = {"type": "keyword", "ignore_above": 1024}
    install.make_templates(elastic, names)
    assert upgrade.upgrade(elastic, names, NOW) == [f"{index}: 1 field(s) added: new.field"]
    assert fields_of(elastic, index)["new.field"] == changed["new.field"]
    assert upgrade.upgrade(elastic, names, NOW) == []
    assert elastic.request("GET", f"/{index}/_doc/1")[0] == 200


def test_what_cannot_change_begins_with_the_next_index(
    elastic: ElasticClient, names: Names, changed: dict[str, Any]
) -> None:
    today, empty, ahead = names.logs_index(DAY), names.logs_index("2026-11-25"), names.logs_index("2026-11-26")
    for index in (today, ahead):  # a host's clock is two days ahead
        write(elastic, index)
    put(elastic, f"/{empty}")
    before = fields_of(elastic, today)["log.logger"]
    changed["log.logger"] = {"type": "long"}
    install.make_templates(elastic, names)
    lines = upgrade.upgrade(elastic, names, NOW)
    assert lines == [
        f"{empty} was made ahead and empty: made anew",
        f"log.logger as long: begins with the next index; as it was in 2: {today}, {ahead}",
    ]
    assert fields_of(elastic, today)["log.logger"] == before
    assert fields_of(elastic, empty)["log.logger"] == {"type": "long"}
    write(elastic, today)
    write(elastic, ahead)
    write(elastic, empty)


def test_an_older_program_does_not_overwrite_a_newer_one(
    elastic: ElasticClient, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{names.prefix}-logs"
    stored = install.installed(elastic, name)
    assert stored is not None
    stored["_meta"]["ezadmin"]["version"] = 99
    put(elastic, f"/_component_template/{install.package(name)}", stored)
    with pytest.raises(install.SetupError, match="of version 99, this program's is 1"):
        install.make_templates(elastic, names)


def test_the_command(
    elastic: ElasticClient, names: Names, stack: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from ezadmin_pipeline import main

    config = tmp_path / "pipeline.toml"
    config.write_text(
        f'prefix = "{names.prefix}"\nsignatures = "off"\n[kafka]\nbootstrap = "127.0.0.1:1"\n'
        f'[elasticsearch]\nurl = "{stack.elasticsearch}"\n[retention]\nlogs = 5\nalerts = 0\n'
    )
    today = datetime.now(UTC)
    old = names.logs_index(f"{today - timedelta(days=9):%Y-%m-%d}")
    write(elastic, old)
    write(elastic, names.logs_index(f"{today:%Y-%m-%d}"))
    put(elastic, f"/{names.alerts_index('2020-01')}")
    assert main.main(["indices", "--config", str(config)]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith(old)] == ["now"]
    assert [line.split()[-1] for line in shown.splitlines() if "-alerts-2020.01" in line] == ["never"]
    assert "1 to be dropped now" in shown
    assert "to be made: " in shown
    assert old in there(elastic, names), "a look changes nothing"
    assert main.main(["indices", "--json", "--apply", "--config", str(config)]) == 0
    printed = capsys.readouterr()
    assert {row["index"] for row in json.loads(printed.out)["indices"]} >= {old}
    assert f"dropped {old}" in printed.err
    assert old not in there(elastic, names)

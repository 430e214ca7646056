"""Every panel of every dashboard: asks for fields that exist, shows them in their unit, and finds data of a real agent."""

from __future__ import annotations

import copy
import itertools
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from ezadmin_testing import grafana_search
from ezadmin_testing.certificates import Authority
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.grafana_search import GENERATIONS, Range
from ezadmin_testing.processes import Process, pipeline, wait_until

from ezadmin_agent.registry import COLLECTORS
from ezadmin_cmdb.grafana import alerting, bundle, provisioning
from ezadmin_cmdb.grafana.sources import SOURCES
from ezadmin_cmdb.main import main as cmdb_main
from ezadmin_pipeline.hourly import Hourly
from ezadmin_pipeline.settings import Settings
from ezadmin_wire.config import LimitRecord, limit_key
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

ROOT = Path(__file__).resolve().parents[2]
Dashboard = dict[str, Any]
Panel = dict[str, Any]

UNITS = {
    "ratio": {"percentunit"},
    "byte": {"bytes"},
    "byte/s": {"Bps"},
    "1/s": {"pps", "iops", "cps"},
    "ms": {"ms"},
    "s": {"s"},
    "mbit/s": {"Mbits"},
    "": {"short"},
}
"""What Grafana calls the units of es/fields.json."""
AGGREGATIONS = {"avg", "max", "min", "sum", "cardinality", "count"}
BUCKETS = {"date_histogram", "terms"}
AGGREGATED = {"keyword", "long", "integer", "float", "double", "date", "boolean", "ip", "flattened"}
PERIODS = {"system.core": 60, "system.filesystem": 60, "ezadmin.agent": 60}
MINUTELY = {name for one in COLLECTORS for name in one.slow} | {
    f.name for one in COLLECTORS if one.seconds for f in one.fields
}

PAGES = ("${ezadmin_url}/hosts/", "${ezadmin_url}/logs/?", "${ezadmin_url}/graphs/?")
"""Pages of the web application that links lead to."""

MAY_BE_EMPTY = {
    "system.network.utilization": "a virtual interface has no speed to compare with",
    "system.filesystem.used_files.pct": "a filesystem may have no fixed number of inodes",
}
"""Figures that a machine may rightly lack. Those of a machine without swap are there, and 0."""


def templates() -> dict[str, dict[str, str]]:
    """Types of the fields by family of indices."""
    found = {}
    for source in SOURCES:
        name = "rollup-metrics" if source.family == "rollup-metrics-1h" else source.family.split("-")[0]
        made = json.loads((ROOT / "es" / "templates" / f"{name}.json").read_text())
        properties = made["template"]["mappings"]["properties"]
        found[source.uid] = {field: mapping["type"] for field, mapping in properties.items()}
    return found


@cache
def figures() -> dict[str, dict[str, Any]]:
    """The entries of es/fields.json by field name."""
    return {entry["name"]: entry for entry in json.loads((ROOT / "es" / "fields.json").read_text())}


def dashboards() -> dict[str, Dashboard]:
    return bundle.dashboards()


def panels(dashboard: Dashboard) -> Iterator[Panel]:
    for panel in dashboard["panels"]:
        yield from ([panel] if panel["type"] != "row" else panel.get("panels") or [])


def queried(text: str) -> set[str]:
    """Fields that a Lucene query names."""
    return set(re.findall(r"([@\w][\w.]*):", text.replace("\\", "")))


def column(target: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    """Grafana's name of a table's column."""
    labels = {
        "avg": "Average",
        "max": "Max",
        "min": "Min",
        "sum": "Sum",
        "cardinality": "Unique Count",
        "count": "Count",
    }
    label = labels[metric["type"]]
    same = [other for other in target["metrics"] if other["type"] == metric["type"]]
    return f"{label} {metric['field']}" if len(same) > 1 else label


def shown_as(panel: Panel, target: Mapping[str, Any], metric: Mapping[str, Any]) -> str | None:
    """The unit a figure is shown in: the panel's, else an override's for its column or its query."""
    renamed = {}
    for step in panel.get("transformations", []):
        if step["id"] == "organize":
            renamed = step["options"]["renameByName"]
    name = renamed.get(column(target, metric))
    unit = panel["fieldConfig"]["defaults"].get("unit")
    for override in panel["fieldConfig"]["overrides"]:
        matcher, options = override["matcher"]["id"], override["matcher"]["options"]
        if (matcher == "byName" and options == name) or (matcher == "byFrameRefID" and options == target["refId"]):
            unit = next((entry["value"] for entry in override["properties"] if entry["id"] == "unit"), unit)
    return unit


def problems(dashboard: Dashboard) -> list[str]:
    """What is wrong with a dashboard, as far as its text says."""
    types, known = templates(), figures()
    found = []
    for panel in panels(dashboard):
        where = f"{dashboard['uid']}, panel {panel['title']!r}"
        for target in panel["targets"]:
            uid = target["datasource"]["uid"]
            if uid not in types:
                found.append(f"{where}: no data source {uid}")
                continue
            asked = queried(target["query"]) | {level["field"] for level in target["bucketAggs"]}
            asked |= {metric["field"] for metric in target["metrics"] if metric["type"] not in FIELDLESS}
            unknown = sorted(field for field in asked if _type(types[uid], field) is None)
            found += [f"{where}: no field {field} in {uid}" for field in unknown]
            for level in target["bucketAggs"]:
                if level["type"] not in BUCKETS:
                    found.append(f"{where}: aggregation {level['type']} is not everywhere")
                if _type(types[uid], level["field"]) == "text":
                    found.append(f"{where}: {level['field']} is text and cannot be aggregated")
            for metric in target["metrics"]:
                if metric["type"] != "logs":
                    found += figure_problems(panel, target, metric, known.get(sampled(metric.get("field", ""))), where)
        found += panel_problems(panel, known, where)
    return found


FIELDLESS = ("logs", "count")


def sampled(field: str) -> str:
    """The field of the samples that one of metrics by the hour is made of; any other field itself."""
    return re.sub(r"\.(min|max|sum|avg|count)$", "", field) if field not in figures() else field


def _type(types: Mapping[str, str], field: str) -> str | None:
    """The type of a field, or of the flattened one that holds it."""
    return types.get(field) or ("keyword" if types.get(field.split(".")[0]) == "flattened" else None)


def figure_problems(
    panel: Panel, target: Mapping[str, Any], metric: Mapping[str, Any], entry: Mapping[str, Any] | None, where: str
) -> list[str]:
    if metric["type"] not in AGGREGATIONS:
        return [f"{where}: aggregation {metric['type']} is not everywhere"]
    found = []
    unit = shown_as(panel, target, metric)
    if metric["type"] in ("cardinality", "count"):
        wanted = {"short"}
    elif metric["field"] == "@timestamp":
        wanted = {"dateTimeFromNow"}
    elif entry is None:
        wanted = {"short"}
    elif entry["type"] == "date":
        wanted = {"dateTimeFromNow"}
    else:
        wanted = UNITS[entry["unit"]]
    if unit not in wanted:
        found.append(f"{where}: {metric['field']} is shown in {unit}, not in {' or '.join(sorted(wanted))}")
    if entry and entry["kind"] == "counter":
        found.append(f"{where}: {metric['field']} counts since boot: show its rate")
    return found


def panel_problems(panel: Panel, known: Mapping[str, Mapping[str, Any]], where: str) -> list[str]:
    found = []
    korean, _, english = panel.get("description", "").partition("\n\n")
    if not re.search("[가-힣]", korean) or not re.search("[a-z]", english):
        found.append(f"{where}: the description needs a line of Korean and one of English")
    if panel["type"] != "timeseries":
        return found
    custom = panel["fieldConfig"]["defaults"]["custom"]
    fields = [metric.get("field", "") for metric in _metrics(panel)]
    datasets = {known[field]["dataset"] for field in fields if field in known}
    period = max((PERIODS.get(dataset, 10) for dataset in datasets), default=0)
    if any(field in MINUTELY for field in fields):
        period = 60
    if any(sampled(field) != field for field in fields):
        period = 3600
    if custom["spanNulls"] is True or custom["spanNulls"] > period * 3000:
        found.append(f"{where}: draws a line over a gap of more than 3 values")
    fills = any(
        metric.get("field", "").endswith(("used.pct", "total.norm.pct", "utilization")) for metric in _metrics(panel)
    )
    steps = [step["value"] for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])]
    if fills and (steps[1:] != [0.8, 0.9] or custom["thresholdsStyle"]["mode"] == "off"):
        found.append(f"{where}: draw the thresholds 80 and 90 %")
    return found


def _metrics(panel: Panel) -> list[Mapping[str, Any]]:
    return [metric for target in panel["targets"] for metric in target["metrics"]]


@pytest.mark.parametrize("uid", sorted(dashboards()))
def test_fields_units_thresholds_and_descriptions(uid: str) -> None:
    assert problems(dashboards()[uid]) == []


def _wrong_unit(panel: Panel) -> None:
    panel["fieldConfig"]["defaults"]["unit"] = "percent"


def _unknown_field(panel: Panel) -> None:
    panel["targets"][0]["metrics"][0]["field"] = "system.cpu.total.pct"


def _unknown_field_in_query(panel: Panel) -> None:
    panel["targets"][0]["query"] += " AND hostname:x"


def _counter(panel: Panel) -> None:
    panel["targets"][0]["metrics"][0]["field"] = "system.cpu.user.ticks"


def _no_script(panel: Panel) -> None:
    panel["targets"][0]["metrics"][0]["type"] = "derivative"


def _over_gaps(panel: Panel) -> None:
    panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] = True


def _english_only(panel: Panel) -> None:
    panel["description"] = "Where CPU time goes."


@pytest.mark.parametrize(
    "spoil",
    [_wrong_unit, _unknown_field, _unknown_field_in_query, _counter, _no_script, _over_gaps, _english_only],
)
def test_a_spoilt_panel_is_seen(spoil: Callable[[Panel], None]) -> None:
    dashboard = copy.deepcopy(dashboards()["ezadmin-host"])
    spoil(next(panel for panel in panels(dashboard) if panel["title"] == "CPU by state"))
    assert len(problems(dashboard)) >= 1


def test_a_figure_without_a_value_is_seen() -> None:
    target = {
        "bucketAggs": [{"id": "3"}, {"id": "2"}],
        "metrics": [{"id": "1", "type": "avg", "field": "a"}, {"id": "5", "type": "avg", "field": "b"}],
    }
    rows = [{"1": {"value": None}, "5": {"value": None}}, {"1": {"value": 0.0}, "5": {"value": None}}]
    assert missing(target, {"aggregations": {"3": {"buckets": [{"2": {"buckets": rows}}]}}}) == ["b"]
    assert missing(target, {"aggregations": {"3": {"buckets": []}}}) == ["a", "b"]
    assert missing({"metrics": [{"id": "1", "type": "logs"}]}, {"hits": {"hits": []}}) == ["events"]


def test_files_are_what_the_builder_makes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "grafana" / "build.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_levels_have_one_colour_everywhere() -> None:
    seen: dict[str, set[str]] = {}
    for dashboard in dashboards().values():
        for panel in panels(dashboard):
            by_level = any(
                level["field"] == "log.level" for target in panel["targets"] for level in target["bucketAggs"]
            )
            if not by_level:
                continue
            colours = {
                override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
                for override in panel["fieldConfig"]["overrides"]
                if override["properties"][0]["id"] == "color"
            }
            assert set(colours) == set(LEVELS), panel["title"]
            for level, colour in colours.items():
                seen.setdefault(level, set()).add(colour)
    assert {len(colours) for colours in seen.values()} == {1}
    assert len(set.union(*seen.values())) == len(LEVELS)


@pytest.mark.parametrize("uid", sorted(dashboards()))
def test_layout_and_ids(uid: str) -> None:
    dashboard = dashboards()[uid]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
    assert dashboard["schemaVersion"] == 37
    assert bundle.build_of(dashboard)


def test_links_lead_to_the_web_application_and_to_dashboards_that_exist() -> None:
    for dashboard in dashboards().values():
        changed = json.dumps(bundle.with_web_url(dashboard, "https://ez.example/"))
        assert "127.0.0.1" not in changed
        assert '"value": "https://ez.example"' in changed
        links = [link["url"] for link in dashboard["links"] if link["type"] == "link"]
        links += re.findall(r'"url": "([^"\\]*(?:\\.[^"\\]*)*)"', json.dumps(dashboard["panels"]))
        assert links
        for link in links:
            own = re.match(r"/d/([\w-]+)", link)
            assert link.startswith(PAGES) or (own and own[1] in dashboards()), link
            if "/logs/" in link:
                assert "from=${__from:date:iso}&to=${__to:date:iso}" in link
            if "/graphs/" in link or "/hosts/$" in link:
                assert "from=${__from}&to=${__to}" in link
            if own:
                assert "${__url_time_range}" in link
                asked = re.findall(r"var-(\w+)=", link)
                assert set(asked) <= {variable["name"] for variable in dashboards()[own[1]]["templating"]["list"]}


def test_provisioning_keeps_dollar_signs_and_names_our_indices(tmp_path: Path) -> None:
    provisioning.write(tmp_path, Names("acme"), "https://es:9200", "https://ez.example", "reader", "pa$$w$ord")
    sources = json.loads((tmp_path / "datasources" / "ezadmin.yaml").read_text())["datasources"]
    assert {entry["uid"] for entry in sources} == {source.uid for source in SOURCES}
    for entry in sources:
        assert entry["database"] == entry["jsonData"]["index"]
        assert entry["database"].startswith("acme-")
        # Grafana reads $$ as one dollar sign
        assert entry["secureJsonData"]["basicAuthPassword"].replace("$$", "$") == "pa$$w$ord"
        assert "tlsAuthWithCACert" not in entry["jsonData"]
    assert (tmp_path / "datasources" / "ezadmin.yaml").stat().st_mode & 0o777 == 0o640
    provider = json.loads((tmp_path / "dashboards" / "ezadmin.yaml").read_text())["providers"][0]
    made = sorted(path.stem for path in Path(provider["options"]["path"]).glob("*.json"))
    assert made == sorted(dashboards())


def test_alert_rules_ask_for_fields_that_exist_and_name_whom_they_are_about() -> None:
    types, made = templates(), alerting.document()
    (group,) = made["groups"]
    rules = group["rules"]
    assert len({rule["uid"] for rule in rules}) == len(rules) >= 6
    for rule in rules:
        asked, reduced, compared = (entry["model"] for entry in rule["data"])
        fields = queried(asked["query"]) | {level["field"] for level in asked["bucketAggs"]}
        fields |= {metric["field"] for metric in asked["metrics"]}
        assert fields <= types[rule["data"][0]["datasourceUid"]].keys(), rule["uid"]
        assert (reduced["expression"], compared["expression"], rule["condition"]) == ("A", "B", "C")
        # a label of the series is in every summary; elsewhere Grafana would put its environment in for a dollar sign
        assert rule["annotations"]["summary"].startswith(f'{{{{ index $labels "{asked["bucketAggs"][0]["field"]}" }}}}')
        assert "$" not in json.dumps({**rule, "annotations": {}})


def test_provisioning_lets_not_everybody_read_the_password(tmp_path: Path) -> None:
    file = tmp_path / "datasources/ezadmin.yaml"
    file.parent.mkdir()
    file.touch(mode=0o644)  # as somebody made it before
    provisioning.write(tmp_path, Names("acme"), "https://es:9200", "https://ez.example", "reader", "secret")
    assert "secret" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640


def test_provisioning_writes_alert_rules_only_if_asked(tmp_path: Path) -> None:
    command = ["grafana", "provision", "--elasticsearch-url", "https://es:9200", "--web-url", "https://ez.example"]
    assert cmdb_main([*command, "--out", str(tmp_path / "a")]) == 0
    assert not (tmp_path / "a" / "alerting").exists()
    assert cmdb_main([*command, "--out", str(tmp_path / "b"), "--alert-rules"]) == 0
    assert json.loads((tmp_path / "b" / "alerting" / "ezadmin.yaml").read_text()) == alerting.document()


def test_provisioning_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca").ca_file
    target = ["--elasticsearch-url", "https://es:9200", "--web-url", "https://ez.example"]
    command = ["grafana", "provision", "--out", str(tmp_path / "out"), *target]
    assert cmdb_main([*command, "--elasticsearch-ca-file", str(authority)]) == 0
    sources = json.loads((tmp_path / "out" / "datasources" / "ezadmin.yaml").read_text())["datasources"]
    for entry in sources:
        assert entry["jsonData"]["tlsAuthWithCACert"] is True
        assert entry["secureJsonData"] == {"tlsCACert": authority.read_text()}
        assert "basicAuth" not in entry
    for wrong in (tmp_path / "nowhere.pem", Path(__file__)):
        assert cmdb_main([*command, "--elasticsearch-ca-file", str(wrong)]) == 2


# -- with data of a real agent ---


WRITTEN = ("critical", "error", "warning", "info", "debug")


class Watched:
    """An installation with one real agent and one real pipeline worker, and what Grafana would be told about it."""

    def __init__(self, stack: Any, names: Names, folder: Path) -> None:
        self._url = stack.elasticsearch
        self.fleet = Fleet(stack.kafka, stack.elasticsearch, names, folder)
        self.events = folder / "events.log"
        self.events.touch()
        config = folder / "agent.toml"
        config.write_text(
            f'prefix = "{names.prefix}"\nstate_dir = "{folder / "agent"}"\ninterval = 1\n'
            f'[kafka]\nbootstrap = "{stack.kafka}"\n[[logs]]\npath = "{self.events}"\ndataset = "system.syslog"\n'
        )
        command = [sys.executable, "-m", "ezadmin_agent"]
        shown = subprocess.run(
            [*command, "identity", "--config", str(config)], capture_output=True, text=True, timeout=30, check=True
        )
        identity = json.loads(shown.stdout)
        self.host_id: str = identity["host.id"]
        # a name that needs escaping in a query
        self.host_name = "web-1 (서울)"
        key = _Public(identity["kid"], bytes.fromhex(identity["public_key"]))
        self.fleet.publish(
            limit_key("1"), LimitRecord("system.cpu.total.norm.pct", critical_raise=-1.0, critical_clear=-2.0)
        )
        labels = {"site": "서울 1", "customer": "ACME (주)"}
        groups = ["결제", "web"]
        self.fleet.publish_host(
            self.host_id,
            key,
            name=self.host_name,
            labels=labels,
            groups=groups,
            limits=["1"],  # type: ignore[arg-type]
        )
        own, own_id = SigningKey.generate(), "00000000-0000-4000-8000-0000000000ee"
        own.save(folder / "own.key")
        self.fleet.publish_host(own_id, own, name="pipeline-1")
        settings = self.fleet.settings(
            "worker", own={"key": str(folder / "own.key"), "host_id": own_id}, surges={"floor": 1}
        )
        self._write_old(stack.elasticsearch, names)
        self.worker = pipeline(settings, folder / "worker.log").start()
        self.agent = Process([*command, "run", "--config", str(config)], folder / "agent.log").start()
        self.index = {source.uid: source.index(names) for source in SOURCES}

    def _write_old(self, url: str, names: Names) -> None:
        """A figure of five hours ago, which the worker sums up."""
        stamp = format_time(datetime.now(UTC) - timedelta(hours=5))
        document = {"@timestamp": stamp, "host.id": "old", "event.dataset": "system.host", "system.load.1": 1.0}
        status, answer = self.fleet.elastic.request(
            "POST", f"/{names.metrics_index(stamp)}/_doc", body=orjson.dumps(document)
        )
        assert status == 201, answer

    def sum_up(self, names: Names) -> None:
        """The hours that are not over yet, as if they were."""
        later = datetime.now(UTC) + timedelta(hours=2)
        members = {
            "host.name": self.host_name,
            "labels": {"site": "서울 1", "customer": "ACME (주)", "group": ["결제"]},
        }
        assert list(Hourly(Settings(names=names), self.fleet.elastic, lambda _: members, lambda: later).make())

    def write(self) -> None:
        """A log line of each common level, a surge of one of them, and what the pipeline warns of."""
        stamp = datetime.now(UTC).strftime("%b %d %H:%M:%S")
        with self.events.open("a") as file:
            for word in (*WRITTEN, *[WRITTEN[-1]] * 100):
                file.write(f"{stamp} box app[7]: {word}: 디스크 <b>disk</b>\n")
        self.fleet.send(self.fleet.names.config, b"host/nobody", b"no record", [])

    def count(self, uid: str, query: str) -> int:
        """Documents that a query finds; none while the index is being made, which Elasticsearch answers with an error."""
        answer = self.ask(uid, {"size": 0, "query": {"query_string": {"query": query}}})
        return 0 if "error" in answer else int(answer["hits"]["total"]["value"])

    def ask(self, uid: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a search as Grafana does; returns its answer. An index that is being made at this moment is waited for."""
        for _ in range(20):
            found = self._ask(uid, body)
            if "no_shard_available_action_exception" not in str(found.get("_shards")):
                break
            time.sleep(0.2)
        return found

    def _ask(self, uid: str, body: Mapping[str, Any]) -> dict[str, Any]:
        lines = orjson.dumps(grafana_search.header(self.index[uid])) + b"\n" + orjson.dumps(body) + b"\n"
        request = urllib.request.Request(
            f"{self._url}/_msearch", data=lines, headers={"content-type": "application/x-ndjson"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)["responses"][0]
        return found

    def close(self) -> None:
        self.agent.stop()
        self.worker.stop()
        self.fleet.close()


class _Public:
    """The public half of a key, as Fleet.publish_host asks for it."""

    def __init__(self, kid: str, public: bytes) -> None:
        self.kid = kid
        self.public = public


@pytest.fixture
def watched(stack: Any, names: Names, tmp_path: Path) -> Iterator[Watched]:
    made = Watched(stack, names, tmp_path)
    try:
        wait_until(lambda: made.count("ezadmin-metrics", f'host.id:"{made.host_id}"'), 60, "the first figures")
        made.write()
        for rollup, level in itertools.product(("ezadmin-rollup-fleet-1h", "ezadmin-rollup-fleet-1m"), WRITTEN):
            counted = partial(made.count, rollup, f"log.level:{level}")
            wait_until(counted, 60, f"events of level {level} in {rollup}")
        for dataset in ("system.filesystem", "ezadmin.agent", "system.process"):
            wait_until(partial(made.count, "ezadmin-metrics", f"event.dataset:{dataset}"), 60, dataset)
        for dataset in ("alert.surge", "alert.threshold"):
            wait_until(partial(made.count, "ezadmin-alerts", f"event.dataset:{dataset}"), 60, dataset)
        wait_until(
            lambda: made.count("ezadmin-metrics", "event.dataset:pipeline.worker"), 60, "the worker's own figures"
        )
        wait_until(lambda: made.count("ezadmin-logs", "event.dataset:pipeline.log"), 60, "the worker's own warning")
        wait_until(lambda: made.count("ezadmin-metrics", "event.dataset:system.host") >= 5, 60, "five ticks")
        wait_until(lambda: made.count("ezadmin-metrics-1h", "host.id:old"), 60, "the hour that the worker sums up")
        made.sum_up(names)
        wait_until(lambda: made.count("ezadmin-metrics-1h", "event.dataset:system.filesystem"), 60, "this hour")
        yield made
    finally:
        made.close()


def variables_of(dashboard: Dashboard, watched: Watched, period: Range, every: bool = True) -> dict[str, Any]:
    """Values of a dashboard's variables as Grafana finds them, in their order; "All" where there is one, or (``every`` is
    false) each of the values."""
    known: dict[str, Any] = {}
    for variable in dashboard["templating"]["list"]:
        name = variable["name"]
        if variable["type"] == "query":
            asked = json.loads(variable["query"])
            body = grafana_search.terms_search(asked, period, known)
            answer = watched.ask(variable["datasource"]["uid"], body)
            assert "error" not in answer, f"variable {name}: {answer.get('error')}"
            values = [str(bucket["key"]) for bucket in answer["aggregations"]["1"]["buckets"]]
            assert values, f"variable {name} has no values"
            chosen: Any = values if variable["includeAll"] else values[0]
            known[name] = grafana_search.Raw(variable["allValue"]) if every and variable.get("allValue") else chosen
        elif variable["type"] == "interval":
            known[name] = grafana_search.auto_interval(period, variable["auto_count"], variable["auto_min"])
        else:
            known[name] = variable["query"]
    return known


def missing(target: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    """Figures of a target that the answer has no value of."""
    if target["metrics"][0]["type"] == "logs":
        return [] if answer["hits"]["hits"] else ["events"]
    rows = [answer["aggregations"]]
    for level in target["bucketAggs"]:
        rows = [bucket for row in rows for bucket in row[level["id"]]["buckets"]]
    return [
        metric.get("field", "count") for metric in target["metrics"] if all(_value(row, metric) is None for row in rows)
    ]


def _value(row: Mapping[str, Any], metric: Mapping[str, Any]) -> Any:
    return row["doc_count"] if metric["type"] == "count" else row[metric["id"]]["value"]


def every_panel_shows_data(watched: Watched) -> None:
    now = int(time.time() * 1000)
    shown = Range(now - 3600_000, now)
    steps = {source.uid: source.step for source in SOURCES}
    wrong = []
    for dashboard, every in itertools.product(dashboards().values(), (True, False)):
        known = variables_of(dashboard, watched, shown, every)
        for panel in panels(dashboard):
            period = grafana_search.panel_range(panel, shown)
            for target in panel["targets"]:
                uid = target["datasource"]["uid"]
                least = panel.get("interval") or steps[uid]
                interval = grafana_search.auto_interval(period, grafana_search.DEFAULT_POINTS, least)
                for generation in GENERATIONS:
                    chosen = "all" if every else "each value"
                    where = f"{dashboard['uid']}, panel {panel['title']!r}, {chosen}, built by the {generation}"
                    answer = watched.ask(uid, grafana_search.search(generation, target, period, known, interval))
                    if answer.get("error") or answer["_shards"]["failed"]:
                        wrong.append(f"{where}: {answer.get('error') or answer['_shards']}")
                        continue
                    if panel["fieldConfig"]["defaults"].get("noValue", "no data") != "no data":
                        continue  # a count that may be 0
                    empty = [figure for figure in missing(target, answer) if figure not in MAY_BE_EMPTY]
                    wrong += [f"{where}: no value of {figure}" for figure in empty]
    assert wrong == []


def alert_rules_find_series(watched: Watched) -> None:
    now = int(time.time() * 1000)
    for rule in alerting.document()["groups"][0]["rules"]:
        asked = rule["data"][0]
        period = Range(now - asked["relativeTimeRange"]["from"] * 1000, now)
        # rules are asked by Grafana's server, in every version
        body = grafana_search.search(grafana_search.SERVER, asked["model"], period, {}, "60s")
        answer = watched.ask(asked["datasourceUid"], body)
        assert missing(asked["model"], answer) == [], rule["uid"]


def annotations_find_alerts(watched: Watched) -> None:
    now = int(time.time() * 1000)
    period = Range(now - 3600_000, now)
    marked = 0
    for dashboard in dashboards().values():
        known = variables_of(dashboard, watched, period)
        for annotation in dashboard["annotations"]["list"]:
            marked += 1
            answer = watched.ask("ezadmin-alerts", grafana_search.annotation_search(annotation, period, known))
            found = [hit["_source"] for hit in answer["hits"]["hits"]]
            assert found, f"{dashboard['uid']}, {annotation['name']}"
            # Grafana reads the text from a member of the document's root
            assert all(one[annotation["textField"]] for one in found)
    assert marked >= 8


def the_host_variables_find_the_host_by_name_and_by_id(watched: Watched) -> None:
    now = int(time.time() * 1000)
    period = Range(now - 3600_000, now)
    dashboard = dashboards()["ezadmin-host"]
    assert variables_of(dashboard, watched, period)["host"] == watched.host_name
    query = json.loads(next(v for v in dashboard["templating"]["list"] if v["name"] == "host_id")["query"])
    for value in (watched.host_name, watched.host_id):
        answer = watched.ask("ezadmin-metrics", grafana_search.terms_search(query, period, {"host": value}))
        assert [bucket["key"] for bucket in answer["aggregations"]["1"]["buckets"]] == [watched.host_id]
    answer = watched.ask("ezadmin-metrics", grafana_search.terms_search(query, period, {"host": "nobody"}))
    assert answer["aggregations"]["1"]["buckets"] == []


def gaps_come_as_null_and_a_range_in_the_past_has_its_own_now(watched: Watched) -> None:
    now = int(time.time() * 1000)
    fleet = dashboards()["ezadmin-fleet"]
    known = variables_of(fleet, watched, Range(now - 3600_000, now))
    by_title = {panel["title"]: panel for panel in panels(fleet)}
    graph = by_title["CPU of the busiest hosts"]["targets"][0]
    for generation in GENERATIONS:
        answer = watched.ask(
            "ezadmin-metrics", grafana_search.search(generation, graph, Range(now - 3600_000, now), known, "10s")
        )
        points = [bucket["1"]["value"] for bucket in answer["aggregations"]["3"]["buckets"][0]["2"]["buckets"]]
        assert points[0] is None
        assert any(point is not None for point in points)
        hosts = by_title["Hosts reporting"]["targets"][0]
        for end, reporting in ((now, True), (now - 1800_000, False)):
            body = grafana_search.search(generation, hosts, Range(end - 3600_000, end), known, "10s")
            assert bool(watched.ask("ezadmin-metrics", body)["aggregations"]["2"]["buckets"]) == reporting


def test_on_data_of_a_real_agent(watched: Watched) -> None:
    every_panel_shows_data(watched)
    annotations_find_alerts(watched)
    alert_rules_find_series(watched)
    the_host_variables_find_the_host_by_name_and_by_id(watched)
    gaps_come_as_null_and_a_range_in_the_past_has_its_own_now(watched)

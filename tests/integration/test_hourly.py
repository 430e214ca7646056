"""Metrics by the hour on the real Elasticsearch: what a direct aggregation says, however often and however broken off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from ezadmin_pipeline import hourly
from ezadmin_pipeline.elastic import Elastic, ElasticClient, Unavailable
from ezadmin_pipeline.hourly import Hourly
from ezadmin_pipeline.settings import Settings
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

NOW = datetime(2026, 11, 2, 3, 5, tzinfo=UTC)
"""Five minutes past three: of the hour before, late documents are still waited for."""
START = datetime(2026, 10, 31, 23, 0, tzinfo=UTC)
"""The hours made of are in two months."""
HOSTS = ("00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b", "unknown-to-the-cmdb")
CPU, USED, IN = "system.cpu.total.norm.pct", "system.memory.actual.used.bytes", "system.network.in.bytes_per_sec"
Document = dict[str, Any]


def members(host: str) -> dict[str, Any]:
    return {"host.name": f"name of {host[-1]}", "labels": {"site": "서울", "group": ["web", "db"]}}


def documents() -> Iterator[Document]:
    """Hosts with a document each ten minutes, two NICs, and processes, which are not kept."""
    for tick in range(6 * 29):
        time = START + timedelta(minutes=10 * tick, seconds=7)
        for number, host in enumerate(HOSTS):
            base = {
                "@timestamp": format_time(time),
                "host.id": host,
                "host.name": "old",
                "event.created": format_time(time),
            }
            value = ((tick * 7 + number * 3) % 20) / 20
            whole = {CPU: value, "system.cpu.user.ticks": tick}
            # a figure that is not in every document
            yield {**base, "event.dataset": "system.host", **whole, **({USED: 2**40 + tick} if tick % 3 == 0 else {})}
            for nic in ("eth0", "eth1"):
                yield {**base, "event.dataset": "system.network", "system.network.name": nic, IN: value * 1000}
            process = {"process.entity_id": f"p{tick}", "system.process.cpu.total.pct": value}
            yield {**base, "event.dataset": "system.process", **process}


class Cut:
    """An Elasticsearch that goes away after so many requests."""

    def __init__(self, elastic: Elastic, requests: int) -> None:
        self._elastic = elastic
        self._left = requests

    def request(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        self._left -= 1
        if self._left < 0:
            raise Unavailable("cut")
        return self._elastic.request(method, path, **more)


class Bench:
    """An installation with metrics of some hours."""

    def __init__(self, elastic: ElasticClient, names: Names) -> None:
        self.elastic = elastic
        self.names = names
        self.settings = Settings(names=names)

    def write(self, *made: Document) -> None:
        lines = bytearray()
        for one in made:
            index = self.names.metrics_index(one["@timestamp"])
            lines += orjson.dumps({"create": {"_index": index}}) + b"\n" + orjson.dumps(one) + b"\n"
        _, answer = self.elastic.request("POST", "/_bulk", params={"refresh": "true"}, body=bytes(lines))
        assert not answer["errors"], answer

    def job(self, elastic: Elastic | None = None, now: datetime = NOW) -> Hourly:
        return Hourly(self.settings, elastic or self.elastic, members, lambda: now)

    def found(self) -> dict[tuple[str, ...], dict[str, float]]:
        """What stands there: figures by (hour, host, dataset, NIC)."""
        self.elastic.request("POST", f"/{self.names.prefix}-rollup-metrics-1h-*/_refresh")
        figures = [f"{name}.{one}" for name in (CPU, USED, IN) for one in ("min", "max", "sum", "avg", "count")]
        parts = ("@timestamp", "host.id", "event.dataset", "system.network.name")
        body = {"size": 5000, "docvalue_fields": [*parts, "documents", "host.name", "labels.site", *figures]}
        path = f"/{self.names.prefix}-rollup-metrics-1h-*/_search"
        status, answer = self.elastic.request("POST", path, body=orjson.dumps(body))
        assert status == 200, answer
        hits = [hit["fields"] for hit in answer["hits"]["hits"]]
        assert all(hit["host.name"] == [members(hit["host.id"][0])["host.name"]] for hit in hits)
        assert all(hit["labels.site"] == ["서울"] for hit in hits)
        made = {}
        for hit in hits:
            key = tuple(str(hit.get(part, [""])[0]) for part in parts)
            assert key not in made, "twice"
            made[key] = {name: hit[name][0] for name in ("documents", *figures) if name in hit}
        return made


def wanted(made: list[Document], until: datetime = datetime(2026, 11, 2, 2, tzinfo=UTC)) -> dict[tuple[str, ...], Any]:
    """What should stand there, summed up here."""
    groups: dict[tuple[str, ...], list[Document]] = {}
    for one in made:
        if one["event.dataset"] != "system.process" and one["@timestamp"] < format_time(until):
            hour = one["@timestamp"][:14] + "00:00.000Z"
            key = (hour, one["host.id"], one["event.dataset"], one.get("system.network.name", ""))
            groups.setdefault(key, []).append(one)
    result = {}
    for key, group in groups.items():
        figures: dict[str, float] = {"documents": len(group)}
        for name in (CPU, USED, IN):
            values = [one[name] for one in group if name in one]
            if values:
                total = math.fsum(values)
                parts = {"min": min(values), "max": max(values), "sum": total, "avg": total / len(values)}
                figures |= {f"{name}.{one}": value for one, value in {**parts, "count": len(values)}.items()}
        result[key] = figures
    return result


def same(found: Mapping[tuple[str, ...], Any], expected: Mapping[tuple[str, ...], Any]) -> None:
    assert found.keys() == expected.keys()
    for key, figures in expected.items():
        # a figure is a float of four bytes in the documents
        assert found[key] == pytest.approx(figures, rel=1e-6), key


@pytest.fixture
def bench(stack: Any, make_names: Callable[..., Names], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(hourly, "PAGE", 2)
    elastic = ElasticClient(ElasticConnection((stack.elasticsearch,)))
    made = Bench(elastic, make_names())
    made.write(*documents())
    yield made
    elastic.close()


def test_it_is_what_a_direct_aggregation_says_and_stays_so(bench: Bench) -> None:
    job = bench.job()
    done = list(job.make())
    assert len(done) == 27, "every hour that is over"
    assert done[0] == "2026-11-02T01:00:00.000Z: 9 series", "the newest first"
    expected = wanted(list(documents()))
    same(bench.found(), expected)
    assert list(job.make()) == []
    assert list(bench.job().make()) == [], "another worker sees that nothing is missing"

    late = {"@timestamp": "2026-11-01T05:59:59.999Z", "host.id": HOSTS[0], "event.dataset": "system.host", CPU: 7.5}
    bench.write({**late, "host.name": "old", "event.created": late["@timestamp"]})
    assert list(job.make()) == ["2026-11-01T05:00:00.000Z: 9 series"]
    expected = wanted([*documents(), late])
    assert expected["2026-11-01T05:00:00.000Z", HOSTS[0], "system.host", ""][f"{CPU}.max"] == 7.5
    same(bench.found(), expected)

    # a day is dropped, and made anew by what comes late: what was known of it stays
    bench.elastic.request("DELETE", f"/{bench.names.metrics_index('2026-11-01')}")
    bench.write({**late, "host.name": "old", "event.created": late["@timestamp"]})
    assert list(job.make()) == []
    same(bench.found(), expected)

    assert list(bench.job(now=NOW + timedelta(minutes=5)).make()) == ["2026-11-02T02:00:00.000Z: 9 series"]


def test_broken_off_at_any_request_it_ends_the_same(bench: Bench) -> None:
    expected = wanted(list(documents()))
    for requests in (1, 4, 5, 6, 7, 9, 30, 31, 32, 61):
        with pytest.raises(Unavailable):
            list(bench.job(Cut(bench.elastic, requests)).make())
    stopped = bench.job()
    steps = stopped.make()
    next(steps)
    stopped.stopping = True
    assert list(steps) == []
    assert list(stopped.make()) == [], "it stays stopped"
    assert bench.found().keys() < expected.keys()
    list(bench.job().make())
    same(bench.found(), expected)

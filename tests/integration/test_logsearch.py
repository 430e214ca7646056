"""Log search on the real Elasticsearch: what is found, of whose hosts, pages, histogram, context, tail, export, giving up."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ezadmin_testing import log_events
from ezadmin_testing.described import KIM, PASSWORD, application, make, sign_in
from ezadmin_testing.log_events import LogEvents
from ezadmin_testing.processes import wait_until
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.elastic import Elastic, ElasticUnavailable
from ezadmin_cmdb.errors import Forbidden, Invalid, NotFound
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.logsearch import export, rollups, services, values
from ezadmin_cmdb.logsearch import fields as known
from ezadmin_cmdb.logsearch.query import QueryError, parse
from ezadmin_cmdb.logsearch.services import HostScope, Search
from ezadmin_cmdb.logsearch.times import Period
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.ids import event_id_prefix
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

NUMBER = 6_000
KEY = b"key of the tests"
ALL = HostScope(None)
ONE = HostScope(frozenset([log_events.host_id(3)]))
NOW = datetime.now(UTC).replace(microsecond=0)
EVENTS = LogEvents(NUMBER, NOW - timedelta(hours=40, minutes=7, seconds=11), timedelta(hours=39))
PERIOD = Period(NOW - timedelta(hours=48), NOW)
LATER = Period(PERIOD.start, NOW + timedelta(hours=1))


@pytest.fixture(scope="module")
def es(stack: Any, module_names: Names) -> Iterator[Elastic]:
    EVENTS.load(stack.elasticsearch, module_names)
    elastic = Elastic(ElasticConnection((stack.elasticsearch,)))
    yield elastic
    elastic.close()


@pytest.fixture
def store(stack: Any, module_names: Names) -> Iterator[Any]:
    """Writes events, of host 60 or as they say, and takes them away again."""
    client = ElasticClient(ElasticConnection((stack.elasticsearch,)))
    written: list[dict[str, str]] = []

    def bulk(lines: list[dict[str, Any]]) -> None:
        body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        status, answer = client.request("POST", "/_bulk", params={"refresh": "true"}, body=body)
        assert (status, answer["errors"]) == (200, False), answer

    def write(*documents: dict[str, Any]) -> list[str]:
        lines: list[dict[str, Any]] = []
        before = len(written)
        for given in documents:
            host, at = (
                given.get("host.id", log_events.host_id(60)),
                given.get("@timestamp", format_time(datetime.now(UTC))),
            )
            prefix = event_id_prefix(host, "logs", "1" * 16)
            place = {
                "_index": module_names.logs_index(given.pop("stored", at)),
                "_id": f"{prefix}{time.time_ns():x}{len(written):x}",
            }
            usual = {"host.id": host, "host.name": "extra", "event.dataset": "log.file", "log.level": "info"}
            lines += [{"create": place}, {**usual, "@timestamp": at, "event.ingested": at, **given}]
            written.append(place)
        bulk(lines)
        return [one["_id"] for one in written[before:]]

    yield write
    if written:
        bulk([{"delete": place} for place in written])
    client.close()


def wanted(text: str = "", scope: HostScope = ALL, period: Period = PERIOD) -> Search:
    return Search(scope, parse(text), period, NOW)


def numbers(condition: Any) -> list[int]:
    """The made events that meet a condition."""
    return [i for i in range(NUMBER) if condition(i)]


QUERIES = {
    "level: error": lambda i: EVENTS.level(i) == "error",
    "level >= warning": lambda i: EVENTS.level(i) in ("warning", "error", "critical"),
    "level > warning": lambda i: EVENTS.level(i) in ("error", "critical"),
    "not level: (info or debug or notice)": lambda i: EVENTS.level(i) in ("warning", "error", "critical"),
    "host: log-01* and level: critical": lambda i: 10 <= EVENTS.host(i) < 20 and EVENTS.level(i) == "critical",
    f'host.id: "{log_events.host_id(7)}"': lambda i: EVENTS.host(i) == 7,
    "process.pid >= 100 process.pid < 110": lambda i: 100 <= i % 5000 < 110,
    "process.pid: [100 to 109]": lambda i: 100 <= i % 5000 < 110,
    "source.ip: 10.3.0.0/16 program: log*": lambda i: i % 7 == 3 and log_events.WORDS[i % 7].startswith("log"),
    "labels.rack: r1 fields.order: 9*": lambda i: EVENTS.host(i) % 5 == 1 and str(i % 1000).startswith("9"),
    "not file: *": lambda i: EVENTS.dataset(i) != "log.file",
    "log.offset <= 2000": lambda i: EVENTS.dataset(i) == "log.file" and i * 100 <= 2000,
}
WORDS = {
    "session": lambda text: text.startswith("session "),
    "SESSION": lambda text: text.startswith("session "),
    "sess*": lambda text: text.startswith("session "),
    '"took 13 ms"': lambda text: "took 13 ms," in text,
    "데이터베이스": lambda text: "데이터베이스" in text,
    "베이스": lambda text: "데이터베이스" in text,
    '"데이터베이스에 연결"': lambda text: "데이터베이스에 연결" in text,
    "응답하지": lambda text: "응답하지" in text,
    "onerror": lambda text: text == log_events.HOSTILE,
    '"img src"': lambda text: text == log_events.HOSTILE,
    "HYPERLINK *": lambda text: text == log_events.HOSTILE,
}


@pytest.mark.parametrize("text", [*QUERIES, *WORDS])
def test_it_finds_what_is_meant(es: Elastic, module_names: Names, text: str) -> None:
    right = QUERIES.get(text) or (lambda i: WORDS[text](EVENTS.message(i)))
    meant = {EVENTS.id(i) for i in numbers(right)}
    page = services.search(es, module_names, wanted(text), size=500, key=KEY)
    assert (page.total, page.total_is_lower_bound) == (len(meant), False)
    assert {one.id for one in page.hits} <= meant
    assert len(page.hits) == min(500, len(meant))
    assert page.health.whole


def test_hits_are_counted_up_to_a_limit_that_it_says(
    es: Elastic, module_names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "HITS_COUNTED", 1000)
    page = services.search(es, module_names, wanted(), key=KEY)
    assert (page.total, page.total_is_lower_bound) == (1000, True)
    following = services.search(es, module_names, wanted(), after=page.next, key=KEY)
    assert (following.total, following.total_is_lower_bound) == (1000, True)
    times = [one.time for one in page.hits]
    assert times == sorted(times, reverse=True)
    assert times[0] == EVENTS.time(NUMBER - 1).replace(microsecond=times[0].microsecond)


REFUSED = ("_id: a", '{"script":1}', "x {1 TO 2} :", "!!! ->")


@pytest.mark.parametrize("text", [*REFUSED, "/.*.*.*.*x/", "a^9 +b -c", "$jndi{ldap}", "*x*y*z*", "_exists_ a zz"])
def test_what_looks_like_another_language_is_text_or_refused(es: Elastic, module_names: Names, text: str) -> None:
    if text in REFUSED:
        with pytest.raises(QueryError) as caught:
            services.search(es, module_names, wanted(text), key=KEY)
        assert caught.value.length > 0
    else:
        assert services.search(es, module_names, wanted(text), key=KEY).total == 0


def test_an_expensive_query_within_the_limits_is_answered(es: Elastic, module_names: Names) -> None:
    expensive = [
        " ".join(f"*{one}*a*" for one in "abcdefghijkl"),
        " or ".join(f"w{one}" for one in range(200)),
        "(" * 19 + "a" + ")" * 19,
    ]
    for text in expensive:
        assert services.search(es, module_names, wanted(text), key=KEY).health.whole


VALUES = [
    "a", "A*", "*b*", "*a*b*a*b*a*b*", "ab" * 100, "ab" * 99 + "*", "*" + "*".join(["연결" * 13] * 7), "연" * 200,
    '""', '" "', '"연 결"', "?",
    "0", "-1", "1.5", "+3", "32768", "2147483647", "2147483648", "-2147483649",
    "9223372036854775807", "99999999999999999999", "1e30",
    "true", "error", "10.0.0.1", "::1", "10.0.0.0/8", "2001\\:db8\\:\\:/32",
    "now-1h", "now/d", "1970-01-01", "9999-12-31", "now+999999w",
    "\x00", "{}", "\\\\", "\\*", '"*"', "a\\:b",
]  # fmt: skip


def test_elasticsearch_takes_all_that_we_let_through(es: Elastic, module_names: Names) -> None:
    """A field of every type with every kind of value, compared in every way: refused by us, with the place of it, or answered."""
    of_each_type = {(one.type, one.limit, one.searchable): name for name, one in known.KNOWN.items()}
    for field in [*of_each_type.values(), "log.level", "labels.a.b", None]:
        taken = []
        for value in VALUES:
            ways = [value] if field is None else [
                f"{field}: {value}", f"{field} > {value}", f"{field} <= {value}", f"{field}: [{value} to *]"
            ]  # fmt: skip
            for text in ways:
                try:
                    services.condition(es, module_names, wanted(text))
                except QueryError:
                    continue
                taken.append(text)
        assert taken or field in ("error.stack_trace", "system.processes.list")
        for n in range(0, len(taken), 12):
            text = " or ".join(taken[n : n + 12])
            assert services.search(es, module_names, wanted(text), size=1, key=KEY).health.whole, text


@pytest.mark.parametrize("sort", ["desc", "asc"])
def test_each_hit_is_on_one_page(es: Elastic, module_names: Names, store: Any, sort: Any) -> None:
    meant = numbers(lambda i: EVENTS.level(i) == "critical")
    found, after = [], None
    while True:
        page = services.search(es, module_names, wanted("level: critical"), size=93, after=after, sort=sort, key=KEY)
        found += page.hits
        after = page.next
        if after is None:
            break
        # what comes in between two pages moves nothing
        store({"log.level": "critical", "@timestamp": format_time(NOW - timedelta(seconds=5))})
    late = len(found) - len(meant)
    assert Counter(one.id for one in found).most_common(1)[0][1] == 1
    assert {EVENTS.id(i) for i in meant} <= {one.id for one in found}
    assert 0 <= late <= (5 if sort == "asc" else 0), "what came in at the end that is still to come"
    assert [one.time for one in found] == sorted((one.time for one in found), reverse=sort == "desc")


def test_many_events_of_one_moment_are_paged_once(es: Elastic, module_names: Names, store: Any) -> None:
    at = format_time(NOW - timedelta(hours=3))
    ids = store(
        *({"@timestamp": at, "message": "simultaneous", "host.id": log_events.host_id(60 + n % 3)} for n in range(23))
    )
    found, after = [], None
    while after is not None or not found:
        page = services.search(es, module_names, wanted("simultaneous"), size=5, after=after, key=KEY)
        assert page.total == 23
        found += [one.id for one in page.hits]
        after = page.next
        if after is None:
            break
    assert sorted(found) == sorted(ids)


def test_a_place_is_ours(es: Elastic, module_names: Names) -> None:
    first = services.search(es, module_names, wanted("level: info"), size=2, key=KEY)
    for after, key in ((f"{first.next}x", KEY), ("", KEY), (first.next, b"of another")):
        with pytest.raises(Invalid):
            services.search(es, module_names, wanted("level: info"), after=after, key=key)


def test_events_of_one_rank_are_paged_once(es: Elastic, module_names: Names, store: Any) -> None:
    """Each is the first of its index, so that all have the same time and number; so have events in two shards of one index."""
    at = NOW - timedelta(hours=30)
    period = Period(NOW - timedelta(days=40), NOW)
    ids = [
        store({"@timestamp": format_time(at), "message": "elsewhere", "stored": format_time(at - timedelta(days=n))})[0]
        for n in range(20, 25)
    ]
    for size in (1, 2, 3):
        found, after = [], None
        while True:
            search = wanted("elsewhere", period=period)
            page = services.search(es, module_names, search, size=size, after=after, key=KEY)
            found += page.hits
            if (after := page.next) is None:
                break
        assert sorted(one.id for one in found) == sorted(ids)
    for hit in found:
        around = services.context(es, module_names, ALL, hit.index, hit.id)
        assert sorted(one.id for one in around.lines) == sorted(ids)
        assert around.lines[around.anchor].id == hit.id
    lines = b"".join(export.export(es, module_names, wanted("elsewhere", period=period))).splitlines()
    assert len(lines) == len(ids)


# -- whose hosts ---


def test_nothing_of_another_host_comes_out(es: Elastic, module_names: Names) -> None:
    mine = set(numbers(lambda i: EVENTS.host(i) == 3))
    other = log_events.host_id(4)
    for text in ("", f"host.id: {other} or host.id: *", "not host: log-003", f"not (host.id: {log_events.host_id(3)})"):
        page = services.search(es, module_names, wanted(text, ONE), size=500, key=KEY)
        assert {one.source["host.id"] for one in page.hits} <= {log_events.host_id(3)}
        assert page.total == (len(mine) if page.hits else 0)
        for source in ("raw", "auto"):
            counted = services.histogram(es, module_names, wanted(text, ONE), source=source)  # type: ignore[arg-type]
            assert counted.total == page.total
    top = values.top_values(es, module_names, wanted("", ONE), "host.name")
    assert [(one.value, one.count) for one in top.values] == [("log-003", len(mine))]
    assert [one.title for one in values.complete(es, module_names, wanted("", ONE), "host: log")] == ["log-003"]
    assert values.complete(es, module_names, wanted("", ONE), "host: log-004") == []
    lines = b"".join(export.export(es, module_names, wanted("", ONE), columns=["host.id"])).splitlines()
    assert lines == [b'{"host.id":"%s"}' % log_events.host_id(3).encode()] * len(mine)
    used, _health = values.fields(es, module_names, wanted(f"host.id: {other}", ONE))
    assert not any(one.found for one in used)
    theirs = services.search(es, module_names, wanted(f"host.id: {other}"), size=1, key=KEY).hits[0]
    with pytest.raises(NotFound):
        services.context(es, module_names, ONE, theirs.index, theirs.id)
    around = services.context(es, module_names, ONE, *place(es, module_names, min(mine)), widen="scope", after=9)
    assert {one.source["host.id"] for one in around.lines} == {log_events.host_id(3)}
    nobody = HostScope(frozenset())
    assert services.search(es, module_names, wanted("", nobody), key=KEY).total == 0
    assert services.histogram(es, module_names, wanted("", nobody)).total == 0
    assert services.tail(es, module_names, nobody, None, key=KEY, now=EVENTS.time(NUMBER - 1)).lines == []


def place(es: Elastic, names: Names, i: int) -> tuple[str, str]:
    """Index and id of event i."""
    return names.logs_index(format_time(EVENTS.time(i))), EVENTS.id(i)


@pytest.mark.parametrize(
    "index",
    ["*", "{p}-logs-*", "{p}-rollup-logs-1m-2026.11.25", ".security", "{p}-logs-2026.11.25,x", "{p}-logs-2020.01.01"],
)
def test_the_index_of_a_context_is_one_of_events(es: Elastic, module_names: Names, index: str) -> None:
    with pytest.raises(NotFound):
        services.context(es, module_names, ALL, index.replace("{p}", module_names.prefix), EVENTS.id(0))


@pytest.fixture(scope="module")
def app(
    stack: Any, module_names: Names, es: Elastic, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flask]:
    """The web application; lee may see the events of hosts 1 and 2, park all, "no" none."""
    folder = tmp_path_factory.mktemp("web")
    with application(database, folder, elasticsearch=stack.elasticsearch, names=module_names) as app:
        with app.app_context(), unit_of_work():
            made = [
                hosts.add(KIM, log_events.host_id(n), f"log-{n:03d}", SigningKey.generate().public.hex(), {})
                for n in (1, 2, 3)
            ]
            described.update(KIM, find("host_group"), make("host_group", 1), {"hosts": made[:2]})
            for name, permission, where in (
                ("lee", "events.view", make("host_group", 1)), ("park", "events.view", None), ("no", "site.view", None),
            ):  # fmt: skip
                user = accounts.create_user(KIM, name, PASSWORD, admin=False)
                role = described.create(KIM, find("role"), {"name": name, "permissions": [permission]})
                described.create(KIM, find("grant"), {"user": user, "role": role, "group": where})
        yield app


def actor(name: str) -> Actor:
    user = db.session.scalars(select(User).where(User.name == name)).one()
    return Actor(name, "ui", rights_of(user), user_id=user.id)


def test_the_scope_is_that_of_the_groups_of_a_user(app: Flask, es: Elastic, module_names: Names) -> None:
    with app.app_context():
        lee, park = actor("lee"), actor("park")
        assert services.scope_of(lee).ids == {log_events.host_id(1), log_events.host_id(2)}
        assert services.scope_of(lee, [log_events.host_id(2), log_events.host_id(3)]).ids == {log_events.host_id(2)}
        assert services.scope_of(park).ids is None
        assert services.scope_of(park, [log_events.host_id(3)]).ids == {log_events.host_id(3)}
        with pytest.raises(Forbidden):
            services.scope_of(actor("no"))
        search = services.prepare(lee, "level: error", "now-2d", "now")
        assert search.period.start.second == 0, "counts are per minute"
        page = services.search(es, module_names, search, size=500, key=KEY)
        assert {one.source["host.name"] for one in page.hits} == {"log-001", "log-002"}
        assert services.opaque(lee, "a") != services.opaque(park, "a")
        with pytest.raises(Invalid):
            services.opaque(lee, "a/../b")


# -- the API ---

TWO_DAYS = {"from": "now-2d"}
MINE = len(numbers(lambda i: EVENTS.host(i) in (1, 2)))


@pytest.fixture(scope="module")
def lee(app: Flask) -> FlaskClient:
    return sign_in(app, "lee")


def test_the_api_pages_through_the_events_of_ones_hosts(lee: FlaskClient) -> None:
    found, after = [], {}
    while True:
        answer = lee.get("/api/v1/logs/search", query_string={**TWO_DAYS, "size": 100, **after}).json
        assert (answer["total"], answer["total_is_lower_bound"], answer["health"]["whole"]) == (MINE, False, True)
        found += answer["items"]
        if answer["next"] is None:
            break
        after = {"after": answer["next"]}
    assert len({one["id"] for one in found}) == len(found) == MINE
    assert {one["source"]["host.id"] for one in found} == {log_events.host_id(1), log_events.host_id(2)}
    one = lee.get("/api/v1/logs/search", query_string={**TWO_DAYS, "host": "log-002", "q": "level: error"}).json
    meant = numbers(lambda i: EVENTS.host(i) == 2 and EVENTS.level(i) == "error")
    assert {one["id"] for one in one["items"]} == {EVENTS.id(i) for i in meant[-100:]}


def test_the_api_counts_and_shows_what_is_around(lee: FlaskClient) -> None:
    counted = lee.get("/api/v1/logs/histogram", query_string={**TWO_DAYS, "buckets": 50}).json
    assert (counted["source"], counted["total"], counted["seconds"]) == ("rollup", MINE, 3600)
    assert sum(sum(one["counts"].values()) for one in counted["buckets"]) == MINE
    top = lee.get("/api/v1/logs/values", query_string={**TWO_DAYS, "field": "host"}).json
    assert {one["value"] for one in top["values"]} == {"log-001", "log-002"}
    assert (top["exact"], top["events"]) == (True, MINE)
    first = lee.get("/api/v1/logs/search", query_string={**TWO_DAYS, "size": 1, "sort": "asc"}).json["items"][0]
    place = {"index": first["index"], "id": first["id"], "before": 3, "after": 2}
    around = lee.get("/api/v1/logs/context", query_string=place).json
    assert around["items"][around["anchor"]] == first
    assert (around["more_before"], around["more_after"], len(around["items"])) == (False, True, 3)


def test_the_api_exports(lee: FlaskClient) -> None:
    answer = lee.get("/api/v1/logs/export", query_string={**TWO_DAYS, "columns": ["message", "host.id"]})
    assert answer.content_type == "application/x-ndjson"
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert {row["host.id"] for row in rows} == {log_events.host_id(1), log_events.host_id(2)}
    assert len({(row["message"], row["host.id"]) for row in rows}) >= MINE - NUMBER // log_events.HOSTILE_EACH
    assert len(rows) == MINE
    table = lee.get("/api/v1/logs/export", query_string={**TWO_DAYS, "format": "csv", "limit": 5})
    assert table.headers["Content-Disposition"] == 'attachment; filename="logs.csv"'
    assert len(list(csv.reader(io.StringIO(table.text)))) == 6


@pytest.mark.parametrize("path", ["/api/v1/logs/export", "/logs/export"])
def test_an_export_keeps_no_connection_to_the_database_while_it_is_read(
    app: Flask, lee: FlaskClient, path: str
) -> None:
    answer = lee.get(path, query_string=TWO_DAYS)
    lines = iter(answer.response)
    next(lines)
    with app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    list(lines)
    answer.close()


def test_the_api_says_what_is_wrong_and_where(app: Flask, lee: FlaskClient) -> None:
    wrong = lee.get("/api/v1/logs/search", query_string={"q": "level: error and (host: a"})
    assert (wrong.status_code, wrong.content_type) == (422, "application/problem+json")
    assert (wrong.json["key"], wrong.json["position"], wrong.json["length"]) == ("unclosed", 17, 1)
    for path, query, field in (
        ("search", {"from": "soon"}, "from"), ("search", {"to": "now-2h"}, "from"), ("export", {"q": "nope: 1"}, "q"),
        ("search", {"host": "log-003"}, "host"), ("search", {"after": "x"}, "after"), ("search", {"size": 501}, "size"),
        ("values", {"field": "message"}, "field"), ("export", {"columns": "a*"}, "columns"), ("values", {}, "field"),
        ("export", {"format": "xml"}, "format"), ("histogram", {"buckets": 0}, "buckets"),
    ):  # fmt: skip
        answer = lee.get(f"/api/v1/logs/{path}", query_string=query)
        assert answer.status_code == 422, (path, query, answer.text)
        assert [one["field"] for one in answer.json["errors"]] == [field], answer.json
    theirs = EVENTS.id(next(i for i in range(NUMBER) if EVENTS.host(i) == 3))
    gone = lee.get("/api/v1/logs/context", query_string={"index": "x", "id": theirs})
    assert gone.status_code == 404
    for path in ("search", "histogram", "values?field=host", "export"):
        assert sign_in(app, "no").get(f"/api/v1/logs/{path}").status_code == 403


# -- the histogram ---


@pytest.mark.parametrize("scope", [ALL, ONE])
@pytest.mark.parametrize(
    "text",
    ["", "level: error", "not level: info", "level >= warning", "dataset: log.journal", "host.id: {h} level: info"],
)
@pytest.mark.parametrize("cut", [timedelta(0), timedelta(minutes=3, seconds=7.531)])
def test_counts_and_events_make_the_same_histogram(
    es: Elastic, module_names: Names, scope: HostScope, text: str, cut: timedelta
) -> None:
    period = Period(EVENTS.start - timedelta(hours=1) + cut, EVENTS.start + timedelta(hours=38) + cut * 2)
    search = wanted(text.replace("{h}", log_events.host_id(3)), scope, period)
    raw = services.histogram(es, module_names, search, source="raw")
    counted = services.histogram(es, module_names, search, source="rollup")
    assert (raw.source, counted.source, services.histogram(es, module_names, search).source) == (
        "raw",
        "rollup",
        "rollup",
    )
    assert raw.buckets == counted.buckets
    assert (
        raw.total == counted.total == len(services.search(es, module_names, search, size=500, key=KEY).hits)
        or raw.total > 500
    )
    assert len(raw.buckets) <= services.BUCKETS + 1


def test_a_histogram_has_each_event_in_its_bucket(es: Elastic, module_names: Names) -> None:
    found = services.histogram(es, module_names, wanted(), buckets=50)
    meant: Counter[tuple[int, str]] = Counter()
    for i in range(NUMBER):
        at = int(datetime.fromisoformat(format_time(EVENTS.time(i))).timestamp())
        meant[at // found.seconds * found.seconds, EVENTS.level(i)] += 1
    assert {(int(one.start.timestamp()), level): n for one in found.buckets for level, n in one.counts.items()} == meant
    steps = {b.start - a.start for a, b in zip(found.buckets, found.buckets[1:], strict=False)}
    assert steps == {timedelta(seconds=found.seconds)}, "also the empty ones"


def test_what_counts_cannot_tell_is_counted_from_the_events(es: Elastic, module_names: Names) -> None:
    for text in ("session", "host: log-003", "level: strange", "level: unknown", "not level: *"):
        assert not rollups.answerable(parse(text))
        assert services.histogram(es, module_names, wanted(text)).source == "raw"
        with pytest.raises(Invalid):
            services.histogram(es, module_names, wanted(text), source="rollup")
    short = wanted("", ALL, Period(NOW - timedelta(hours=5), NOW))
    assert services.histogram(es, module_names, short).source == "raw", "a short time is counted exactly and soon"


def test_the_last_minutes_are_counted_from_the_events(es: Elastic, module_names: Names, store: Any) -> None:
    now = datetime.now(UTC)
    before = services.histogram(es, module_names, replace(wanted(), period=Period(PERIOD.start, now), now=now))
    store({"@timestamp": format_time(now - timedelta(seconds=20))})
    after = services.histogram(es, module_names, replace(wanted(), period=Period(PERIOD.start, now), now=now))
    assert (before.source, after.source, after.total) == ("rollup", "rollup", before.total + 1)


# -- around a line, and what comes in ---


def test_lines_around_are_of_the_same_host_and_file_in_its_order(es: Elastic, module_names: Names) -> None:
    files = numbers(lambda i: EVENTS.host(i) == 3 and EVENTS.dataset(i) == "log.file" and i % 3 == 1)
    anchor = files[15]
    found = services.context(es, module_names, ALL, *place(es, module_names, anchor), before=7, after=5)
    assert [one.id for one in found.lines] == [EVENTS.id(i) for i in files[8:21]]
    assert found.anchor == 7
    assert found.same == {"host.id": log_events.host_id(3), "log.file.path": "/var/log/app-1.log"}
    assert (found.more_before, found.more_after) == (True, True)
    first = services.context(es, module_names, ALL, *place(es, module_names, files[2]), before=7, after=0)
    assert ([one.id for one in first.lines], first.more_before) == ([EVENTS.id(i) for i in files[:3]], False)
    wide = services.context(es, module_names, ALL, *place(es, module_names, anchor), before=3, after=3, widen="host")
    of_host = numbers(lambda i: EVENTS.host(i) == 3)
    at = of_host.index(anchor)
    assert [one.id for one in wide.lines] == [EVENTS.id(i) for i in of_host[at - 3 : at + 4]]
    other = numbers(lambda i: EVENTS.host(i) == 3 and EVENTS.dataset(i) == "log.journal")
    journal = services.context(es, module_names, ALL, *place(es, module_names, other[9]), before=2, after=2)
    assert [one.id for one in journal.lines] == [EVENTS.id(i) for i in other[7:12]]
    everywhere = services.context(
        es, module_names, ALL, *place(es, module_names, anchor), before=2, after=2, widen="scope"
    )
    assert len({one.source["host.id"] for one in everywhere.lines}) > 1


def test_lines_of_one_moment_stand_in_the_order_of_the_file(es: Elastic, module_names: Names, store: Any) -> None:
    at = format_time(NOW - timedelta(hours=2))
    common = {"@timestamp": at, "log.file.path": "/var/log/one", "message": "x"}
    ids = store(*({**common, "log.offset": offset} for offset in (300, 100, 500, 200, 400)))
    found = services.context(es, module_names, ALL, module_names.logs_index(at), ids[0], before=9, after=9)
    assert [one.source["log.offset"] for one in found.lines] == [100, 200, 300, 400, 500]
    assert found.anchor == 2


def test_a_tail_has_neither_holes_nor_doubles(es: Elastic, module_names: Names, store: Any) -> None:
    def message(name: str, ingested: timedelta = timedelta(0)) -> dict[str, Any]:
        taken = datetime.now(UTC) + ingested
        return {
            "message": f"tailed {name}",
            "event.ingested": format_time(taken),
            "@timestamp": format_time(taken - timedelta(hours=1)),
        }

    def look(after: str | None, lines: int = 100) -> services.Tail:
        return services.tail(es, module_names, ALL, parse("tailed"), after=after, lines=lines, key=KEY)

    store(message("0"))
    found = look(None)
    seen = [one.source["message"] for one in found.lines]
    for n in range(1, 7):
        # every other one becomes visible although others of a later time were seen already
        store(message(f"{n}"), message(f"{n} late", -timedelta(seconds=n % 3)))
        found = look(found.cursor)
        assert found.skipped == 0
        seen += [one.source["message"] for one in found.lines]
    assert look(found.cursor).lines == []
    expected = ["tailed 0", *(f"tailed {n}{late}" for n in range(1, 7) for late in ("", " late"))]
    assert sorted(seen) == sorted(expected)
    store(*(message(f"burst {n}") for n in range(12)))
    burst = look(found.cursor, lines=5)
    assert (len(burst.lines), burst.skipped) == (5, 7)
    assert [one.source["message"] for one in burst.lines] == [f"tailed burst {n}" for n in range(7, 12)], "the newest"
    after = look(burst.cursor, lines=5)
    assert (after.lines, after.skipped) == ([], 0), "what was skipped is not new"


# -- values ---


def test_top_values_are_exact_and_say_of_how_many(es: Elastic, module_names: Names) -> None:
    found = values.top_values(es, module_names, wanted(), "process.name")
    right = Counter(log_events.WORDS[i % 7] for i in range(NUMBER))
    assert {one.value: one.count for one in found.values} == right
    assert (found.exact, found.events, found.sampled, found.with_field) == (True, NUMBER, NUMBER, NUMBER)
    assert sum(one.share for one in found.values) == pytest.approx(1)
    files = values.top_values(es, module_names, wanted(), "file")
    assert files.with_field == len(numbers(lambda i: EVENTS.dataset(i) == "log.file"))
    for field in ("message", "nope", "error.stack_trace"):
        with pytest.raises(Invalid):
            values.top_values(es, module_names, wanted(), field)


def test_a_sample_of_many_events_is_near_and_says_that_it_is_one(
    es: Elastic, module_names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "COUNTED_WHOLE", 2000)
    found = values.top_values(es, module_names, wanted(), "log.level")
    assert (found.exact, found.events) == (False, NUMBER)
    assert found.sampled < NUMBER
    right = Counter(EVENTS.level(i) for i in range(NUMBER))
    for one in found.values:
        assert one.count == pytest.approx(right[one.value], rel=0.3)


def test_completion(es: Elastic, module_names: Names) -> None:
    def texts(text: str) -> list[str]:
        return [one.text for one in values.complete(es, module_names, wanted(), text)]

    assert texts("lev")[0] == "level: "
    assert texts("level: er") == ["error"]
    assert texts("a and host: log-00")[:2] == ["log-000", "log-001"]
    assert texts('program: "log') == ["login"]
    assert "log.file.path: " in texts("file.pa")
    assert texts('"lev') == []
    assert texts("host: .*") == [], "what is typed is no pattern"
    (one,) = values.complete(es, module_names, wanted(), "level: er and x", 9)
    assert (one.start, one.end) == (7, 9)


# -- export ---


def test_each_line_is_exported_once_in_order(es: Elastic, module_names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "CHUNK", 700)
    for sort in ("desc", "asc"):
        pieces = list(
            export.export(es, module_names, wanted(), columns=["message", "@timestamp", "host.id"], sort=sort)
        )  # type: ignore[arg-type]
        rows = [json.loads(line) for line in b"".join(pieces).splitlines()]
        assert max(piece.count(b"\n") for piece in pieces) <= 700
        times = [row["@timestamp"] for row in rows]
        assert times == sorted(times, reverse=sort == "desc")
        found = Counter((row["message"], row["host.id"], row["@timestamp"]) for row in rows)
        right = Counter(
            (EVENTS.message(i), log_events.host_id(EVENTS.host(i)), format_time(EVENTS.time(i))) for i in range(NUMBER)
        )
        assert found == right
    assert export.count(es, module_names, wanted()) == NUMBER
    assert len(b"".join(export.export(es, module_names, wanted(), limit=1234)).splitlines()) == 1234


def test_an_export_goes_on_where_another_reader_was(es: Elastic, module_names: Names, store: Any) -> None:
    at = format_time(NOW - timedelta(hours=3))
    store(*({"@timestamp": at, "message": "again", "log.offset": n} for n in range(8)))
    found: list[str] = []
    some: dict[str, Any] = {}
    for _ in range(5):
        reader = export.Reader(es, module_names, wanted("again"), ["log.offset"], "ndjson", "asc", place=some)
        chunk = reader.read(2)
        found += chunk.data.decode().split()
        some = json.loads(json.dumps(chunk.place))
    assert Counter(found) == Counter(f'{{"log.offset":{n}}}' for n in range(8))


def test_a_csv_harms_no_spreadsheet(es: Elastic, module_names: Names, store: Any) -> None:
    hostile = [
        '=cmd|"/c calc"!A0',
        "+1+1",
        "-2+3",
        "@SUM(1)",
        "\t=1",
        'a"b,c\nd',
        "\x1b[31m",
        "<script>",
        "a\x00b",
        "x" * 300_000,
    ]
    store(*({"message": f"{one}", "tags": ["hostile"]} for one in hostile))
    data = b"".join(export.export(es, module_names, wanted("tags: hostile", period=LATER),
                                  columns=["message", "tags", "labels.rack"], format="csv", sort="asc"))  # fmt: skip
    csv.field_size_limit(1 << 20)
    header, *rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert header == ["message", "tags", "labels.rack"]
    assert len(rows) == len(hostile)
    assert not [row for row in rows if row[0][:1] in "=+-@\t\r"]
    assert {'a"b,c\nd', "[ESC][31m", "a[U+0000]b"} <= {row[0] for row in rows}
    assert not any(one in data for one in (b"\x1b", b"\0")), "whoever prints the file on a terminal is safe"
    with pytest.raises(Invalid):
        export.export(es, module_names, wanted(), columns=["a*"])


def test_part_of_an_export_is_none(es: Elastic, module_names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = export.export(es, module_names, wanted(), columns=["message"])
    next(lines)

    def partial(client: Any, body: Any, index: Any) -> dict[str, Any]:
        return {"took": 1, "timed_out": True, "_shards": {"total": 2, "failed": 0}, "hits": {"hits": []}}

    monkeypatch.setattr(services, "asked", partial)
    with pytest.raises(ElasticUnavailable):
        list(lines)


# -- giving up ---


def test_cancelling_ends_the_task_in_elasticsearch(
    es: Elastic, module_names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search is made slow by what no user may write: thousands of patterns that look through all words."""
    slow = {"bool": {"should": [{"wildcard": {"message": {"value": f"*{n}*{n + 1}*x*"}}} for n in range(1200)]}}
    monkeypatch.setattr(services, "to_query", lambda *_: slow)
    mine, other = "ezadmin-logs/1/run-1", "ezadmin-logs/2/run-1"
    ended: list[BaseException | services.Page] = []

    def run() -> None:
        try:
            ended.append(services.search(es, module_names, wanted(), key=KEY, opaque_id=mine))
        except ElasticUnavailable as error:
            ended.append(error)

    def tasks() -> list[str]:
        answer = es.client(5).perform_request("GET", "/_tasks", headers={"accept": "application/json"})
        nodes = dict(answer.body)["nodes"]
        return [
            name
            for node in nodes.values()
            for name, task in node["tasks"].items()
            if task["headers"].get("X-Opaque-Id") == mine
        ]

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(tasks, 20, "the search runs")
    assert services.cancel(es, other) == 0, "not that of another user"
    assert services.cancel(es, mine) >= 1
    thread.join(20)
    wait_until(lambda: not tasks(), 20, "the task is gone")
    assert len(ended) == 1
    assert isinstance(ended[0], ElasticUnavailable) or not ended[0].health.whole, ended

"""``ezadmin-cmdb grafana push`` and ``check``: what is asked of Grafana, in which order, and what the user is told.

A small server answers as Grafana 9.4 does (recorded from one). ``EZADMIN_TEST_GRAFANA=http://user:password@host:port`` runs
the same against a real Grafana, whose folder, data sources and dashboards of ezadmin it overwrites; Elasticsearch is then the
one of the tests.
"""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from ezadmin_cmdb.grafana import bundle
from ezadmin_cmdb.grafana.server import version_problem
from ezadmin_cmdb.grafana.sources import SOURCES
from ezadmin_cmdb.main import main

UIDS = sorted(bundle.dashboards())
TARGET = ["--elasticsearch-url", "http://es:9200", "--web-url", "https://ez.example"]


class Grafana:
    """Answers what push and check ask, and keeps what it is given."""

    def __init__(self) -> None:
        self.version = "9.4.7"
        self.token = "s3cret"
        self.folders: dict[str, Any] = {}
        self.sources: dict[str, Any] = {}
        self.dashboards: dict[str, Any] = {}
        self.provisioned = False
        self.query_error: str | None = None
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, answer = outer.answer(self.command, self.path, body, self.headers.get("authorization", ""))
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: Any, sign_in: str) -> tuple[int, Any]:
        self.asked.append(f"{method} {path.removeprefix('/api')}")
        self.bodies.append(body)
        parts = path.strip("/").split("/")[1:]
        if parts == ["health"]:
            return 200, {"commit": "x", "database": "ok", "version": self.version}
        if sign_in != f"Bearer {self.token}":
            return 401, {"message": "invalid API key"}
        if parts[0] == "folders":
            return self._folder(method, parts, body)
        if parts[0] == "datasources":
            return self._source(method, parts, body)
        if parts[0] == "dashboards":
            return self._dashboard(method, parts, body)
        assert parts == ["ds", "query"]
        if self.query_error:
            return 400, {"results": {"A": {"error": self.query_error, "frames": []}}}
        return 200, {"results": {"A": {"frames": [{"data": {"values": [[1, 2], [3, None]]}}]}}}

    def _folder(self, method: str, parts: list[str], body: Any) -> tuple[int, Any]:
        if method == "POST":
            self.folders[body["uid"]] = body
            return 200, body
        return (200, self.folders[parts[1]]) if parts[1] in self.folders else (404, {"message": "folder not found"})

    def _source(self, method: str, parts: list[str], body: Any) -> tuple[int, Any]:
        if method == "GET":
            known = self.sources.get(parts[2])
            return (200, known) if known else (404, {"message": "Data source not found"})
        kept = {key: value for key, value in body.items() if key != "secureJsonData"}
        number = len(self.sources) + 1 if method == "POST" else int(parts[1])
        self.sources[body["uid"]] = {**kept, "id": number, "version": 1, "readOnly": self.provisioned}
        return 200, {"message": "ok"}

    def _dashboard(self, method: str, parts: list[str], body: Any) -> tuple[int, Any]:
        if method == "GET":
            known = self.dashboards.get(parts[2])
            return (200, known) if known else (404, {"message": "Dashboard not found"})
        kept = {**copy.deepcopy(body["dashboard"]), "id": 7, "version": 3}
        self.dashboards[kept["uid"]] = {"dashboard": kept, "meta": {"provisioned": self.provisioned}}
        return 200, {"status": "success"}


@pytest.fixture
def grafana(monkeypatch: pytest.MonkeyPatch) -> Iterator[Grafana]:
    for name in ("GRAFANA_URL", "GRAFANA_TOKEN", "GRAFANA_USER", "GRAFANA_PASSWORD", "EZADMIN_URL"):
        monkeypatch.delenv(name, raising=False)
    made = Grafana()
    monkeypatch.setenv("GRAFANA_URL", made.url)
    monkeypatch.setenv("GRAFANA_TOKEN", made.token)
    yield made
    made.close()


def run(*arguments: str) -> int:
    return main(["grafana", *arguments])


def test_first_push_makes_all_and_the_second_only_looks(grafana: Grafana) -> None:
    assert run("push", *TARGET) == 0
    expected = ["GET /health", "GET /folders/ezadmin", "POST /folders"]
    for source in SOURCES:
        expected += [f"GET /datasources/uid/{source.uid}", "POST /datasources"]
    for uid in UIDS:
        expected += [f"GET /dashboards/uid/{uid}", "POST /dashboards/db"]
    assert grafana.asked == expected
    saved = [body for asked, body in zip(grafana.asked, grafana.bodies, strict=True) if asked == "POST /dashboards/db"]
    assert all(
        body["overwrite"] and body["folderUid"] == "ezadmin" and body["dashboard"]["id"] is None for body in saved
    )
    assert all("https://ez.example" in json.dumps(body["dashboard"]["templating"]) for body in saved)

    grafana.asked.clear()
    assert run("push", *TARGET) == 0
    assert {asked.split()[0] for asked in grafana.asked} == {"GET"}


def test_push_brings_changed_ones_up_to_date(grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> None:
    run("push", *TARGET)
    grafana.dashboards["ezadmin-host"]["dashboard"]["panels"].pop()
    grafana.asked.clear()
    capsys.readouterr()
    assert run("push", "--elasticsearch-url", "http://other:9200", "--web-url", "https://ez.example") == 0
    assert [asked for asked in grafana.asked if not asked.startswith("GET")] == [
        *(f"PUT /datasources/{number}" for number in range(1, len(SOURCES) + 1)),
        "POST /dashboards/db",
    ]
    assert "dashboard ezadmin-host: brought up to date" in capsys.readouterr().out
    assert {source["url"] for source in grafana.sources.values()} == {"http://other:9200"}


def test_a_password_of_elasticsearch_is_always_written(grafana: Grafana) -> None:
    account = ["--elasticsearch-user", "reader", "--elasticsearch-password", "pw"]
    run("push", *TARGET, *account)
    grafana.asked.clear()
    grafana.bodies.clear()
    assert run("push", *TARGET, *account) == 0
    written = [body for asked, body in zip(grafana.asked, grafana.bodies, strict=True) if asked.startswith("PUT")]
    assert len(written) == len(SOURCES)
    assert all(body["secureJsonData"] == {"basicAuthPassword": "pw"} and body["basicAuth"] for body in written)


def test_what_files_provision_is_left_alone(grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> None:
    grafana.provisioned = True
    run("push", *TARGET)
    grafana.asked.clear()
    capsys.readouterr()
    assert run("push", "--elasticsearch-url", "http://other:9200", "--web-url", "https://new.example") == 0
    assert {asked.split()[0] for asked in grafana.asked} == {"GET"}
    assert capsys.readouterr().out.count("provisioned by a file") == len(SOURCES) + len(UIDS)


def test_check(grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check") == 1
    assert capsys.readouterr().out.count("is missing: run ezadmin-cmdb grafana push") == len(SOURCES) + len(UIDS)
    run("push", *TARGET)
    capsys.readouterr()
    assert run("check") == 0
    shown = capsys.readouterr().out
    assert shown.count("3 documents of the last 24 hours") == len(SOURCES)
    assert shown.count("is of this version (") == len(UIDS)

    index = grafana.sources["ezadmin-logs"]["database"]
    grafana.sources["ezadmin-logs"]["database"] = ""
    assert run("check") == 1
    assert "ezadmin-logs has lost its index" in capsys.readouterr().out
    grafana.version = "12.4.0"
    assert run("check") == 0
    grafana.version, grafana.sources["ezadmin-logs"]["database"] = "9.4.7", index

    grafana.dashboards["ezadmin-host"]["dashboard"]["panels"][0]["title"] = "Mine"
    assert run("check") == 0
    assert "changes made in Grafana" in capsys.readouterr().out

    for variable in grafana.dashboards["ezadmin-fleet"]["dashboard"]["templating"]["list"]:
        variable["query"] = "0123456789ab"
    grafana.query_error = "no route to host"
    assert run("check") == 1
    shown = capsys.readouterr().out
    assert "ezadmin-fleet is of another version (0123456789ab" in shown
    assert shown.count("does not answer for ezadmin-") == len(SOURCES)
    assert "no route to host" in shown


def test_messages_say_what_is_wrong(grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--token", "wrong") == 1
    assert "does not accept the token" in capsys.readouterr().err
    assert run("check", "--url", "grafana:3000") == 1
    assert "write http://host:port" in capsys.readouterr().err
    grafana.version = "8.5.1"
    assert run("push", *TARGET) == 1
    assert "made for 9.4 to 12" in capsys.readouterr().err
    assert [asked for asked in grafana.asked if asked.startswith("POST")] == []
    grafana.close()
    assert run("check") == 1
    assert "no Grafana answers at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "good"),
    [("9.4.0-pre", True), ("10.0.0", True), ("12.4.1", True), ("9.3.9", False), ("13.0.0", False), ("", False)],
)
def test_versions(version: str, good: bool) -> None:
    assert (version_problem(version) is None) == good


@pytest.mark.skipif("EZADMIN_TEST_GRAFANA" not in os.environ, reason="needs a Grafana; no registry has one")
def test_push_and_check_on_a_real_grafana(stack: Any, capsys: pytest.CaptureFixture[str]) -> None:
    where = urlsplit(os.environ["EZADMIN_TEST_GRAFANA"])
    server = ["--url", where._replace(netloc=where.netloc.rpartition("@")[2]).geturl()]
    server += ["--user", where.username or "admin", "--password", where.password or "admin"]
    target = ["--elasticsearch-url", stack.elasticsearch, "--web-url", "https://ez.example"]
    assert run("push", *server, *target) == 0
    capsys.readouterr()
    assert run("push", *server, *target) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.endswith(": there") for line in lines)
    assert run("check", *server) == 0

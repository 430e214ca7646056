"""Data sources and dashboards on a running Grafana, by its HTTP API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from grafana_client import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException, GrafanaUnauthorizedError

from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.grafana import bundle
from ezadmin_cmdb.grafana.sources import FOLDER_TITLE, FOLDER_UID, SOURCES, TIME_FIELD, Source, payload
from ezadmin_wire.names import Names

OLDEST = (9, 4)
NEWEST = 12
TIMEOUT = 15.0
NOT_FOUND = 404
REFUSED = 403
CHANGED = 412
DAY_MS = 24 * 3600 * 1000


class GrafanaError(DomainError):
    """Grafana cannot be used as asked; the text says why and what to do."""


@dataclass(frozen=True)
class Account:
    """A name and a password."""

    user: str
    password: str


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    good: bool
    text: str


class Server:
    """A Grafana at ``url``; ``credential`` is a service account's token, or a user with the role Admin."""

    def __init__(self, url: str, credential: str | Account) -> None:
        if not re.match(r"https?://[^/]+", url):
            raise GrafanaError(f"Grafana's address {url!r}: write http://host:port or https://host/path")
        self.url = url.rstrip("/")
        known = credential if isinstance(credential, str) else (credential.user, credential.password)
        # the library joins a path and "api" without a slash between
        self._api = GrafanaApi.from_url(self.url + "/", credential=known, timeout=TIMEOUT)

    def version(self) -> str:
        """Grafana's version. Raises GrafanaError if nothing answers."""
        with self._asking("its version"):
            return str(self._api.health.check().get("version", ""))

    # -- push ---

    def push(
        self, names: Names, elasticsearch_url: str, web_url: str, account: Account | None = None, ca: str | None = None
    ) -> Iterator[str]:
        """Make or bring up to date the folder, the data sources and the dashboards; yields a line for each.

        Run again it changes nothing that is as it should be. ``account`` is what Grafana signs in to Elasticsearch with,
        ``ca`` the PEM of the authority that signed its certificate.
        """
        problem = version_problem(self.version())
        if problem:
            raise GrafanaError(f"Grafana at {self.url}: {problem}")
        yield f"folder {FOLDER_TITLE}: {self._folder()}"
        for source in SOURCES:
            user, password = (account.user, account.password) if account else (None, None)
            wanted = payload(source, elasticsearch_url, names, user, password, ca)
            yield f"data source {source.uid}: {self._source(source, wanted)}"
        for uid, dashboard in bundle.dashboards().items():
            yield f"dashboard {uid}: {self._dashboard(uid, bundle.with_web_url(dashboard, web_url))}"

    def _folder(self) -> str:
        with self._asking("the folder"):
            try:
                self._api.folder.get_folder(FOLDER_UID)
            except GrafanaClientError as error:
                # without the right to see a folder that is not there, Grafana says 403
                if error.status_code not in (NOT_FOUND, REFUSED):
                    raise
                self._api.folder.create_folder(FOLDER_TITLE, FOLDER_UID)
                return "made"
        return "there"

    def _source(self, source: Source, wanted: dict[str, Any]) -> str:
        with self._asking(f"the data source {source.uid}"):
            there = self._find_source(source.uid)
            if there is None:
                self._api.datasource.create_datasource(wanted)
                return "made"
            if there.get("readOnly"):
                return "there, provisioned by a file of the Grafana server: left as it is"
            # a password cannot be read back, so a data source with one is always written
            if "secureJsonData" not in wanted and all(there.get(key) == value for key, value in wanted.items()):
                return "there"
            self._api.datasource.update_datasource(
                there["id"], {**wanted, "id": there["id"], "version": there["version"]}
            )
            return "brought up to date"

    def _find_source(self, uid: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._api.datasource.get_datasource_by_uid(uid)
        except GrafanaClientError as error:
            if error.status_code != NOT_FOUND:
                raise
            return None
        return found

    def _dashboard(self, uid: str, wanted: dict[str, Any]) -> str:
        with self._asking(f"the dashboard {uid}"):
            there = self._find_dashboard(uid)
            if there is not None and there.get("meta", {}).get("provisioned"):
                return "there, provisioned by a file of the Grafana server: left as it is"
            if there is not None and _content(there["dashboard"]) == _content(wanted):
                return "there"
            body = {
                "dashboard": wanted,
                "folderUid": FOLDER_UID,
                "overwrite": True,
                "message": "ezadmin-cmdb grafana push",
            }
            self._api.dashboard.update_dashboard(body)
            return "made" if there is None else "brought up to date"

    def _find_dashboard(self, uid: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._api.dashboard.get_dashboard(uid)
        except GrafanaClientError as error:
            if error.status_code != NOT_FOUND:
                raise
            return None
        return found

    # -- check ---

    def check(self) -> Iterator[Finding]:
        """Look at everything that a dashboard needs; yields a finding for each."""
        version = self.version()
        problem = version_problem(version)
        yield Finding(not problem, f"Grafana at {self.url}: {problem or f'version {version}'}")
        for source in SOURCES:
            yield self._check_source(source, version)
        for uid, dashboard in bundle.dashboards().items():
            yield self._check_dashboard(uid, dashboard)

    def _check_source(self, source: Source, version: str) -> Finding:
        what = f"data source {source.uid}"
        with self._asking(f"the {what}"):
            there = self._find_source(source.uid)
            if there is None:
                return Finding(False, f"{what} is missing: run ezadmin-cmdb grafana push")
            index = there.get("jsonData", {}).get("index") or there.get("database")
            if version.startswith("9.") and not there.get("database"):
                # 9.4's pre-releases lose it at their first start; without it 9.4 reads every index there is
                return Finding(False, f"{what} has lost its index, so it reads all: restart Grafana, or push again")
            try:
                count = self._count(source)
            except GrafanaUnauthorizedError:
                raise
            except (GrafanaException, _AnswerError) as error:
                return Finding(False, f"{what} does not answer for {index} at {there.get('url')}: {_reason(error)}")
        return Finding(True, f"{what} answers: {count} documents of the last 24 hours in {index}")

    def _count(self, source: Source) -> int:
        """How many documents of the last 24 hours the data source finds, asked as a panel asks."""
        now = int(time.time() * 1000)
        histogram = {"id": "2", "type": "date_histogram", "field": TIME_FIELD, "settings": {"interval": "1h"}}
        query = {
            "refId": "A",
            "datasource": {"type": "elasticsearch", "uid": source.uid},
            "query": "*",
            "timeField": TIME_FIELD,
            "metrics": [{"id": "1", "type": "count"}],
            "bucketAggs": [histogram],
            "intervalMs": 3_600_000,
            "maxDataPoints": 100,
        }
        body = {"queries": [query], "from": str(now - DAY_MS), "to": str(now)}
        answer = self._api.client.POST("/ds/query", json=body)["results"]["A"]
        if answer.get("error"):
            raise _AnswerError(str(answer["error"]))
        columns = [frame["data"]["values"] for frame in answer.get("frames") or []]
        return int(sum(value or 0 for column in columns if len(column) > 1 for value in column[1]))

    def _check_dashboard(self, uid: str, ours: dict[str, Any]) -> Finding:
        what = f"dashboard {uid}"
        with self._asking(f"the {what}"):
            there = self._find_dashboard(uid)
        if there is None:
            return Finding(False, f"{what} is missing: run ezadmin-cmdb grafana push")
        found, wanted = bundle.build_of(there["dashboard"]), bundle.build_of(ours)
        if found != wanted:
            return Finding(
                False,
                f"{what} is of another version ({found or 'unknown'}, not {wanted}): run ezadmin-cmdb grafana push",
            )
        if _shown(there["dashboard"]) != _shown(ours):
            return Finding(True, f"{what} is of this version, with changes made in Grafana: push would undo them")
        return Finding(True, f"{what} is of this version ({wanted})")

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn what goes wrong into a message for the user."""
        try:
            yield
        except GrafanaUnauthorizedError as error:
            raise GrafanaError(f"Grafana at {self.url} does not accept the token, or the user and password") from error
        except GrafanaException as error:
            text = _reason(error)
            if error.status_code == REFUSED:
                text += "; the token's service account, or the user, needs the role Admin"
            raise GrafanaError(f"Grafana at {self.url} refuses {what}: {text}") from error
        except (OSError, ValueError) as error:
            # requests' errors are OSErrors; an answer that is no JSON comes from something else than Grafana
            raise GrafanaError(f"no Grafana answers at {self.url}: {_innermost(error)}") from error


class _AnswerError(Exception):
    """A data source answered with an error."""


def version_problem(version: str) -> str | None:
    """Why the dashboards cannot be used with this version of Grafana; None if they can."""
    match = re.match(r"(\d+)\.(\d+)", version)
    if not match:
        return f"its version is {version!r}, which is no version"
    major, minor = int(match[1]), int(match[2])
    if (major, minor) < OLDEST or major > NEWEST:
        return f"version {version}; the dashboards are made for {OLDEST[0]}.{OLDEST[1]} to {NEWEST}"
    return None


def _content(dashboard: dict[str, Any]) -> dict[str, Any]:
    """A dashboard without what Grafana itself counts."""
    return {key: value for key, value in dashboard.items() if key not in ("id", "version", "iteration")}


def _shown(dashboard: dict[str, Any]) -> list[Any]:
    """Titles and queries of the panels: what a person who edits a dashboard changes, whatever else Grafana rewrites."""
    panels = [*dashboard.get("panels", [])]
    panels += [inner for panel in panels for inner in panel.get("panels") or []]
    return sorted((panel.get("title", ""), _asked(panel)) for panel in panels)


def _asked(panel: dict[str, Any]) -> str:
    asked = ("query", "metrics", "bucketAggs")
    return json.dumps([[target.get(key) for key in asked] for target in panel.get("targets") or []], sort_keys=True)


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        results = response.get("results") or {}
        first = next((result.get("error") for result in results.values() if result.get("error")), None)
        return str(first or response.get("message") or response)
    return str(error)


def _innermost(error: BaseException) -> str:
    """What is behind an error of requests, which wraps urllib3's, which wraps the socket's."""
    wrapped = getattr(error, "reason", None) or next(iter(error.args), None)
    return _innermost(wrapped) if isinstance(wrapped, BaseException) else str(error)

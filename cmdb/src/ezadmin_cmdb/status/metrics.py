"""``/metrics`` of the web application, for Prometheus: its requests, and what waits in the CMDB and its worker.

Requests are counted in memory that all processes of ``ezadmin-cmdb web`` share, each in a place of its own, so that it does not
matter which of them is asked. What waits stands in the database and in Kafka, so the worker needs no endpoint for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.sharedctypes import RawArray
from typing import Any

from kafka.errors import KafkaError
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.commands import states
from ezadmin_cmdb.commands.models import Command
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.jobs.models import Job
from ezadmin_cmdb.kafka_access.rights import WORKER_GROUPS
from ezadmin_cmdb.notifications.models import Notification
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.status.kafka import GroupStatus, KafkaProbe
from ezadmin_cmdb.webhooks.models import FAILED, WAITING, Delivery
from ezadmin_wire.names import Names

ROUTES = ("page", "api", "static", "probe")
STATUSES = ("2xx", "3xx", "4xx", "5xx")
BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf)
PLACES = 64
"""Processes that count at the same time, at most."""
PREFIX = "ezadmin_cmdb_"
_OF_A_ROUTE = len(STATUSES) + len(BOUNDS) + 1
_WIDTH = len(ROUTES) * _OF_A_ROUTE


class Requests:
    """Requests by route and status, and how long they took. Made before the processes that share it are forked."""

    def __init__(self) -> None:
        self._figures: Any = RawArray("d", PLACES * _WIDTH)
        self.place = 0

    def count(self, route: str, status: int, seconds: float) -> None:
        """A request was answered. Threads of one process may lose one to another now and then."""
        begin = self.place % PLACES * _WIDTH + ROUTES.index(route) * _OF_A_ROUTE
        self._figures[begin + min(max(status // 100 - 2, 0), len(STATUSES) - 1)] += 1
        bucket = next(number for number, bound in enumerate(BOUNDS) if seconds <= bound)
        self._figures[begin + len(STATUSES) + bucket] += 1
        self._figures[begin + _OF_A_ROUTE - 1] += seconds

    def of(self, route: str) -> tuple[list[int], list[int], float]:
        """Of all processes: requests by status, by the bucket of their time, and the sum of their times."""
        begin = ROUTES.index(route) * _OF_A_ROUTE
        all_places = range(begin, PLACES * _WIDTH, _WIDTH)
        sums = [sum(self._figures[place + number] for place in all_places) for number in range(_OF_A_ROUTE)]
        counts = [round(one) for one in sums[:-1]]
        return counts[: len(STATUSES)], counts[len(STATUSES) :], sums[-1]


REQUESTS = Requests()


def text(names: Names, kafka: KafkaProbe) -> str:
    """All figures in the format of Prometheus; those whose source is away are left out, and that it is away is said."""
    lines: list[str] = []

    def add(name: str, kind: str, about: str, values: Mapping[tuple[tuple[str, str], ...], float]) -> None:
        lines.extend((f"# HELP {PREFIX}{name} {about}", f"# TYPE {PREFIX}{name} {kind}"))
        lines.extend(f"{PREFIX}{name}{_labels(labels)} {_number(value)}" for labels, value in values.items())

    _add_requests(lines, add)
    waiting: list[tuple[str, str, Mapping[Any, float]]] | None = None
    with suppress(DBAPIError, PoolTimeout):
        waiting = list(_waiting())
    add("database_up", "gauge", "0 while the database does not answer", {(): waiting is not None})
    for name, about, values in waiting or ():
        add(name, "gauge", about, values)
    groups: dict[str, GroupStatus] | None = None
    with suppress(KafkaError, OSError):
        groups = kafka.groups([names.consumer_group(group) for group in WORKER_GROUPS])
    add("kafka_up", "gauge", "0 while Kafka does not answer", {(): groups is not None})
    if groups is not None:
        found = {group: groups[names.consumer_group(group)] for group in WORKER_GROUPS}
        add(
            "worker_members", "gauge", "Workers that read, by consumer group",
            {(("group", group),): one.members for group, one in found.items()},
        )  # fmt: skip
        add(
            "worker_lag_messages", "gauge", "Messages that wait for the worker",
            {(("group", group), ("topic", topic)): lag for group, one in found.items() for topic, lag in one.lag.items()},
        )  # fmt: skip
        add(
            "worker_lag_seconds", "gauge", "Age of the oldest of them",
            {(("group", group),): one.seconds for group, one in found.items() if one.seconds is not None},
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def _add_requests(lines: list[str], add: Callable[..., None]) -> None:
    figures = {route: REQUESTS.of(route) for route in ROUTES}
    add(
        "web_requests_total", "counter", "Requests answered, by route (page, api, static, probe) and status",
        {
            (("route", route), ("status", status)): count
            for route, (counts, _, _) in figures.items()
            for status, count in zip(STATUSES, counts, strict=True)
        },
    )  # fmt: skip
    add("web_request_duration_seconds", "histogram", "Time from a request to its answer", {})
    name = f"{PREFIX}web_request_duration_seconds"
    for route, (_, buckets, total) in figures.items():
        so_far = 0
        for bound, count in zip(BOUNDS, buckets, strict=True):
            so_far += count
            lines.append(f'{name}_bucket{{route="{route}",le="{_number(bound)}"}} {so_far}')
        lines += [f'{name}_sum{{route="{route}"}} {_number(total)}', f'{name}_count{{route="{route}"}} {so_far}']


def _waiting() -> Iterator[tuple[str, str, Mapping[Any, float]]]:
    """(name, what it says, values by labels) of what waits in the database."""
    now = utc_now()
    late = ConfigRecord.revision > ConfigRecord.published_revision
    count, oldest = db.session.execute(select(func.count(), func.min(ConfigRecord.updated)).where(late)).one()
    yield "outbox_waiting", "Config records that Kafka has not got yet", {(): count}
    yield "outbox_waiting_seconds", "Age of the oldest of them", {(): _age(oldest, now)}
    calls = (
        select(Delivery.status, func.count()).where(Delivery.status.in_((WAITING, FAILED))).group_by(Delivery.status)
    )
    found = {WAITING: 0, FAILED: 0, **_pairs(calls)}
    yield (
        "webhook_deliveries", "Calls of webhooks that wait, and that failed for good and are kept",
        {(("status", status),): number for status, number in found.items()},
    )  # fmt: skip
    due = db.session.scalar(select(func.min(Delivery.next_attempt)).where(Delivery.status == WAITING))
    yield "webhook_overdue_seconds", "For how long the oldest call should have been made", {(): _age(due, now)}
    told = select(Notification.status, func.count()).where(Notification.status.in_((WAITING, FAILED)))
    found = {WAITING: 0, FAILED: 0, **_pairs(told.group_by(Notification.status))}
    yield (
        "notification_messages", "Messages about alerts that wait, and that failed for good and are kept",
        {(("status", status),): number for status, number in found.items()},
    )  # fmt: skip
    due = db.session.scalar(select(func.min(Notification.next_attempt)).where(Notification.status == WAITING))
    yield "notification_overdue_seconds", "For how long the oldest message should have been sent", {(): _age(due, now)}
    jobs = db.session.scalar(select(func.count()).where(Job.state.in_(("checking", "writing")))) or 0
    yield "jobs_running", "Imports and changes of many that are under way", {(): jobs}
    open_states = (*states.WAITING, *states.UNDER_WAY)
    query = select(Command.state, func.count()).where(Command.state.in_(open_states)).group_by(Command.state)
    of_state = {**dict.fromkeys(open_states, 0), **_pairs(query)}
    yield (
        "commands", "Commands that have not ended, by state",
        {(("state", state),): number for state, number in of_state.items()},
    )  # fmt: skip


def _pairs(query: Any) -> dict[str, int]:
    return {row[0]: row[1] for row in db.session.execute(query)}


def _age(moment: Any, now: Any) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def route_of(path: str, endpoint: str | None) -> str:
    """The class of a request."""
    if endpoint == "static":
        return "static"
    if endpoint is not None and endpoint.startswith("status.") and path.endswith(("/metrics", "/healthz")):
        return "probe"
    return "api" if path.startswith("/api/") else "page"

"""Live graphs: samples of chosen figures of up to 50 hosts, for browsers, through a WebSocket.

A browser says what it shows: ``{"hosts": [host.id], "series": [{"dataset", "field", "item"}], "since": ms}``; it may say so
again. It hears ``{"refused": [host.id]}`` of hosts whose figures its user may not see, and
``{"points": [[host.id, number of the series, item, ms, value]]}``: first what was written after ``since`` and is kept, then what
comes. A point may come twice, and is then the same.

Browsers that show the same share the work. Who does not read fast enough is hung up on, and finds on his return what he missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from flask import Flask
from starlette.websockets import WebSocket, WebSocketDisconnect

from ezadmin_cmdb.database import db
from ezadmin_cmdb.gateway.browsers import BUSY, NOT_SIGNED_IN, Browsers, actor_of
from ezadmin_cmdb.gateway.database import Database
from ezadmin_cmdb.gateway.directory import Directory
from ezadmin_cmdb.gateway.problems import Problem
from ezadmin_cmdb.gateway.samples import Document, Samples
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.metrics.fields import datasets
from ezadmin_cmdb.rights.permissions import METRICS_VIEW
from ezadmin_cmdb.settings import Settings
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.limits import ITEM_FIELDS, item_name
from ezadmin_wire.times import parse_time

_log = logging.getLogger(__name__)
HOSTS_MAX, SERIES_MAX, SOCKETS_MAX = 50, 8, 500
FLUSH_SECONDS = 0.1
RIGHTS_SECONDS = 30.0
FRAMES_WAITING = 600
"""A minute of frames: who is further behind is hung up on."""
TOO_SLOW = 4408
CLOSE_SECONDS = 1.0
Point = tuple[str, int, str, int, float]


@dataclass(frozen=True)
class Series:
    """A figure, of the items that match."""

    dataset: str
    field: str
    item: str


class Channel:
    """What several browsers show alike."""

    def __init__(self, hosts: frozenset[str], series: tuple[Series, ...]) -> None:
        self.hosts = hosts
        self.series = series
        self.viewers: set[Viewer] = set()
        self.points: list[Point] = []


class Viewer:
    """One browser."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[str] = asyncio.Queue(FRAMES_WAITING)
        self.channel: Channel | None = None
        self.wanted: tuple[list[str], tuple[Series, ...]] | None = None
        self.asked = asyncio.Event()
        self.since = 0.0
        self.too_slow = asyncio.Event()

    def send(self, frame: str) -> None:
        """Let it be sent."""
        try:
            self.frames.put_nowait(frame)
        except asyncio.QueueFull:
            self.too_slow.set()


class Graphs:
    """All browsers that look at graphs here."""

    def __init__(self, settings: Settings, core: Flask, database: Database, directory: Directory) -> None:
        self._browsers = Browsers(settings, core)
        self._database = database
        self._channels: dict[tuple[frozenset[str], tuple[Series, ...]], Channel] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.samples = Samples(directory, settings.kafka, settings.names.metrics, self._deliver)
        self.count = 0

    # -- samples ---

    def _deliver(self, host_id: str, documents: list[Document], to: object) -> None:
        """In the thread that reads."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it is closed just now
                loop.call_soon_threadsafe(self._take, host_id, documents, to)

    def _take(self, host_id: str, documents: list[Document], to: object) -> None:
        if isinstance(to, Viewer):
            channel = to.channel
            if channel is not None and host_id in channel.hosts:
                points = list(points_of(host_id, documents, channel.series))
                if points:
                    to.send(json.dumps({"points": points}))
            return
        for channel in self._channels.values():
            if host_id in channel.hosts:
                channel.points += points_of(host_id, documents, channel.series)

    async def flush(self) -> None:
        """Send what has come, ten times a second, until cancelled."""
        self._loop = asyncio.get_running_loop()
        self.samples.start()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            for channel in self._channels.values():
                if channel.points:
                    frame = json.dumps({"points": channel.points})
                    channel.points = []
                    for viewer in channel.viewers:
                        viewer.send(frame)

    # -- browsers ---

    async def serve(self, socket: WebSocket) -> None:
        """One browser, from its coming to its going."""
        token = self._browsers.token(socket)
        if self.count >= SOCKETS_MAX:
            await socket.close(BUSY)
            return
        if token is None or await self._allowed(token, []) is None:
            await socket.close(NOT_SIGNED_IN)
            return
        await socket.accept()
        self.count += 1
        viewer = Viewer()
        tasks = [
            asyncio.create_task(one)
            for one in (
                _listen(socket, viewer), _write(socket, viewer), self._keep(socket, viewer, token), viewer.too_slow.wait(),
            )
        ]  # fmt: skip
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.count -= 1
            for task in tasks:
                task.cancel()
            self._leave(viewer)
            await asyncio.gather(*tasks, return_exceptions=True)
        if viewer.too_slow.is_set():  # a write waits for it: so would the closing
            with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
                await asyncio.wait_for(socket.close(TOO_SLOW), CLOSE_SECONDS)

    async def _keep(self, socket: WebSocket, viewer: Viewer, token: str) -> None:
        """Show it what it asks for and may see; look again at its rights."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(viewer.asked.wait(), RIGHTS_SECONDS)
            asked = viewer.asked.is_set()
            viewer.asked.clear()
            if viewer.wanted is None:
                wanted: list[str] = []
                series: tuple[Series, ...] = ()
            else:
                wanted, series = viewer.wanted
            try:
                allowed = await self._allowed(token, wanted)
            except Problem:
                if asked:  # the database is away: what was allowed a moment ago goes on, what is new waits
                    await asyncio.sleep(FLUSH_SECONDS)
                    viewer.asked.set()
                continue
            if allowed is None:
                await socket.close(NOT_SIGNED_IN)
                return
            if viewer.wanted is None:
                continue
            before = viewer.channel.hosts if viewer.channel is not None else frozenset()
            if not asked and allowed == before:
                continue
            self._join(viewer, frozenset(allowed), series)
            viewer.send(json.dumps({"refused": [one for one in wanted if one not in allowed]}))
            if asked:
                self.samples.replay(allowed, viewer.since, viewer)

    def _join(self, viewer: Viewer, host_ids: frozenset[str], series: tuple[Series, ...]) -> None:
        self._leave(viewer)
        viewer.channel = self._channels.setdefault((host_ids, series), Channel(host_ids, series))
        viewer.channel.viewers.add(viewer)
        self._watch()

    def _leave(self, viewer: Viewer) -> None:
        channel, viewer.channel = viewer.channel, None
        if channel is not None:
            channel.viewers.discard(viewer)
            if not channel.viewers:
                del self._channels[channel.hosts, channel.series]
                self._watch()

    def _watch(self) -> None:
        self.samples.watch({host for channel in self._channels.values() for host in channel.hosts})

    async def _allowed(self, token: str, host_ids: Sequence[str]) -> set[str] | None:
        return await self._database.run(_visible, token, host_ids)

    def stop(self) -> None:
        """End what reads."""
        self.samples.stop()


def points_of(host_id: str, documents: Iterable[Document], series: Sequence[Series]) -> Iterable[Point]:
    """The points of ``series`` in documents of metrics."""
    for document in documents:
        dataset = document.get("event.dataset")
        for number, one in enumerate(series):
            value = document.get(one.field) if one.dataset == dataset else None
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            item = item_name(one.dataset, tuple(document.get(name) for name in ITEM_FIELDS.get(one.dataset, ())))
            if not fnmatchcase(item, one.item):
                continue
            try:
                moment = int(parse_time(str(document.get("@timestamp"))).timestamp() * 1000)
            except ValueError:
                continue
            yield host_id, number, item, moment, value


def _visible(token: str, host_ids: Sequence[str]) -> set[str] | None:
    """Which of the hosts the browser's user may see figures of; None if he is not signed in or may see none of any."""
    actor = actor_of(token, METRICS_VIEW)
    if actor is None:
        return None
    query = hosts.visible(actor, METRICS_VIEW).where(Host.id.in_(host_ids)).with_only_columns(Host.id)
    return set(db.session.scalars(query)) if host_ids else set()


async def _write(socket: WebSocket, viewer: Viewer) -> None:
    while True:
        frame = await viewer.frames.get()
        try:
            await socket.send_text(frame)
        except (WebSocketDisconnect, RuntimeError):  # it went while we were writing
            return


async def _listen(socket: WebSocket, viewer: Viewer) -> None:
    """Take what the browser asks for, until it goes."""
    while True:
        try:
            text = await socket.receive_text()
        except (WebSocketDisconnect, RuntimeError, KeyError):
            return
        try:
            viewer.wanted, viewer.since = _read(text)
        except ValueError as error:
            viewer.send(json.dumps({"error": "bad_value", "message": str(error)}))
        else:
            viewer.asked.set()


def _read(text: str) -> tuple[tuple[list[str], tuple[Series, ...]], float]:
    """What a browser asks for, and since when (seconds). Raises ValueError that says what to write."""
    try:
        asked: Any = json.loads(text)
        host_ids, series = (
            asked["hosts"],
            [(one["dataset"], one["field"], one.get("item", "*")) for one in asked["series"]],
        )
        since = float(asked.get("since", 0)) / 1000
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = 'write {"hosts": [host.id], "series": [{"dataset", "field", "item"}], "since": ms}'
        raise ValueError(text) from error
    if (
        not isinstance(host_ids, list)
        or len(host_ids) > HOSTS_MAX
        or not all(isinstance(one, str) and is_host_id(one) for one in host_ids)
    ):
        raise ValueError(f"hosts: a list of at most {HOSTS_MAX} host.ids")
    if not 1 <= len(series) <= SERIES_MAX:
        raise ValueError(f"series: 1 to {SERIES_MAX}")
    for dataset, field, item in series:
        known = datasets().get(dataset, {}).get(field) if isinstance(dataset, str) and isinstance(field, str) else None
        if known is None or known.kind != "gauge":
            raise ValueError(f"series: {dataset} has no figure {field}")
        if not isinstance(item, str) or not 1 <= len(item) <= 200:
            raise ValueError("series: item is 1 to 200 characters, * is for all")
    if not math.isfinite(since):
        raise ValueError("since: milliseconds since 1970")
    return (list(dict.fromkeys(host_ids)), tuple(Series(*one) for one in series)), since

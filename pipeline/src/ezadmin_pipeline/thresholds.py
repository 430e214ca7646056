"""Thresholds in the stream: every sample of a figure that a limit is for is judged as it passes.

The state of a partition's hosts (:class:`State`) is part of its commit record, and a pure function of the record before, of
the messages since, and of the limits in force: a second attempt from the same record decides the same, and an alert leaves
only with the commit that holds the state which it announces. Its id is (host, limit, item, sample time), so it is there once.

- **Order.** An agent sends its ticks in their order. A sample that is older than the newest of its host is late and is not
  judged, unless that newest one lies in the future of Kafka's clock: then the host's clock was wrong and has been set back.
- **Items.** Only items are kept that are not plainly ok: in a state, on the way to one, or with samples that a rate or a trend
  needs.
  One that its host no longer reports is closed after ten minutes of the host's own time (``gone``).
- **Limits that change** (``limit_changed``): the samples so far are forgotten, the state is kept, and the next sample is
  judged by the new values. An item that the limit no longer means, a limit that was removed or taken from the host
  (``limit_removed``) and a host that is no longer listened to (``host_inactive``) are closed at once with an ok.
- **No data.** Kafka's time of the newest message is the partition's clock. A host of which nothing came for ``no_data``
  seconds of that clock is unknown; so is a limit whose figure its host no longer sends, by the host's own time. The clock
  also moves by :meth:`Thresholds.tick`, while the owner has read everything. Where it moves on by more than a minute at
  once, nobody knows what happened meanwhile (Kafka away, no owner): all hosts get their time anew. The event's time is
  1 ms after the last sample, so what comes then is later, also from a spool.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
import orjson

from ezadmin_pipeline import alerts
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.judge import OK, UNKNOWN, Item, Limit
from ezadmin_wire import WireError
from ezadmin_wire.limits import ITEM_FIELDS, MAX_LIMITS, item_name
from ezadmin_wire.logs.parse import LAST_MS
from ezadmin_wire.times import format_epoch_ms, format_time, parse_time
from ezadmin_wire.trend import NEVER

_log = logging.getLogger(__name__)
JUMP = 60_000
"""Move of the partition's clock (ms) after which nothing is known of the time between."""
LOOK = 5_000
"""How often (ms of the partition's clock) silent hosts are looked for."""
MAX_ITEMS = 256
"""Items of one limit of one host that are remembered: what a host makes up must not fill the record."""
_ITEM_LENGTH = 256
_NAME = b'"event.dataset":"'

Tag = tuple[str, str, bytes]
"""Minute, level and the line as it came: see :class:`ezadmin_pipeline.indexer.Chunk`."""


class HostState:
    """What is remembered of a host. ``newest``: time of its newest sample; ``heard``: the partition's clock then;
    ``seen``: per limit that asks for data, when the last came; ``items``: by limit and item."""

    __slots__ = ("heard", "items", "newest", "seen")

    def __init__(self, newest: int = 0, heard: int = 0) -> None:
        self.newest = newest
        self.heard = heard
        self.seen: dict[str, int] = {}
        self.items: dict[str, dict[str, Item]] = {}


class State:
    """What is remembered of a partition. ``since``: from when on silence counts."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.clock: int = found.get("clock", 0)
        self.since: int = found.get("since", 0)
        self.revisions: dict[str, int] = dict(found.get("revisions", {}))
        self.hosts: dict[str, HostState] = {}
        self.version = -1
        for host_id, (newest, heard, seen, items) in found.get("hosts", {}).items():
            host = self.hosts[host_id] = HostState(newest, self.clock - heard)
            host.seen = {limit: newest - ago for limit, ago in seen.items()}
            host.items = {
                limit: {name: Item.from_json(item, newest) for name, item in group.items()}
                for limit, group in items.items()
            }

    def to_json(self) -> dict[str, Any]:
        """The member ``thresholds`` of a commit record: times of hosts are ms since 1970, all others relative to them."""
        hosts = {}
        for host_id, host in self.hosts.items():
            newest = host.newest
            seen = {limit: newest - time for limit, time in host.seen.items() if time != newest}
            items = {
                limit: {name: item.to_json(newest) for name, item in group.items()}
                for limit, group in host.items.items()
            }
            hosts[host_id] = [newest, self.clock - host.heard, seen, items]
        if not hosts:
            return {}
        return {"clock": self.clock, "since": self.since, "revisions": dict(self.revisions), "hosts": hosts}


class _Figures:
    """The limits of one dataset, and how the figures that they need are read of a line."""

    def __init__(self, dataset: str, limits: Sequence[Limit]) -> None:
        self.dataset = dataset
        self._item_names = ITEM_FIELDS.get(dataset, ())
        self._figure_names = sorted({limit.record.field for limit in limits})
        self.limits = [(limit, self._figure_names.index(limit.record.field)) for limit in limits]
        fields: list[tuple[str, Any, Any]] = [
            ("time", str, msgspec.field(name="@timestamp")),
            ("created", str, msgspec.field(name="event.created")),
        ]
        kinds: list[tuple[str, Any]] = [(name, str | int | None) for name in self._item_names]
        kinds += [(name, float | None) for name in self._figure_names]
        fields += [(f"f{i}", kind, msgspec.field(name=name, default=None)) for i, (name, kind) in enumerate(kinds)]
        self._read = msgspec.json.Decoder(msgspec.defstruct("Figures", fields, gc=False)).decode

    def read(self, line: bytes) -> tuple[str, str, str | None, Sequence[float | None]]:
        """``@timestamp``, ``event.created``, item and figures of a line; what is not there or no figure is None."""
        try:
            time, created, *values = msgspec.structs.astuple(self._read(line))
        except msgspec.ValidationError:  # a figure that is a text: the others count all the same
            root = orjson.loads(line)
            time, created = root["@timestamp"], root["event.created"]
            values = [root.get(name) for name in self._item_names]
            values += [_figure(root.get(name)) for name in self._figure_names]
        several = len(self._item_names)
        names = tuple(values[:several])
        item = None if None in names else item_name(self.dataset, names)[:_ITEM_LENGTH]
        return time, created, item, values[several:]


def _figure(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class _Plan:
    """The limits of a host, by dataset; many hosts share one."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self.limits = {limit.id: limit for limit in limits}
        self.asking = [limit for limit in self.limits.values() if limit.no_data is not None]
        by_dataset: dict[str, list[Limit]] = {}
        for limit in self.limits.values():
            by_dataset.setdefault(limit.record.dataset, []).append(limit)
        self.figures = {name.encode(): _Figures(name, group) for name, group in by_dataset.items()}


class Thresholds:
    """Judges samples by the limits in ``directory``; one serves a whole worker. All times are ms since 1970."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._version = -1
        self._limits: dict[str, Limit] = {}
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._times: dict[str, int] = {}

    # what happens

    def observe(self, state: State, host_id: str, clock: int, tags: Sequence[Tag]) -> list[dict[str, Any]]:
        """Judge the lines (``tags``) of a batch of metrics that came into Kafka at ``clock`` (-1: not known);
        returns alerts."""
        found = self._sync(state)
        clock = max(0, clock)
        plan = self._plan(host_id)
        if plan is None and not state.hosts:
            return found
        look = _move(state, clock)
        if plan is not None and tags:
            self._judge_batch(state, host_id, plan, clock, tags, found)
        if look:
            self._look_for_silent(state, found)
        return found

    def tick(self, state: State, now: int) -> list[dict[str, Any]]:
        """The owner has read everything that Kafka holds at ``now``; returns alerts."""
        found = self._sync(state)
        if now < state.clock - JUMP:  # the clock of an owner before, or of a host, was wrong
            state.clock = state.since = now
            for host in state.hosts.values():
                host.heard = min(host.heard, now)
        if state.hosts and _move(state, now):
            self._look_for_silent(state, found)
        return found

    # limits

    def _plan(self, host_id: str) -> _Plan | None:
        ids = self._directory.limits_of(host_id)
        if not ids:
            return None
        plan = self._plans.get(ids)
        if plan is None:
            known = [self._limits[limit_id] for limit_id in dict.fromkeys(ids) if limit_id in self._limits]
            plan = self._plans[ids] = _Plan(known[:MAX_LIMITS])
        return plan if plan.limits else None

    def _sync(self, state: State) -> list[dict[str, Any]]:
        """Take up limits that were changed, added, removed since the last message."""
        found: list[dict[str, Any]] = []
        version = self._directory.limits_version
        if self._version != version:
            self._compile()
            self._version = version
        if state.version == version:
            return found
        state.version = version
        used: set[str] = set()
        for host_id, host in list(state.hosts.items()):
            plan = self._plan(host_id)
            limits = {} if plan is None else plan.limits
            for limit_id in list(host.items):
                limit = limits.get(limit_id)
                if limit is None:
                    gone = self._directory.listened_to(host_id)
                    self._close_all(host_id, host, limit_id, "limit_removed" if gone else "host_inactive", found)
                elif state.revisions.get(limit_id) != limit.revision:
                    self._restart(host_id, host, limit, found)
            host.seen = {
                limit_id: time if limits[limit_id].revision == state.revisions.get(limit_id) else host.newest
                for limit_id, time in host.seen.items()
                if limit_id in limits and limits[limit_id].no_data is not None
            }
            used.update(limits)
            if plan is None:
                del state.hosts[host_id]
        state.revisions = {limit_id: self._limits[limit_id].revision for limit_id in sorted(used)}
        return found

    def _compile(self) -> None:
        before, self._limits = self._limits, {}
        for limit_id, (record, revision) in self._directory.limits.items():
            old = before.get(limit_id)
            if old is not None and old.revision == revision:
                self._limits[limit_id] = old
                continue
            try:
                self._limits[limit_id] = Limit(limit_id, record, revision)
            except WireError as error:
                _log.error("limit left out: %s", error, extra={"fields": {"error.type": error.reason}})
        if before != self._limits:
            self._plans.clear()

    def _restart(self, host_id: str, host: HostState, limit: Limit, found: list[dict[str, Any]]) -> None:
        group = host.items[limit.id]
        for name, item in list(group.items()):
            item.forget()
            item.changed = True
            meant = limit.no_data is not None if item.state == UNKNOWN else limit.matches(name)
            if not meant:
                self._close(host_id, host, limit.id, name, "limit_changed", found)
            elif item.plain:
                self._drop(host, limit.id, name)

    # samples

    def _judge_batch(
        self,
        state: State,
        host_id: str,
        plan: _Plan,
        clock: int,
        tags: Sequence[Tag],
        found: list[dict[str, Any]],
    ) -> None:
        host = state.hosts.get(host_id)
        if host is None:
            host = state.hosts[host_id] = HostState()
            state.revisions.update({limit.id: limit.revision for limit in plan.limits.values()})
        else:
            for limit in plan.asking:  # what the record does not hold came with the newest sample
                host.seen.setdefault(limit.id, host.newest)
        host.heard = state.clock
        minute_before = host.newest // 60_000
        read = False
        sampled: set[str] = set()
        for minute, _, line in tags:
            try:
                figures = plan.figures.get(_dataset_of(line))
                if figures is None:
                    continue
                text, created, item, values = figures.read(line)
                time = self._time(minute, text, created, clock)
            except (msgspec.DecodeError, orjson.JSONDecodeError, WireError):
                continue  # a number that no float holds, a second that no minute has: Elasticsearch refuses such lines
            read = True
            if item is None or not _in_order(host, time, clock):
                continue
            for limit, i in figures.limits:
                value = values[i]
                if value is not None and limit.matches(item):
                    sampled.add(limit.id)
                    self._judge(host_id, host, limit, item, time, value, found)
        if not read:  # the host is there all the same
            with suppress(msgspec.DecodeError, WireError):
                _in_order(host, self._time(tags[-1][0], *_times_of(tags[-1][2]), clock), clock)
        for limit in plan.asking:
            host.seen.setdefault(limit.id, host.newest)
            self._ask(host_id, host, limit, limit.id in sampled, found)
        if host.items and host.newest // 60_000 != minute_before:
            self._close_gone(host_id, host, plan, found)

    def _time(self, minute: str, text: str, created: str, clock: int) -> int:
        """The time that a line's document has, which lies in ``minute``: :mod:`ezadmin_pipeline.lines` decided it."""
        key = minute + text
        time = self._times.get(key)
        if time is not None:
            return time
        time = clock
        if text[:16] == minute and text.endswith("Z"):
            time = _milliseconds(parse_time(text))
        else:
            for moment in (parse_time(text), parse_time(created)):
                if format_time(moment)[:16] == minute:
                    time = _milliseconds(moment)
                    break
        if text[:16] == minute:  # else it depends on more than these two
            if len(self._times) >= 1000:
                self._times.clear()
            self._times[key] = time
        return time

    def _judge(
        self,
        host_id: str,
        host: HostState,
        limit: Limit,
        name: str,
        time: int,
        value: float,
        found: list[dict[str, Any]],
    ) -> None:
        group = host.items.get(limit.id)
        item = None if group is None else group.get(name)
        if item is None:
            if not limit.judges or limit.harmless(value):
                return
            if group is None:
                group = host.items[limit.id] = {}
            if len(group) >= MAX_ITEMS:
                return
            item = group[name] = Item()
        elif time <= item.last:
            return
        outcome = limit.judge(item, time, value)
        if outcome is None:
            return
        new, figure = outcome
        if new != item.state:
            reason = "data" if item.state == UNKNOWN else "limit_changed" if item.changed else "value"
            found.append(self._alert(host_id, limit.id, name, item, new, time, reason, figure))
            item.state, item.before = new, OK
        elif item.plain:
            self._drop(host, limit.id, name)
        item.changed = False

    def _ask(self, host_id: str, host: HostState, limit: Limit, sampled: bool, found: list[dict[str, Any]]) -> None:
        """What a batch of the host says to a limit that asks for data."""
        if not sampled:
            if host.newest - host.seen[limit.id] > (limit.no_data or 0):
                self._lose(host_id, host, limit, found)
            return
        host.seen[limit.id] = host.newest
        item = host.items.get(limit.id, {}).get("")
        if item is not None and item.state == UNKNOWN and host.newest > item.last:
            found.append(self._alert(host_id, limit.id, "", item, OK, host.newest, "data"))
            self._drop(host, limit.id, "")

    # silence

    def _look_for_silent(self, state: State, found: list[dict[str, Any]]) -> None:
        for host_id, host in state.hosts.items():
            plan = self._plan(host_id)
            if plan is None or not plan.asking:
                continue
            silent = state.clock - max(host.heard, state.since)
            for limit in plan.asking:
                if silent > (limit.no_data or 0):
                    self._lose(host_id, host, limit, found)

    def _lose(self, host_id: str, host: HostState, limit: Limit, found: list[dict[str, Any]]) -> None:
        group = host.items.setdefault(limit.id, {})
        item = group.get("")
        if item is None:
            item = group[""] = Item()
        if item.state == UNKNOWN:
            return
        time = max(host.newest, item.last) + 1
        found.append(self._alert(host_id, limit.id, "", item, UNKNOWN, time, "no_data"))
        item.forget()
        item.before, item.state, item.last = item.state, UNKNOWN, time

    # the end of an item

    def _close_gone(self, host_id: str, host: HostState, plan: _Plan, found: list[dict[str, Any]]) -> None:
        for limit in plan.limits.values():
            for name, item in list(host.items.get(limit.id, {}).items()):
                if item.state != UNKNOWN and host.newest - item.last > limit.gone_after:
                    self._close(host_id, host, limit.id, name, "gone", found)

    def _close_all(
        self, host_id: str, host: HostState, limit_id: str, reason: str, found: list[dict[str, Any]]
    ) -> None:
        for name in list(host.items[limit_id]):
            self._close(host_id, host, limit_id, name, reason, found)

    def _close(
        self, host_id: str, host: HostState, limit_id: str, name: str, reason: str, found: list[dict[str, Any]]
    ) -> None:
        item = host.items[limit_id][name]
        if item.state != OK:
            # 1 ms after all that was, and what follows comes later still
            host.newest = max(host.newest, item.last) + 1
            found.append(self._alert(host_id, limit_id, name, item, OK, host.newest, reason))
        self._drop(host, limit_id, name)

    def _drop(self, host: HostState, limit_id: str, name: str) -> None:
        group = host.items[limit_id]
        del group[name]
        if not group:
            del host.items[limit_id]

    def _alert(
        self,
        host_id: str,
        limit_id: str,
        name: str,
        item: Item,
        new: int,
        time: int,
        reason: str,
        figure: float | None = None,
    ) -> dict[str, Any]:
        limit = self._limits.get(limit_id)  # None: removed
        field = "" if limit is None else limit.record.field
        compared = None if limit is None or figure is None else limit.compared(item.state, new)
        state, previous = alerts.STATES[new], alerts.STATES[item.state]
        trend = limit is not None and limit.record.trend > 0
        what = f"{limit_id}: {field}{' per second' if limit is not None and limit.record.rate else ''}"
        what += f" of {name}" if name else ""
        if figure is not None:
            if trend:
                what += f" is full in {figure:.4g} h" if figure < NEVER else " does not fill"
            else:
                what += f" is {figure:.6g}"
            if compared is not None:
                what += f" (limit {compared:g}{' h' if trend else ''})"
        elif new == UNKNOWN and limit is not None and limit.record.no_data is not None:
            what += f": no data for {limit.record.no_data} s"
        return alerts.alert(
            alerts.NO_DATA if UNKNOWN in (new, item.state) else alerts.THRESHOLD,
            host_id,
            self._directory.host(host_id).members,
            time=format_epoch_ms(min(time, LAST_MS)),  # what follows a sample of the last millisecond of the year 9999
            rule=limit_id,
            item=name,
            state=state,
            previous=previous,
            reason=reason,
            field=field,
            message=f"{what}: {state}, was {previous}" + ("" if reason == "value" else f" ({_REASONS[reason]})"),
            value=figure,
            limit=compared,
        )


_REASONS = {
    "data": "data comes again",
    "no_data": "nothing came",
    "gone": "the host no longer reports it",
    "limit_changed": "the limit was changed",
    "limit_removed": "the limit was removed or taken from the host",
    "host_inactive": "the host is no longer listened to",
}


class _Times(msgspec.Struct, gc=False):
    timestamp: str = msgspec.field(name="@timestamp")
    created: str = msgspec.field(name="event.created")


_read_times = msgspec.json.Decoder(_Times).decode


def _times_of(line: bytes) -> tuple[str, str]:
    times = _read_times(line)
    return times.timestamp, times.created


def _dataset_of(line: bytes) -> bytes:
    start = line.find(_NAME) + len(_NAME)
    if start < len(_NAME):  # written with spaces or escapes
        return str(orjson.loads(line)["event.dataset"]).encode()
    return line[start : line.index(b'"', start)]


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _move(state: State, clock: int) -> bool:
    """Move the partition's clock on; returns whether it is time to look for silent hosts."""
    before = state.clock
    if clock <= before:
        return False
    if clock - before > JUMP:
        state.since = clock
    state.clock = clock
    return clock // LOOK != before // LOOK


def _in_order(host: HostState, time: int, clock: int) -> bool:
    """Whether a sample of this time is to be judged; ``clock``: when it came into Kafka (0: not known)."""
    if time < host.newest:
        if not 0 < clock < host.newest - JUMP:
            return False
        # the newest sample lies in Kafka's future: the host's clock was wrong, and has been set back
        host.seen = dict.fromkeys(host.seen, time)
        for group in host.items.values():
            for item in group.values():
                item.forget()
                item.last = min(item.last, time - 1)
    host.newest = time
    return True

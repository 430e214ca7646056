"""Thresholds: the judge against a slow one that is obviously right, and everything around it: order, silence, changes of
limits, the state in the commit record."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ezadmin_pipeline import alerts, thresholds
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.thresholds import State, Thresholds
from ezadmin_wire import config as wire
from ezadmin_wire.config import HostRecord, LimitRecord
from ezadmin_wire.times import format_epoch_ms

HOST = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
CPU = "system.cpu.total.norm.pct"
DISK = "system.filesystem.used.pct"
START = 1_795_500_000_000
NAMES = ("ok", "warning", "critical", "unknown")


class Lab:
    """Hosts, limits and one partition."""

    def __init__(self, **limits: LimitRecord) -> None:
        self.directory = Directory([])
        self.revision = 0
        for limit_id, record in limits.items():
            self.limit(limit_id, record)
        self.host(HOST, list(limits))
        self.thresholds = Thresholds(self.directory)
        self.state = State({})
        self.found: list[dict[str, Any]] = []

    def limit(self, limit_id: str, record: LimitRecord | None) -> None:
        self.apply(wire.limit_key(limit_id), record)

    def host(self, host_id: str, limits: list[str], **members: Any) -> None:
        self.apply(wire.host_key(host_id), HostRecord(members.pop("name", "web-1"), limits=limits, **members))

    def apply(self, key: str, record: Any) -> None:
        self.revision += 1
        self.directory._apply(wire.ConfigRecord(key, self.revision, record))

    def send(
        self,
        seconds: float,
        *lines: dict[str, Any],
        host: str = HOST,
        taken: float | None = None,
        dataset: str = "system.host",
    ) -> list[dict[str, Any]]:
        """A tick of a host at ``seconds``, taken by Kafka at ``taken`` (the same)."""
        when = format_epoch_ms(START + round(seconds * 1000))
        tags = []
        for line in lines:
            document = {"@timestamp": when, "event.dataset": dataset, "event.created": when, **line}
            tags.append((when[:16], "unknown", orjson.dumps(document)))
        clock = START + round((seconds if taken is None else taken) * 1000)
        return self.keep(self.thresholds.observe(self.state, host, clock, tags))

    def cpu(self, seconds: float, value: Any, **more: Any) -> list[dict[str, Any]]:
        return self.send(seconds, {CPU: value}, **more)

    def disk(self, seconds: float, taken: float | None = None, **values: float) -> list[dict[str, Any]]:
        lines = [{"system.filesystem.mount_point": f"/{name}", DISK: value} for name, value in values.items()]
        return self.send(seconds, *lines, dataset="system.filesystem", taken=taken)

    def tick(self, seconds: float) -> list[dict[str, Any]]:
        return self.keep(self.thresholds.tick(self.state, START + round(seconds * 1000)))

    def keep(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.found += found
        return [
            f"{one['rule.id']}{'/' if one['alert.item'] else ''}{one['alert.item'].strip('/')} "
            f"{one['alert.previous']}>{one['alert.state']} {one['alert.reason']}"
            for one in found
        ]  # type: ignore[return-value]

    def restart(self) -> None:
        """The next owner reads the record."""
        self.state = State(json.loads(orjson.dumps(self.state.to_json())))
        self.thresholds = Thresholds(self.directory)


def states(steps: list[list[dict[str, Any]]]) -> list[str]:
    return [str(text) for step in steps for text in step]


HIGH = LimitRecord(CPU, warning_raise=0.8, warning_clear=0.7, critical_raise=0.9, critical_clear=0.85)


def test_raise_and_clear_values() -> None:
    lab = Lab(cpu=HIGH)
    values = [0.5, 0.79, 0.8, 0.75, 0.7, 0.69, 0.95, 0.86, 0.84, 0.95, 0.1]
    found = states([lab.cpu(10 * i, value) for i, value in enumerate(values)])
    assert found == [
        "cpu ok>warning value",
        "cpu warning>ok value",
        "cpu ok>critical value",
        "cpu critical>warning value",
        "cpu warning>critical value",
        "cpu critical>ok value",
    ]
    first = lab.found[0]
    assert first["@timestamp"] == format_epoch_ms(START + 20_000)
    assert (first["alert.value"], first["alert.limit"], first["alert.field"]) == (0.8, 0.8, CPU)
    assert (first["event.dataset"], first["host.name"]) == ("alert.threshold", "web-1")
    assert first["message"] == f"cpu: {CPU} is 0.8 (limit 0.8): warning, was ok"
    assert [one.get("alert.limit") for one in lab.found] == [0.8, 0.7, 0.9, 0.85, 0.9, 0.85]
    assert len({alerts.identity(one) for one in lab.found}) == len(lab.found)
    assert lab.cpu(200, 0.1) == []
    assert lab.state.hosts[HOST].items == {}, "nothing is kept of what is ok"


def test_below() -> None:
    lab = Lab(low=LimitRecord(CPU, comparison="below", warning_raise=0.2, warning_clear=0.3, critical_raise=0.1))
    found = states([lab.cpu(10 * i, value) for i, value in enumerate([0.5, 0.2, 0.3, 0.31, 0.1, 0.11, 0.4])])
    assert found == [
        "low ok>warning value",
        "low warning>ok value",
        "low ok>critical value",
        "low critical>warning value",
        "low warning>ok value",
    ]


def test_hold_and_n_of_m() -> None:
    lab = Lab(held=replace(HIGH, hold=30), three=replace(HIGH, n=3, m=5))
    steps = [lab.cpu(10 * i, value) for i, value in enumerate([0.82, 0.82, 0.1, 0.82, 0.82, 0.82, 0.82, 0.1, 0.1, 0.1])]
    assert steps[3] == ["three ok>warning value"]
    assert steps[6] == ["held ok>warning value"]
    assert steps[7] == ["held warning>ok value"]
    assert steps[9] == ["three warning>ok value"], "of the last five, three were not beyond"


def test_rate_and_restart_between_samples() -> None:
    lab = Lab(grow=LimitRecord("system.uptime", warning_raise=5, rate=True))
    found = []
    for i, value in enumerate([0, 10, 100, 110, 5]):
        found += lab.send(10 * i, {"system.uptime": value})
        lab.restart()
    assert found == ["grow ok>warning value", "grow warning>ok value"]
    assert lab.found[0]["alert.value"] == 9.0
    assert lab.send(1000, {"system.uptime": 100_000}) == [], "after a gap there is nothing to compare with"


FULL = LimitRecord(
    DISK, comparison="below", warning_raise=24, warning_clear=30, critical_raise=4, dataset="system.filesystem",
    trend=6 * 3600, full_at=1.0,
)  # fmt: skip


@pytest.mark.parametrize("restarts", [False, True])
def test_full_in_so_many_hours(restarts: bool) -> None:
    lab = Lab(full=FULL)
    found: list[tuple[int, Any]] = []
    used = 0.6
    for minute in range(20 * 60):
        used += (0.0 if minute < 240 else 0.03 if minute < 720 else -0.005) / 60  # flat; 3 % an hour; emptied slowly
        noise = 0.2 if minute % 97 == 0 else 0.001 * (minute % 5)
        found += [(minute, one) for one in lab.disk(60 * minute, data=min(used + noise, 0.999), srv=0.7)]
        if restarts and minute % 50 == 0:
            lab.restart()
    assert [one for _, one in found] == ["full/data ok>warning value", "full/data warning>ok value"]
    (raised, _), (cleared, _) = found
    assert 240 + 60 < raised < 240 + 300, "once half of the last six hours grew"
    assert 720 < cleared < 720 + 300
    alert = lab.found[0]
    assert alert["alert.value"] <= 24
    assert "of /data is full in " in alert["message"]
    assert "h (limit 24 h): warning" in alert["message"]
    assert "does not fill (limit 30 h): ok" in lab.found[1]["message"] or "is full in " in lab.found[1]["message"]


def test_a_gap_keeps_the_trend_and_what_is_gone_loses_it() -> None:
    lab = Lab(full=FULL)
    values = [0.6 + 0.039 * minute / 60 for minute in range(600)]
    steps = [lab.disk(60 * minute, data=values[minute]) for minute in range(600) if not 150 <= minute < 158]
    assert states(steps) == ["full/data ok>warning value", "full/data warning>critical value"]
    assert lab.cpu(60 * 600, 0.1) == []
    assert lab.cpu(60 * 611, 0.1) == ["full/data critical>ok gone"]
    assert lab.state.hosts[HOST].items == {}


def test_items_patterns_and_what_is_gone() -> None:
    lab = Lab(disk=LimitRecord(DISK, "/v*", critical_raise=0.9, dataset="system.filesystem"))
    assert lab.disk(0, root=0.99, var=0.95, vol=0.5) == ["disk/var ok>critical value"]
    assert lab.disk(60, vol=0.91) == ["disk/vol ok>critical value"]
    lab.restart()
    assert lab.disk(600, vol=0.95) == [], "ten minutes and not more"
    assert lab.disk(660, vol=0.95) == ["disk/var critical>ok gone"]
    assert lab.disk(780, var=0.95, vol=0.95) == ["disk/var ok>critical value"]


def test_processes_are_told_apart() -> None:
    lab = Lab(rss=LimitRecord("system.process.memory.rss.bytes", "nginx*", warning_raise=100, dataset="system.process"))
    lines = [
        {"process.name": "nginx", "process.entity_id": f"b-{pid}-99", "system.process.memory.rss.bytes": pid}
        for pid in (7, 812)
    ]
    assert lab.send(0, *lines, dataset="system.process") == ["rss/nginx[812] ok>warning value"]


def test_late_samples_do_nothing() -> None:
    lab = Lab(cpu=HIGH)
    lab.cpu(100, 0.1)
    assert lab.cpu(90, 0.99, taken=101) == []
    assert lab.cpu(110, 0.95) == ["cpu ok>critical value"]
    assert lab.cpu(105, 0.1, taken=111) == []
    lab.restart()
    assert lab.cpu(105, 0.1, taken=112) == []
    assert lab.cpu(110, 0.1, taken=112) == []


def test_a_clock_that_was_ahead_and_is_set_back() -> None:
    lab = Lab(cpu=HIGH)
    assert lab.cpu(86_400, 0.95, taken=0) == ["cpu ok>critical value"]
    assert lab.cpu(10, 0.95) == []
    assert lab.cpu(20, 0.1) == ["cpu critical>ok value"], "not after a day"


def test_figures_that_are_none_are_passed_over() -> None:
    lab = Lab(cpu=HIGH, load=LimitRecord("system.load.1", warning_raise=4))
    assert lab.send(0, {CPU: "much", "system.load.1": 5}) == ["load ok>warning value"]
    assert lab.send(10, {CPU: None, "system.load.1": True}) == []
    assert lab.send(20, {CPU: [0.99]}) == []
    spaced = orjson.dumps({"@timestamp": format_epoch_ms(START), "event.created": format_epoch_ms(START)})
    spaced = spaced[:-1] + b',"event.dataset" : "system.host", "' + CPU.encode() + b'":0.99}'
    tags = [(format_epoch_ms(START)[:16], "unknown", spaced)]
    lab.state = State({})
    assert lab.keep(lab.thresholds.observe(lab.state, HOST, START, tags)) == ["cpu ok>critical value"]


def test_hosts_without_limits_pay_nothing() -> None:
    lab = Lab(cpu=HIGH)
    lab.host(OTHER, [])
    assert lab.cpu(0, 0.99, host=OTHER) == []
    assert lab.state.to_json() == {}


# ------------------------------------------------------------------ changes of what is wanted


def test_a_host_renamed_or_labelled_is_not_disturbed() -> None:
    lab = Lab(cpu=replace(HIGH, hold=20))
    lab.cpu(0, 0.95)
    lab.host(HOST, ["cpu"], name="db-1", labels={"site": "서울"})
    assert lab.cpu(10, 0.95) == []
    assert lab.cpu(20, 0.95) == ["cpu ok>critical value"]
    assert (lab.found[0]["host.name"], lab.found[0]["labels"]) == ("db-1", {"site": "서울"})


def test_a_limit_that_changes_is_judged_anew() -> None:
    lab = Lab(cpu=HIGH)
    assert lab.cpu(0, 0.95) == ["cpu ok>critical value"]
    lab.limit("cpu", replace(HIGH, critical_raise=None, critical_clear=None))
    lab.restart()
    assert lab.cpu(10, 0.95) == ["cpu critical>warning limit_changed"]
    lab.limit("cpu", replace(HIGH, warning_raise=0.97, warning_clear=0.96, critical_raise=0.99, critical_clear=0.98))
    assert lab.cpu(20, 0.95) == ["cpu warning>ok limit_changed"]
    lab.limit("cpu", HIGH)
    assert lab.cpu(30, 0.95) == ["cpu ok>critical value"]


def test_an_item_that_is_no_longer_meant_is_closed() -> None:
    record = LimitRecord(DISK, "*", critical_raise=0.9, dataset="system.filesystem")
    lab = Lab(disk=record)
    lab.disk(0, var=0.95, srv=0.95)
    lab.limit("disk", replace(record, item="/srv"))
    assert lab.tick(5) == ["disk/var critical>ok limit_changed"]
    assert lab.disk(60, var=0.95, srv=0.95) == []


@pytest.mark.parametrize("how", ["limit deleted", "taken from the host", "host quarantined", "host deleted"])
def test_what_is_removed_is_closed(how: str) -> None:
    lab = Lab(cpu=HIGH, load=LimitRecord("system.load.1", warning_raise=4))
    lab.send(0, {CPU: 0.99, "system.load.1": 1})
    reason = "limit_removed"
    if how == "limit deleted":
        lab.limit("cpu", None)
    elif how == "taken from the host":
        lab.host(HOST, ["load"])
    elif how == "host quarantined":
        lab.host(HOST, ["cpu"], state="quarantined")
        reason = "host_inactive"
    else:
        lab.apply(wire.host_key(HOST), None)
        reason = "host_inactive"
    lab.restart()
    assert lab.tick(5) == [f"cpu critical>ok {reason}"]
    assert lab.found[-1]["@timestamp"] == format_epoch_ms(START + 1)
    assert lab.tick(10) == []
    assert (HOST in lab.state.hosts) == (reason == "limit_removed")


def test_a_limit_that_cannot_be_used_is_left_out_alone() -> None:
    lab = Lab(cpu=HIGH, bad=replace(HIGH, n=9))
    assert lab.cpu(0, 0.95) == ["cpu ok>critical value"]


# ------------------------------------------------------------------ no data

SILENT = LimitRecord(CPU, warning_raise=0.8, no_data=60)


def test_a_silent_host_is_unknown_and_known_again() -> None:
    lab = Lab(cpu=SILENT)
    lab.host(OTHER, ["cpu"])
    lab.cpu(0, 0.9)
    for i in range(1, 6):
        assert lab.cpu(10 * i, 0.1, host=OTHER) == []
    lab.restart()
    assert lab.cpu(60, 0.1, host=OTHER) == []
    assert lab.cpu(70, 0.1, host=OTHER) == ["cpu warning>unknown no_data"]
    unknown = lab.found[-1]
    assert unknown["@timestamp"] == format_epoch_ms(START + 1)
    assert unknown["event.dataset"] == "alert.no_data"
    assert lab.cpu(80, 0.1, host=OTHER) == []
    lab.restart()
    assert lab.cpu(10, 0.9, taken=90) == ["cpu unknown>warning data"], "its spool, oldest first"
    assert lab.cpu(20, 0.1, taken=90) == ["cpu warning>ok value"]


def test_time_passes_while_nothing_comes() -> None:
    lab = Lab(cpu=SILENT)
    lab.cpu(0, 0.1)
    found = [(seconds, lab.tick(seconds)) for seconds in range(5, 100, 5)]
    assert [one for one in found if one[1]] == [(65, ["cpu ok>unknown no_data"])]


def test_after_a_time_that_nobody_watched_all_get_their_time_anew() -> None:
    lab = Lab(cpu=SILENT)
    lab.host(OTHER, ["cpu"])
    lab.cpu(0, 0.1)
    lab.cpu(5, 0.1, host=OTHER)
    # Kafka was away for ten minutes; one host is quicker than the other
    assert lab.cpu(610, 0.1, host=OTHER) == []
    assert lab.tick(665) == []
    assert lab.cpu(600, 0.1, taken=666) == []
    assert states([lab.tick(seconds) for seconds in range(670, 800, 5)]) == [
        "cpu ok>unknown no_data",
        "cpu ok>unknown no_data",
    ]


def test_backlog_is_judged_by_the_time_at_which_kafka_took_it() -> None:
    lab = Lab(cpu=SILENT)
    lab.host(OTHER, ["cpu"])
    steps = []
    for i in range(100):  # all read within a second, an hour later
        steps.append(lab.cpu(10 * i, 0.1))
        if i < 20 or i > 80:
            steps.append(lab.cpu(10 * i, 0.1, host=OTHER))
    assert states(steps) == ["cpu ok>unknown no_data", "cpu unknown>ok data"]
    assert {one["host.id"] for one in lab.found} == {OTHER}


def test_a_clock_of_a_worker_that_was_ahead_does_no_harm() -> None:
    lab = Lab(cpu=SILENT)
    lab.cpu(0, 0.1)
    assert lab.tick(3600) == []
    assert lab.cpu(10, 0.1) == []
    assert lab.tick(20) == []
    assert [bool(lab.tick(seconds)) for seconds in (25, 50, 80, 90)] == [False, False, False, True]


def test_a_figure_that_its_host_no_longer_sends() -> None:
    record = LimitRecord(DISK, "/data", critical_raise=0.9, no_data=120, dataset="system.filesystem")
    lab = Lab(disk=record)
    assert lab.disk(0, data=0.95, var=0.5) == ["disk/data ok>critical value"]
    assert states([lab.cpu(10 * i, 0.1) for i in range(1, 13)]) == []
    lab.restart()
    assert lab.cpu(130, 0.1) == ["disk ok>unknown no_data"]
    lab.restart()
    assert lab.disk(140, data=0.95) == ["disk unknown>ok data"]
    lab.limit("disk", replace(record, no_data=None))
    lab.disk(150, data=0.95)
    assert states([lab.cpu(10 * i, 0.1) for i in range(16, 60)]) == []


def test_no_data_taken_away_closes_unknown() -> None:
    lab = Lab(cpu=SILENT)
    lab.cpu(0, 0.1)
    states([lab.tick(seconds) for seconds in range(5, 80, 5)])
    lab.limit("cpu", replace(SILENT, no_data=None))
    assert lab.tick(100) == ["cpu unknown>ok limit_changed"]


def test_what_a_host_makes_up_does_not_fill_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "MAX_ITEMS", 3)
    lab = Lab(disk=LimitRecord(DISK, critical_raise=0.9, dataset="system.filesystem"))
    assert len(lab.disk(0, **{f"d{i}": 0.99 for i in range(10)})) == 3


# ------------------------------------------------------------------ against a judge that is slow and obviously right


class Slow:
    """Keeps every sample, and looks at all of them each time."""

    def __init__(self, record: LimitRecord) -> None:
        self.record = record
        self.samples: list[tuple[int, float]] = []
        self.raw: list[tuple[int, float]] = []
        self.state = 0

    def beyond(self, value: float, limit: float, or_equal: bool = True) -> bool:
        if self.record.comparison == "below":
            value, limit = -value, -limit
        return value >= limit

    def take(self, time: int, value: float) -> tuple[int, int] | None:
        r = self.record
        if self.raw and time - self.raw[-1][0] > 600_000:
            self.raw, self.samples = [], []
        self.raw.append((time, value))
        if r.rate:
            if len(self.raw) < 2:
                return None
            (t0, v0), (t1, v1) = self.raw[-2:]
            value = (v1 - v0) * 1000.0 / (t1 - t0)
        self.samples.append((time, value))
        new = 0
        for level, (up, down) in enumerate(
            [(r.warning_raise, r.warning_clear), (r.critical_raise, r.critical_clear)], 1
        ):
            if up is None:
                continue
            window = [v for _, v in self.samples[-r.m :]]
            calm = sum(not self.beyond(v, up if down is None else down) for v in window)
            holding = self.state >= level and calm <= r.m - r.n
            if holding or (self.state < level and self.raised(up)):
                new = level
        old, self.state = self.state, new
        return (old, new) if old != new else None

    def met(self, i: int, up: float) -> bool:
        r = self.record
        return sum(self.beyond(v, up) for _, v in self.samples[max(0, i - r.m + 1) : i + 1]) >= r.n

    def raised(self, up: float) -> bool:
        last = first = len(self.samples) - 1
        while first >= 0 and self.met(first, up):
            first -= 1
        if first == last:
            return False
        return self.samples[last][0] - self.samples[first + 1][0] >= self.record.hold * 1000


VALUES = st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.6, 0.7, 0.9, 1.0])


@st.composite
def records(draw: st.DrawFn) -> LimitRecord:
    low, mid, high, top = sorted(draw(st.lists(VALUES, min_size=4, max_size=4)))
    below = draw(st.booleans())
    if below:
        low, mid, high, top = top, high, mid, low
    clears = draw(st.booleans())
    which = draw(st.sampled_from(["both", "warning", "critical"]))
    m = draw(st.integers(1, 5))
    return LimitRecord(
        CPU,
        warning_raise=high if which != "critical" else None,
        warning_clear=low if clears and which != "critical" else None,
        critical_raise=top if which != "warning" else None,
        critical_clear=mid if clears and which != "warning" else None,
        hold=draw(st.sampled_from([0, 0, 10, 25])),
        n=draw(st.integers(1, m)),
        m=m,
        rate=draw(st.sampled_from([False, False, True])),
        comparison="below" if below else "above",
    )


STEPS = st.lists(st.tuples(st.sampled_from([10, 10, 10, 20, 60, 700]), VALUES), max_size=40)


@settings(max_examples=200, deadline=None)
@given(st.lists(records(), min_size=1, max_size=3), STEPS, st.sets(st.integers(0, 40)))
def test_the_same_as_the_slow_judge(
    limits: list[LimitRecord], steps: list[tuple[int, float]], restarts: set[int]
) -> None:
    lab = Lab(**{f"l{i}": record for i, record in enumerate(limits)})
    slow = [Slow(record) for record in limits]
    seconds = 0
    for number, (gap, value) in enumerate(steps):
        seconds += gap
        expected = []
        for i, judge in enumerate(slow):
            change = judge.take(START + seconds * 1000, value)
            if change:
                expected.append(f"l{i} {NAMES[change[0]]}>{NAMES[change[1]]} value")
        assert lab.cpu(seconds, value) == expected, (number, limits)
        if number in restarts:
            lab.restart()
    assert len({alerts.identity(one) for one in lab.found}) == len(lab.found)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([HOST, HOST, OTHER, "tick"]),
        st.sampled_from([1, 5, 10, 30, 90]),
        st.lists(VALUES, min_size=2, max_size=2),
        st.sampled_from([0, 0, 0, -15]),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(records(), EVENTS, st.lists(st.integers(0, 40), max_size=6))
def test_any_attempts_from_a_record_give_the_same_alerts(
    record: LimitRecord, events: list[Any], crashes: list[int]
) -> None:
    """Each crash goes back to the last commit and reads again; commits fall at other places in the two runs."""
    disk = replace(record, field=DISK, dataset="system.filesystem", no_data=60)

    def play(lab: Lab, event: Any, seconds: float) -> None:
        who, _, (cpu, used), late = event
        if who == "tick":
            lab.tick(seconds)
            return
        lab.cpu(seconds + late, cpu, host=who, taken=seconds)
        if used > 0.4:
            mount = {"system.filesystem.mount_point": f"/{used}", DISK: used}
            lab.send(seconds + late, mount, host=who, taken=seconds, dataset="system.filesystem")

    def fresh() -> Lab:
        lab = Lab(cpu=replace(record, no_data=45), disk=disk)
        lab.host(OTHER, ["cpu", "disk"])
        return lab

    times = [float(sum(event[1] for event in events[: i + 1])) for i in range(len(events))]
    whole = fresh()
    for event, seconds in zip(events, times, strict=True):
        play(whole, event, seconds)

    parts = fresh()
    committed: list[dict[str, Any]] = []
    position, saved = 0, State({}).to_json()
    for crash in [*sorted(crashes), len(events)]:
        upto = max(position, min(crash, len(events)))
        for event, seconds in list(zip(events, times, strict=True))[position:upto]:  # an attempt that is forgotten
            play(parts, event, seconds)
        parts.found = []
        parts.state = State(json.loads(orjson.dumps(saved)))
        for event, seconds in list(zip(events, times, strict=True))[position:upto]:
            play(parts, event, seconds)
        committed += parts.found
        parts.found = []
        saved = parts.state.to_json()
        position = upto
    assert committed == whole.found
    assert json.loads(orjson.dumps(parts.state.to_json())) == json.loads(orjson.dumps(whole.state.to_json()))


# ------------------------------------------------------------------ what a host may send

TEXTS = st.one_of(
    st.sampled_from(
        [
            "2026-11-24T08:15:30.123Z", "2026-11-24T08:15:99.123Z", "2026-11-24T08:15:xx.yyyZ", "2026-11-24T17:15:30+09:00",
            "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "2026-11-24T08:15:30Z", "", "now",
        ]
    ),
    st.text(max_size=8),
)  # fmt: skip
FIGURES = st.one_of(
    st.sampled_from(
        [
            "0.99",
            "1e999",
            "-1e999",
            "9" * 400,
            "1e308",
            "-1e308",
            "null",
            "true",
            '"0.9"',
            "[1]",
            '{"a":1}',
            "-0",
            "NaN",
        ]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
MOUNTS = st.one_of(
    st.sampled_from(
        ['"/var"', '"\\ud800"', '"\\u0000"', "7", "1.5", "null", "[]", '{"x":"y"}', '"' + "x" * 2000 + '"']
    ),
    st.text(max_size=5).map(json.dumps),
)
DATASET_KEYS = st.sampled_from(
    ['"event.dataset":"', '"event.dataset" : "', '"event\\u002edataset":"', '"x":"y","event.dataset":"']
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, DATASET_KEYS, FIGURES, MOUNTS, st.booleans()), max_size=6))
def test_nothing_that_a_host_sends_ends_the_worker(lines: list[Any]) -> None:
    from datetime import UTC, datetime

    from ezadmin_pipeline.documents import DocumentMaker
    from ezadmin_pipeline.indexer import Chunk
    from ezadmin_pipeline.settings import Settings
    from ezadmin_wire import batch

    lab = Lab(
        cpu=replace(HIGH, rate=True), low=replace(HIGH, n=2, m=3, no_data=60),
        disk=LimitRecord(DISK, "*", warning_raise=0.0, dataset="system.filesystem", no_data=60),
    )  # fmt: skip
    value = b"".join(
        (
            f'{{"@timestamp":{json.dumps(time)},"event.created":{json.dumps(created)},{key}'
            f'{"system.host" if host else "system.filesystem"}","system.filesystem.mount_point":{mount},'
            f'"{CPU if host else DISK}":{figure}}}'
        ).encode("utf-8", "replace").replace(b"\n", b"")
        + b"\n"
        for time, created, key, figure, mount, host in lines
    )  # fmt: skip
    names = Settings().names
    maker = DocumentMaker(names, lab.directory, lambda: datetime.now(UTC))
    taken = format_epoch_ms(START)
    for count, sent in enumerate(value.splitlines(keepends=True)):
        one = batch.Batch(HOST, "", names.metrics, "m", "0" * 16, count, 1, "*", taken, taken, {}, taken, sent)
        chunk: Any = Chunk(None, 0, fresh=False, context=one)  # type: ignore[arg-type]
        maker.make(chunk, one, [(count, count + 1)])
        for document in lab.thresholds.observe(lab.state, HOST, START, chunk.tags):
            orjson.dumps(document)
            alerts.message(document)
    lab.tick(1000)
    lab.restart()
    lab.tick(2000)
    for document in lab.found:
        alerts.identity(document)

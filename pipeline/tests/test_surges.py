"""What is stored of a surge and who is told: budgets per event minute, exemplars, samples, begin and end; and that every
decision is a function of the state at the last commit and the messages since."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ezadmin_pipeline import alerts
from ezadmin_pipeline import surges as module
from ezadmin_pipeline.indexer import Chunk
from ezadmin_pipeline.settings import SurgeSettings as Limits
from ezadmin_pipeline.surges import EXEMPLARS, MAX_KEYS, Change, Surges, template_of

HOSTS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(300)]
HOUR = 60
T0 = module._minute_number("2026-11-24T00:00")


@dataclass
class Partition:
    """A partition with its surges; what was decided of every line."""

    surges: Surges = field(default_factory=lambda: Surges(Limits()))
    exempt: str = "\0"
    seq: int = 0
    stored: list[dict[str, Any]] = field(default_factory=list)
    withheld: list[dict[str, Any]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def send(
        self,
        minutes: list[int] | int,
        count: int = 1,
        *,
        host: str = HOSTS[0],
        level: str = "info",
        dataset: str = "app",
        text: str = "GET /items/{i} 200",
        more: str = "",
    ) -> None:
        """One batch of ``count`` lines, spread over ``minutes`` (since T0)."""
        minutes = [minutes] if isinstance(minutes, int) else minutes
        batch = SimpleNamespace(host=host, stream="logs", epoch="0" * 16, seq=self.seq, dataset=dataset)
        chunk = Chunk(None, 0, fresh=False, context=batch)  # type: ignore[arg-type]
        for i in range(count):
            minute = module._moment(T0 + minutes[i * len(minutes) // count])[:16]
            fields = {"log.level": level, "message": text.format(i=self.seq + i), "seq": self.seq + i, "minute": minute}
            raw = orjson.dumps(fields)
            chunk.tags.append((minute, level, raw))
            chunk.documents.append(b'{"host.id":"x",' + raw[1:-1] + more.encode() + b"}")
            chunk.numbers.append(i)
            chunk.indices.append("")
            chunk.actions.append(b"")
        self.seq += count
        tally = {cell: [n, 0] for cell, n in Counter((minute, level) for minute, level, _ in chunk.tags).items()}
        self.changes += self.surges.take(
            batch, tally, chunk, lambda batch: lambda raw, minute, level: self.exempt.encode() in raw
        )
        self.stored += [orjson.loads(document) for document in chunk.documents]
        self.withheld += [orjson.loads(raw) for _, _, raw in chunk.sampled]
        assert len(chunk.documents) == len(chunk.tags) == len(chunk.numbers) == len(chunk.actions) == len(chunk.indices)
        assert len(chunk.documents) + len(chunk.sampled) == count

    def again(self) -> Partition:
        """Another owner that goes on from a commit record written now."""
        return Partition(reload(self.surges), self.exempt, self.seq)

    def scaled(self) -> int:
        return sum(document.get("event.sample_rate", 1) for document in self.stored)


def reload(surges: Surges) -> Surges:
    return Surges(surges._settings, *(orjson.loads(orjson.dumps(part)) for part in surges.dump()))


@pytest.fixture
def known() -> Partition:
    """A host with 60 lines a minute of info and an error now and then, for three hours."""
    partition = Partition()
    for minute in range(3 * HOUR):
        partition.send(minute, 60)
        if minute % 20 == 0:
            partition.send(minute, 1, level="error", text="payment {i} failed")
    assert not partition.withheld
    assert not partition.changes
    partition.stored = []
    return partition


def flood(partition: Partition, minute: int, count: int, **more: Any) -> None:
    for _ in range(count // 500):
        partition.send(minute, 500, **more)


def test_what_is_usual_and_up_to_the_budget_is_stored_whole(known: Partition) -> None:
    known.send(180, 500)
    known.send(180, 100)
    assert not known.withheld
    assert not known.changes
    known.send(180, EXEMPLARS)
    assert not known.withheld, "the first of each template are stored"
    assert [change.over for change in known.changes] == [False], "but 620 are over 600"


def test_a_flood_is_sampled_and_its_sums_stay_right(known: Partition) -> None:
    flood(known, 180, 60_000)
    assert 600 + EXEMPLARS < len(known.stored) < 600 * 6
    assert abs(known.scaled() - 60_000) < 5 * 60_000 / 600**0.5
    rates = Counter(document.get("event.sample_rate", 1) for document in known.stored)
    assert set(rates) == {1, 2, 4, 8, 16, 32, 64, 128}
    assert rates[1] == 600 + EXEMPLARS
    assert [document["seq"] for document in known.stored if "event.sample_rate" not in document] == list(
        range(known.seq - 60_000, known.seq - 60_000 + 620)
    )
    (start,) = known.changes
    assert (start.over, start.start, start.budget, start.usual) == (False, "2026-11-24T03:00:00.000Z", 600, 60.0)


def test_another_host_level_or_dataset_has_a_budget_of_its_own(known: Partition) -> None:
    flood(known, 180, 6_000)
    known.stored, known.withheld = [], []
    known.send(180, 500, host=HOSTS[1])
    known.send(180, 500, level="warning")
    known.send(180, 500, dataset="nginx")
    assert not known.withheld


def test_errors_have_a_floor_and_one_in_64_is_the_least(known: Partition) -> None:
    known.surges = Surges(Limits(floor=10), *known.surges.dump())
    flood(known, 180, 50_000, level="error", text="payment {i} failed")
    marked = [document["event.sample_rate"] for document in known.stored if "event.sample_rate" in document]
    assert len(known.stored) - len(marked) == 100 + EXEMPLARS
    assert max(marked) == 64
    assert len(marked) > 50_000 / 64 * 0.9


@pytest.mark.parametrize("level", ["critical", "alert", "emergency"])
def test_critical_and_worse_is_never_limited(known: Partition, level: str) -> None:
    flood(known, 180, 5_000, level=level)
    assert len(known.stored) == 5_000
    assert not known.changes


def test_what_a_rule_raised_to_critical_is_stored_and_the_rest_sampled(known: Partition) -> None:
    flood(known, 180, 5_000)
    for _ in range(10):
        known.stored = []
        known.send(180, 50, more=',"log.level":"critical"')
        assert len(known.stored) == 50


@pytest.mark.parametrize(
    ("dataset", "limited"),
    [("ezadmin.audit", False), ("auditd.log", False), ("ezadmin.jobs", False), ("job", False), ("auditorium", True)],
)
def test_audit_and_jobs_are_never_limited(known: Partition, dataset: str, limited: bool) -> None:
    flood(known, 180, 20_000, dataset=dataset)
    assert bool(known.withheld) is limited


def test_what_a_rule_exempts_is_stored(known: Partition) -> None:
    known.exempt = "order 7"
    flood(known, 180, 20_000)
    known.stored = []
    known.send(180, 100, text="order 7")
    assert len(known.stored) == 100


def test_the_first_of_each_template_are_stored_however_late_they_come(known: Partition) -> None:
    flood(known, 180, 20_000)
    for text in ("disk sd{i} fails", "cannot reach 10.0.0.{i}:{i}", 'user "u{i}" locked'):
        known.stored = []
        known.send(180, 60, text=text)
        assert len([document for document in known.stored if "event.sample_rate" not in document]) == EXEMPLARS


def test_lines_that_are_all_different_do_not_pass_as_exemplars(known: Partition) -> None:
    letters = str.maketrans("0123456789", "abcdefghij")
    for _ in range(40):
        known.send(180, 500)
    known.stored = []
    for batch in range(20):
        words = f"{batch}{known.seq}".translate(letters)
        for i in range(50):
            known.send(180, 10, text=f"{words} {str(i).translate(letters)} x" + str(i).translate(letters))
    plain = [document for document in known.stored if "event.sample_rate" not in document]
    assert len(plain) <= 400
    templates = known.surges.dump()[1]["0"]
    assert len(templates) == module.TEMPLATES
    assert templates[0][0] >= 20_000 - 600, "the one that matters is among them"


def test_a_replayed_outage_is_no_surge(known: Partition) -> None:
    # three hours that lay in the spool come within one minute, while the present goes on
    for minute in range(180, 360):
        known.send(minute, 60)
        known.send(361, 2)
    assert not known.withheld
    assert not known.changes


def test_a_flood_in_an_old_minute_is_one_of_that_minute(known: Partition) -> None:
    for minute in range(180, 360):
        known.send(minute, 60)
    known.stored = []
    for _ in range(4):
        known.send(200, 500)
        known.send(360, 10)
    assert len(known.withheld) > 0
    assert {document["minute"] for document in known.withheld} == {"2026-11-24T03:20"}
    assert [change.start for change in known.changes] == ["2026-11-24T03:20:00.000Z"]


def test_a_flood_that_is_scattered_over_an_hour_is_limited(known: Partition) -> None:
    for _ in range(200):
        known.send(list(range(180, 240)), 480)
    assert len(known.stored) < 60 * 600 * 2
    known.send(241, 1)
    assert len(known.surges._keys[HOSTS[0], "app", "info"].minutes) == 61, "busy minutes are remembered"
    for minute in range(242, 246):
        known.send(minute, 1)
    assert len(known.surges._keys[HOSTS[0], "app", "info"].minutes) == 64
    assert known.again().surges.dump() == known.surges.dump()


def test_quiet_minutes_are_forgotten(known: Partition) -> None:
    key = known.surges._keys[HOSTS[0], "app", "info"]
    assert sorted(key.minutes) == [T0 + minute for minute in range(176, 180)]
    for minute in range(10):
        known.send(minute, 10)
    assert len(key.minutes) == 14
    known.send(180, 10)
    assert sorted(key.minutes) == [T0 + minute for minute in range(177, 181)]


def test_a_surge_begins_once_and_ends_once_after_five_quiet_minutes(known: Partition) -> None:
    for minute in range(180, 184):
        flood(known, minute, 6_000)
    known.send(184, 301)  # above half the budget still
    for minute in range(185, 190):
        known.send(minute, 250)
        assert len(known.changes) == 1
    known.send(190, 1, dataset="other")  # any event of the host tells the time
    start, end = known.changes
    assert (start.over, end.over) == (False, True)
    assert (start.start, end.start) == ("2026-11-24T03:00:00.000Z",) * 2
    assert end.end == "2026-11-24T03:04:59.999Z"
    assert (end.peak, end.seen) == (6_000, 24_000 + 301 + 5 * 250)
    assert end.withheld == len(known.withheld)
    assert end.templates[0]["template"] == "GET /items/* *"
    assert end.templates[0]["count"] == 24_000 - 4 * 600
    assert known.surges.open == 0


def test_what_comes_late_for_a_surge_that_is_over_is_sampled_and_not_told_again(known: Partition) -> None:
    flood(known, 180, 6_000)
    flood(known, 182, 6_000)
    known.send(190, 1)
    assert [change.over for change in known.changes] == [False, True]
    known = known.again()
    for minute in (170, 180, 181, 182):
        flood(known, minute, 6_000)
    assert not known.changes
    assert len(known.withheld) > 4 * 3_000
    flood(known, 183, 6_000)
    assert [change.start for change in known.changes] == ["2026-11-24T03:03:00.000Z"]


def test_a_surge_of_a_host_that_falls_silent_ends_by_the_time_of_the_others(known: Partition) -> None:
    for host in HOSTS[1:4]:
        known.send(180, 1, host=host)
    flood(known, 180, 6_000)
    known.send(180 + 24 * HOUR, 1, host=HOSTS[3])  # a clock that is wrong by a day
    for minute in range(181, 195):
        known.send(minute, 1, host=HOSTS[1])
        known.send(minute, 1, host=HOSTS[2])
    assert len(known.changes) == 1
    known.send(195, 1, host=HOSTS[1])
    assert len(known.changes) == 2, "HOSTS[1] is the second newest now"
    assert known.changes[1].over


def test_a_wrong_clock_of_another_host_ends_nothing(known: Partition) -> None:
    known.send(180, 1, host=HOSTS[1])
    for minute in range(180, 200):
        flood(known, minute, 3_000)
        known.send(minute, 1, host=HOSTS[1])
        known.send(minute + 24 * HOUR, 1, host=HOSTS[2])
    assert len(known.changes) == 1


def test_the_budget_follows_the_usual_rate_and_a_surge_becomes_usual_slowly() -> None:
    partition = Partition(Surges(Limits(floor=60)))
    for minute in range(180):
        partition.send(minute, 30)
    partition.send(180, 180)
    assert not partition.withheld, "six times what is usual"
    budgets = []
    for minute in range(181, 181 + 5 * HOUR):
        partition.send(minute, 1_000)
        key = partition.surges._keys[HOSTS[0], "app", "info"]
        if not budgets or budgets[-1] != key.budget:
            budgets.append(key.budget)
    assert budgets[0] == 180
    assert all(1.9 < after / before < 2.1 for before, after in pairwise(budgets[:-1]))
    assert budgets[-1] > 1_000
    partition.withheld = []
    partition.send(181 + 5 * HOUR, 1_000)
    assert not partition.withheld, "that is what it does now"


def test_a_new_host_has_time_to_show_what_is_usual() -> None:
    partition = Partition()
    for minute in range(50, 240):
        partition.send(minute, 3_000)
    assert not partition.withheld
    assert not partition.changes
    partition.send(50, 6_001, host=HOSTS[1])
    assert [change.budget for change in partition.changes] == [6_000]


def test_a_host_that_makes_datasets_up_displaces_its_own_keys_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HOST_KEYS", 5)
    known = Partition()
    known.send(0, host=HOSTS[1])
    for number in range(20):
        known.send(1, dataset=f"made-up-{number}")
    assert [name[:2] for name in known.surges._keys] == [
        (HOSTS[1], "app"),
        *((HOSTS[0], f"made-up-{number}") for number in range(15, 20)),
    ]
    assert known.surges._hosts[HOSTS[0]].keys == 5


def test_only_so_many_keys_are_kept_and_a_surge_that_is_forgotten_ends(known: Partition) -> None:
    flood(known, 180, 6_000)
    for number in range(MAX_KEYS + 10):
        known.send(181, 1, host=HOSTS[1 + number % 100], dataset=f"d{number // 100}")
    assert len(known.surges._keys) == MAX_KEYS
    assert [change.over for change in known.changes] == [False, True]
    assert HOSTS[0] not in known.surges._hosts
    assert sum(host.keys for host in known.surges._hosts.values()) == MAX_KEYS
    assert reload(known.surges).dump() == known.surges.dump()


def test_the_state_of_200_hosts_is_small() -> None:
    partition = Partition()
    for minute in range(118, 125):
        for host in HOSTS[:200]:
            for dataset in ("system.syslog", "nginx.access", "app"):
                for level in ("info", "warning", "error", "debug"):
                    partition.send(minute, 12, host=host, dataset=dataset, level=level)
    quiet = len(orjson.dumps(partition.surges.dump()))
    for host in HOSTS[:20]:
        flood(partition, 125, 10_000, host=host, text="connection from 192.0.2.{i} refused " + "x" * 200)
    exemplars = len(orjson.dumps(partition.surges.dump())) - quiet
    assert partition.surges.open == 20
    assert quiet < 2400 * 48, quiet
    assert exemplars < 20 * 400, exemplars


def test_an_alert_says_what_happened(known: Partition) -> None:
    flood(known, 180, 6_000)
    known.send(190, 1)
    start, end = (change.alert({"host.name": "web-1", "labels": {}}) for change in known.changes)
    assert (start["alert.state"], end["alert.state"]) == ("warning", "ok")
    assert start["@timestamp"] == "2026-11-24T03:00:00.000Z"
    assert end["@timestamp"] == end["event.end"] == "2026-11-24T03:00:59.999Z"
    assert start["alert.item"] == "app/info"
    assert end["surge.seen"] == 6_000
    assert end["surge.withheld"] == len(known.withheld)
    assert end["surge.templates"][0]["example"].startswith("GET /items/")
    assert "app/info: 1000 events in a minute (usual 60.0 a minute, budget 600)" in start["message"]
    assert "is over: 6000 events" in end["message"]


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("GET /items/1234 200 12ms", "GET /items/* * *"),
        ("user 'kim' from 192.0.2.7:443", "user * from *"),
        ('path "C:\\x y" id 550e8400-e29b-41d4-a716-446655440000', "path * id *"),
        ("hash deadbeefcafe and 0x1F", "hash * and *"),
        ("peer 2001:db8::1 is gone", "peer * is gone"),
        ("can't open what it's for", "can't open what it's for"),
        ("사용자 홍길동 로그인 실패 3회", "사용자 홍길동 로그인 실패 *"),
    ],
)
def test_templates(text: str, template: str) -> None:
    assert template_of(text) == template
    assert template_of(template_of(text)) == template


def test_a_message_that_is_none_has_a_template_too(known: Partition) -> None:
    for raw in (b"{}", b'{"message":7}', b"[", b'{"message":"\\ud800"}', b'{"message":"\xff"}'):
        text = module._text_of(raw)
        orjson.dumps([text, template_of(text)])
        json.dumps(text).encode()


# whatever the attempts

_BATCH = st.tuples(
    st.sampled_from([0, 1, 2, 3, 4, 8, 9, 20, 61, 130]),
    st.integers(1, 60),
    st.sampled_from(HOSTS[:3]),
    st.sampled_from(["info", "error"]),
    st.sampled_from(["GET /items/{i}", "user {i} is gone", "a", 'x "{i}"']),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_BATCH, max_size=60), st.sets(st.integers(0, 60)))
def test_owners_that_take_over_anywhere_decide_the_same(batches: list[Any], takeovers: set[int]) -> None:
    one, chain = Partition(Surges(Limits(2, 2.0))), Partition(Surges(Limits(2, 2.0)))
    for number, (minute, count, host, level, text) in enumerate(batches):
        for partition in (one, chain):
            partition.send([minute, minute + 1], count, host=host, level=level, text=text)
        if number in takeovers:
            before = chain
            lost = chain.again()
            lost.send(minute + 5, 50, host=host)  # an attempt that is never committed
            chain = before.again()
            chain.stored, chain.withheld, chain.changes = before.stored, before.withheld, before.changes
        assert chain.surges.dump() == one.surges.dump()
    assert (chain.stored, chain.withheld, chain.changes) == (one.stored, one.withheld, one.changes)
    assert len(one.stored) + len(one.withheld) == one.seq


@settings(max_examples=100, deadline=None)
@given(st.lists(_BATCH, max_size=60))
def test_every_surge_ends_at_most_once_and_sums_are_exact(batches: list[Any]) -> None:
    partition = Partition(Surges(Limits(2, 2.0)))
    for minute, count, host, level, text in batches:
        partition.send([minute, minute + 1], count, host=host, level=level, text=text)
    for host in HOSTS[:3]:
        partition.send(1000, 1, host=host)
    assert partition.surges.open == 0
    over = [change for change in partition.changes if change.over]
    assert len(over) * 2 == len(partition.changes)
    assert sum(change.withheld for change in over) <= len(partition.withheld)
    ids = [alerts.identity(change.alert({})) for change in partition.changes]
    assert len(set(ids)) == len(ids)

"""Nothing lost, nothing twice, counts exact: on the real Kafka and the real Elasticsearch, while everything is killed.

``EZADMIN_SEED`` repeats a run's choices, ``EZADMIN_EVENTS`` sets its size (200,000; ``./tests/run --full``: 2,000,000).
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ezadmin_testing import simulated_hosts
from ezadmin_testing.elastic_proxy import ElasticProxy
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, pipeline, wait_until
from ezadmin_testing.proxy import CuttingProxy
from ezadmin_testing.search import search_all

from ezadmin_pipeline.rollups import HOST_MINUTE, keys_of
from ezadmin_wire.config import RULES_KEY, LimitRecord, Match, Rule, RulesRecord, limit_key
from ezadmin_wire.ids import event_id
from ezadmin_wire.names import Names

EVENTS = int(os.environ.get("EZADMIN_EVENTS", "2000000" if os.environ.get("EZADMIN_FULL") else "200000"))
SEED = int(os.environ.get("EZADMIN_SEED", "1"))
HOSTS = 50
PHASES = 5
STRIKES_PER_PHASE = 12  # every second one is a kill -9

SURGES = {"floor": 40}
"""A new host may say ten times that a minute: more than others say here, much less than those that flood."""
NEW_HOST_BUDGET = {"info": 400, "error": 1000, "critical": 10**9}
RULES = [
    Rule("keep-errors", "exempt", Match(levels=["error", "critical"])),
    Rule("drop-health-checks", "filter", Match(contains="health check")),
    Rule("full-disks", "set_level", Match(regex="full d.sk"), {"level": "critical"}),
    Rule("mask", "mask", Match(hosts=["sim-0001", "sim-0007"]), {"pattern": r"192\.0\.2\.\d+", "replacement": "x"}),
    Rule("label", "label", Match(fields={"log.level": "warn*"}), {"name": "team", "value": "web"}),
]
LIMIT = LimitRecord(simulated_hosts.FIGURE, "*", 0.71, 0.51, 0.91, 0.81)


def expected_alerts(number: int, ticks: int, start: datetime) -> list[tuple[str, str, str]]:
    """(host.id, sample time, new state) of every change that LIMIT makes of a host's figures, worked out the plain way."""
    state, found = "ok", []
    for tick in range(ticks):
        value = simulated_hosts.figure(number, tick)
        critical = value >= 0.81 if state == "critical" else value >= 0.91
        warning = value >= 0.71 if state == "ok" else value >= 0.51
        new = "critical" if critical else "warning" if warning else "ok"
        if new != state:
            found.append((simulated_hosts.host_id(number), simulated_hosts.tick_time(tick, start), new))
            state = new
    return found


class Storm:
    """The fleet, the pipeline workers and the simulated agents, and what is done to them."""

    def __init__(self, fleet: Fleet, elastic_proxy: ElasticProxy, folder: Path, rng: random.Random) -> None:
        self.fleet = fleet
        self.rng = rng
        self.folder = folder
        self.proxy = CuttingProxy()
        self.elastic_proxy = elastic_proxy
        # nothing that is sent lies in the future: it would be taken for a wrong clock
        self.start = (datetime.now(UTC) - timedelta(hours=4)).replace(minute=0, second=0, microsecond=0)
        self.workers = [
            pipeline(fleet.settings(f"worker-{n}", surges=SURGES), folder / f"worker-{n}.log") for n in range(2)
        ]
        self.keys = [simulated_hosts.load_key(folder / "hosts", number) for number in range(HOSTS)]
        self.lines = 0
        self.agents: Process | None = None
        self.done: Counter[str] = Counter()
        fleet.publish(limit_key("cpu"), LIMIT)
        for number in range(HOSTS):
            self.relabel(number)
        fleet.publish(RULES_KEY, RulesRecord(RULES))

    def change_rules(self) -> None:
        """Some rules are gone, or stand in another order."""
        self.fleet.publish(RULES_KEY, RulesRecord(self.rng.sample(RULES, self.rng.randint(1, len(RULES)))))

    def relabel(self, number: int) -> None:
        """A config record changes."""
        labels = {"site": self.rng.choice(["seoul", "busan"]), "rack": f"r{self.rng.randint(1, 9)}"}
        host = simulated_hosts.host_id(number)
        self.fleet.publish_host(host, self.keys[number], labels=labels, limits=["cpu"])

    def send(self, lines: int) -> Process:
        """Let every host go on until it has sent ``lines`` lines."""
        self.lines = lines
        rate = min(20_000, max(4_000, EVENTS // PHASES // 10))
        options = {
            "state": str(self.folder / "hosts"),
            "kafka": self.fleet.kafka,
            "prefix": self.fleet.names.prefix,
            "start": self.start.isoformat(),
            "hosts": str(HOSTS),
            "lines": str(lines),
            "rate": str(rate),
            "proxy": self.proxy.url,
        }
        command = [sys.executable, "-m", "ezadmin_testing.simulated_hosts"]
        command += [word for name, value in options.items() for word in (f"--{name}", value)]
        support = str(Path(simulated_hosts.__file__).parent.parent)
        self.agents = Process(command, self.folder / "agents.log", {"PYTHONPATH": support}).start()
        return self.agents

    def strike(self, choices: list[str]) -> None:
        """One bad moment."""
        assert self.agents is not None
        first, second = self.workers
        choice = self.rng.choice(choices)
        if choice == "worker":
            victim = self.rng.choice([worker for worker in self.workers if worker.running] or [first])
            victim.kill()
            if self.rng.random() < 0.5:
                self.relabel(self.rng.randrange(HOSTS))
            victim.start()
        elif choice == "agents":
            self.agents.kill()
            self.agents.start()
        elif choice == "cut":
            self.proxy.cut()
        elif choice == "swallow":
            self.proxy.swallow()
        elif choice == "label":
            self.relabel(self.rng.randrange(HOSTS))
        elif choice == "rules":
            self.change_rules()
        elif second.running:
            assert second.stop() in (0, -15)  # -15: it was still importing
        else:
            second.start()
        self.done[choice] += 1

    def phase(self, lines: int, more: Sequence[str] = ()) -> None:
        """Send up to ``lines`` lines per host in a storm, and wait until everything is in Elasticsearch."""
        agents = self.send(lines)
        self.elastic_proxy.trouble = 0.3
        for i in range(STRIKES_PER_PHASE):
            time.sleep(self.rng.uniform(0.1, 0.8))
            if agents.running:
                self.strike(["worker", "worker", "agents"] if i % 2 else ["cut", "swallow", "label", "second", *more])
        self.workers[0].start()
        wait_until(lambda: not agents.running, 300 + EVENTS // 5000, f"every host has {lines} lines acknowledged")
        self.elastic_proxy.trouble = 0.05
        assert agents.wait(1) == 0, (self.folder / "agents.log").read_text()[-3000:]
        self.drain()

    def drain(self) -> None:
        wait_until(lambda: self.fleet.lag() == 0, 180 + EVENTS // 5000, "the pipeline has committed everything")

    def close(self) -> None:
        for process in (*self.workers, *([self.agents] if self.agents else [])):
            process.kill()
        self.proxy.close()
        self.elastic_proxy.close()

    def check(self, rules_changed: bool = False) -> None:
        """Elasticsearch holds what was sent and counts it.

        Where rules changed within a commit, documents of an attempt that was not committed may stand beside: the counts are
        those of the committed one, and every document that they count is there.
        """
        hits = search_all(
            self.fleet.elastic, f"{self.fleet.names.prefix}-logs-*", {"match_all": {}}, ["host.id", "event.sample_rate"]
        )
        ids = {hit["_id"] for hit in hits}
        assert len(ids) == len(hits), "an id stands in two indices"
        owners = {hit["_id"][:12]: hit["_source"]["host.id"] for hit in hits}
        assert sorted(owners.values()) == [simulated_hosts.host_id(number) for number in range(HOSTS)], (
            "every host has one epoch, also after kill -9"
        )
        prefixes = {host: prefix for prefix, host in owners.items()}
        seen: Counter[tuple[str, str, str, str]] = Counter()
        ignored: Counter[tuple[str, str, str, str]] = Counter()
        stored: Counter[tuple[str, str, str, str]] = Counter()
        for number, i, level, minute in simulated_hosts.expected(HOSTS, self.lines, self.start):
            host = simulated_hosts.host_id(number)
            identity = event_id(prefixes[host], i)
            dropped = simulated_hosts.kind(i) == "health check" and level not in ("error", "critical")
            if not rules_changed:
                assert (identity in ids) != dropped or simulated_hosts.floods(number), (number, i)
            for key in keys_of(minute, host, simulated_hosts.DATASET, level):
                cell = (key.rollup, key.window, key.host, level)
                seen[cell] += 1
                ignored[cell] += dropped
                stored[cell] += identity in ids
        unknown = len(ids) - sum(count for cell, count in stored.items() if cell[0] == HOST_MINUTE)
        assert unknown == 0, "documents of lines that nobody sent"
        sums = {
            name: self.fleet.rollup_sums(f"events.{name}") for name in ("seen", "stored", "ignored", "sampled", "dead")
        }
        assert sums["seen"] == seen
        assert sums["dead"] == Counter()
        assert sums["stored"] + sums["ignored"] + sums["sampled"] == seen
        if rules_changed:
            assert not sums["stored"] - stored, "a document that is counted is missing"
        else:
            assert sums["ignored"] == +ignored
            assert sums["stored"] == +stored
        over = {
            (cell[2], cell[3])
            for cell, count in (seen - ignored).items()
            if cell[0] == HOST_MINUTE and count > NEW_HOST_BUDGET.get(cell[3], NEW_HOST_BUDGET["info"])
        }
        unexempted = {(host, level) for host, level in over if level not in ("error", "critical")}
        flooded = {host for host, _ in over}
        assert not rules_changed or len(flooded) == 2
        surging = {(cell[2], cell[3]) for cell in sums["sampled"] if cell[0] == HOST_MINUTE}
        # errors are thinned out only while the rule that exempts them was away
        assert unexempted <= surging <= (over if rules_changed else unexempted)
        assert {hit["_source"]["host.id"] for hit in hits if "event.sample_rate" in hit["_source"]} <= flooded
        assert self.fleet.dead_letters() == []
        self.check_alerts(over, rules_changed)  # what a rule exempts counts: its surge is told, too

    def check_alerts(self, over: set[tuple[str, str]], rules_changed: bool) -> None:
        """Each surge and each change of a limit was told once in Elasticsearch, and in Kafka under the same id."""
        pattern = f"{self.fleet.names.prefix}-alerts-*"
        wait_until(
            lambda: {hit["_id"] for hit in self.fleet.search_all(pattern, False)} == set(self.fleet.told_alerts()),
            30,
            "every alert is in Elasticsearch and in Kafka",
        )
        hits = self.fleet.search_all(pattern, source=True)
        surges = [hit["_source"] for hit in hits if hit["_source"]["event.dataset"] == "alert.surge"]
        begun = Counter(
            (alert["host.id"], alert["alert.item"]) for alert in surges if alert["alert.state"] == "warning"
        )
        told = {(host, f"{simulated_hosts.DATASET}/{level}"): level for host, level in over}
        assert begun.keys() == told.keys()
        # without the rule that keeps them, some errors are dropped and do not count: then their surge may end and come again
        again = ("error", "critical") if rules_changed else ()
        assert {key for key, count in begun.items() if count > 1 and told[key] not in again} == set()
        changes = Counter(
            (alert["host.id"], alert["@timestamp"], alert["alert.state"])
            for alert in (hit["_source"] for hit in hits)
            if alert["event.dataset"] == "alert.threshold"
        )
        ticks = self.lines // simulated_hosts.BATCH
        wanted = [change for number in range(HOSTS) for change in expected_alerts(number, ticks, self.start)]
        assert changes == Counter(wanted)
        assert len(wanted) > HOSTS


@pytest.fixture
def storm(stack, make_names: Callable[..., Names], tmp_path: Path):
    names = make_names(partitions=6)
    rng = random.Random(SEED)
    elastic_proxy = ElasticProxy(stack.elasticsearch, rng)
    fleet = Fleet(stack.kafka, stack.elasticsearch, names, tmp_path, partitions=6, through=elastic_proxy.url)
    storm = Storm(fleet, elastic_proxy, tmp_path, rng)
    yield storm
    storm.close()
    fleet.close()


def test_exact_whatever_is_killed(storm: Storm) -> None:
    per_phase = EVENTS // HOSTS // PHASES
    for worker in storm.workers:
        worker.start()
    storm.phase(per_phase)
    storm.check()

    # the topic is deleted and made anew while the workers are stopped …
    for worker in storm.workers:
        worker.stop()
    storm.fleet.remake_topic(storm.fleet.names.logs)
    for worker in storm.workers:
        worker.start()
    storm.phase(2 * per_phase)

    # … and while they run
    storm.workers[0].start()
    storm.fleet.remake_topic(storm.fleet.names.logs)
    storm.phase(3 * per_phase)

    # the committed offsets are set back to the start
    for worker in storm.workers:
        worker.stop()
    storm.fleet.reset_offsets()
    for worker in storm.workers:
        worker.start()
    storm.phase(4 * per_phase)
    storm.check()

    # the rules change, again and again
    storm.phase(5 * per_phase, more=["rules", "rules", "rules"])
    storm.check(rules_changed=True)
    assert storm.done["worker"] + storm.done["agents"] >= 20
    assert len(storm.elastic_proxy.done) == 5, storm.elastic_proxy.done

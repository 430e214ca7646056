"""``ezadmin-pipeline bench`` measures what it says, and leaves nothing behind, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, pipeline_command, wait_until
from kafka import KafkaAdminClient

from ezadmin_pipeline import bench
from ezadmin_pipeline.bench import MARK, Outcome, Plan, hints, remove, report
from ezadmin_pipeline.settings import load
from ezadmin_wire.names import Names


@pytest.fixture
def fleet(stack: Any, names: Names, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(stack.kafka, stack.elasticsearch, names, tmp_path)
    yield fleet
    fleet.close()


def left_behind(fleet: Fleet) -> list[str]:
    """Topics, indices and templates of benches."""
    prefix = f"{fleet.names.prefix}{MARK}"
    admin = KafkaAdminClient(bootstrap_servers=fleet.kafka)
    found = [topic for topic in admin.list_topics() if topic.startswith(prefix)]
    admin.close()
    _, indices = fleet.elastic.request("GET", f"/{prefix}*/_settings", params={"expand_wildcards": "all"})
    found += list(indices)
    for kind in ("index_template", "component_template"):
        status, answer = fleet.elastic.request("GET", f"/_{kind}/{prefix}*")
        found += [one["name"] for one in answer[f"{kind}s"]] if status == 200 else []
    return found


def test_it_measures_and_cleans_up(fleet: Fleet) -> None:
    config = fleet.settings("bench", commit_interval=0.1)  # several commits, however fast the machine is
    printed = pipeline_command(config, "bench", "--events", "100000", "--lines", "100", "--workers", "2")
    assert "stored                 100000 of 100000\n" in printed
    assert "events/s" in printed
    assert "hint: " in printed
    wait_until(lambda: not left_behind(fleet), 10, "nothing is left")
    assert fleet.search_all(f"{fleet.names.prefix}-*", source=False) == [], "the installation itself is untouched"


def test_it_cleans_up_when_it_is_stopped_and_after_it_was_killed(fleet: Fleet, tmp_path: Path) -> None:
    config = fleet.settings("bench")
    arguments = ["bench", "--events", "3000000", "--config", str(config)]
    process = Process([sys.executable, "-m", "ezadmin_pipeline.main", *arguments], tmp_path / "bench.log").start()
    wait_until(lambda: left_behind(fleet), 30, "it has begun")
    assert process.stop(30) == 130
    wait_until(lambda: not left_behind(fleet), 10, "nothing is left")
    process.start()
    wait_until(lambda: left_behind(fleet), 30, "it has begun again")
    process.kill()
    assert f"removed {fleet.names.prefix}{MARK}" in pipeline_command(config, "bench", "--clean")
    wait_until(lambda: not left_behind(fleet), 10, "nothing is left")


def test_a_failure_says_how_far_it_was(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_START_SECONDS", 0.0)
    loaded = load(fleet.settings("bench"))
    far = r"0 of 10 batches committed; waiting: \S+ \d+ \(no commit yet\).*; 2 of 2 workers run$"
    with pytest.raises(bench.BenchFailed, match=r"^nothing was committed within \d+ s of the start; " + far):
        bench.measure(loaded, Plan(1000, 100, 5, 200, 2), lambda text: None, ("warning", "console"))
    wait_until(lambda: not left_behind(fleet), 10, "nothing is left")


def test_only_benches_are_ever_removed() -> None:
    with pytest.raises(ValueError, match="is no prefix of a bench"):
        remove(None, None, "ezadmin")  # type: ignore[arg-type]


def outcome(**changed: Any) -> Outcome:
    values: dict[str, Any] = {
        "plan": Plan(1000, 200, 5, 200, 1), "stored": 1000, "value_bytes": 200_000, "produce_seconds": 1.0, "events": 900,
        "seconds": 10.0, "cpu": 1.0, "bulks": 10, "bulk_seconds": 2.0, "refused": 0, "commits": 5, "commit_seconds": 1.0,
        "memory": 1 << 20, "index_bytes": 1000, "in_flight": 2, "partitions": 6, **changed,
    }  # fmt: skip
    return Outcome(**values)


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({"cpu": 9.0}, "the workers' CPU limits"),
        ({"bulk_seconds": 15.0}, "Elasticsearch limits"),
        ({}, "network"),
        ({"refused": 3}, "refused 3 items"),
        ({"plan": Plan(1000, 20, 5, 200, 8)}, "8 workers share 6 partitions"),
        ({"plan": Plan(1000, 20, 5, 200, 1)}, "larger batches"),
    ],
)
def test_hints_say_what_limits(changed: dict[str, Any], hint: str) -> None:
    assert any(hint in text for text in hints(outcome(**changed)))


def test_a_loss_is_not_hidden() -> None:
    assert any("999 of 1000: NOT what was written" in line for line in report(outcome(stored=999)))

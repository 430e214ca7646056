"""Care of the indices: made before they are needed, dropped when they are older than ``[retention]`` says.

One worker does it, the owner of partition 0 of the metrics; two at once would do no harm. Dropped is a whole index, whose last
day is long enough ago, by its name; nothing is ever dropped that is not named exactly as the pipeline names an index of one of
its kinds. Age is counted from the newest day of which there are documents, and not from this machine's clock where that is ahead
of it: a clock that jumps a year must not empty the cluster.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from ezadmin_pipeline import families
from ezadmin_pipeline.elastic import Elastic, SignInRefused, Unavailable, reason
from ezadmin_pipeline.families import FAMILIES, Index
from ezadmin_pipeline.install import templates
from ezadmin_pipeline.rounds import Rounds
from ezadmin_pipeline.settings import Settings

_log = logging.getLogger(__name__)
FIRST_AFTER = 15.0
EVERY = 600.0


@dataclass(frozen=True)
class Plan:
    """What is to be done: indices to make with their settings, indices to drop."""

    make: dict[str, dict[str, object]]
    drop: list[Index]


def plan(now: datetime, settings: Settings, there: list[Index], data_nodes: int) -> Plan:
    """What is to be done at ``now``; a pure function."""
    names, wanted = settings.names, settings.indices
    known = {name.removeprefix(f"{names.prefix}-") for name, _ in templates(names)}
    present = {index.name for index in there}
    make: dict[str, dict[str, object]] = {}
    for family in FAMILIES:
        if (
            family.template not in known
        ):  # written by nobody yet, and without a template it would be an index of guesses
            continue
        for ahead in range(wanted.days_ahead + 1):
            name = families.name_of(family, now + timedelta(days=ahead), names)
            if name not in present:
                make[name] = wanted.layout(family.spread, data_nodes)
    drop = [index for index in there if (gone := dropped_on(index, settings)) and gone <= _data_time(now, there)]
    return Plan(make, [index for index in drop if index.name not in make])


def dropped_on(index: Index, settings: Settings) -> datetime | None:
    """From when on an index may go; None: never."""
    days = settings.indices.kept[index.family.kept]
    return index.period.end + timedelta(days=days) if days else None


def _data_time(now: datetime, there: list[Index]) -> datetime:
    filled = [index.period.end for index in there if index.documents and index.family.name in ("metrics", "logs")]
    return min(now, max(filled, default=datetime.min.replace(tzinfo=UTC)))


def apply(elastic: Elastic, todo: Plan) -> list[str]:
    """Do it; returns a line for each thing done or refused. Raises Unavailable, SignInRefused."""
    done = []
    for name, layout in todo.make.items():
        status, answer = elastic.request("PUT", f"/{name}", body=orjson.dumps({"settings": layout}))
        if status == 200:
            done.append(f"made {name}, {layout['index.number_of_shards']} shard(s)")
        elif "resource_already_exists_exception" not in str(answer):
            done.append(f"{name} cannot be made: {status} {reason(answer)}")
    for index in todo.drop:
        status, answer = elastic.request("DELETE", f"/{index.name}", params={"expand_wildcards": "none"})
        if status == 200:
            done.append(f"dropped {index.name}: {index.documents} documents, {index.size} bytes")
        elif status != 404:
            done.append(f"{index.name} cannot be dropped: {status} {reason(answer)}")
    return done


def describe(index: Index, now: datetime, settings: Settings, due: bool) -> dict[str, object]:
    """An index as `ezadmin-pipeline indices --json` shows it; sizes in bytes, ages in days."""
    drop = dropped_on(index, settings)
    return {
        "index": index.name,
        "kind": index.family.kept,
        "documents": index.documents,
        "bytes": index.size,
        "shards": index.shards,
        "replicas": index.replicas,
        "status": index.status,
        "health": index.health,
        "age_days": max(0, (now - index.period.start).days),
        "dropped": "now" if due else "never" if drop is None else drop.date().isoformat(),
    }


def table(rows: list[dict[str, object]], todo: Plan) -> list[str]:
    """The lines that `ezadmin-pipeline indices` prints."""
    lines = [f"{'index':52} {'documents':>12} {'MiB':>10} {'shards':>6} {'age':>5}  dropped"]
    for row in rows:
        shards = f"{row['shards']}+{row['replicas']}"
        size = f"{int(str(row['bytes'])) / (1 << 20):.1f}"
        trouble = "" if (row["status"], row["health"]) == ("open", "green") else f"  ({row['status']}, {row['health']})"
        lines.append(
            f"{row['index']:52} {row['documents']:>12} {size:>10} {shards:>6} {row['age_days']:>4}d  {row['dropped']}{trouble}"
        )
    total = sum(int(str(row["bytes"])) for row in rows) / (1 << 20)
    lines.append(f"{len(rows)} indices, {total:.1f} MiB; {len(todo.drop)} to be dropped now")
    if todo.make:
        lines.append(f"to be made: {', '.join(sorted(todo.make))}")
    return lines


class Care(Rounds):
    """Does it again and again; ``now`` gives the current UTC time."""

    def __init__(
        self,
        settings: Settings,
        elastic: Elastic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        first_after: float = FIRST_AFTER,
        every: float = EVERY,
    ) -> None:
        super().__init__("index-care", first_after, every)
        self._settings = settings
        self._elastic = elastic
        self._now = now

    def round(self) -> None:
        """Look once, and do what is to be done; what goes wrong is logged, and tried again the next time."""
        try:
            there = families.there(self._elastic, self._settings.names)
            todo = plan(self._now(), self._settings, there, families.data_nodes(self._elastic))
            for line in apply(self._elastic, todo):
                _log.info("indices: %s", line)
        except (Unavailable, SignInRefused) as error:
            # events are worth more than order: the worker goes on
            _log.error("no care of the indices now, tried again in %.0f min: %s", self.every / 60, error)

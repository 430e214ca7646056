"""The indices that are ours, by name: what kind each is, which days it holds, and how long it is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ezadmin_pipeline.elastic import Elastic, Unavailable, reason
from ezadmin_wire.names import Names

MOST_SHARDS = 6
"""Primary shards of a day's index at most, however many data nodes there are: more only cost memory."""


@dataclass(frozen=True)
class Family:
    """Indices of one kind: ``<prefix>-<name>-YYYY.MM.DD``, or ``-YYYY.MM`` if ``monthly``.

    ``kept``: the setting of ``[retention]`` that counts for it; ``template``: the index template; ``spread``: whether an index is
    large enough to be worth a shard on every data node.
    """

    name: str
    kept: str
    template: str
    monthly: bool = False
    spread: bool = False


FAMILIES = (
    Family("metrics", "metrics", "metrics", spread=True),
    Family("logs", "logs", "logs", spread=True),
    Family("rollup-logs-1m", "rollup_minute", "rollup"),
    Family("rollup-logs-fleet-1m", "rollup_minute", "rollup", monthly=True),
    Family("rollup-logs-fleet-1h", "rollup_hour", "rollup", monthly=True),
    Family("rollup-metrics-1h", "metrics_hour", "rollup-metrics", monthly=True, spread=True),
    Family("alerts", "alerts", "alerts", monthly=True),
    Family("audit", "audit", "audit", monthly=True),
)

KEPT: dict[str, int] = {
    "metrics": 30,
    "logs": 30,
    "rollup_minute": 90,
    "rollup_hour": 1100,
    "metrics_hour": 1100,
    "alerts": 400,
    "audit": 400,
}
"""Days that each kind is kept, unless ``[retention]`` says otherwise; 0: for ever."""


@dataclass(frozen=True)
class IndexSettings:
    """``[retention]`` (days; 0: for ever) and ``[indices]``: shards and replicas, None: from the size of the cluster."""

    kept: dict[str, int] = field(default_factory=lambda: dict(KEPT))
    shards: int | None = None
    replicas: int | None = None
    days_ahead: int = 2

    def layout(self, spread: bool, data_nodes: int) -> dict[str, Any]:
        """The settings of an index on a cluster of so many data nodes."""
        shards = self.shards or max(1, min(data_nodes, MOST_SHARDS))
        made: dict[str, Any] = {"index.number_of_shards": shards if spread else 1}
        if self.replicas is None:
            made["index.auto_expand_replicas"] = "0-1"  # a second copy as soon as there is a second node
        else:
            made |= {"index.auto_expand_replicas": "false", "index.number_of_replicas": self.replicas}
        return made


@dataclass(frozen=True)
class Period:
    """The days that an index holds, from ``start`` up to ``end``, which is not part of it."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Index:
    """An index that is ours, as it stands there. ``size`` in bytes; both are 0 for a closed index."""

    name: str
    family: Family
    period: Period
    documents: int
    size: int
    shards: int
    replicas: int
    status: str
    health: str


def name_of(family: Family, day: datetime, names: Names) -> str:
    """The index of ``family`` that holds ``day``."""
    return f"{names.prefix}-{family.name}-{day:%Y.%m}" + ("" if family.monthly else f".{day:%d}")


def parse(index: str, names: Names) -> tuple[Family, Period] | None:
    """What an index holds, by its name; None if it is not one of ours, whatever its prefix."""
    for family in FAMILIES:
        form = r"(\d{4})\.(\d\d)" if family.monthly else r"(\d{4})\.(\d\d)\.(\d\d)"
        found = re.fullmatch(re.escape(f"{names.prefix}-{family.name}-") + form, index, re.ASCII)
        if found is None:
            continue
        year, month, *days = map(int, found.groups())
        try:
            start = datetime(year, month, days[0] if days else 1, tzinfo=UTC)
            end = (start + timedelta(days=32)).replace(day=1) if family.monthly else start + timedelta(days=1)
        except (ValueError, OverflowError):
            return None
        return family, Period(start, end)
    return None


def there(elastic: Elastic, names: Names) -> list[Index]:
    """All indices that are ours, in the order of their names. Raises Unavailable, SignInRefused."""
    columns = "index,status,health,pri,rep,docs.count,store.size"
    params = {"format": "json", "bytes": "b", "h": columns, "expand_wildcards": "all"}
    found = ask(elastic, "GET", f"/_cat/indices/{names.prefix}-*", params)
    indices = []
    for row in found:
        known = parse(row["index"], names)
        if known is not None:
            indices.append(
                Index(
                    row["index"],
                    *known,
                    documents=int(row["docs.count"] or 0),
                    size=int(row["store.size"] or 0),
                    shards=int(row["pri"] or 0),
                    replicas=int(row["rep"] or 0),
                    status=row["status"],
                    health=row["health"] or "",
                )
            )
    return sorted(indices, key=lambda index: index.name)


def data_nodes(elastic: Elastic) -> int:
    """The number of data nodes. Raises Unavailable, SignInRefused."""
    return int(ask(elastic, "GET", "/_cluster/health")["number_of_data_nodes"])


def ask(
    elastic: Elastic, method: str, path: str, params: dict[str, str] | None = None, body: bytes | None = None
) -> Any:
    """A request that is to be answered with 200. Raises Unavailable if it is not."""
    status, answer = elastic.request(method, path, params=params, body=body)
    if status != 200:
        raise Unavailable(f"{method} {path}: {status} {reason(answer)}")
    return answer

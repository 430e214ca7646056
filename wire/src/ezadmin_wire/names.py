"""Names of topics and indices.

All names start with one prefix (``ezadmin``), so that two installations, or two tests, can share one Kafka and one
Elasticsearch. Indices are plain (no data streams) and named by the time of what they hold: an ``_id`` is unique only
within one index, so an event must land in the same index however late or often it arrives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ezadmin_wire.errors import WireError

DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Topic:
    """A topic: its name, number of partitions and Kafka settings.

    ``partitions`` is fixed when the topic is made: more of them later would move a host to another partition and with
    it split the record of what was seen of it.
    """

    name: str
    partitions: int
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Names:
    """All topic and index names under ``prefix`` (lower-case letters, digits, ``_`` and ``-``).

    Raises WireError (``bad_prefix``) for a prefix that Kafka or Elasticsearch would refuse.
    """

    prefix: str = "ezadmin"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,40}", self.prefix):
            raise WireError("bad_prefix", f"prefix {self.prefix!r}: use lower-case letters, digits, '_' and '-'")

    # topics
    @property
    def metrics(self) -> str:
        """Batches of metric documents; key host.id."""
        return f"{self.prefix}.metrics"

    @property
    def logs(self) -> str:
        """Batches of events; key host.id."""
        return f"{self.prefix}.logs"

    @property
    def state(self) -> str:
        """Batches of state documents (inventory, software, ports, audit, agent status); key host.id."""
        return f"{self.prefix}.state"

    @property
    def jobs(self) -> str:
        """Batches of job documents; key host.id."""
        return f"{self.prefix}.jobs"

    @property
    def config(self) -> str:
        """Signed config records, compacted; key ``kind/id``."""
        return f"{self.prefix}.config"

    @property
    def alerts(self) -> str:
        """Threshold and surge changes; key host.id."""
        return f"{self.prefix}.alerts"

    @property
    def dlq(self) -> str:
        """Dead letters; key host.id."""
        return f"{self.prefix}.dlq"

    def topics(self, partitions: int = 6) -> list[Topic]:
        """Every topic with its settings; ``partitions`` counts for the data topics (24 on a cluster, 6 locally)."""
        days3 = str(3 * DAY_MS)
        # Kafka's clock says when a message came, not that of its host: it bounds times, and how long messages are kept
        taken = {"message.timestamp.type": "LogAppendTime"}
        data = {"retention.ms": days3, "max.message.bytes": str(2 << 20), **taken}
        return [
            Topic(self.metrics, partitions, data),
            Topic(self.logs, partitions, data),
            Topic(self.state, partitions, data),
            Topic(self.jobs, partitions, data),
            Topic(self.config, 1, {"cleanup.policy": "compact", "max.message.bytes": str(2 << 20)}),
            Topic(self.alerts, partitions, data),
            # dead letters wait for a person, so they stay longer; headers and reason make them larger than the original
            Topic(self.dlq, partitions, {"retention.ms": str(30 * DAY_MS), "max.message.bytes": str(4 << 20)}),
        ]

    # indices; `day` is YYYY-MM-DD…, the first characters of a wire time
    def metrics_index(self, day: str) -> str:
        """Index of metric documents of one day (UTC)."""
        return f"{self.prefix}-metrics-{day[:4]}.{day[5:7]}.{day[8:10]}"

    def logs_index(self, day: str) -> str:
        """Index of events of one day (UTC)."""
        return f"{self.prefix}-logs-{day[:4]}.{day[5:7]}.{day[8:10]}"

    def rollup_index(self, rollup: str, day: str) -> str:
        """Index of a rollup (``logs-1m``, ``logs-fleet-1m``, ``logs-fleet-1h``, ``metrics-1h``) for a window that starts on
        ``day``."""
        if rollup.startswith("logs-fleet-") or rollup == "metrics-1h":
            return f"{self.prefix}-rollup-{rollup}-{day[:4]}.{day[5:7]}"
        return f"{self.prefix}-rollup-{rollup}-{day[:4]}.{day[5:7]}.{day[8:10]}"

    def alerts_index(self, day: str) -> str:
        """Index of alerts of one month."""
        return f"{self.prefix}-alerts-{day[:4]}.{day[5:7]}"

    def audit_index(self, day: str) -> str:
        """Index of audit findings of one month."""
        return f"{self.prefix}-audit-{day[:4]}.{day[5:7]}"

    @property
    def state_index(self) -> str:
        """Index of the pipeline's commit records."""
        return f"{self.prefix}-state"

    def consumer_group(self, part: str) -> str:
        """Kafka consumer group of a part (``pipeline``, ``cmdb-worker``)."""
        return f"{self.prefix}-{part}"


JsonObject = dict[str, Any]
"""A decoded JSON object."""

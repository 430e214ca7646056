"""The rights that each user needs in Kafka, and no more. ``docs/security.md`` shows the same table; a test compares them."""

from __future__ import annotations

from dataclasses import dataclass

from ezadmin_wire.names import Names

EVERYBODY = "*"
"""Every user that may sign in: each host has one of its own, and Kafka knows no groups of users."""
WORKER_GROUPS = ("cmdb-worker", "cmdb-worker-jobs", "cmdb-worker-alerts")
TOPICS, GROUP, CLUSTER = "topics", "group", "cluster"
CLUSTER_NAME = "kafka-cluster"
"""The one name that Kafka has for itself."""


@dataclass(frozen=True)
class Right:
    """``user`` may do ``operations`` (as Kafka's tools spell them) on ``names`` of ``kind``."""

    user: str
    kind: str
    names: tuple[str, ...]
    operations: tuple[str, ...]


def user(names: Names, part: str) -> str:
    """The user that a part signs in as."""
    return f"{names.prefix}-{part}"


def users(names: Names) -> list[str]:
    """The users of the parts, in the order of :func:`rights`."""
    return list(dict.fromkeys(right.user for right in rights(names) if right.user != EVERYBODY))


def rights(names: Names) -> list[Right]:
    """The rights of everybody and of each part's user."""
    data = (names.metrics, names.logs, names.state, names.jobs)
    pipeline, setup, operator, cmdb, gateway = (
        user(names, part) for part in ("pipeline", "setup", "operator", "cmdb", "gateway")
    )
    return [
        Right(EVERYBODY, TOPICS, data, ("Write",)),
        Right(pipeline, TOPICS, (names.metrics, names.logs, names.config), ("Read",)),
        Right(pipeline, TOPICS, (names.dlq, names.alerts), ("Write",)),
        Right(pipeline, GROUP, (names.consumer_group("pipeline"),), ("Read",)),
        Right(
            setup,
            TOPICS,
            tuple(topic.name for topic in names.topics()),
            ("Create", "Describe", "AlterConfigs"),
        ),
        Right(operator, TOPICS, (*data, names.dlq), ("Read", "Write")),
        Right(operator, TOPICS, (names.config, names.alerts), ("Read",)),
        Right(cmdb, TOPICS, (names.state, names.jobs, names.alerts), ("Read",)),
        Right(cmdb, TOPICS, (names.config,), ("Read", "Write")),
        Right(cmdb, TOPICS, (names.dlq,), ("Write",)),
        Right(cmdb, TOPICS, (names.metrics, names.logs), ("Describe",)),
        Right(cmdb, GROUP, tuple(map(names.consumer_group, WORKER_GROUPS)), ("Read",)),
        Right(cmdb, GROUP, (names.consumer_group("pipeline"),), ("Describe",)),
        Right(cmdb, CLUSTER, (CLUSTER_NAME,), ("Describe", "Alter")),
        Right(gateway, TOPICS, (names.config,), ("Read",)),
    ]

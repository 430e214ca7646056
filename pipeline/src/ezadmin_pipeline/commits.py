"""The commit record: what is known of a partition up to an offset, as ONE document in ``<prefix>-state``.

``_id`` is ``<topic>-<partition>``; the members are

==============  ======================================================================================================
topic_id        Kafka's id of the topic that ``upto`` counts in; a topic made anew has another one
commit          number of this record, growing by one; also the version of the rollup documents written after it
upto            the next offset to read: everything before it is in Elasticsearch or among the dead letters
seen            per ``host/stream/epoch`` the ranges of ``seq`` that were seen
idle            the day on which something of it came last, of those of ``seen`` of which nothing came on the day of ``saved``;
                what can be forgotten is: :mod:`ezadmin_pipeline.epochs`
pending         what belongs to this commit and is written after it: rollup documents, alerts. Whoever reads the record
                writes them again before anything else; they carry ``commit`` as version, so that changes nothing
rules_revision  revision of the rules that were in force
thresholds, surges, exemplars   state of those parts
==============  ======================================================================================================

A record is written only over the one it was made from (``if_seq_no``), so the records of a partition form one chain,
whoever writes them: of two owners one fails and starts again from what the other wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ezadmin_pipeline.elastic import Elastic, Unavailable, action
from ezadmin_wire.names import Names
from ezadmin_wire.times import now


@dataclass
class PendingRollup:
    """A rollup document to write after its commit: ``full`` values so far, and ``delta``, what this commit added."""

    id: str
    index: str
    full: dict[str, Any]
    delta: dict[str, Any]


@dataclass
class CommitRecord:
    """See the module's docstring. ``place`` is (seq_no, primary_term) of the stored record, None if there is none."""

    topic: str
    partition: int
    topic_id: str
    commit: int = 0
    upto: int = 0
    seen: dict[str, list[list[int]]] = field(default_factory=dict)
    rollups: list[PendingRollup] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    rules_revision: int = 0
    thresholds: dict[str, Any] = field(default_factory=dict)
    surges: dict[str, Any] = field(default_factory=dict)
    exemplars: dict[str, Any] = field(default_factory=dict)
    place: tuple[int, int] | None = None
    idle: dict[str, str] = field(default_factory=dict)
    saved: str = ""

    @property
    def id(self) -> str:
        """The record's ``_id``."""
        return f"{self.topic}-{self.partition}"

    def to_json(self) -> bytes:
        """The document."""
        return orjson.dumps(
            {
                "topic": self.topic,
                "partition": self.partition,
                "topic_id": self.topic_id,
                "commit": self.commit,
                "upto": self.upto,
                "saved": now(),
                "seen": self.seen,
                "idle": self.idle,
                "pending": {
                    "rollups": [[item.id, item.index, item.full, item.delta] for item in self.rollups],
                    "alerts": self.alerts,
                },
                "rules_revision": self.rules_revision,
                "thresholds": self.thresholds,
                "surges": self.surges,
                "exemplars": self.exemplars,
            }
        )


def load(elastic: Elastic, names: Names, topic: str, partition: int) -> CommitRecord | None:
    """Read the record of a partition, or None if it has none. Raises Unavailable when that cannot be known now."""
    status, answer = elastic.request("GET", f"/{names.state_index}/_doc/{topic}-{partition}")
    if status == 404:
        return None
    if status != 200:
        raise Unavailable(f"commit record of {topic}-{partition}: {status} {answer}")
    source = answer["_source"]
    return CommitRecord(
        topic=topic,
        partition=partition,
        topic_id=source["topic_id"],
        commit=source["commit"],
        upto=source["upto"],
        seen=source["seen"],
        rollups=[PendingRollup(*item) for item in source["pending"]["rollups"]],
        alerts=source["pending"]["alerts"],
        rules_revision=source["rules_revision"],
        thresholds=source["thresholds"],
        surges=source["surges"],
        exemplars=source["exemplars"],
        place=(answer["_seq_no"], answer["_primary_term"]),
        idle=source.get("idle", {}),
        saved=source["saved"],
    )


def save(elastic: Elastic, names: Names, records: Sequence[CommitRecord]) -> list[bool]:
    """Write each record over the one it was made from, and set its ``place``; False where another owner was first.

    Raises Unavailable if it is not known which were written; the records must then be read again.
    """
    parts = []
    for record in records:
        if record.place is None:
            parts.append(action("create", names.state_index, record.id))
        else:
            seq_no, term = record.place
            parts.append(action("index", names.state_index, record.id, if_seq_no=seq_no, if_primary_term=term))
        parts.append(record.to_json() + b"\n")
    status, answer = elastic.request("POST", "/_bulk", params={"timeout": "30s"}, body=b"".join(parts))
    if status != 200:
        raise Unavailable(f"commit records: {status} {answer}")
    written = []
    for record, item in zip(records, answer["items"], strict=True):
        result = next(iter(item.values()))
        if result["status"] in (200, 201):
            record.place = (result["_seq_no"], result["_primary_term"])
            written.append(True)
        elif result["status"] == 409:
            written.append(False)
        else:
            raise Unavailable(f"commit record {record.id}: {result}")
    return written

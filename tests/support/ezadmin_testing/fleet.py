"""A pipeline under test on the real stack: its settings, the config records it reads, and what it made of it all."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from ezadmin_pipeline import alerts, install
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_testing.search import search_all
from ezadmin_wire import config as wire
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey


class Fleet:
    """Names, keys and settings files of one installation; ``partitions`` of its topics.

    Its workers reach Elasticsearch at ``through`` (a proxy) if that is given.
    """

    def __init__(
        self,
        kafka: str,
        elasticsearch: str,
        names: Names,
        folder: Path,
        partitions: int = 3,
        through: str | None = None,
    ) -> None:
        self.kafka = kafka
        self.elastic = ElasticClient(ElasticConnection((elasticsearch,)))
        self.names = names
        self.partitions = partitions
        self._elasticsearch = through or elasticsearch
        self._folder = folder
        self._signer = SigningKey.generate()
        self._revision = 0
        self._producer: Any = KafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=4 << 20)

    @property
    def public_key(self) -> str:
        """The key that config records are believed by."""
        return self._signer.public.hex()

    def settings(self, name: str, **more: Any) -> Path:
        """A settings file for a worker called ``name``."""
        path = self._folder / f"{name}.toml"
        tables = {key: table for key, table in more.items() if isinstance(table, dict)}
        tables |= {"kafka": {"bootstrap": self.kafka}, "elasticsearch": {"url": self._elasticsearch}}
        lines = [
            f'prefix = "{self.names.prefix}"',
            f"partitions = {self.partitions}",
            f'config_public_key = "{self._signer.public.hex()}"',
            f'member = "{name}"',
            "session_timeout = 10",
            *(f"{key} = {value!r}" for key, value in more.items() if key not in tables),
        ]
        for title, table in tables.items():
            lines += [f"[{title}]", *(f"{key} = {value!r}" for key, value in table.items())]
        path.write_text("\n".join(lines) + "\n")
        return path

    def publish(self, key: str, record: wire.Record | None) -> None:
        """Write a config record as the cmdb does; None deletes it."""
        self._revision += 1
        if record is None:
            self._producer.send(self.names.config, key=key.encode(), value=None).get(timeout=10)
            return
        name, headers, value = wire.encode(self._signer, key, self._revision, record)
        self._producer.send(self.names.config, key=name, value=value, headers=headers).get(timeout=10)

    def publish_host(self, host_id: str, key: SigningKey, **members: Any) -> None:
        """Write the record of a host with one key."""
        keys = [wire.HostKey(key.kid, key.public.hex())]
        members.setdefault("name", f"sim-{host_id[-4:]}")
        self.publish(wire.host_key(host_id), wire.HostRecord(keys=keys, **members))

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """Write one message and wait for the acknowledgement."""
        self._producer.send(topic, key=key, value=value, headers=headers).get(timeout=10)

    # what is there

    def ends(self, *topics: str) -> dict[tuple[str, int], int]:
        """End offset of every partition of the topics."""
        consumer = KafkaConsumer(bootstrap_servers=self.kafka, group_id=None, enable_auto_commit=False)
        try:
            places = [TopicPartition(topic, number) for topic in topics for number in range(self.partitions)]
            return {(place.topic, place.partition): end for place, end in consumer.end_offsets(places).items()}
        finally:
            consumer.close()

    def lag(self) -> int:
        """Messages of metrics and logs that no commit record covers yet, and rollup documents and alerts of commits
        still to be written; topics made anew count from their beginning."""
        admin = KafkaAdminClient(bootstrap_servers=self.kafka)
        topics = [self.names.metrics, self.names.logs]
        ids = {topic["name"]: str(topic["topic_id"]) for topic in admin.describe_topics(topics)}
        admin.close()
        lag = 0
        for (topic, partition), end in self.ends(*topics).items():
            status, answer = self.elastic.request("GET", f"/{self.names.state_index}/_doc/{topic}-{partition}")
            known = status == 200 and answer["_source"]["topic_id"] == ids[topic]
            lag += end - (answer["_source"]["upto"] if known else 0)
            if status == 200:
                lag += self._unwritten(answer["_source"])
        return lag

    def _unwritten(self, record: dict[str, Any]) -> int:
        pending = record["pending"]
        docs = [{"_index": index, "_id": identity} for identity, index, _, _ in pending["rollups"]]
        docs += [
            {"_index": self.names.alerts_index(alert["@timestamp"]), "_id": alerts.identity(alert)}
            for alert in pending["alerts"]
        ]
        if not docs:
            return 0
        _, answer = self.elastic.request("POST", "/_mget", body=orjson.dumps({"docs": docs}))
        versions = [record["commit"]] * len(pending["rollups"]) + [1] * len(pending["alerts"])
        return sum(doc.get("_version", 0) < version for doc, version in zip(answer["docs"], versions, strict=True))

    def search_all(self, pattern: str, source: bool) -> list[dict[str, Any]]:
        """All hits of the indices that match, with what was written just before."""
        return search_all(self.elastic, pattern, {"match_all": {}}, source)

    def rollup_sums(self, value: str = "events.seen") -> Counter[tuple[str, str, str, str]]:
        """Sums of a value per (rollup, minute, host.id, level) over all partitions."""
        sums: Counter[tuple[str, str, str, str]] = Counter()
        for hit in self.search_all(f"{self.names.prefix}-rollup-logs-*", source=True):
            doc = hit["_source"]
            sums[doc["rollup"], doc["@timestamp"][:16], doc.get("host.id", ""), doc["log.level"]] += doc[value]
        return +sums

    def told_alerts(self) -> list[str]:
        """The ids of all messages of the topic of alerts."""
        return [dict(message.headers)["id"].decode() for message in self._messages(self.names.alerts)]

    def dead_letters(self) -> list[Any]:
        """All messages of the dead-letter topic."""
        return self._messages(self.names.dlq)

    def _messages(self, topic: str) -> list[Any]:
        consumer = KafkaConsumer(
            bootstrap_servers=self.kafka, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        places = [TopicPartition(topic, number) for number in range(self.partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        messages = []
        while any(consumer.position(place) < ends[place] for place in places):
            for found in consumer.poll(timeout_ms=500).values():
                messages += found
        consumer.close()
        return messages

    def remake_topic(self, topic: str) -> None:
        """Delete a topic and make it anew."""
        admin = KafkaAdminClient(bootstrap_servers=self.kafka)
        admin.delete_topics([topic])
        deadline = 100
        while deadline:
            deadline -= 1
            with contextlib.suppress(Exception):
                if install.make_topics(KafkaConnection(self.kafka), self.names, self.partitions):
                    break
        admin.close()
        assert deadline, f"{topic} was not made anew"

    def reset_offsets(self) -> None:
        """Set the committed offsets of the consumer group back to the start."""
        from kafka.structs import OffsetAndMetadata

        admin = KafkaAdminClient(bootstrap_servers=self.kafka)
        places = [
            TopicPartition(topic, number)
            for topic in (self.names.metrics, self.names.logs)
            for number in range(self.partitions)
        ]
        admin.alter_group_offsets(
            self.names.consumer_group("pipeline"), {place: OffsetAndMetadata(0, "", -1) for place in places}
        )
        admin.close()

    def close(self) -> None:
        """Close the connections."""
        self._producer.close()
        self.elastic.close()

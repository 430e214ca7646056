"""``setup``: makes the topics and index templates, or brings them up to date. Safe to run again and again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import orjson
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from ezadmin_pipeline.elastic import Elastic, Unavailable
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names

_log = logging.getLogger(__name__)
_PREFIX = "ezadmin"
_TIMES = "message.timestamp.type"


class SetupError(Exception):
    """Something is there already, but is not what it has to be; the text says what to do."""


def templates(names: Names) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and body of every index template, for the indices under ``names``."""
    for file in sorted(files("ezadmin_pipeline").joinpath("templates").iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".json"):
            continue
        body = json.loads(file.read_text())
        body["index_patterns"] = [names.prefix + pattern[len(_PREFIX) :] for pattern in body["index_patterns"]]
        # a longer prefix may begin with ours (tests): the more precise template wins
        body["priority"] += len(names.prefix)
        yield f"{names.prefix}-{file.name.removesuffix('.json')}", body


def make_templates(elastic: Elastic, names: Names) -> list[str]:
    """Write all index templates; returns their names. Raises SetupError or Unavailable."""
    done = []
    for name, body in templates(names):
        status, answer = elastic.request("PUT", f"/_index_template/{name}", body=orjson.dumps(body))
        if status >= 500:
            raise Unavailable(f"index template {name}: {status} {answer}")
        if status != 200:
            raise SetupError(f"Elasticsearch refuses index template {name}: {answer}")
        done.append(name)
    return done


def make_topics(kafka: KafkaConnection, names: Names, partitions: int) -> list[str]:
    """Make the topics that are missing; returns their names.

    Raises SetupError if a topic has another number of partitions than it was to have, KafkaError if Kafka is away.
    """
    admin = KafkaAdminClient(**kafka.options(), bootstrap_timeout_ms=10_000)
    made = []
    try:
        nodes = len(admin.describe_cluster()["brokers"])
        wanted = names.topics(partitions)
        there = {
            topic["name"]: len(topic["partitions"])
            for topic in admin.describe_topics([topic.name for topic in wanted])
            if not topic["error_code"]
        }
        for topic in wanted:
            if topic.name in there:
                if there[topic.name] != topic.partitions:
                    raise SetupError(
                        f"topic {topic.name} has {there[topic.name]} partitions, the settings say {topic.partitions}: "
                        f"write partitions = {there[topic.name]} (the number is fixed when a topic is made)"
                    )
                times = {name: value for name, value in topic.settings.items() if name == _TIMES}
                if times:  # the other settings may have been changed by people
                    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, times)])
                continue
            new = NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=min(3, nodes),
                topic_configs={**topic.settings, **({"min.insync.replicas": "2"} if nodes >= 3 else {})},
            )
            try:
                admin.create_topics([new])
            except TopicAlreadyExistsError:
                continue
            except KafkaError as error:
                raise SetupError(f"topic {topic.name} cannot be made: {error}") from error
            made.append(topic.name)
    finally:
        admin.close()
    return made

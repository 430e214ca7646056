"""``setup``: makes the topics and index templates, or brings them up to date. Safe to run again and again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import orjson
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from ezadmin_pipeline.elastic import Elastic, Unavailable, reason
from ezadmin_pipeline.families import FAMILIES, IndexSettings
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names

_log = logging.getLogger(__name__)
_PREFIX = "ezadmin"
_TIMES = "message.timestamp.type"


class SetupError(Exception):
    """Something is there already, but is not what it has to be; the text says what to do."""


def templates(names: Names) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and body of every template as it stands in the files, for the indices under ``names``."""
    for file in sorted(files("ezadmin_pipeline").joinpath("templates").iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".json"):
            continue
        body = json.loads(file.read_text())
        body["index_patterns"] = [names.prefix + pattern[len(_PREFIX) :] for pattern in body["index_patterns"]]
        # a longer prefix may begin with ours (tests): the more precise template wins
        body["priority"] += len(names.prefix)
        yield f"{names.prefix}-{file.name.removesuffix('.json')}", body


def package(name: str) -> str:
    """The component template that holds what we say; ``<name>@custom`` is the user's own, which we never write."""
    return f"{name}@package"


def custom(name: str) -> str:
    """The component template in which a user may say otherwise: what stands there wins."""
    return f"{name}@custom"


def bodies(name: str, body: Mapping[str, Any], layout: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The component template and the index template of a template as it stands in the files.

    ``layout``: shards and replicas. ``_meta.ezadmin`` tells which version wrote them, and a hash of what it wrote.
    """
    template = {**body["template"], "settings": {**body["template"]["settings"], **layout}}
    written = hashlib.sha256(orjson.dumps(template, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    meta = {"ezadmin": {"version": body["_meta"]["ezadmin"]["version"], "written": written}}
    index_template = {
        "index_patterns": body["index_patterns"],
        "priority": body["priority"],
        "composed_of": [package(name), custom(name)],
        "ignore_missing_component_templates": [custom(name)],
        "_meta": meta,
    }
    return {"template": template, "_meta": meta}, index_template


def layout_of(name: str, names: Names, indices: IndexSettings, data_nodes: int) -> dict[str, Any]:
    """Shards and replicas of the indices of template ``name``."""
    spread = any(family.spread for family in FAMILIES if f"{names.prefix}-{family.template}" == name)
    return indices.layout(spread, data_nodes)


def make_templates(
    elastic: Elastic, names: Names, indices: IndexSettings | None = None, data_nodes: int = 1
) -> list[str]:
    """Write all templates, for a cluster of so many data nodes; returns their names. Indices that are there stay as they are.

    Raises SetupError, also if a newer version of this program wrote one of them, or Unavailable.
    """
    done = []
    for name, body in templates(names):
        component, index_template = bodies(name, body, layout_of(name, names, indices or IndexSettings(), data_nodes))
        _refuse_older(elastic, name, component)
        for path, content in (
            (f"/_component_template/{package(name)}", component),
            (f"/_index_template/{name}", index_template),
        ):
            status, answer = elastic.request("PUT", path, body=orjson.dumps(content))
            if status >= 500:
                raise Unavailable(f"{path}: {status} {reason(answer)}")
            if status != 200:
                raise SetupError(f"Elasticsearch refuses {path}: {_causes(answer)}")
        done.append(name)
    return done


def installed(elastic: Elastic, name: str) -> dict[str, Any] | None:
    """Our component template as it stands there; None if there is none. Raises Unavailable."""
    status, answer = elastic.request("GET", f"/_component_template/{package(name)}")
    if status == 404:
        return None
    if status != 200:
        raise Unavailable(f"component template {package(name)}: {status} {reason(answer)}")
    found: dict[str, Any] = answer["component_templates"][0]["component_template"]
    return found


def _refuse_older(elastic: Elastic, name: str, component: Mapping[str, Any]) -> None:
    there = installed(elastic, name)
    found = 0 if there is None else int(there.get("_meta", {}).get("ezadmin", {}).get("version", 0))
    ours = component["_meta"]["ezadmin"]["version"]
    if found > ours:
        raise SetupError(
            f"index template {name} is of version {found}, this program's is {ours}: "
            "run the newer ezadmin-pipeline that wrote it"
        )


def _causes(answer: Any) -> str:
    """What an error of Elasticsearch says, down to its cause: the outermost often says that there is one."""
    texts = []
    error = answer.get("error") if isinstance(answer, dict) else None
    while isinstance(error, dict):
        texts.append(str(error.get("reason") or error.get("type")))
        error = error.get("caused_by")
    return ": ".join(texts) or str(answer)


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

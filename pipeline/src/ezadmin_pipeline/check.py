"""``check``: asks everything that a worker needs, and says of each what to do if it is not right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson
from kafka import KafkaAdminClient

from ezadmin_pipeline import install
from ezadmin_pipeline.directory import TopicDirectory
from ezadmin_pipeline.elastic import Elastic, action
from ezadmin_pipeline.settings import Settings


class Problem(Exception):
    """What is wrong, and what to do."""


@dataclass(frozen=True)
class Result:
    """Outcome of one question: ``milliseconds`` it took, ``text`` what was found, or what is wrong and what to do."""

    name: str
    good: bool
    milliseconds: float
    text: str


def run(settings: Settings, elastic: Elastic) -> Iterator[Result]:
    """Ask one question after the other; all are asked, also after one failed."""
    questions: list[tuple[str, Callable[[], str]]] = [
        ("kafka", lambda: _kafka(settings)),
        ("topics", lambda: _topics(settings)),
        ("configuration", lambda: _configuration(settings)),
        ("elasticsearch", lambda: _health(elastic)),
        ("index templates", lambda: _templates(settings, elastic)),
        ("write and read", lambda: _write(settings, elastic)),
    ]
    for name, question in questions:
        start = time.perf_counter()
        try:
            text, good = question(), True
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is the answer to the question
            text, good = f"{error}" or repr(error), False
        yield Result(name, good, (time.perf_counter() - start) * 1000, text)


def _admin(settings: Settings) -> KafkaAdminClient:
    try:
        return KafkaAdminClient(**settings.kafka.options(), bootstrap_timeout_ms=5_000)
    except Exception as error:
        raise Problem(
            f"no Kafka answers at {settings.kafka} ({error}); is it running, is the address right?"
        ) from error


def _kafka(settings: Settings) -> str:
    admin = _admin(settings)
    try:
        return f"{len(admin.describe_cluster()['brokers'])} broker(s) at {settings.kafka}"
    finally:
        admin.close()


def _topics(settings: Settings) -> str:
    admin = _admin(settings)
    try:
        wanted = settings.names.topics(settings.partitions)
        found = {
            topic["name"]: len(topic["partitions"])
            for topic in admin.describe_topics([topic.name for topic in wanted])
            if not topic["error_code"]
        }
    finally:
        admin.close()
    missing = [topic.name for topic in wanted if topic.name not in found]
    if missing:
        raise Problem(f"missing: {', '.join(missing)}; run: ezadmin-pipeline setup")
    wrong = [topic.name for topic in wanted if found[topic.name] != topic.partitions]
    if wrong:
        raise Problem(f"another number of partitions than `partitions = {settings.partitions}`: {', '.join(wrong)}")
    return f"{len(wanted)} topics, {settings.partitions} partitions"


def _configuration(settings: Settings) -> str:
    deadline = time.monotonic() + 10

    def keep_alive() -> None:
        if time.monotonic() > deadline:
            raise Problem(f"topic {settings.names.config} cannot be read within 10 s")

    directory = TopicDirectory(settings.kafka, settings.names.config, settings.verify_keys(), keep_alive)
    try:
        directory.catch_up()
    finally:
        directory.close()
    if directory.refused:
        raise Problem(
            f"{directory.refused} record(s) are not signed by a key of config_public_key; is it the key that "
            "`ezadmin-cmdb key generate` printed for the cmdb's config_signing_key?"
        )
    return f"{directory.hosts} host(s), rules revision {directory.rules_revision}"


def _health(elastic: Elastic) -> str:
    status, answer = elastic.request("GET", "/_cluster/health")
    if status != 200 or answer["status"] == "red":
        raise Problem(f"{status} {answer}: look at the cluster's own log; a full disk is the usual cause")
    return f"{answer['status']}, {answer['number_of_nodes']} node(s)"


def _templates(settings: Settings, elastic: Elastic) -> str:
    for name, body in install.templates(settings.names):
        status, answer = elastic.request("GET", f"/_index_template/{name}")
        if status != 200:
            raise Problem(f"{name} is missing ({status}); run: ezadmin-pipeline setup")
        found = answer["index_templates"][0]["index_template"].get("_meta", {}).get("ezadmin", {})
        if found != body["_meta"]["ezadmin"]:
            raise Problem(f"{name} is of another version ({found}); run: ezadmin-pipeline setup")
    return "as shipped"


def _write(settings: Settings, elastic: Elastic) -> str:
    index = settings.names.state_index
    body = action("index", index, "check") + orjson.dumps({"topic": "check"}) + b"\n" + action("delete", index, "check")
    status, answer = elastic.request("POST", "/_bulk", params={"timeout": "10s"}, body=body)
    if status != 200 or answer["errors"]:
        raise Problem(f"{index} cannot be written: {status} {answer}")
    return f"{index} takes documents"

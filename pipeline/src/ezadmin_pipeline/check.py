"""``check``: asks everything that a worker needs, each right by doing what it allows, and says what to do if it is not right."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError, KafkaError

from ezadmin_pipeline import broker, families, install
from ezadmin_pipeline.directory import NoConfiguration, TopicDirectory
from ezadmin_pipeline.elastic import Elastic, ElasticClient, SignInRefused, action, reason
from ezadmin_pipeline.epochs import KEEP_DAYS
from ezadmin_pipeline.families import ask
from ezadmin_pipeline.settings import Settings
from ezadmin_wire import WireError
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.kafka_probe import Refusal
from ezadmin_wire.names import DAY_MS
from ezadmin_wire.own import Identity

OK, WARN, FAILED = "ok", "warn", "failed"
_CLOCK_SECONDS = 5.0
_SHARDS_SHARE = 0.9
_ELASTIC_SECONDS = 10.0
_GROUP_SECONDS = 10.0
_UNITS = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40, "pb": 1 << 50}


class Problem(Exception):
    """What is wrong, and what to do."""


class Doubt(Exception):
    """What works, but should be looked at."""


@dataclass(frozen=True)
class Result:
    """Outcome of one question. ``state`` ok, warn or failed; ``text`` what was found, or what is wrong and what to do."""

    name: str
    state: str
    milliseconds: float
    text: str

    def to_json(self) -> dict[str, Any]:
        """As `check --json` shows it."""
        return {**asdict(self), "milliseconds": round(self.milliseconds, 1)}


def run(settings: Settings) -> Iterator[Result]:
    """Ask one question after the other; all are asked, also after one failed."""
    for server in settings.kafka.servers:
        yield _asked(f"kafka {server}", partial(_broker, settings, server))
    for name, ask_kafka in (("topics", _topics), ("rights in kafka", _kafka_rights), ("configuration", _configuration)):
        yield _asked(name, partial(ask_kafka, settings))
    if settings.own_key is not None:
        yield _asked("own figures", partial(_own, settings, settings.own_key))
    for foreign in settings.foreign:
        yield _asked(f"foreign topic {foreign.topic}", partial(_foreign, settings, foreign.topic))
    for connection in settings.elasticsearch.each():
        yield _asked(
            f"elasticsearch {connection.urls[0]}", partial(_with_client, connection, partial(_node, connection))
        )
    questions: tuple[tuple[str, Callable[[Elastic], str]], ...] = (
        ("cluster", _health),
        ("index templates", partial(_templates, settings)),
        ("write and read", partial(_write, settings)),
        ("make and drop", partial(_make_and_drop, settings)),
        ("write blocks", partial(_blocks, settings)),
        ("disks", _disks),
        ("shards", _shards),
        ("indices ahead", partial(_ahead, settings)),
    )
    for name, question in questions:
        yield _asked(name, partial(_with_client, settings.elasticsearch, question))


def _with_client(connection: ElasticConnection, question: Callable[[Elastic], str]) -> str:
    client = ElasticClient(connection, timeout=_ELASTIC_SECONDS)
    try:
        return question(client)
    finally:
        client.close()


def _asked(name: str, question: Callable[[], str]) -> Result:
    start = time.perf_counter()
    try:
        state, text = OK, question()
    except Doubt as doubt:
        state, text = WARN, str(doubt)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the answer to the question
        state, text = FAILED, f"{error}" or repr(error)
    return Result(name, state, (time.perf_counter() - start) * 1000, text)


# Kafka


def _admin(kafka: KafkaConnection) -> Any:
    try:
        return KafkaAdminClient(**kafka.options(), bootstrap_timeout_ms=5_000)
    except KafkaError as error:
        raise Problem(f"no Kafka answers at {kafka}: {broker.explain(error, kafka)}; is it running?") from error


def _broker(settings: Settings, server: str) -> str:
    kafka = replace(settings.kafka, bootstrap=server)
    problem = kafka.probe()[server]
    if problem is not None:
        hint = (
            "mend user, password or sasl in [kafka]"
            if isinstance(problem, Refusal)
            else "is it running, is the address right?"
        )
        raise Problem(f"{problem}; {hint}")
    admin = _admin(kafka)
    try:
        brokers = admin.describe_cluster()["brokers"]
        version = ".".join(map(str, admin.get_broker_version_data(brokers[0]["broker_id"]).broker_version))
    finally:
        admin.close()
    how = str(settings.kafka).removeprefix(settings.kafka.bootstrap).strip() or "without TLS and sign-in"
    return f"answers {how}; Kafka {version}, {len(brokers)} broker(s)"


def _topics(settings: Settings) -> str:
    wanted = settings.names.topics(settings.partitions)
    admin = _admin(settings.kafka)
    try:
        described = {topic["name"]: topic for topic in admin.describe_topics([topic.name for topic in wanted])}
        hidden = [name for name, topic in described.items() if topic["error_code"] == broker.TOPIC_AUTHORIZATION_FAILED]
        missing = [name for name, topic in described.items() if topic["error_code"] and name not in hidden]
        if missing:
            raise Problem(f"missing: {', '.join(missing)}; run: ezadmin-pipeline setup")
        found = {name: topic["partitions"] for name, topic in described.items() if name not in hidden}
        wrong = [t.name for t in wanted if t.name in found and len(found[t.name]) != t.partitions]
        if wrong:
            raise Problem(f"another number of partitions than `partitions = {settings.partitions}`: {', '.join(wrong)}")
        leaderless = [name for name, partitions in found.items() if any(p["leader_id"] < 0 for p in partitions)]
        if leaderless:
            raise Problem(f"partitions without a leader in {', '.join(leaderless)}: a broker is away")
        thin = [
            name
            for name, partitions in found.items()
            if any(len(p["isr_nodes"]) < len(p["replica_nodes"]) for p in partitions)
        ]
        if thin:
            raise Doubt(f"copies are behind in {', '.join(thin)}: a broker is away or slow")
        _retention(admin, settings)
    finally:
        admin.close()
    seen = f"{len(found)} topics, {settings.partitions} partitions"
    return seen + (f"; {len(hidden)} that this user need not see" if hidden else "")


def _retention(admin: Any, settings: Settings) -> None:
    topics = [settings.names.metrics, settings.names.logs]
    try:
        described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics])
    except KafkaError:
        return  # a worker need not see settings; setup makes them
    for topic, config in described.get("topic", {}).items():
        days = int(config.get("retention.ms", {}).get("value") or 0) / DAY_MS
        if days > KEEP_DAYS:
            raise Doubt(
                f"{topic} keeps messages for {days:.0f} days, more than the {KEEP_DAYS} for which it is known what was read: "
                "read again from its beginning, old ones could be counted twice"
            )


def _kafka_rights(settings: Settings) -> str:
    names = settings.names
    wanted = [
        (names.metrics, "READ"),
        (names.logs, "READ"),
        (names.config, "READ"),
        (names.dlq, "WRITE"),
        (names.alerts, "WRITE"),
    ]
    if settings.own_key is not None:
        wanted += [(names.metrics, "WRITE"), (names.logs, "WRITE"), (names.state, "WRITE")]
    group = names.consumer_group("pipeline")
    admin = _admin(settings.kafka)
    try:
        topics = list(dict.fromkeys(topic for topic, _ in wanted))
        allowed = {t["name"]: t["authorized_operations"] for t in admin.describe_topics(topics) if not t["error_code"]}
        missing = [
            f"{right.title()} on topic {topic}" for topic, right in wanted if right not in (allowed.get(topic) or [])
        ]
        if not _may_read_group(admin, group):
            missing.append(f"Read on group {group}")
    finally:
        admin.close()
    if missing:
        raise Problem(f"missing: {', '.join(missing)}; docs/security.md has them all")
    return "reads and writes what a worker must"


def _may_read_group(admin: Any, group: str) -> bool:
    deadline = time.monotonic() + _GROUP_SECONDS
    while True:
        try:
            described = admin.describe_groups([group], include_authorized_operations=True)[group]
        except GroupAuthorizationFailedError:
            return False
        except CoordinatorNotAvailableError:  # a new cluster: it makes a place for groups with the first question
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
            continue
        operations = described["authorized_operations"]
        return "Authorization" not in str(described["error"]) and (operations is None or "READ" in operations)


def _configuration(settings: Settings) -> str:
    try:
        directory = TopicDirectory.read(settings.kafka, settings.names.config, settings.verify_keys())
    except NoConfiguration as error:
        raise Problem(str(error)) from error
    if directory.refused:
        raise Problem(
            f"{directory.refused} record(s) are not signed by a key of config_public_key; is it the key that "
            "`ezadmin-cmdb key generate` printed for the cmdb's config_signing_key?"
        )
    if settings.signatures != "required":
        raise Doubt(f'signatures = "{settings.signatures}": who sends is not made sure of')
    if not directory.hosts:
        raise Doubt("no hosts yet, so nothing is believed: ezadmin-cmdb host add, and ezadmin-cmdb worker must run")
    return f"{directory.hosts} host(s), rules revision {directory.rules_revision}"


def _own(settings: Settings, key_file: Path) -> str:
    """Whether what a worker says of itself would be believed."""
    if not key_file.exists():
        raise Problem(
            f"[own]: key {key_file} is not there; run: ezadmin-pipeline identity, and make it known with its answer"
        )
    try:
        identity = Identity.load(key_file, settings.own_host_id)
    except WireError as error:
        raise Problem(f"[own]: {error}") from error
    known = TopicDirectory.read(settings.kafka, settings.names.config, settings.verify_keys())
    try:
        key = known.find_key(identity.host_id, identity.key.kid)
    except WireError as error:
        raise Problem(f"{error}; what it says of itself would be dead letters") from error
    if key is None:
        raise Problem(
            f"the cmdb does not know key {identity.key.kid} of host {identity.host_id}, so nothing is written; run: "
            f"ezadmin-cmdb host add --id {identity.host_id} --name NAME --public-key {identity.key.public.hex()}"
        )
    return f"known as host {identity.host_id}"


def _foreign(settings: Settings, topic: str) -> str:
    admin = _admin(settings.kafka)
    try:
        found = admin.describe_topics([topic])[0]
    finally:
        admin.close()
    if found["error_code"] == broker.TOPIC_AUTHORIZATION_FAILED:
        raise Problem(f"this user may not see it: Read and Describe on topic {topic} are missing")
    if found["error_code"]:
        raise Doubt("does not exist (yet); it is read from when it is made")
    operations = found["authorized_operations"]
    if operations is not None and "READ" not in operations:
        raise Problem(f"missing: Read on topic {topic}")
    return f"{len(found['partitions'])} partitions, unsigned"


# Elasticsearch


def _node(connection: ElasticConnection, elastic: Elastic) -> str:
    start = time.time()
    node = next(
        iter(ask(elastic, "GET", "/_nodes/_local", {"filter_path": "nodes.*.version,nodes.*.name"})["nodes"].values())
    )
    stats = ask(elastic, "GET", "/_nodes/_local/stats/fs", {"filter_path": "nodes.*.timestamp"})
    ahead = next(iter(stats["nodes"].values()))["timestamp"] / 1000 - (start + time.time()) / 2
    major = int(node["version"].split(".")[0])
    text = f"answers; Elasticsearch {node['version']}, node {node['name']}, {_user(connection, elastic)}, clock {ahead:+.1f} s"
    if major not in (8, 9):
        raise Doubt(f"{text}; made for 8.19 and 9")
    if abs(ahead) > _CLOCK_SECONDS + (time.time() - start):
        raise Doubt(f"{text}: this machine's clock and the node's differ; do both follow an NTP server?")
    return text


def _user(connection: ElasticConnection, elastic: Elastic) -> str:
    if connection.authorization() is None:
        return "no sign-in"
    answer = ask(elastic, "GET", "/_security/_authenticate")
    return f"user {answer['username']} ({', '.join(answer['roles']) or 'no roles'})"


def _health(elastic: Elastic) -> str:
    answer = ask(elastic, "GET", "/_cluster/health")
    text = f"{answer['status']}, {answer['number_of_nodes']} node(s), {answer['number_of_data_nodes']} with data"
    if answer["status"] == "red":
        raise Problem(f"{text}: data is missing; look at the cluster's own log; a full disk is the usual cause")
    if answer["status"] == "yellow":
        raise Doubt(f"{text}: {answer['unassigned_shards']} copies have no place; is a node away?")
    return text


def _templates(settings: Settings, elastic: Elastic) -> str:
    try:
        nodes = families.data_nodes(elastic)
        own = [_template(settings, elastic, name, body, nodes) for name, body in install.templates(settings.names)]
    except SignInRefused as error:
        raise Doubt(f"not looked at, the user need not be allowed to: {error}") from error
    owned = [name for name in own if name]
    return f"{len(own)} as shipped" + (f"; with changes of yours in {', '.join(owned)}" if owned else "")


def _template(settings: Settings, elastic: Elastic, name: str, body: dict[str, Any], nodes: int) -> str | None:
    """Look at one; returns the name of the user's own component template if there is one."""
    layout = install.layout_of(name, settings.names, settings.indices, nodes)
    component, index_template = install.bodies(name, body, layout)
    stored = install.installed(elastic, name)
    status, answer = elastic.request("GET", f"/_index_template/{name}")
    if stored is None or status != 200:
        raise Problem(f"{name} is missing; run: ezadmin-pipeline setup")
    found, wanted = stored.get("_meta", {}).get("ezadmin", {}), component["_meta"]["ezadmin"]
    if found.get("version", 0) > wanted["version"]:
        raise Problem(
            f"{name} is of version {found['version']}, this program's is {wanted['version']}: it is the older one"
        )
    whole = answer["index_templates"][0]["index_template"]
    drifted = [
        what
        for what, good in (
            ("settings", _flat(stored["template"].get("settings", {})) == _flat(component["template"]["settings"])),
            ("fields", stored["template"].get("mappings") == component["template"]["mappings"]),
            ("parts", whole.get("composed_of") == index_template["composed_of"]),
            ("patterns", whole.get("index_patterns") == index_template["index_patterns"]),
        )
        if not good
    ]
    if found != wanted:
        raise Doubt(f"{name} is of another version or for another cluster size ({found}); run: ezadmin-pipeline setup")
    if drifted:
        raise Doubt(
            f"{name} was changed by hand ({', '.join(drifted)}); write them into {install.custom(name)}, setup undoes these"
        )
    return (
        install.custom(name)
        if elastic.request("GET", f"/_component_template/{install.custom(name)}")[0] == 200
        else None
    )


def _flat(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Settings by dotted name, as text, which is how Elasticsearch keeps them."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        elif isinstance(value, list):
            found[before + name] = [str(item) for item in value]
        else:
            found[before + name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _write(settings: Settings, elastic: Elastic) -> str:
    index = settings.names.state_index
    _item(elastic, index, action("index", index, "check") + orjson.dumps({"topic": "check"}) + b"\n")
    status, answer = elastic.request("GET", f"/{index}/_doc/check")
    if status != 200:
        raise Problem(f"{index} cannot be read: {status} {reason(answer)}")
    _item(elastic, index, action("delete", index, "check"))
    ask(elastic, "POST", f"/{settings.names.prefix}-*/_refresh")
    ask(elastic, "POST", f"/{settings.names.prefix}-*/_search", {"size": "0"})
    return f"{index} takes, gives and deletes a document; indices are searched and refreshed"


def _item(elastic: Elastic, index: str, body: bytes) -> None:
    status, answer = elastic.request("POST", "/_bulk", params={"timeout": "10s"}, body=body)
    if status != 200:
        raise Problem(f"{index} cannot be written: {status} {reason(answer)}")
    result = next(iter(answer["items"][0].values()))
    if "error" in result:
        raise Problem(f"{index} cannot be written: {result['status']} {result['error'].get('reason')}")


def _make_and_drop(settings: Settings, elastic: Elastic) -> str:
    index = f"{settings.names.prefix}-check"
    status, answer = elastic.request("PUT", f"/{index}")
    if status != 200 and "resource_already_exists_exception" not in str(answer):
        raise Problem(f"index {index} cannot be made: {status} {reason(answer)}")
    status, answer = elastic.request("DELETE", f"/{index}")
    if status != 200:
        raise Problem(f"index {index} cannot be dropped: {status} {reason(answer)}")
    return "an index is made and dropped"


def _blocks(settings: Settings, elastic: Elastic) -> str:
    params = {"flat_settings": "true", "expand_wildcards": "all"}
    found = ask(elastic, "GET", f"/{settings.names.prefix}-*/_settings/index.blocks.*", params)
    blocked = sorted(
        f"{index} ({name.removeprefix('index.blocks.')})"
        for index, body in found.items()
        for name, value in body["settings"].items()
        if value == "true" and name != "index.blocks.metadata"
    )
    if blocked:
        raise Problem(
            f"{', '.join(blocked[:5])}{', …' if len(blocked) > 5 else ''} take no documents: make room on the disks; "
            "Elasticsearch lifts read_only_allow_delete by itself then, the others you lift: PUT INDEX/_settings "
            '{"index.blocks.write": null}'
        )
    return "none"


def _disks(elastic: Elastic) -> str:
    limits = _watermarks(elastic)
    texts, full, filling = [], [], []
    params = {"format": "json", "bytes": "b", "h": "node,disk.avail,disk.total"}
    for row in ask(elastic, "GET", "/_cat/allocation", params):
        if row["node"] == "UNASSIGNED" or not row["disk.total"]:
            continue
        free, total = int(row["disk.avail"]), int(row["disk.total"])
        texts.append(f"{row['node']} {free / (1 << 30):.1f} of {total / (1 << 30):.1f} GiB free")
        if free < _free_at(limits["flood_stage"], total) or free < _free_at(limits["high"], total):
            full.append(row["node"])
        elif free < _free_at(limits["low"], total):
            filling.append(row["node"])
    text = "; ".join(texts) or "not told"
    if full:
        raise Problem(
            f"{text}: {', '.join(full)} beyond the high watermark ({limits['high']}): new indices get no place there"
        )
    if filling:
        raise Doubt(
            f"{text}: {', '.join(filling)} beyond the low watermark ({limits['low']}); lower [retention] or add room"
        )
    return text


def _watermarks(elastic: Elastic) -> dict[str, str]:
    before = "cluster.routing.allocation.disk.watermark."
    found = _cluster_settings(elastic)
    return {name: str(found[before + name]) for name in ("low", "high", "flood_stage")}


def _cluster_settings(elastic: Elastic) -> dict[str, Any]:
    answer = ask(elastic, "GET", "/_cluster/settings", {"include_defaults": "true", "flat_settings": "true"})
    return {**answer["defaults"], **answer["persistent"], **answer["transient"]}


def _free_at(limit: str, total: int) -> float:
    """How many bytes are free when ``limit`` is reached: a share that is used (85%, 0.85), or bytes that are free (2gb)."""
    if found := re.fullmatch(r"([0-9.]+)%", limit):
        return total * (1 - float(found[1]) / 100)
    if found := re.fullmatch(r"([0-9.]+)([kmgtp]?b)", limit.lower()):
        return float(found[1]) * _UNITS[found[2]]
    return total * (1 - float(limit))


def _shards(elastic: Elastic) -> str:
    answer = ask(elastic, "GET", "/_cluster/health")
    limit = int(_cluster_settings(elastic)["cluster.max_shards_per_node"]) * answer["number_of_data_nodes"]
    used = answer["active_shards"] + answer["unassigned_shards"]
    text = f"{used} of {limit}"
    if used >= limit:
        raise Problem(f"{text}: no index can be made; lower [retention], or raise cluster.max_shards_per_node")
    if used >= _SHARDS_SHARE * limit:
        raise Doubt(f"{text}: soon no index can be made; lower [retention], or raise cluster.max_shards_per_node")
    return text


def _ahead(settings: Settings, elastic: Elastic) -> str:
    there = families.there(elastic, settings.names)
    now = datetime.now(UTC)
    tomorrow = families.name_of(families.FAMILIES[0], now + timedelta(days=1), settings.names)
    size = sum(index.size for index in there) / (1 << 30)
    text = f"{len(there)} indices, {size:.1f} GiB"
    if tomorrow not in {index.name for index in there}:
        raise Doubt(
            f"{text}; {tomorrow} is not there yet: a worker that runs makes it, or: ezadmin-pipeline indices --apply"
        )
    return f"{text}, tomorrow's are there"

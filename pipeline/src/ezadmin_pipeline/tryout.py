"""``try`` and ``why``: what rules would do, and what was decided of the lines of a host. Both read and change nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from kafka import KafkaConsumer
from kafka.partitioner.default import murmur2

from ezadmin_pipeline import commits, rollups
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.elastic import Elastic, Unavailable
from ezadmin_pipeline.foreign import host_id as foreign_host_id
from ezadmin_pipeline.indexer import Chunk
from ezadmin_pipeline.letters import read_partitions
from ezadmin_pipeline.lines import SAMPLE_RATE, BadLine, Bounds
from ezadmin_pipeline.ranges import Ranges
from ezadmin_pipeline.reading import Reading
from ezadmin_pipeline.rules import RuleSet
from ezadmin_pipeline.settings import Settings, SurgeSettings
from ezadmin_pipeline.surges import Surges, floor_of
from ezadmin_wire import WireError
from ezadmin_wire import batch as wire
from ezadmin_wire.config import RulesRecord
from ezadmin_wire.fields import load
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.rules import check_rules
from ezadmin_wire.times import format_time, parse_time

SAMPLES = 3
EARLY = timedelta(minutes=10)
"""How long before its own time a line can have been sent: its host's clock is ahead by this at most."""
_MGET = 500


@dataclass(frozen=True)
class Fate:
    """What becomes of a line. ``fate``: kept, changed, dropped or dead; ``rules`` those that decided or changed it."""

    host: str
    time: str
    minute: str
    level: str
    dataset: str
    fate: str
    rules: list[str]
    before: dict[str, Any]
    after: dict[str, Any]
    index: str = ""
    id: str = ""
    reason: str = ""
    place: tuple[str, int] = ("", -1)
    """The topic and partition that it came in."""


def read_rules(path: Path) -> RulesRecord:
    """The rules in a file, as ``ezadmin-cmdb rules list --json`` writes them. Raises WireError for what cannot be used."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WireError("bad_rule", f"cannot read {path}: {error.strerror}") from error
    try:
        record = load(RulesRecord, data)
        check_rules(record)
    except WireError as error:
        raise WireError(error.reason, f"{path}: {error}") from error
    return record


class Reader:
    """Reads lines and says what ``rules`` do to them; messages that are dead letters are passed over."""

    def __init__(self, settings: Settings, directory: Directory, rules: RuleSet) -> None:
        self._settings = settings
        self._directory = directory
        self._rules = rules
        self._reading = Reading(settings, directory)
        directory.rules = RulesRecord()  # documents as they are without rules
        self._documents = DocumentMaker(settings.names, directory, lambda: datetime.now(UTC))
        self._seen: defaultdict[str, Ranges] = defaultdict(Ranges)
        self.unread = 0
        """Messages that could not be read."""

    @property
    def topics(self) -> list[str]:
        """The topics of lines that rules are for: the agents', and the foreign ones that there are."""
        return [self._settings.names.logs, *self._reading.foreign]

    def read(
        self,
        topic: str,
        since: datetime,
        until: datetime | None = None,
        partition: int | None = None,
        host: str | None = None,
    ) -> Iterator[Fate]:
        """Every line once of one of :attr:`topics` that reached Kafka between two times, of one ``host`` or of all."""
        bounds = [None if moment is None else int(moment.timestamp() * 1000) for moment in (since, until)]
        keyed = topic == self._settings.names.logs
        for message in read_partitions(self._settings.kafka, topic, bounds[0], bounds[1], partition):
            if keyed and host is not None and message.key != host.encode():
                continue
            try:
                batch = self._reading.batch(message)
            except WireError:
                self.unread += 1
                continue
            if host is None or batch.host == host:
                yield from self.judge(batch, Bounds.around(message.timestamp), (topic, message.partition))

    def judge(
        self, batch: wire.Batch, bounds: Bounds | None = None, place: tuple[str, int] = ("", -1)
    ) -> Iterator[Fate]:
        """The lines of a batch, which came in at ``place``, that were not seen before."""
        seen = self._seen[f"{batch.host}/{batch.stream}/{batch.epoch}"]
        new = seen.missing(batch.seq, batch.seq + batch.n)
        seen.add(batch.seq, batch.seq + batch.n)
        chunk = Chunk(_NOBODY, 0, fresh=False, context=batch)
        for _, raw, error in self._documents.make(chunk, batch, new, bounds):
            minute = error.minute or ""
            known = {"message": raw.decode("utf-8", "replace")}
            yield Fate(
                batch.host, minute, minute, error.level, batch.dataset, "dead", [], known, known,
                reason=str(error), place=place,
            )  # fmt: skip
        plan = self._rules.plan(batch, self._directory.host(batch.host), suspect=True)
        for i, (minute, level, raw) in enumerate(chunk.tags):
            document, rules, fate, reason = chunk.documents[i], [], "kept", ""
            try:
                verdict = None if plan is None else plan.judge(raw, minute, level)
                if verdict is not None and verdict.dropped_by is not None:
                    fate, rules = "dropped", [verdict.dropped_by.id]
                elif verdict is not None:
                    document, changed = verdict.change(document)
                    fate = "changed" if changed else "kept"
                    rules = [rule.id for rule in verdict.matched if rule.exempts or rule in changed]
            except BadLine as error:
                fate, reason = "dead", str(error)
            before, after = _decoded(chunk.documents[i]), _decoded(document)
            target = orjson.loads(chunk.actions[i])["create"]
            yield Fate(
                batch.host,
                _time(before, minute),
                minute,
                level,
                batch.dataset,
                fate,
                rules,
                before,
                after,
                target["_index"],
                target["_id"],
                reason,
                place,
            )


def _decoded(document: bytes) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = orjson.loads(document)
    except orjson.JSONDecodeError:  # Elasticsearch may be able to read it
        return {"message": document.decode("utf-8", "replace")}
    return fields


def _time(fields: dict[str, Any], minute: str) -> str:
    try:
        return format_time(parse_time(fields.get("@timestamp", "")))
    except WireError:
        return minute


class _Nobody:
    live = False

    def settled(self, lines: int) -> None:
        """Nothing is written."""

    def conflicted(self, chunk: Chunk, i: int) -> None:
        """Nothing is written."""

    def died(self, chunk: Chunk, i: int, reason: str, text: str) -> None:
        """Nothing is written."""


_NOBODY = _Nobody()


@dataclass
class Trial:
    """The outcome of ``try``."""

    fates: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Fate]] = field(default_factory=dict)
    kept: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """Lines that the rules keep, per minute, host, dataset and level."""

    def add(self, fate: Fate) -> None:
        """Count a line, and keep it as a sample of its rules if they have few."""
        self.fates[fate.fate] += 1
        if fate.fate in ("kept", "changed"):
            self.kept[fate.minute, fate.before.get("host.name", fate.host), fate.dataset, fate.level] += 1
        for rule in fate.rules:
            self.hits[rule] += 1
            samples = self.samples.setdefault(rule, [])
            if len(samples) < SAMPLES:
                samples.append(fate)

    def report(self, rules: RuleSet) -> Iterator[str]:
        """The lines to print."""
        fates = self.fates
        yield (
            f"{sum(fates.values())} lines: {fates['kept'] + fates['changed']} kept ({fates['changed']} of them changed), "
            f"{fates['dropped']} dropped, {fates['dead']} dead letters"
        )
        for compiled in rules.rules:
            yield f"{compiled.id}  {compiled.rule.action}  {self.hits[compiled.id]} lines"
            for fate in self.samples.get(compiled.id, []):
                host = fate.before.get("host.name", fate.host)
                yield f"    {fate.time}  {host}  {fate.level}  {_short(fate.before.get('message'))}"
                for name in sorted(fate.before.keys() | fate.after.keys()):
                    old, new = fate.before.get(name), fate.after.get(name)
                    if old != new:
                        yield f"      {name}: {_short(old)} -> {_short(new)}"
        yield from (f"left out: {text}" for text in rules.refused)

    def surges(self, settings: SurgeSettings) -> Iterator[str]:
        """What can be said about surges, of lines alone."""
        if not settings.on:
            yield "surges: off in the settings"
            return
        above = []
        for (minute, host, dataset, level), count in self.kept.items():
            floor = floor_of(settings, dataset, level)
            if floor is not None and count > floor:
                above.append(
                    (count - floor, f"{minute}  {host}  {dataset}/{level}: {count} lines, the floor is {floor}")
                )
        if not above:
            yield f"surges: no minute of a host, dataset and level is above its floor ({settings.floor}): all would be stored"
            return
        yield (
            f"surges: {sum(excess for excess, _ in above)} lines are above the floor of their minute, host, dataset and level "
            f"and would be sampled, unless that is usual there: the budget is {settings.factor:g} times the rate of the hour "
            "before if that is more, which cannot be told from these lines; `why` tells what was decided"
        )
        for _, text in sorted(above, reverse=True)[:SAMPLES]:
            yield f"    {text}"


def _place(fate: Fate, rate: int | None, counts: rollups.Counts | None) -> str:
    if rate is not None:
        return "stored" if rate == 1 else f"stored as one of {rate} in a surge"
    if fate.fate in ("kept", "changed") and counts is not None and counts.sampled:
        return "not stored: withheld in a surge"
    return "not stored"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 120 else text[:119] + "…"


def partition_of(settings: Settings, host: str) -> int:
    """The partition of the logs topic that a host's batches are in. Raises LookupError if there is no such topic."""
    consumer = KafkaConsumer(
        **settings.kafka.options(), group_id=None, enable_auto_commit=False, bootstrap_timeout_ms=10_000
    )
    try:
        numbers = consumer.partitions_for_topic(settings.names.logs)
    finally:
        consumer.close()
    if not numbers:
        raise LookupError(f"topic {settings.names.logs} does not exist; run: ezadmin-pipeline setup")
    return int((murmur2(host.encode()) & 0x7FFFFFFF) % len(numbers))


class Why:
    """Explains what was decided of the lines of a host around a time.

    ``host``: the host.id or name of a host of the cmdb; else the name that one gives itself in a foreign topic, or its
    host.id. Raises LookupError if there is no such host, and no foreign topic either.
    """

    def __init__(self, settings: Settings, elastic: Elastic, directory: Directory, host: str) -> None:
        self._settings = settings
        self._elastic = elastic
        self._rules = RuleSet(directory.rules, directory.rules_revision)
        self._reader = Reader(settings, directory, self._rules)
        self._name = host
        own, *foreign = self._reader.topics
        try:
            self._hosts = {own: directory.named(host)}
        except LookupError:
            if not foreign:
                raise
            self._hosts = {topic: host if is_host_id(host) else foreign_host_id(topic, host) for topic in foreign}

    def report(self, moment: datetime, within: timedelta, late: timedelta) -> Iterator[str]:
        """The lines to print, about events at most ``within`` away from ``moment`` that were sent at most ``late`` after."""
        own = self._settings.names.logs
        yield f"rules in force: revision {self._rules.revision}, {len(self._rules.rules)} rules"
        if own not in self._hosts:
            yield f"{self._name} is no host of the cmdb: foreign topics are looked at: {', '.join(self._hosts)}"
        first, last = format_time(moment - within), format_time(moment + within)
        nothing = True
        for topic, host in self._hosts.items():
            partition = partition_of(self._settings, host) if topic == own else None
            found = [
                fate
                for fate in self._reader.read(topic, moment - within - EARLY, moment + within + late, partition, host)
                if first <= fate.time <= last or (fate.fate == "dead" and first[:16] <= fate.minute <= last[:16])
            ]
            nothing = nothing and not found
            places = {fate.place for fate in found}
            if partition is not None:
                places.add((topic, partition))
            for place in sorted(places):
                yield from self._committed(place, host)
            if places:
                yield from self._surges(host, first, last)
            yield from self._fates(found, host)
        if nothing:
            yield f"Kafka holds no lines of this host from {first} to {last} that were sent within {late} of it"

    def _committed(self, place: tuple[str, int], host: str) -> Iterator[str]:
        """What the commit record of a partition says."""
        topic, partition = place
        record = commits.load(self._elastic, self._settings.names, topic, partition)
        if record is None:
            yield f"{topic}/{partition}: nothing is committed yet"
            return
        yield f"{topic}/{partition}: the last commit was by revision {record.rules_revision}"
        yield from self._budgets(record, host)

    def _fates(self, found: list[Fate], host: str) -> Iterator[str]:
        """What became of each line, and how all were counted."""
        stored, counts = self._stored(found), self._counts(found, host)
        for fate in sorted(found, key=lambda one: one.time):
            rules = f" by {', '.join(fate.rules)}" if fate.rules else ""
            place = _place(fate, stored.get(fate.id), counts.get((*fate.place, fate.minute, fate.dataset, fate.level)))
            what = f"{fate.fate}{rules}{f' ({fate.reason})' if fate.reason else ''}"
            yield f"{fate.time}  {fate.level:9} {what}, {place}  {_short(fate.before.get('message'))}"
        for (topic, partition, minute, dataset, level), values in counts.items():
            figures = ", ".join(f"{name.removeprefix('events.')} {count}" for name, count in values.fields().items())
            yield f"counted in {minute}, {dataset}, {level}: {figures} ({topic}/{partition})"

    def _budgets(self, record: commits.CommitRecord, host: str) -> Iterator[str]:
        if not self._settings.surges.on:
            yield "surges: off in the settings"
            return
        for text in Surges(self._settings.surges, record.surges, record.exemplars).explain(host):
            yield f"surges, as of the last commit: {text}"

    def _surges(self, host: str, first: str, last: str) -> Iterator[str]:
        """The alerts of surges that were between two times."""
        query = {
            "size": 100,
            "sort": [{"@timestamp": "desc"}],
            "query": {
                "bool": {
                    "filter": [
                        {"term": {"host.id": host}},
                        {"term": {"event.dataset": "alert.surge"}},
                        {"range": {"event.start": {"lte": last}}},
                    ]
                }
            },
        }
        path = f"/{self._settings.names.prefix}-alerts-*/_search"
        status, answer = self._elastic.request(
            "POST", path, params={"ignore_unavailable": "true"}, body=orjson.dumps(query)
        )
        if status != 200:
            raise Unavailable(f"{status} {answer}")
        told = set()
        for hit in answer["hits"]["hits"]:  # the end of a surge comes before its begin
            alert = hit["_source"]
            surge = (alert["alert.item"], alert["event.start"])
            if surge not in told and alert.get("event.end", last) >= first:
                yield f"surge {alert['event.start']} to {alert.get('event.end', 'now')}: {alert['message']}"
            told.add(surge)

    def _stored(self, fates: list[Fate]) -> dict[str, int]:
        """What is stored, with its ``event.sample_rate``."""
        places = [{"_index": fate.index, "_id": fate.id, "_source": [SAMPLE_RATE]} for fate in fates if fate.id]
        found: dict[str, int] = {}
        for start in range(0, len(places), _MGET):
            for doc in self._get(places[start : start + _MGET]):
                if doc.get("found"):
                    found[doc["_id"]] = doc["_source"].get(SAMPLE_RATE, 1)
        return found

    def _counts(self, fates: list[Fate], host: str) -> dict[tuple[str, int, str, str, str], rollups.Counts]:
        """The counts of each topic, partition, minute, dataset and level."""
        names = self._settings.names
        wanted = sorted({(*fate.place, fate.minute, fate.dataset, fate.level) for fate in fates if fate.minute})
        places = []
        for topic, partition, minute, dataset, level in wanted:
            key = rollups.keys_of(minute, host, dataset, level)[0]
            identity = rollups.document_id(key, topic, partition)
            places.append({"_index": rollups.index_of(key, names), "_id": identity})
        counts = {}
        for start in range(0, len(places), _MGET):
            for place, doc in zip(wanted[start:], self._get(places[start : start + _MGET]), strict=False):
                counts[place] = rollups.Counts.from_fields(doc["_source"]) if doc.get("found") else rollups.Counts()
        return counts

    def _get(self, places: list[dict[str, Any]]) -> list[dict[str, Any]]:
        status, answer = self._elastic.request("POST", "/_mget", body=orjson.dumps({"docs": places}))
        if status != 200:
            raise Unavailable(f"{status} {answer}")
        docs: list[dict[str, Any]] = answer["docs"]
        return docs

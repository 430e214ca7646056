"""``bench``: what this pipeline does with this Kafka and this Elasticsearch, in figures.

Signed batches of made-up hosts go into topics of a prefix of their own, the workers that would run read them into indices
of that prefix, and all of it is removed in the end, whatever happens. Nothing of the installation itself is touched, but
the clusters work for it meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import re
import secrets
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from ezadmin_pipeline import families, install, workers
from ezadmin_pipeline.elastic import Elastic, ElasticClient, Unavailable, reason
from ezadmin_pipeline.settings import Settings, SettingsError
from ezadmin_pipeline.worker import Worker
from ezadmin_wire import batch as wire
from ezadmin_wire import config, log
from ezadmin_wire.ids import new_epoch
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time, now

MARK = "-bench-"
LEVELS = ("info",) * 16 + ("warning", "warning", "error", "debug")
_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 180.0
"""Until the first commit: processes start, join a group and make indices, on a machine that may have much else to do."""
_STALL_SECONDS = 120.0
"""Between two commits: longer than Kafka waits for a worker that is gone, and Elasticsearch for a bulk."""


class BenchFailed(LookupError):
    """The measurement cannot be made; the text says why."""


@dataclass(frozen=True)
class Plan:
    """What is measured: ``events`` of ``size`` bytes and more, ``lines`` a batch, of ``hosts``, with so many ``workers``."""

    events: int
    lines: int
    hosts: int
    size: int
    workers: int


@dataclass
class Outcome:
    """Figures of a run; times in seconds. ``bulk_seconds`` is the sum over all bulks of all workers."""

    plan: Plan
    stored: int
    value_bytes: int
    produce_seconds: float
    events: int
    seconds: float
    cpu: float
    bulks: int
    bulk_seconds: float
    refused: int
    commits: int
    commit_seconds: float
    memory: int
    index_bytes: int | None
    in_flight: int
    partitions: int


def add(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    sub = command("bench", _run, "measure events per second and CPU per event through your Kafka and Elasticsearch")
    sub.add_argument("--events", type=int, default=200_000, metavar="N", help="events in all (default 200000)")
    sub.add_argument("--lines", type=int, default=200, metavar="N", help="lines a batch, 1 to 500 (default 200)")
    sub.add_argument("--hosts", type=int, default=50, metavar="N", help="made-up hosts (default 50)")
    sub.add_argument("--size", type=int, default=200, metavar="BYTES", help="of an event, about (default 200)")
    sub.add_argument("--workers", default="1", metavar="N", help="processes, or `auto`: one a core (default 1)")
    sub.add_argument("--clean", action="store_true", help="only remove what a bench that was killed left behind")


def _run(settings: Settings, options: argparse.Namespace) -> int:
    with _stoppable():
        if options.clean:
            elastic = ElasticClient(settings.elasticsearch)
            try:
                for name in remove(settings, elastic, f"{settings.names.prefix}{MARK}"):
                    print(f"removed {name}")
            finally:
                elastic.close()
            return 0
        for name, least, most in (
            ("events", 1000, 10**8),
            ("lines", 1, 500),
            ("hosts", 1, 10_000),
            ("size", 150, 8_000),
        ):
            if not least <= getattr(options, name) <= most:
                raise SettingsError(f"--{name} {getattr(options, name)}: write a number from {least} to {most}")
        try:
            number = workers.count(options.workers)
        except ValueError as error:
            raise SettingsError(f"--workers {options.workers}: write a number from 1 to 256, or auto") from error
        plan = Plan(options.events, options.lines, options.hosts, options.size, number)
        logs = (options.log_level, options.log_format)
        print("\n".join(report(measure(settings, plan, lambda text: print(text, flush=True), logs))))
    return 0


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends the command as ^C does, so that it cleans up."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Lets a request to stop wait: what is just being made would stand there only after all has been removed."""
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda received, frame: asked.append(received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt


def measure(settings: Settings, plan: Plan, tell: Callable[[str], None], logs: tuple[str, str]) -> Outcome:
    """Make topics and indices, write, read, and remove everything; ``logs``: level and format of the workers' logs.

    Raises BenchFailed, KafkaError, Unavailable.
    """
    signer = SigningKey.generate()
    try:
        names = Names(f"{settings.names.prefix}{MARK}{secrets.token_hex(4)}")
    except Exception as error:
        raise BenchFailed(f"the prefix {settings.names.prefix} leaves no room for {MARK}…: {error}") from error
    own = replace(
        settings,
        names=names,
        config_public_keys=(signer.public.hex(),),
        signatures="required",
        commit_interval=min(0.5, settings.commit_interval),
        session_timeout=10.0,
        member=None,
        metrics_listen=None,
        own_key=None,
        foreign=(),
    )
    elastic = ElasticClient(settings.elasticsearch)
    try:
        tell(f"topics {names.prefix}.*, indices {names.prefix}-*: removed in the end")
        with _held_back():
            install.make_topics(own.kafka, names, own.partitions)
            install.make_templates(elastic, names, own.indices, families.data_nodes(elastic))
        started = time.monotonic()
        value_bytes = _produce(own, plan, signer)
        produced = time.monotonic() - started
        tell(f"{plan.events} events written in {produced:.1f} s")
        return _consume(own, plan, elastic, value_bytes, produced, logs)
    finally:
        try:
            remove(settings, elastic, names.prefix)
        finally:
            elastic.close()


def _produce(settings: Settings, plan: Plan, signer: SigningKey) -> int:
    """Write host records and batches; returns the bytes of their values."""
    names = settings.names
    producer = KafkaProducer(
        **settings.kafka.options(), acks="all", compression_type="gzip", max_request_size=2 << 20, linger_ms=20
    )
    try:
        hosts = [(str(uuid.uuid4()), SigningKey.generate()) for _ in range(plan.hosts)]
        for number, (host, key) in enumerate(hosts):
            record = config.HostRecord(
                name=f"bench-{number}", labels={"site": "bench"}, keys=[config.HostKey(key.kid, key.public.hex())]
            )
            name, headers, value = config.encode(signer, config.host_key(host), number + 1, record)
            producer.send(names.config, key=name, value=value, headers=headers)
        producer.flush(60)
        epoch, total, written, futures = new_epoch(), 0, 0, []
        seqs = [0] * plan.hosts
        while written < plan.events:
            number = (written // plan.lines) % plan.hosts
            count = min(plan.lines, plan.events - written)
            host, key = hosts[number]
            moment = format_time(datetime.now(UTC))
            lines = [event(moment, written + i, plan.size) for i in range(count)]
            headers, value = wire.encode(
                key,
                host=host,
                topic=names.logs,
                stream="bench",
                epoch=epoch,
                seq=seqs[number],
                lines=lines,
                dataset="bench",
                tmin=moment,
                tmax=moment,
                sent=moment,
            )
            seqs[number] += count
            futures.append(producer.send(names.logs, key=host.encode(), value=value, headers=headers))
            total += len(value)
            written += count
            if len(futures) >= 200:
                for future in futures:
                    future.get(timeout=60)
                futures = []
        for future in futures:
            future.get(timeout=60)
        return total
    finally:
        producer.close(timeout=10)


def event(moment: str, number: int, size: int) -> bytes:
    """A made-up event of about ``size`` bytes."""
    document = {
        "@timestamp": moment,
        "event.created": moment,
        "event.dataset": "bench",
        "log.level": LEVELS[number % len(LEVELS)],
        "process.name": "bench",
        "message": f"request {number} from 192.0.2.{number % 250} took {number * 7919 % 997} ms",
    }
    line = orjson.dumps(document)
    if len(line) < size:
        document["message"] = str(document["message"]) + " " + "x" * (size - len(line) - 1)
        line = orjson.dumps(document)
    return line


def _work(settings: Settings, results: Any, logs: tuple[str, str]) -> None:
    """A worker process: works until SIGTERM, then tells what its bulks and commits took."""
    log.configure(*logs)
    worker = Worker(settings)
    worker.run()
    bulks, commits = worker.measures.elastic.bulks, worker.measures.commits
    results.put((bulks.count, bulks.sum, sum(worker.measures.elastic.refused.values()), commits.count, commits.sum))


def _consume(
    settings: Settings, plan: Plan, elastic: Elastic, value_bytes: int, produced: float, logs: tuple[str, str]
) -> Outcome:
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    children = [context.Process(target=_work, args=(settings, results, logs), daemon=True) for _ in range(plan.workers)]
    progress = Progress(settings, elastic)
    try:
        for child in children:
            child.start()
        pids = [child.pid for child in children if child.pid is not None]
        first_done, first_at, first_cpu = 0, 0.0, 0.0
        peak, done, changed = 0, 0, time.monotonic()
        while done < progress.batches:
            time.sleep(0.2)
            if any(child.exitcode is not None for child in children):
                raise BenchFailed(f"a worker ended; its log above says why; {_state(progress, children)}")
            at, cpu = time.monotonic(), sum(map(_cpu_seconds, pids))
            peak = max(peak, sum(map(_rss, pids)))
            before, done = done, progress.done()
            if done != before:
                changed = at
                if not first_at:  # imports, joining the group and the first bulks do not count
                    first_done, first_at, first_cpu = done, at, cpu
            elif first_at and at - changed > _STALL_SECONDS:
                raise BenchFailed(f"nothing more was committed for {at - changed:.0f} s; {_state(progress, children)}")
            elif not first_at and at - changed > _START_SECONDS:
                raise BenchFailed(
                    f"nothing was committed within {at - changed:.0f} s of the start; {_state(progress, children)}"
                )
        seconds, cpu_used = at - first_at, cpu - first_cpu
        events = round((done - first_done) * plan.events / progress.batches)
        if not events or seconds <= 0:
            raise BenchFailed(f"{plan.events} events are too few to measure: all were read at once; give more --events")
    finally:
        _stop(children)
    told = [results.get() for child in children if child.exitcode == 0]
    pattern = f"{settings.names.prefix}-logs-*"
    elastic.request("POST", f"/{pattern}/_refresh")
    status, answer = elastic.request("GET", f"/{pattern}/_count")
    stored = answer["count"] if status == 200 else -1
    status, answer = elastic.request("GET", f"/{pattern}/_stats/store")
    index_bytes = answer["_all"]["primaries"]["store"]["size_in_bytes"] if status == 200 else None
    return Outcome(
        plan=plan,
        stored=stored,
        value_bytes=value_bytes,
        produce_seconds=produced,
        events=events,
        seconds=seconds,
        cpu=cpu_used,
        bulks=sum(one[0] for one in told),
        bulk_seconds=sum(one[1] for one in told),
        refused=sum(one[2] for one in told),
        commits=sum(one[3] for one in told),
        commit_seconds=sum(one[4] for one in told),
        memory=peak,
        index_bytes=index_bytes,
        in_flight=settings.bulk_in_flight,
        partitions=settings.partitions,
    )


class Progress:
    """How many batches of the topic are committed: by the commit records, which are what counts.

    What Kafka is told of it is for people, and comes later while the group is being rebalanced.
    """

    def __init__(self, settings: Settings, elastic: Elastic) -> None:
        options = settings.kafka.options()
        consumer = KafkaConsumer(**options, group_id=None, enable_auto_commit=False, bootstrap_timeout_ms=10_000)
        try:
            topic = settings.names.logs
            numbers = sorted(consumer.partitions_for_topic(topic) or ())
            ends = consumer.end_offsets([TopicPartition(topic, number) for number in numbers])
        finally:
            consumer.close()
        self._elastic = elastic
        self._path = f"/{settings.names.state_index}/_mget"
        self._ends = {f"{place.topic}-{place.partition}": int(end) for place, end in ends.items()}
        self.batches = sum(self._ends.values())
        self._upto: dict[str, int] = {}
        self.error = ""
        """Why it is not known how far they are, since the last time that it was."""

    def done(self) -> int:
        """Batches committed, as far as is known."""
        body = orjson.dumps({"ids": list(self._ends)})
        try:
            status, answer = self._elastic.request("POST", self._path, params={"_source_includes": "upto"}, body=body)
        except Unavailable as error:
            self.error = str(error)
            return sum(self._upto.values())
        if status == 200:
            self.error = ""
            self._upto |= {one["_id"]: one["_source"]["upto"] for one in answer["docs"] if one.get("found")}
        elif status != 404:  # the index comes with the first record
            self.error = f"{self._path} answered {status}: {reason(answer)}"
        return sum(self._upto.values())

    def text(self) -> str:
        """How far the workers are, for people."""
        done = sum(self._upto.values())
        behind = [
            f"{name} {end - self._upto[name] if name in self._upto else f'{end} (no commit yet)'}"
            for name, end in self._ends.items()
            if end != self._upto.get(name, 0)
        ]
        trouble = f"; progress is not known: {self.error}" if self.error else ""
        return f"{done} of {self.batches} batches committed; waiting: {', '.join(behind) or 'none'}{trouble}"


def _state(progress: Progress, children: Sequence[Any]) -> str:
    """For a failure: what was reached, and who is still there."""
    ended = [child.exitcode for child in children if child.exitcode is not None]
    workers = f"{len(children) - len(ended)} of {len(children)} workers run"
    if ended:
        workers += f" (exit status {', '.join(map(str, ended))})"
    return f"{progress.text()}; {workers}"


def _stop(children: list[Any]) -> None:
    for child in children:
        if child.pid is not None and child.exitcode is None:
            child.terminate()
    for child in children:
        if child.pid is not None:
            child.join(12)
            if child.exitcode is None:
                child.kill()
                child.join(5)


def _cpu_seconds(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _rss(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def remove(settings: Settings, elastic: Elastic, prefix: str) -> list[str]:
    """Remove topics, consumer groups, indices and index templates of benches whose prefix begins with ``prefix``.

    Returns their names. Raises ValueError rather than touch anything else.
    """
    if MARK not in prefix:
        raise ValueError(f"{prefix!r} is no prefix of a bench")
    ours = re.compile(re.escape(prefix) + r"[0-9a-f]*[.-]")
    removed = []
    admin = KafkaAdminClient(**settings.kafka.options(), bootstrap_timeout_ms=10_000)
    try:
        topics = [name for name in admin.list_topics() if ours.match(name)]
        if topics:
            admin.delete_topics(topics)
        groups = {f"{ours.match(name)[0][:-1]}-pipeline" for name in topics}  # type: ignore[index]
        for group in sorted(groups):
            with contextlib.suppress(KafkaError):  # one that still has members goes by itself
                admin.delete_groups([group])
        removed += topics
    finally:
        admin.close()
    status, answer = elastic.request("GET", f"/{prefix}*/_settings", params={"expand_wildcards": "all"})
    indices = answer if status == 200 else {}
    for path, names in (
        ("", list(indices)),
        ("/_index_template", _named(elastic, "index_template", prefix)),
        ("/_component_template", _named(elastic, "component_template", prefix)),
    ):
        for name in filter(ours.match, names):
            elastic.request("DELETE", f"{path}/{name}")
            removed.append(name)
    return removed


def _named(elastic: Elastic, kind: str, prefix: str) -> list[str]:
    status, answer = elastic.request("GET", f"/_{kind}/{prefix}*")
    return [one["name"] for one in answer[f"{kind}s"]] if status == 200 else []


def report(outcome: Outcome) -> list[str]:
    """The figures as lines, and what limits."""
    plan, seconds = outcome.plan, outcome.seconds
    rate = outcome.events / seconds
    each = outcome.value_bytes / plan.events
    load = outcome.cpu / seconds / plan.workers
    rows = [
        ("measured at", f"{now()}, {plan.workers} worker(s), {plan.lines} lines a batch, {each:.0f} bytes an event"),
        ("into Kafka", f"{plan.events / outcome.produce_seconds:,.0f} events/s from one producer"),
        ("into Elasticsearch", f"{rate:,.0f} events/s, {rate * each / 1e6:.1f} MB/s"),
        ("CPU of the workers", f"{outcome.cpu / outcome.events * 1e6:.1f} µs an event, {load:.0%} of a core each"),
        ("memory of the workers", f"{outcome.memory / 2**20:.0f} MiB at most, in all"),
    ]
    if outcome.bulks:
        mean = outcome.bulk_seconds / outcome.bulks * 1000
        rows.append(("bulks", f"{outcome.bulks}, {mean:.0f} ms each, {outcome.refused} items refused"))
    if outcome.commits:
        rows.append(("commits", f"{outcome.commit_seconds / outcome.commits * 1000:.0f} ms each"))
    if outcome.index_bytes is not None:
        rows.append(("on disk", f"{outcome.index_bytes / plan.events:.0f} bytes an event, before merging"))
    exact = outcome.stored == plan.events
    rows.append(("stored", f"{outcome.stored} of {plan.events}{'' if exact else ': NOT what was written'}"))
    return [f"{name:22} {text}" for name, text in rows] + [f"hint: {hint}" for hint in hints(outcome)]


def hints(outcome: Outcome) -> list[str]:
    """What limits, and what to do about it."""
    plan, seconds = outcome.plan, outcome.seconds
    load = outcome.cpu / seconds / plan.workers
    busy = outcome.bulk_seconds / (seconds * plan.workers)
    found = []
    if load >= 0.8:
        found.append(
            f"the workers' CPU limits ({load:.0%} of a core each): run more of them (--workers), on more machines if need be"
        )
    elif busy >= 0.7:
        found.append(
            f"Elasticsearch limits ({busy:.1f} bulks under way all the time, the workers wait): more data nodes or faster "
            "disks; a longer index.refresh_interval; more bulk_in_flight if its CPU is idle"
        )
    else:
        found.append(
            "neither the workers' CPU nor Elasticsearch is at its limit: look at the network and at Kafka's disks"
        )
    if outcome.refused:
        found.append(f"Elasticsearch refused {outcome.refused} items, which were sent again: it was asked for too much")
    if plan.workers > outcome.partitions:
        found.append(f"{plan.workers} workers share {outcome.partitions} partitions a topic: more have nothing to do")
    if plan.lines < 50:
        found.append(f"{plan.lines} lines a batch: larger batches cost less CPU an event")
    return found

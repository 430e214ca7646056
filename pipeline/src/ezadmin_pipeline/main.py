"""The command ``ezadmin-pipeline``."""

from __future__ import annotations

import argparse
import json
import logging
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from kafka.errors import KafkaError

from ezadmin_pipeline import (
    __version__,
    bench,
    broker,
    care,
    check,
    dlq,
    families,
    hourly,
    install,
    lag,
    tryout,
    upgrade,
    workers,
)
from ezadmin_pipeline.directory import NoConfiguration, TopicDirectory
from ezadmin_pipeline.dlq import duration, moment, printable
from ezadmin_pipeline.elastic import ElasticClient, SignInRefused, Unavailable
from ezadmin_pipeline.replay import Replay
from ezadmin_pipeline.rules import RuleSet
from ezadmin_pipeline.settings import ENVIRONMENT, Settings, SettingsError, address, load
from ezadmin_pipeline.worker import Worker
from ezadmin_wire import WireError, log
from ezadmin_wire.own import Identity
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

_log = logging.getLogger("ezadmin_pipeline")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed (the message says why), 2 wrong use."""
    options = _parser().parse_args(arguments)
    log.configure(options.log_level, options.log_format)
    try:
        settings = load(options.config)
        return int(options.run(settings, options))
    except SettingsError as error:
        return _failed(str(error), 2)
    except (install.SetupError, NoConfiguration, LookupError, WireError) as error:
        return _failed(str(error))
    except Unavailable as error:
        return _failed(f"Elasticsearch: {error}")
    except (SignInRefused, broker.KafkaRefused) as error:
        _log.critical("stopped: %s", error)
        return _failed(f"{error}\nWhich rights each part needs: docs/security.md")
    except KafkaError as error:
        try:
            broker.refuse(error, settings.kafka, "what the command asks for")
        except broker.KafkaRefused as refused:
            return _failed(str(refused))
        return _failed(f"Kafka ({settings.kafka}): {broker.explain(error, settings.kafka)}")
    except KeyboardInterrupt:
        return 130


def _failed(text: str, status: int = 1) -> int:
    print(f"ezadmin-pipeline: {text}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings (else the file that {ENVIRONMENT} names)"
    )
    common.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    common.add_argument("--log-format", default="json", choices=["json", "console"])
    parser = argparse.ArgumentParser(prog="ezadmin-pipeline", description="Kafka -> Elasticsearch, every event once")
    parser.add_argument("--version", action="version", version=f"ezadmin-pipeline {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    command("setup", _setup, "make topics and index templates, or bring them up to date")
    worker = command("run", _run, "work until SIGTERM")
    worker.add_argument("--workers", default="1", metavar="N", help="processes, or `auto`: one a core (default 1)")
    worker.add_argument(
        "--member", metavar="NAME", help="name of this worker in the consumer group (else as in the settings)"
    )
    worker.add_argument("--metrics-listen", metavar="HOST:PORT", help="serve /metrics there (else as in the settings)")
    look = command("check", _check, "ask everything that a worker needs, and say what to mend")
    look.add_argument("--json", action="store_true", help="as JSON")
    lag.add(command)
    indices = command("indices", _indices, "list the indices, and what will be made and dropped, and when")
    indices.add_argument("--json", action="store_true", help="as JSON")
    indices.add_argument("--apply", action="store_true", help="do it now, and not when a worker next looks")
    command("hourly", _hourly, "make the metrics by the hour that are missing, and not when a worker next looks")
    replay = command("replay", _replay, "index again what Kafka still keeps and Elasticsearch has lost")
    replay.add_argument("topic", metavar="TOPIC", help="metrics, logs, or the name of a foreign topic of the settings")
    replay.add_argument(
        "--since", metavar="TIME", help="ISO 8601 with zone, of arrival in Kafka; else all that is kept"
    )
    trial = command("try", _try, "read what came lately, and show what rules would do to it; nothing is changed")
    trial.add_argument(
        "--since", default="15m", metavar="DURATION", help="how far back: 90s, 15m, 2h, 1d (default 15m)"
    )
    trial.add_argument(
        "--rules",
        type=Path,
        metavar="FILE",
        help="as `ezadmin-cmdb rules list --json` writes them; else those in force",
    )
    why = command("why", _why, "explain what was decided of the lines of a host around a time")
    why.add_argument("host", metavar="HOST", help="host.id or name, also of a foreign topic's")
    why.add_argument("time", metavar="TIME", help="ISO 8601 with zone, such as 2026-11-24T08:15:30Z")
    why.add_argument("--within", default="30s", metavar="DURATION", help="how far from TIME (default 30s)")
    why.add_argument("--late", default="1h", metavar="DURATION", help="how late they may have been sent (default 1h)")
    dlq.add(commands, common)
    bench.add(command)
    command(
        "identity", _identity, "who the pipeline is where it tells of itself, as JSON; makes its key if it has none"
    )
    return parser


def _setup(settings: Settings, options: argparse.Namespace) -> int:
    made = install.make_topics(settings.kafka, settings.names, settings.partitions)
    elastic = ElasticClient(settings.elasticsearch)
    try:
        templates = install.make_templates(elastic, settings.names, settings.indices, families.data_nodes(elastic))
        changes = upgrade.upgrade(elastic, settings.names)
    finally:
        elastic.close()
    print(f"topics made: {', '.join(made) or 'none, all are there'}")
    print(f"index templates written: {', '.join(templates)}")
    for line in changes:
        print(line)
    return 0


def _run(settings: Settings, options: argparse.Namespace) -> int:
    if options.member:
        settings = replace(settings, member=options.member)
    if options.metrics_listen:
        settings = replace(settings, metrics_listen=address(options.metrics_listen, "--metrics-listen"))
    try:
        number = workers.count(options.workers)
    except ValueError as error:
        raise SettingsError(f"--workers {options.workers}: write a number from 1 to 256, or auto") from error
    if number == 1:
        Worker(settings).run()
        return 0
    arguments = ["--log-level", options.log_level, "--log-format", options.log_format]
    if options.config is not None:
        arguments += ["--config", str(options.config)]
    return workers.run(number, settings.member or socket.gethostname(), arguments, settings.metrics_listen)


def _identity(settings: Settings, options: argparse.Namespace) -> int:
    if settings.own_key is None:
        raise SettingsError('no key is set: write key = "…", a file that is made if needed, under [own]')
    if not settings.own_key.exists():
        try:
            SigningKey.generate().save(settings.own_key)
        except OSError as error:
            raise SettingsError(f"[own]: key {settings.own_key} cannot be made: {error.strerror}") from error
    identity = Identity.load(settings.own_key, settings.own_host_id)
    print(json.dumps(identity.public(f"{socket.gethostname()}-pipeline")))
    return 0


def _indices(settings: Settings, options: argparse.Namespace) -> int:
    elastic = ElasticClient(settings.elasticsearch)
    now = datetime.now(UTC)
    try:
        there = families.there(elastic, settings.names)
        todo = care.plan(now, settings, there, families.data_nodes(elastic))
        rows = [care.describe(index, now, settings, index in todo.drop) for index in there]
        if options.json:
            print(json.dumps({"indices": rows, "make": sorted(todo.make)}, indent=2))
        else:
            for line in care.table(rows, todo):
                print(line)
        if options.apply:
            for line in care.apply(elastic, todo):
                print(line, file=sys.stderr if options.json else sys.stdout)
    finally:
        elastic.close()
    return 0


def _hourly(settings: Settings, options: argparse.Namespace) -> int:
    directory = _directory(settings)
    elastic = ElasticClient(settings.elasticsearch)
    try:
        for line in hourly.Hourly(settings, elastic, lambda host: directory.host(host).members).make():
            print(line, flush=True)
    finally:
        elastic.close()
    return 0


def _check(settings: Settings, options: argparse.Namespace) -> int:
    results = []
    for result in check.run(settings):
        results.append(result)
        if not options.json:
            shown = {check.OK: "ok    ", check.WARN: "warn  ", check.FAILED: "FAILED"}[result.state]
            print(f"{shown} {result.name:30} {result.milliseconds:6.0f} ms  {printable(result.text)}", flush=True)
    if options.json:
        print(json.dumps([result.to_json() for result in results], indent=2))
    return 1 if any(result.state == check.FAILED for result in results) else 0


def _replay(settings: Settings, options: argparse.Namespace) -> int:
    since = None if options.since is None else int(moment(options.since).timestamp() * 1000)
    elastic = ElasticClient(settings.elasticsearch)
    try:
        replay = Replay(settings, elastic, _directory(settings))
        own = {"metrics": settings.names.metrics, "logs": settings.names.logs}
        replay.run(own.get(options.topic, options.topic), since)
    finally:
        elastic.close()
    print(
        f"{replay.lines} lines read: {replay.present} were there, {replay.stored} stored, "
        f"{replay.refused} refused, {replay.ignored} ignored by rules"
    )
    return 0


def _try(settings: Settings, options: argparse.Namespace) -> int:
    since = datetime.now(UTC) - duration(options.since)
    record = None if options.rules is None else tryout.read_rules(options.rules)
    directory = _directory(settings)
    rules = RuleSet(directory.rules, directory.rules_revision) if record is None else RuleSet(record)
    reader = tryout.Reader(settings, directory, rules)
    trial = tryout.Trial()
    for topic in reader.topics:
        for fate in reader.read(topic, since):
            trial.add(fate)
    shown = f"revision {rules.revision}, in force" if record is None else str(options.rules)
    print(f"rules: {shown}; events that arrived since {format_time(since)}")
    for line in (*trial.report(rules), *trial.surges(settings.surges)):
        print(printable(line))
    if reader.unread:
        print(f"{reader.unread} messages are dead letters as a whole")
    return 0


def _why(settings: Settings, options: argparse.Namespace) -> int:
    around, within, late = moment(options.time), duration(options.within), duration(options.late)
    directory = _directory(settings)
    elastic = ElasticClient(settings.elasticsearch)
    try:
        why = tryout.Why(settings, elastic, directory, options.host)
        for line in why.report(around, within, late):
            print(printable(line))
    finally:
        elastic.close()
    return 0


def _directory(settings: Settings) -> TopicDirectory:
    return TopicDirectory.read(settings.kafka, settings.names.config, settings.verify_keys())


if __name__ == "__main__":
    sys.exit(main())

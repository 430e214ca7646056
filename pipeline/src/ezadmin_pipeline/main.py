"""The command ``ezadmin-pipeline``."""

from __future__ import annotations

import argparse
import logging
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kafka.errors import KafkaError

from ezadmin_pipeline import __version__, broker, check, install, log, tryout, workers
from ezadmin_pipeline.directory import TopicDirectory
from ezadmin_pipeline.elastic import ElasticClient, SignInRefused, Unavailable
from ezadmin_pipeline.letters import Box, Letter
from ezadmin_pipeline.replay import Replay
from ezadmin_pipeline.rules import RuleSet
from ezadmin_pipeline.settings import ENVIRONMENT, Settings, SettingsError, load
from ezadmin_pipeline.worker import Worker
from ezadmin_wire import WireError
from ezadmin_wire.times import format_time, parse_time

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
    except (install.SetupError, LookupError, WireError) as error:
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
    command("check", _check, "ask everything that a worker needs, and say what to mend")
    replay = command("replay", _replay, "index again what Kafka still keeps and Elasticsearch has lost")
    replay.add_argument("topic", choices=["metrics", "logs"])
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
    why.add_argument("host", help="host.id or name")
    why.add_argument("time", help="ISO 8601 with zone")
    why.add_argument("--within", default="30s", metavar="DURATION", help="how far from TIME (default 30s)")
    why.add_argument("--late", default="1h", metavar="DURATION", help="how late they may have been sent (default 1h)")
    letters = commands.add_parser("dlq", help="dead letters: what could not become a document")
    actions = letters.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("ls", _dlq_ls, "list the open ones"),
        ("show", _dlq_show, "show one with its headers"),
        ("replay", _dlq_replay, "bring them in again, once, after the cause is mended"),
        ("drop", _dlq_drop, "settle them without doing anything"),
    ):
        sub = actions.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("id", nargs="*" if name != "show" else 1, help="ids as `ls` prints them")
        if name != "show":
            sub.add_argument("--reason", help="only those with this reason")
            sub.add_argument("--host", help="only those of this host.id")
        if name in ("replay", "drop"):
            sub.add_argument("--all", action="store_true", help="all open ones (that the options choose)")
    return parser


def _setup(settings: Settings, options: argparse.Namespace) -> int:
    made = install.make_topics(settings.kafka, settings.names, settings.partitions)
    elastic = ElasticClient(settings.elasticsearch)
    try:
        templates = install.make_templates(elastic, settings.names)
    finally:
        elastic.close()
    print(f"topics made: {', '.join(made) or 'none, all are there'}")
    print(f"index templates written: {', '.join(templates)}")
    return 0


def _run(settings: Settings, options: argparse.Namespace) -> int:
    if options.member:
        settings = replace(settings, member=options.member)
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
    return workers.run(number, settings.member or socket.gethostname(), arguments)


def _check(settings: Settings, options: argparse.Namespace) -> int:
    elastic = ElasticClient(settings.elasticsearch, timeout=10)
    good = True
    try:
        for result in check.run(settings, elastic):
            good = good and result.good
            print(f"{'ok  ' if result.good else 'FAIL'} {result.name:16} {result.milliseconds:7.0f} ms  {result.text}")
    finally:
        elastic.close()
    return 0 if good else 1


def _replay(settings: Settings, options: argparse.Namespace) -> int:
    since = None if options.since is None else int(parse_time(options.since).timestamp() * 1000)
    elastic = ElasticClient(settings.elasticsearch)
    try:
        replay = Replay(settings, elastic, _directory(settings))
        replay.run(getattr(settings.names, options.topic), since)
    finally:
        elastic.close()
    print(
        f"{replay.lines} lines read: {replay.present} were there, {replay.stored} stored, "
        f"{replay.refused} refused, {replay.ignored} ignored by rules"
    )
    return 0


def _try(settings: Settings, options: argparse.Namespace) -> int:
    since = datetime.now(UTC) - _duration(options.since)
    record = None if options.rules is None else tryout.read_rules(options.rules)
    directory = _directory(settings)
    rules = RuleSet(directory.rules, directory.rules_revision) if record is None else RuleSet(record)
    reader = tryout.Reader(settings, directory, rules)
    trial = tryout.Trial()
    for fate in reader.read(since):
        trial.add(fate)
    shown = f"revision {rules.revision}, in force" if record is None else str(options.rules)
    print(f"rules: {shown}; events that arrived since {format_time(since)}")
    for line in trial.report(rules):
        print(_printable(line))
    if reader.unread:
        print(f"{reader.unread} messages are dead letters as a whole")
    return 0


def _why(settings: Settings, options: argparse.Namespace) -> int:
    moment, within, late = parse_time(options.time), _duration(options.within), _duration(options.late)
    directory = _directory(settings)
    elastic = ElasticClient(settings.elasticsearch)
    try:
        why = tryout.Why(settings, elastic, directory, directory.named(options.host))
        for line in why.report(moment, within, late):
            print(_printable(line))
    finally:
        elastic.close()
    return 0


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if not found:
        raise SettingsError(f"{text!r} is no duration: write a number and s, m, h or d, such as 15m")
    return timedelta(seconds=int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]])


def _directory(settings: Settings) -> TopicDirectory:
    directory = TopicDirectory(settings.kafka, settings.names.config, settings.verify_keys(), lambda: None)
    directory.catch_up()
    directory.close()
    return directory


def _dlq_ls(settings: Settings, options: argparse.Namespace) -> int:
    _, letters = _chosen(settings, options)
    for letter in letters:
        place = f"{letter.text('topic')}/{letter.text('partition')}/{letter.text('offset')}"
        print(
            f"{letter.id:40} {letter.text('time')}  {letter.text('kind'):7} {letter.text('reason'):28} "
            f"{letter.host or '-':36}  {place}  {_printable(letter.text('error'))[:120]}"
        )
    print(f"{len(letters)} open dead letter(s)")
    return 0


def _dlq_show(settings: Settings, options: argparse.Namespace) -> int:
    _, (letter,) = _chosen(settings, options)
    for name, data in letter.headers.items():
        print(f"{name}: {data.hex() if name == 'orig.sig' else _printable(data.decode('utf-8', 'replace'))}")
    print()
    print(_printable(letter.value.decode("utf-8", "replace")))
    return 0


def _dlq_replay(settings: Settings, options: argparse.Namespace) -> int:
    box, letters = _chosen(settings, options)
    figures = box.replay(letters)
    print(
        f"{figures['sent']} sent to their topic, {figures['stored']} stored, "
        f"{figures['dead']} dead again, {figures['ignored']} ignored by rules"
    )
    return 0


def _dlq_drop(settings: Settings, options: argparse.Namespace) -> int:
    box, letters = _chosen(settings, options)
    box.drop(letters)
    print(f"{len(letters)} dropped")
    return 0


def _chosen(settings: Settings, options: argparse.Namespace) -> tuple[Box, list[Letter]]:
    box = Box(settings, ElasticClient(settings.elasticsearch), _directory(settings))
    letters = box.letters()
    if options.id:
        by_id = {letter.id: letter for letter in letters}
        unknown = [identity for identity in options.id if identity not in by_id]
        if unknown:
            raise LookupError(f"no open dead letter {', '.join(unknown)}; `ezadmin-pipeline dlq ls` lists them")
        letters = [by_id[identity] for identity in options.id]
    elif getattr(options, "all", True) is False and not (options.reason or options.host):
        raise LookupError("name dead letters by id, or choose them with --reason, --host or --all")
    if reason := getattr(options, "reason", None):
        letters = [letter for letter in letters if letter.text("reason") == reason]
    if host := getattr(options, "host", None):
        letters = [letter for letter in letters if letter.host == host]
    return box, letters


def _printable(text: str) -> str:
    """``text`` without control characters: it comes from other hosts and must not drive this terminal."""
    return "".join(char if char.isprintable() or char in "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


if __name__ == "__main__":
    sys.exit(main())

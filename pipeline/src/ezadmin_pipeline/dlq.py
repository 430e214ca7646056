"""The commands ``ezadmin-pipeline dlq …``: dead letters, and what people decide about them."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ezadmin_pipeline import edits
from ezadmin_pipeline.directory import Directory, TopicDirectory
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_pipeline.letters import KINDS, Box, Letter
from ezadmin_pipeline.settings import Settings, SettingsError
from ezadmin_wire import WireError
from ezadmin_wire.times import format_time, now, parse_time

CLASSES: dict[str, Callable[[Letter], str]] = {
    "reason": lambda letter: letter.text("reason"),
    "host": lambda letter: letter.host or "-",
    "day": lambda letter: letter.text("time")[:10],
    "topic": lambda letter: letter.text("topic"),
    "dataset": lambda letter: letter.text("orig.dataset") or "-",
}
"""What letters can be counted by."""


@dataclass(frozen=True)
class Choice:
    """Which letters: those that fit everything given. ``since`` and ``until`` are wire times of the letter."""

    reason: str | None = None
    kind: str | None = None
    host: str | None = None
    dataset: str | None = None
    topic: str | None = None
    since: str | None = None
    until: str | None = None
    text: str | None = None

    def __bool__(self) -> bool:
        """Whether anything is given."""
        return any(value is not None for value in vars(self).values())

    def fits(self, letter: Letter) -> bool:
        """Whether ``letter`` is one of them."""
        equal = [
            (self.reason, letter.text("reason")),
            (self.kind, letter.text("kind")),
            (self.host, letter.host),
            (self.dataset, letter.text("orig.dataset")),
            (self.topic, letter.text("topic")),
        ]
        moment = letter.text("time")
        return (
            all(wanted is None or wanted == found for wanted, found in equal)
            and (self.since is None or moment >= self.since)
            and (self.until is None or moment < self.until)
            and (self.text is None or self.text.encode() in letter.plain() or self.text in letter.text("error"))
        )


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``dlq`` with its actions to the parser's commands; ``common``: options of all."""
    letters = commands.add_parser("dlq", help="dead letters: what could not become a document")
    actions = letters.add_subparsers(required=True, metavar="ACTION")
    run: Callable[..., int]
    for name, run, text in (
        ("ls", _ls, "list the open ones"),
        ("stats", _stats, "count the open ones"),
        ("show", _show, "show one with its headers"),
        ("edit", _edit, "change one and bring it in, marked as edited; see docs/operations.md"),
        ("replay", _replay, "bring them in again, once, after the cause is mended"),
        ("drop", _drop, "settle them without doing anything"),
    ):
        sub = actions.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(run=run)
        if name in ("show", "edit"):
            sub.add_argument("id", nargs=1, help="its id, as `ls` prints it")
        else:
            if name != "stats":
                sub.add_argument("id", nargs="*", help="ids as `ls` prints them")
            _add_choice(sub)
        if name in ("ls", "stats"):
            sub.add_argument("--json", action="store_true", help="for programs")
        if name in ("replay", "drop"):
            sub.add_argument("--all", action="store_true", help="all open ones")
        if name == "stats":
            sub.add_argument(
                "--by",
                default="reason,host,day",
                metavar="LIST",
                help=f"some of {', '.join(CLASSES)} (default reason,host,day)",
            )
        if name == "edit":
            sub.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="FIELD=VALUE",
                help="set a field in every line; VALUE is JSON, else text. Without --set, --unset, --file: $EDITOR",
            )
            sub.add_argument("--unset", action="append", default=[], metavar="FIELD", help="leave a field out")
            sub.add_argument("--file", type=Path, metavar="FILE", help="the whole text, one JSON object a line")
            sub.add_argument("--for", dest="whose", metavar="HOST", help="whose it is, if the letter does not say")
            sub.add_argument("--by", metavar="NAME", help="who edits (default: user@machine)")


def _add_choice(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--reason", help="only those with this reason")
    sub.add_argument("--kind", choices=KINDS, help="only those of this kind")
    sub.add_argument("--host", help="only those of this host (id or name)")
    sub.add_argument("--dataset", help="only those of this event.dataset")
    sub.add_argument("--topic", help="only those of this topic (logs, metrics, state, jobs, or its whole name)")
    sub.add_argument("--since", metavar="TIME", help="only those that died since: 2h, 3d, or ISO 8601 with zone")
    sub.add_argument("--until", metavar="TIME", help="only those that died before")
    sub.add_argument("--text", help="only those with this text in them, or in what was said about them")


def _choice(settings: Settings, directory: Directory, options: argparse.Namespace) -> Choice:
    given = vars(options)
    host, topic = given.get("host"), given.get("topic")
    if host is not None:
        try:
            host = directory.named(host)
        except LookupError:
            pass  # a host that nobody knows has dead letters, too
    if topic in ("logs", "metrics", "state", "jobs"):
        topic = getattr(settings.names, topic)
    return Choice(
        reason=given.get("reason"),
        kind=given.get("kind"),
        host=host,
        dataset=given.get("dataset"),
        topic=topic,
        since=_moment(given.get("since")),
        until=_moment(given.get("until")),
        text=given.get("text"),
    )


def _moment(text: str | None) -> str | None:
    if text is None:
        return None
    if re.fullmatch(r"[1-9][0-9]{0,5}[smhd]", text):
        return format_time(datetime.now(UTC) - duration(text))
    return format_time(moment(text))


def moment(text: str) -> datetime:
    """A time of the command line. Raises SettingsError."""
    try:
        return parse_time(text)
    except WireError as error:
        raise SettingsError(f"{text!r} is no time: write it with its zone, such as {now()}") from error


def duration(text: str) -> timedelta:
    """``90s``, ``15m``, ``2h``, ``1d``. Raises SettingsError."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if not found:
        raise SettingsError(f"{text!r} is no duration: write a number and s, m, h or d, such as 15m")
    return timedelta(seconds=int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]])


def printable(text: str) -> str:
    """``text`` without control characters: it comes from other hosts and must not drive this terminal."""
    return "".join(char if char.isprintable() or char in "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


@dataclass
class _Desk:
    """What the commands work with."""

    elastic: ElasticClient
    directory: Directory
    box: Box
    letters: list[Letter]


def _open(settings: Settings, options: argparse.Namespace) -> _Desk:
    directory = TopicDirectory.read(settings.kafka, settings.names.config, settings.verify_keys())
    elastic = ElasticClient(settings.elasticsearch)
    box = Box(settings, elastic, directory)
    choice = _choice(settings, directory, options)
    letters = box.letters()
    if identities := getattr(options, "id", None):
        by_id = {letter.id: letter for letter in letters}
        unknown = [identity for identity in identities if identity not in by_id]
        if unknown:
            raise LookupError(f"no open dead letter {', '.join(unknown)}; `ezadmin-pipeline dlq ls` lists them")
        letters = [by_id[identity] for identity in identities]
    elif getattr(options, "all", True) is False and not choice:
        raise LookupError("name dead letters by id, or choose them with --reason, --host … or --all")
    return _Desk(elastic, directory, box, [letter for letter in letters if choice.fits(letter)])


def _ls(settings: Settings, options: argparse.Namespace) -> int:
    letters = _open(settings, options).letters
    for letter in letters:
        if options.json:
            names = ("time", "kind", "reason", "error", "topic", "partition", "offset", "line", "by", "cut")
            members = {name: letter.text(name) for name in names if name in letter.headers}
            print(json.dumps({"id": letter.id, "host": letter.host, "bytes": len(letter.value), **members}))
            continue
        place = f"{letter.text('topic')}/{letter.text('partition')}/{letter.text('offset')}"
        print(
            f"{letter.id:40} {letter.text('time')}  {letter.text('kind'):7} {letter.text('reason'):28} "
            f"{letter.host or '-':36}  {place}  {printable(letter.text('error'))[:120]}"
        )
    if not options.json:
        print(f"{len(letters)} open dead letter(s)")
    return 0


def _stats(settings: Settings, options: argparse.Namespace) -> int:
    columns = options.by.split(",")
    for name in columns:
        if name not in CLASSES:
            raise SettingsError(f"--by {options.by}: {name!r} is none of {', '.join(CLASSES)}")
    letters = _open(settings, options).letters
    counts = Counter(tuple(CLASSES[name](letter) for name in columns) for letter in letters)
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if options.json:
        print(json.dumps([dict(zip(columns, row, strict=True)) | {"letters": count} for row, count in rows]))
        return 0
    widths = [max([len(name), *(len(row[i]) for row, _ in rows)]) for i, name in enumerate(columns)]
    print(f"{'letters':>8}  " + "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)))
    for row, count in rows:
        print(f"{count:8}  " + "  ".join(printable(cell).ljust(w) for cell, w in zip(row, widths, strict=True)))
    print(f"{len(letters):8}  open in all")
    return 0


def _show(settings: Settings, options: argparse.Namespace) -> int:
    (letter,) = _open(settings, options).letters
    for name, data in letter.headers.items():
        print(f"{name}: {data.hex() if name == 'orig.sig' else printable(data.decode('utf-8', 'replace'))}")
    print()
    print(printable(letter.plain().decode("utf-8", "replace")))
    return 0


def _edit(settings: Settings, options: argparse.Namespace) -> int:
    desk = _open(settings, options)
    (letter,) = desk.letters
    kept: Path | None = None
    try:
        if options.file is not None:
            text = options.file.read_bytes()
        elif options.set or options.unset:
            text = edits.changed(letter.plain(), edits.assignments(options.set), options.unset)
        else:
            text, kept = edits.in_editor(letter.plain())
            if text.rstrip(b"\n") == letter.plain().rstrip(b"\n"):
                kept.unlink()
                print("nothing was changed, and nothing is done; to bring it in as it is: dlq replay")
                return 0
        edited = edits.EditedLetter(settings, desk.elastic, desk.directory)
        whose = None if options.whose is None else desk.directory.named(options.whose)
        edited.write(letter, text, options.by or f"{getpass.getuser()}@{socket.gethostname()}", whose)
    except OSError as error:
        raise LookupError(f"{options.file}: {error.strerror}") from error
    except edits.EditRefused as error:
        where = "" if kept is None else f"; the text is kept in {kept}, give it with --file"
        raise LookupError(f"the letter stays open: {error}{where}") from error
    desk.box.drop([letter])
    if kept is not None:
        kept.unlink()
    print(
        f"{edited.stored} stored as edited, {edited.present} were there, {edited.ignored} ignored by rules; "
        "the letter is settled"
    )
    return 0


def _replay(settings: Settings, options: argparse.Namespace) -> int:
    desk = _open(settings, options)
    letters = desk.letters
    if not options.id:
        whole = [letter for letter in letters if "cut" not in letter.headers]
        if len(whole) < len(letters):
            print(f"{len(letters) - len(whole)} left out: they were cut, so they cannot be brought in whole")
        letters = whole
    figures = desk.box.replay(letters)
    print(
        f"{figures['sent']} sent to their topic, {figures['stored']} stored, "
        f"{figures['dead']} dead again, {figures['ignored']} ignored by rules"
    )
    return 0


def _drop(settings: Settings, options: argparse.Namespace) -> int:
    desk = _open(settings, options)
    desk.box.drop(desk.letters)
    print(f"{len(desk.letters)} dropped")
    return 0

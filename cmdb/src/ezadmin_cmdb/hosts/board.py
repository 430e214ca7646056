"""All figures of a host as text of fixed width: the same lines for the page, where they are coloured, and for terminals.

A figure is marked by its state: ``!`` warning, ``!!`` critical, ``?`` too old to be believed. Marks are text, so they are
there in what is copied.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flask_babel import gettext as _

from ezadmin_cmdb.alerts.services import OpenAlert
from ezadmin_cmdb.hosts.schemas import WIDTH
from ezadmin_cmdb.hosts.services import SILENT_AFTER
from ezadmin_cmdb.metrics import presentation
from ezadmin_cmdb.metrics.fields import HOST_DATASET, Field, datasets
from ezadmin_cmdb.metrics.presentation import Figure
from ezadmin_cmdb.metrics.services import Item, Latest
from ezadmin_cmdb.thresholds.explaining import limit_text
from ezadmin_cmdb.thresholds.judging import CRITICAL, MAINTENANCE, MARKS, OK, UNKNOWN, WARNING, Judge, worst
from ezadmin_cmdb.web.formats import ago, figure, moment, plain

CELL_MAX = 32
"""Longer values (commands, options) are cut in tables."""
GAP = 3


@dataclass(frozen=True)
class Span:
    """A piece of a line. ``name``: the field of the value that it is; ``state`` and ``why`` of what is judged."""

    text: str
    state: str | None = None
    name: str = ""
    why: str = ""
    heading: bool = False


Line = list[Span]


@dataclass(frozen=True)
class Shown:
    """A figure, written: its value as text of one line, and what it is."""

    label: str
    text: str
    name: str
    state: str | None
    why: str

    @property
    def mark(self) -> str:
        """Its mark, empty for what is good or not judged."""
        return MARKS.get(self.state or "", "")


@dataclass
class Board:
    """The lines of a host, and what of it is not good."""

    lines: list[Line] = field(default_factory=list)
    bad: list[Shown] = field(default_factory=list)
    state: str = UNKNOWN


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: Korean, Chinese and Japanese characters take two, accents none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def padded(text: str, width: int, right: bool = False) -> str:
    """A text brought to a width by spaces."""
    space = " " * max(0, width - columns(text))
    return space + text if right else text + space


def cut(text: str, width: int) -> str:
    """A text of at most ``width`` columns; what is cut ends with ``…``."""
    if columns(text) <= width:
        return text
    kept, used = [], 1
    for char in text:
        used += columns(char)
        if used > width:
            break
        kept.append(char)
    return "".join(kept) + "…"


def one_line(text: str) -> str:
    """A text that cannot break out of its place: nothing in it takes effect, and it has no second line."""
    return plain(text).replace("\n", "⏎").replace("\t", " ")


def board(
    found: Sequence[Latest], judge: Judge, at: datetime, width: int = WIDTH, opened: Sequence[OpenAlert] = ()
) -> Board:
    """All figures of a host, in the agent's order, for lines of about ``width`` columns; above them alerts that are open."""
    made = Board()
    times = {one.dataset: one.time for one in found}
    body: list[Line] = []
    for group in presentation.groups(found):
        dataset = group.figures[0].field.dataset if group.figures else HOST_DATASET
        stale = _stale(times[dataset], at)
        shown = [_shown(one, judge, "", stale) for one in group.figures]
        body += _section(str(group.title), times[dataset], stale)
        body += _grid(shown, width)
        made.bad += [one for one in shown if one.state in (WARNING, CRITICAL)]
    for one in found:
        if one.items and any(known.dimension for known in datasets()[one.dataset].values()):
            body += _table(one, judge, at, width, made)
    states = [OK] if any(not _stale(time, at) for time in times.values()) else [UNKNOWN]
    made.state = worst([*states, *(one.state for one in made.bad if one.state)])
    made.lines = [*_alerts(opened, width), *_summary(made.bad), *body]
    return made


def text(lines: Iterable[Line]) -> str:
    """The lines as plain text."""
    return "".join("".join(span.text for span in line).rstrip() + "\n" for line in lines)


def header(name: str, state: str, why: str, said: Iterable[str]) -> list[Line]:
    """The first lines: the name of a host, its state in words and why it is so, and what else is said of it."""
    words = {
        OK: _("OK"), WARNING: _("Warning"), CRITICAL: _("Critical"), UNKNOWN: _("No data"), MAINTENANCE: _("Maintenance"),
    }  # fmt: skip
    first = [Span(one_line(name) + "  "), Span(f"[{words[state]}]", state), Span(f"  {one_line(why)}")]
    return [first, *([Span(one_line(one))] for one in said if one), []]


def _stale(time: datetime, at: datetime) -> bool:
    return at - time > SILENT_AFTER


def _section(title: str, time: datetime, stale: bool) -> list[Line]:
    heading = Span(f"── {one_line(title)} ", heading=True)
    said = _("No data since %(time)s; the last were:", time=moment(time)) if stale else ago(time)
    return [[], [heading, Span(said, UNKNOWN if stale else None)]]


def _shown(one: Figure, judge: Judge, item: str, stale: bool, label: str = "") -> Shown:
    written = cut(one_line(figure(one.value, one.field.unit)), CELL_MAX if item else WIDTH)
    judged = None if stale else judge.judge(one.field.dataset, one.field.name, one.value, item)
    state = UNKNOWN if stale else judged.state if judged else None
    why = limit_text(judged.limit) if judged else ""
    return Shown(label or one.field.short, written, one.field.name, state, why)


def _alerts(opened: Sequence[OpenAlert], width: int) -> list[Line]:
    if not opened:
        return []
    lines: list[Line] = [[Span(f"── {_('Open alerts')}", heading=True)]]
    for one in opened:
        lines.append([
            Span(padded(MARKS[one.state], 3), one.state), Span(cut(f"{ago(one.since)}  {one_line(one.message)}", width - 3)),
        ])  # fmt: skip
    return lines


def _summary(bad: Sequence[Shown]) -> list[Line]:
    if not bad:
        return []
    title = _("Beyond a threshold")
    lines: list[Line] = [[Span(f"── {title}", heading=True)]]
    label = max(columns(one.label) for one in bad)
    value = max(columns(one.text) for one in bad)
    for one in sorted(bad, key=lambda one: one.state != CRITICAL):
        lines.append([
            Span(padded(one.mark, 3), one.state), Span(padded(one.label, label + 2)),
            Span(padded("", value - columns(one.text))), Span(one.text, one.state), Span(f"  {one_line(one.why)}"),
        ])  # fmt: skip
    return lines


def _grid(shown: Sequence[Shown], width: int) -> Iterator[Line]:
    """Figures beside one another, read down the columns as a newspaper is."""
    if not shown:
        return
    label = max(columns(one.label) for one in shown)
    value = max(columns(one.text) for one in shown)
    beside = max(1, (width + GAP) // (3 + label + 2 + value + GAP))
    rows = -(-len(shown) // beside)
    for row in range(rows):
        line: Line = []
        for one in shown[row::rows]:
            line += [
                Span(padded(one.mark, 3), one.state), Span(padded(one.label, label + 2)),
                Span(" " * (value - columns(one.text))), Span(one.text, one.state, one.name, one.why), Span(" " * GAP),
            ]  # fmt: skip
        yield line


def _table(one: Latest, judge: Judge, at: datetime, width: int, made: Board) -> Iterator[Line]:
    """A line an item; the columns that do not fit go on in further blocks."""
    fields = [
        known for known in datasets()[one.dataset].values() if any(known.name in item.values for item in one.items)
    ]
    stale, rows = _stale(one.time, at), []
    title = str(presentation.TITLES.get(one.dataset, one.dataset))
    for item, name in _named(one):
        key = presentation.item_of(item, one.dataset)
        cells: dict[str, Shown] = {}
        for known in fields:
            if known.name in item.values:
                cell = _shown(Figure(known, item.values[known.name]), judge, key or name, stale)
                cells[known.name] = cell
                if cell.state in (WARNING, CRITICAL):
                    made.bad.append(Shown(f"{name} {cell.label}", cell.text, cell.name, cell.state, cell.why))
        rows.append((name, cells))
    yield from _section(title, one.time, stale)
    first = max(columns(name) for name, _cells in rows)
    for block in _blocks(fields, rows, width - first):
        yield [Span(" " * first), *(Span(padded(known.short, wide + GAP, right=True)) for known, wide in block)]
        for name, cells in rows:
            yield [
                Span(padded(name, first)),
                *(span for known, wide in block for span in _cell(cells.get(known.name), wide)),
            ]
        yield []


def _cell(one: Shown | None, wide: int) -> Iterator[Span]:
    if one is None:
        yield Span(padded("–", wide + GAP, right=True))
        return
    mark = f"{one.mark} " if one.mark else ""
    yield Span(padded(mark, wide + GAP - columns(one.text), right=True), one.state)
    yield Span(one.text, one.state, one.name, one.why)


def _blocks(
    fields: Sequence[Field], rows: Sequence[tuple[str, dict[str, Shown]]], room: int
) -> Iterator[list[tuple[Field, int]]]:
    block: list[tuple[Field, int]] = []
    used = 0
    for known in fields:
        cells = [cells[known.name] for _name, cells in rows if known.name in cells]
        written = max((columns(one.text) + len(one.mark) + bool(one.mark) for one in cells), default=1)
        wide = max(columns(known.short), written)
        if block and used + wide + GAP > room:
            yield block
            block, used = [], 0
        block.append((known, wide))
        used += wide + GAP
    if block:
        yield block


def _named(one: Latest) -> Iterator[tuple[Item, str]]:
    items = one.items
    if one.dataset == presentation.PROCESSES:
        items = sorted(items, key=lambda item: -item.values.get(presentation.BUSY, 0))
    for item in items:
        yield item, cut(one_line(presentation.item_title(item)), CELL_MAX)

"""The drawing of racks: where each thing is drawn, what it says, where it leads. The templates make SVG of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flask import url_for
from flask_babel import gettext as _

from ezadmin_cmdb.database import utc_now
from ezadmin_cmdb.datacenter.devices import STATUSES
from ezadmin_cmdb.datacenter.placed import FACES
from ezadmin_cmdb.datacenter.placement import BOTH, Load, Occupant, free_ranges, load_of
from ezadmin_cmdb.datacenter.racks import Rack

UNIT, WIDTH, GUTTER = 20, 260, 26
"""Of a rack's own page, in pixels at full size."""
SMALL_UNIT, SMALL_WIDTH, SMALL_GUTTER = 14, 140, 18
"""Of racks side by side."""
GLYPHS = {"ok": "✓", "warning": "!", "down": "✕", "unknown": "?", "none": "·"}


@dataclass(frozen=True)
class Cell:
    """A rectangle. ``kind``: free, hidden, or one of GLYPHS; ``title`` says all, ``text`` what fits; ``first``: of a free run."""

    kind: str
    y: int
    height: int
    title: str
    text: str = ""
    href: str | None = None
    first: bool = True


@dataclass(frozen=True)
class Face:
    """A face of a rack; ``numbers``: (unit, y of its middle)."""

    name: str
    title: str
    width: int
    height: int
    gutter: int
    cells: Sequence[Cell]
    numbers: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Elevation:
    """A rack: its faces, what is in it without a unit, how full it is."""

    rack: Rack
    faces: Sequence[Face]
    inside: Sequence[Occupant]
    load: Load

    @property
    def loose(self) -> list[Occupant]:
        """In the rack, but in none of its units."""
        return [one for one in self.inside if one.unit is None]

    @property
    def mounted(self) -> list[Occupant]:
        """In units, the lowest first."""
        return [one for one in self.inside if one.unit is not None]


def state(one: Occupant) -> tuple[str, str]:
    """(kind as marks have it, word) of the state of a thing in a rack."""
    from ezadmin_cmdb.hosts.services import SILENT_AFTER
    from ezadmin_cmdb.hosts.states import STATES

    if one.name is None:
        return "unknown", str(_("You may not see what it is"))
    if one.kind == "device":
        return {"active": "none", "failed": "down"}.get(one.state, "unknown"), str(STATUSES.get(one.state, one.state))
    if one.state != "active":
        kind = {"silent": "down", "quarantined": "warning"}.get(one.state, "unknown")
        return kind, str(STATES.get(one.state, one.state))
    if one.seen is None:
        return "unknown", str(_("Never reported"))
    return ("ok", str(_("Reporting"))) if utc_now() - one.seen <= SILENT_AFTER else ("down", str(_("Silent")))


def href(one: Occupant) -> str | None:
    """The page of a thing in a rack."""
    if one.name is None:
        return None
    return url_for("hosts.show" if one.kind == "host" else "devices.show", object_id=one.id)


def draw(rack: Rack, inside: Sequence[Occupant], faces: Iterable[str] = BOTH, small: bool = False) -> Elevation:
    """A rack with what is in it."""
    drawn = [_face(rack, inside, face, small) for face in faces]
    return Elevation(rack, drawn, inside, load_of([rack], inside))


def _face(rack: Rack, inside: Sequence[Occupant], face: str, small: bool) -> Face:
    unit, width, gutter = (SMALL_UNIT, SMALL_WIDTH, SMALL_GUTTER) if small else (UNIT, WIDTH, GUTTER)

    def top(units: range) -> int:
        return unit * (rack.height - units[-1] if rack.numbering == "bottom" else units[0] - 1)

    cells = []
    for one in inside:
        if one.unit is not None and face in one.faces:
            kind, word = state(one)
            name = one.name or word
            columns = (width - gutter) // (6 if small else 7) - 3
            about = " · ".join(filter(None, (name, word if one.name else "", one.place, one.about)))
            cells.append(
                Cell(
                    "hidden" if one.name is None else kind, top(one.units), unit * one.height, about,
                    f"{GLYPHS[kind]} {fitted(name, columns)}", href(one),
                )
            )  # fmt: skip
    for run in free_ranges(rack.height, inside, (face,)):
        parts = [run] if small else [range(one, one + 1) for one in run]
        drawn_first = run[-1] if rack.numbering == "bottom" else run[0]
        for part in parts:
            text = _("Unit %(n)d is free: put something here", n=part[0])
            if len(part) > 1:
                text = _("Units %(a)d to %(b)d are free: put something here", a=part[0], b=part[-1])
            link = url_for("racks.place", object_id=rack.id, unit=part[0], face=face)
            cells.append(Cell("free", top(part), unit * len(part), str(text), "", link, drawn_first in part))
    cells.sort(key=lambda cell: cell.y)
    numbers = [(number, top(range(number, number + 1)) + unit // 2) for number in range(1, rack.height + 1)]
    shown = [one for one in numbers if not small or one[0] == 1 or one[0] % 5 == 0]
    return Face(face, str(FACES[face]), width, unit * rack.height, gutter, cells, shown)


def fitted(text: str, columns: int) -> str:
    """Text cut to columns; a Hangul syllable takes two."""
    used = 0
    for number, char in enumerate(text):
        used += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if used > columns:
            return f"{text[: max(1, number - 1)]}…"
    return text

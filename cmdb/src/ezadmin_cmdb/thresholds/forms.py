"""The form of a template: its limits and assignments as controls, each row with a number in its names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flask_babel import gettext as _

from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.thresholds import rows, words
from ezadmin_cmdb.thresholds.rows import Row
from ezadmin_wire.limits import MAX_SAMPLES

Texts = dict[str, str]
_NAME = re.compile(r"(limits|assignments)\.([0-9]{1,3})\.([a-z_]+)")
DURATIONS = ("hold", "no_data", "trend")
HOST = "host:"
"""A place of the form that the text beside it completes."""


def sent(form: Mapping[str, str], kind: str) -> list[Texts]:
    """The rows of a form, without those that are empty."""
    found: dict[int, Texts] = {}
    for name, text in form.items():
        matched = _NAME.fullmatch(name)
        if matched and matched[1] == kind:
            found.setdefault(int(matched[2]), {})[matched[3]] = text
    needed = "field" if kind == "limits" else "place"
    return [found[number] for number in sorted(found) if found[number].get(needed, "").strip()]


def limits(given: list[Texts]) -> list[Row]:
    """Limits of the texts of rows. Raises Invalid with all that are wrong."""
    wrong: dict[str, str] = {}
    found = []
    for i, texts in enumerate(given):
        field, compare = texts.get("field", "").strip(), texts.get("compare", "value")
        unit = words.unit_of(field)
        row: Row = {
            "field": field, "item": texts.get("item", ""), "comparison": texts.get("comparison", "above"),
            "compare": compare, "off": bool(texts.get("off")),
        }  # fmt: skip
        readers: dict[str, Callable[[str], Any]] = dict.fromkeys(DURATIONS, words.parse_duration)
        readers |= {name: (lambda text: words.parse_value(text, unit, compare)) for name in rows.VALUES}  # noqa: B023 - called here
        readers["full_at"] = lambda text: words.parse_figure(text, unit)  # noqa: B023
        readers["samples"] = _samples
        for name, reader in readers.items():
            try:
                row[name] = reader(texts.get(name, ""))
            except Invalid as error:
                wrong[f"limits.{i}.{name}"] = str(error)
        row["n"], row["m"] = row.pop("samples", None) or (1, 1)
        found.append(row)
    if wrong:
        raise Invalid(" ".join(wrong.values()), fields=wrong)
    return rows.checked_limits(found)


def _samples(text: str) -> tuple[int, int] | None:
    if not text.strip():
        return None
    found = re.fullmatch(r"([0-9]{1,3}) ?/ ?([0-9]{1,3})", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= MAX_SAMPLES:
        raise Invalid(_("Write N/M, such as 3/5 for three of the last five samples; 60 at most."))
    return int(found[1]), int(found[2])


def assignments(given: list[Texts]) -> list[Row]:
    """Assignments of the texts of rows. Raises Invalid with all that are wrong."""
    found, wrong = [], {}
    for i, texts in enumerate(given):
        level, _colon, of = texts["place"].partition(":")
        row: Row = {"level": level, "of": of or texts.get("of", "")}
        try:
            row["priority"] = int(texts.get("priority") or 10) if level == "group" else 0
        except ValueError:
            wrong[f"assignments.{i}.priority"] = _("Write a whole number.")
        found.append(row)
    if wrong:
        raise Invalid(" ".join(wrong.values()), fields=wrong)
    return rows.checked_assignments(found)


def limit_texts(row: Row) -> Texts:
    """The controls of a limit."""
    unit, compare = words.unit_of(row["field"]), row["compare"]
    texts = {name: str(row[name]) for name in ("field", "item", "comparison", "compare")}
    texts |= {name: words.value_text(row[name], unit, compare) for name in rows.VALUES}
    texts |= {name: words.duration_text(row[name]) for name in DURATIONS}
    texts["samples"] = f"{row['n']}/{row['m']}" if row["m"] > 1 else ""
    texts["full_at"] = words.figure_text(row["full_at"], unit) if compare == "full" else ""
    texts["off"] = "true" if row["off"] else ""
    return texts


def assignment_texts(row: Row) -> Texts:
    """The controls of an assignment."""
    level, of = row["level"], row["of"]
    place = {"global": "global:", "host": HOST}.get(level, f"{level}:{of}")
    return {
        "place": place, "of": of if level == "host" else "", "priority": str(row["priority"] or ""),
        "name": row["name"],
    }  # fmt: skip

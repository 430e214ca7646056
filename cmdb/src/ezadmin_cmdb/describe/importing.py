"""CSV that people bring: read, and made into rows that can be written (:mod:`.bulk`).

A line is an object that is there (by its id, else by its natural keys) or a new one. A column that is there sets its field,
an empty cell clears it; a column that is missing leaves it.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flask_babel import gettext as _

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import tabular
from ezadmin_cmdb.describe.bulk import ROWS_MAX, Item
from ezadmin_cmdb.describe.description import Description, find
from ezadmin_cmdb.describe.fields import Field, Reference, References
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.rights import services as rights

SIZE_MAX = 16 << 20
"""Bytes of a file."""
ERROR_COLUMN = "import_error"
"""Of the file of lines that could not be taken; passed over when that is imported."""
ENCODINGS = (("utf-8-sig", "UTF-8"), ("cp949", "CP949"))
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_STEP = 1000

Line = tuple[int, dict[str, str], dict[str, str]]
"""Its number as a spreadsheet counts, its cells by column, what is wrong with it."""


@dataclass(frozen=True)
class Table:
    """A file of CSV."""

    encoding: str
    delimiter: str
    header: list[str]
    rows: list[Line]


@dataclass(frozen=True)
class Columns:
    """What is done with the columns of a file. ``taken``: {column: field}; ``keys``: those that only find the object."""

    header: list[str]
    taken: dict[str, str]
    keys: dict[str, str]
    passed_over: list[str]
    unknown: list[str]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Columns:
        """The columns that :meth:`plain` wrote."""
        return cls(**{name: given[name] for name in ("header", "taken", "keys", "passed_over", "unknown")})


def read(data: bytes) -> Table:
    """Read a file: UTF-8 (with or without BOM) or CP949, cells separated by comma, semicolon or tab.

    Raises Invalid if it is too large, or no such table.
    """
    if len(data) > SIZE_MAX:
        raise Invalid(_("The file is larger than %(n)d MiB.", n=SIZE_MAX >> 20), "file")
    text, encoding = _decoded(data)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    rows: list[Line] = []
    number = 0
    try:
        for cells in reader:
            number += 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(cells)
                continue
            if len(rows) >= ROWS_MAX:
                raise Invalid(_("The file has more than %(n)d lines. Split it.", n=ROWS_MAX), "file")
            errors = {}
            if len(cells) != len(header):
                errors[""] = _(
                    "It has %(n)d cells, the header %(m)d. A cell with the delimiter in it needs quotes.",
                    n=len(cells), m=len(header),
                )  # fmt: skip
            rows.append((number, dict(zip(header, cells, strict=False)), errors))
    except csv.Error as error:
        text = _("Line %(line)d cannot be read: %(error)s", line=reader.line_num, error=error)
        raise Invalid(text, "file") from error
    if header is None or not rows:
        raise Invalid(_("The file has no lines below its header."), "file")
    return Table(encoding, DELIMITERS[delimiter], header, rows)


def _decoded(data: bytes) -> tuple[str, str]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Invalid(_("The file is UTF-16. Save it as CSV UTF-8."), "file")
    for codec, name in ENCODINGS:
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise Invalid(_("This is no CSV. Save the sheet as CSV."), "file")
        return text, name
    raise Invalid(_("The file is neither UTF-8 nor CP949. Save it as CSV UTF-8."), "file")


def _header(cells: Sequence[str]) -> list[str]:
    header = [tabular.unguarded(cell.strip()) for cell in cells]
    if "" in header:
        raise Invalid(_("Column %(n)d has no name.", n=header.index("") + 1), "file")
    if twice := sorted({one for one in header if header.count(one) > 1}):
        raise Invalid(_("There are two columns %(names)s.", names=", ".join(twice)), "file")
    return header


def columns(actor: Actor, description: Description, header: Sequence[str]) -> Columns:
    """What each column is: by the name of its field, or by what people call it in the language of the request.

    Raises Invalid if none can be taken.
    """
    fields = description.all_fields()
    by_name = {one.name.casefold(): one for one in reversed(fields)}
    by_label = {str(one.label).casefold(): one for one in reversed(fields)}
    natural = {one.name for one in description.natural_fields()}
    found = Columns(list(header), {}, {}, [], [])
    used: set[str] = set()
    for column in header:
        text = column.casefold()
        if text == "id":
            found.keys[column] = "id"
            continue
        one = by_name.get(text) or by_label.get(text)
        if one is None:
            (found.passed_over if text == ERROR_COLUMN else found.unknown).append(column)
            continue
        if one.name in used:
            raise Invalid(_("There are two columns %(names)s.", names=str(one.label)), "file")
        used.add(one.name)
        hidden = isinstance(one, (Reference, References)) and not rights.may(actor, find(one.to).view)
        if one.importable and not hidden:
            found.taken[column] = one.name
        elif one.name in natural:
            found.keys[column] = one.name
        else:
            found.passed_over.append(column)
    if not found.taken:
        named = ", ".join(one.name for one in fields if one.importable)
        raise Invalid(_("No column can be taken. Columns are called: %(names)s.", names=named), "file")
    return found


def items(actor: Actor, description: Description, given: Columns, lines: Sequence[Line]) -> list[Item]:
    """Lines as rows that can be written. A query for each reference and natural key and 1,000 lines."""
    found = []
    texts = [{name: tabular.unguarded(cell) for name, cell in cells.items()} for _number, cells, _errors in lines]
    taken = {column: description.field(name) for column, name in given.taken.items()}
    values, wrong = _values(actor, description, taken, texts)
    objects = _matches(actor, description, given, texts)
    seen: dict[Any, int] = {}
    for (number, _cells, errors), of_line, why, match in zip(lines, values, wrong, objects, strict=True):
        object_id, refusal = match
        one = Item(number, object_id, values=of_line, errors={**errors, **why})
        one.name = str(of_line.get(description.key) or "")[:255]
        if refusal:
            one.refuse(refusal)
        elif object_id is None and not description.creatable:
            one.refuse(_("There is none like this, and none can be made here."))
        elif object_id is not None and object_id in seen:
            one.refuse(_("Line %(n)d is about the same one.", n=seen[object_id]))
        if object_id is not None:
            seen.setdefault(object_id, number)
        found.append(one)
    return found


def _values(
    actor: Actor, description: Description, taken: Mapping[str, Field], texts: Sequence[Mapping[str, str]]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    values: list[dict[str, Any]] = [{} for _text in texts]
    wrong: list[dict[str, str]] = [{} for _text in texts]
    for column, one in taken.items():
        parsed: list[Any] = []
        for row, why in zip(texts, wrong, strict=True):
            try:
                parsed.append(one.parse(row.get(column, "")))
            except Invalid as error:
                parsed.append(None)
                why[one.name] = str(error)
        if isinstance(one, (Reference, References)):
            parsed = _referred(actor, one, parsed, wrong)
        for row_values, value, why in zip(values, parsed, wrong, strict=True):
            if one.name in why:
                continue
            try:
                one.check(value)  # all that is wrong with a line is said at once
            except Invalid as error:
                why[one.name] = str(error)
            row_values[one.name] = value
    return values, wrong


def _referred(
    actor: Actor, one: Reference | References, parsed: Sequence[Any], wrong: Sequence[dict[str, str]]
) -> list[Any]:
    lists = [value if isinstance(value, list) else [] if value is None else [str(value)] for value in parsed]
    known: dict[str, Any] = {}
    wanted = sorted({text for texts in lists for text in texts})
    for first in range(0, len(wanted), _STEP):
        known |= one.resolve(actor, wanted[first : first + _STEP])
    found: list[Any] = []
    for texts, why in zip(lists, wrong, strict=True):
        if missing := [text for text in texts if text not in known]:
            why[one.name] = _("Nothing, or more than one, is called: %(names)s.", names=", ".join(missing[:5]))
        objects = [known[text] for text in texts if text in known]
        found.append(objects if isinstance(one, References) else objects[0] if objects else None)
    return found


def _matches(
    actor: Actor, description: Description, given: Columns, texts: Sequence[Mapping[str, str]]
) -> list[tuple[Any, str | None]]:
    """(id or None for a new one, why it cannot be told) of each line."""
    by_field = {name: column for column, name in {**given.taken, **given.keys}.items()}
    keys = [(one, by_field[one.name]) for one in description.natural_fields() if one.name in by_field]
    known = {one.name: _ids_by(actor, description, one, {row.get(column, "") for row in texts}) for one, column in keys}
    id_column = by_field.get("id")
    found: list[tuple[Any, str | None]] = []
    for row in texts:
        text = row.get(id_column, "").strip() if id_column else ""
        if text:
            found.append(_by_id(description, text))
            continue
        candidates: set[Any] | None = None
        for one, column in keys:
            ids = known[one.name].get(_folded(one, row.get(column, "")), set())
            if ids:
                candidates = ids if candidates is None else candidates & ids
        if candidates is None:
            found.append((None, None))
        elif len(candidates) == 1:
            found.append((next(iter(candidates)), None))
        else:
            named = ", ".join(str(one.label) for one, _column in keys)
            found.append((None, _("Several are meant by %(names)s. Add the column id.", names=named)))
    return found


def _by_id(description: Description, text: str) -> tuple[Any, str | None]:
    if not description.numbered:
        return text.lower(), None
    if text.isdecimal() and len(text) < 19:
        return int(text), None
    return None, _("%(id)s is no id.", id=text)


def _folded(one: Field, text: str) -> str:
    try:
        value = one.parse(text)
    except Invalid:
        return ""
    return "" if value is None else str(value).casefold()


def _ids_by(actor: Actor, description: Description, one: Field, texts: Collection[str]) -> dict[str, set[Any]]:
    """The ids of visible objects by the text of a field."""
    found: dict[str, set[Any]] = defaultdict(set)
    wanted = sorted({text.strip() for text in texts if _folded(one, text)})
    column = one.column(description.model)
    for first in range(0, len(wanted), _STEP):
        query = description.visible(actor).with_only_columns(description.model.id, column)
        for object_id, value in db.session.execute(query.where(column.in_(wanted[first : first + _STEP]))):
            found[str(value).casefold()].add(object_id)
    return found


def with_errors(header: Sequence[str], lines: Sequence[tuple[Mapping[str, str], Mapping[str, str]]]) -> str:
    """Lines that could not be taken as CSV, with a column that says why; mended, it is imported again."""
    kept = [column for column in header if column.casefold() != ERROR_COLUMN]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*kept, ERROR_COLUMN])
    for cells, errors in lines:
        why = "; ".join(f"{name}: {error}" if name else error for name, error in errors.items())
        mended = [tabular.guarded(tabular.unguarded(cells.get(column, ""))) for column in kept]
        writer.writerow([*mended, tabular.guarded(why)])
    return tabular.BOM + text.getvalue()

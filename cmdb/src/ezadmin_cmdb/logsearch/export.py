"""All lines of a search, as NDJSON or CSV, in the order of time: every line once, in constant memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from elasticsearch import Elasticsearch
from flask_babel import gettext as _

from ezadmin_cmdb.describe.tabular import guarded
from ezadmin_cmdb.elastic import Elastic, ElasticUnavailable
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.logsearch import services
from ezadmin_cmdb.logsearch.services import Search
from ezadmin_cmdb.web.formats import plain
from ezadmin_wire.names import Names

Format = Literal["ndjson", "csv"]
MEDIA_TYPES: Mapping[Format, str] = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
COLUMNS = ("@timestamp", "host.name", "log.level", "event.dataset", "message")
COLUMNS_MAX = 50
CHUNK = 2_000
"""Lines that are asked for at once."""


@dataclass(frozen=True)
class Chunk:
    """Some lines, and what is needed to go on after them. ``lines``: of this chunk; ``place``: plain values."""

    data: bytes
    lines: int
    place: dict[str, Any]


def check(columns: Sequence[str]) -> list[str]:
    """The columns of an export, each once; none: COLUMNS. Raises Invalid."""
    found = list(dict.fromkeys(one for one in columns if one)) or list(COLUMNS)
    if len(found) > COLUMNS_MAX:
        raise Invalid(_("At most %(n)d columns are exported.", n=COLUMNS_MAX), "columns")
    if wrong := [one for one in found if len(one) > 256 or "*" in one or not one.isprintable()]:
        raise Invalid(_("%(name)s is no name of a column.", name=wrong[0][:50]), "columns")
    return found


def count(elastic: Elastic, names: Names, search: Search) -> int:
    """How many lines an export has. Raises QueryError, ElasticUnavailable."""
    body = {"size": 0, "track_total_hits": True, "query": services.condition(elastic, names, search)}
    answer = services.asked(elastic.client(services.SECONDS + 5), body, services.indices(names, search))
    _whole(answer)
    return int(answer["hits"]["total"]["value"])


def export(
    elastic: Elastic,
    names: Names,
    search: Search,
    *,
    columns: Sequence[str] = (),
    format: Format = "ndjson",
    sort: Literal["desc", "asc"] = "desc",
    limit: int | None = None,
    opaque_id: str | None = None,
) -> Iterator[bytes]:
    """The lines of a search by time, some at a time. ``columns``: names of fields; NDJSON without any has the whole documents.

    The first piece is made before this returns, so that what is wrong is said before a response begins: QueryError, Invalid,
    ElasticUnavailable. Later, and if a shard fails, ElasticUnavailable breaks the stream: a file without an end is better than
    one that is not whole and looks so. Cells of CSV are guarded against formulas, and characters that command a terminal are
    written as pages show them. Close the generator to give up.
    """
    wanted = check(columns) if columns or format == "csv" else []
    pieces = _pieces(elastic, names, search, wanted, format, sort, limit, opaque_id)
    first = next(pieces, b"")
    return _with(first, pieces)


def _with(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _pieces(
    elastic: Elastic, names: Names, search: Search, columns: list[str], format: Format, sort: str, limit: int | None,
    opaque_id: str | None,
) -> Iterator[bytes]:  # fmt: skip
    reader = Reader(elastic, names, search, columns, format, sort, opaque_id)
    left = limit
    data = reader.header()
    while left is None or left > 0:
        chunk = reader.read(CHUNK if left is None else min(CHUNK, left))
        yield data + chunk.data
        data = b""
        if not chunk.lines:
            return
        left = None if left is None else left - chunk.lines
    if data:
        yield data


class Reader:
    """Reads the lines of a search, chunk by chunk; with the ``place`` of a chunk another one goes on after it.

    Nothing is kept in Elasticsearch between two chunks, so that one may be read long after the other.
    """

    def __init__(
        self, elastic: Elastic, names: Names, search: Search, columns: Sequence[str], format: Format, sort: str = "desc",
        opaque_id: str | None = None, place: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._indices = services.indices(names, search)
        self._condition = services.condition(elastic, names, search)
        self._client: Elasticsearch = elastic.client(services.SECONDS * 4, opaque_id)
        self._columns = list(columns)
        self._format = format
        self._sort = sort
        self._place = dict(place or {})

    def header(self) -> bytes:
        """What stands before the first line: in CSV, the names of the columns after a byte order mark, for spreadsheets."""
        if self._format != "csv":
            return b""
        return b"\xef\xbb\xbf" + _row([guarded(one) for one in self._columns])

    def read(self, size: int) -> Chunk:
        """The next lines, none at the end. Raises ElasticUnavailable, also if a shard does not answer."""
        body: dict[str, Any] = {
            "size": size, "track_total_hits": False, "timeout": f"{services.SECONDS * 3}s",
            **services.following(self._condition, self._sort, self._place),
        }  # fmt: skip
        if self._columns:
            body["_source"] = self._columns
        answer = services.asked(self._client, body, self._indices)
        _whole(answer)
        hits = answer["hits"]["hits"]
        if hits:
            self._place = services.place_after(hits, self._place)
        write = self._csv if self._format == "csv" else self._json
        return Chunk(b"".join(write(hit["_source"]) for hit in hits), len(hits), dict(self._place))

    def _json(self, source: Mapping[str, Any]) -> bytes:
        if self._columns:
            source = {name: value for name in self._columns if (value := value_of(source, name)) is not None}
        return json.dumps(source, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"

    def _csv(self, source: Mapping[str, Any]) -> bytes:
        return _row([guarded(plain(_cell(value_of(source, name)))) for name in self._columns])


def value_of(source: Mapping[str, Any], name: str) -> Any:
    """The value of a field in a document; of a member of a flattened field too. None: it has none."""
    if name in source:
        return source[name]
    for root, value in source.items():
        if isinstance(value, dict) and name.startswith(f"{root}."):
            return value_of(value, name[len(root) + 1 :])
    return None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _row(cells: Sequence[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue().encode("utf-8", "replace")


def _whole(answer: Mapping[str, Any]) -> None:
    health = services.health_of(answer)
    if not health.whole:
        raise ElasticUnavailable("; ".join(health.reasons) or "not all shards answered in time")

"""Dead letters that a person has edited.

The signature of a batch does not fit what was edited, and the pipeline cannot sign for a host. So nothing of it goes
through a topic: the person stands in for the signature, the lines become documents at once, and each says so:
``event.edited_by`` (who), ``event.edited_at`` (when), ``event.edited_letter`` (id of the letter, which stays in the topic
as it came). No agent can write these names.

A *line* keeps the number that it had, and so its ``_id``: stored as it was (``replay``) and edited, it is one document.
The lines of a *message* are numbered in a generation of their own, made of the letter's id and value: a message that did
not verify must not take the numbers of what its alleged host still sends. Editing the same letter twice, or after a
crash, stores no line twice. Nothing is counted, as with ``replay`` (``docs/decisions/0003``).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import orjson

from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.elastic import Elastic
from ezadmin_pipeline.foreign import LABEL, ForeignReader
from ezadmin_pipeline.indexer import Chunk, Indexer
from ezadmin_pipeline.letters import Letter, batch_of_line, meet
from ezadmin_pipeline.settings import Settings
from ezadmin_wire import WireError
from ezadmin_wire.batch import ANY_DATASET, Batch
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.times import now, parse_time

GENERATION = "edited"
"""The stream that the lines of edited messages are numbered in."""


class EditRefused(Exception):
    """An edited letter that cannot become documents; the letter stays open."""


def changed(text: bytes, values: dict[str, Any], absent: Sequence[str]) -> bytes:
    """The lines of ``text`` with members set, and others left out. Raises EditRefused for a line that is no object."""
    out = []
    for number, line in enumerate(text.splitlines()):
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise EditRefused(f"line {number} is no JSON ({error}); give the whole text: --file FILE") from error
        if not isinstance(document, dict):
            raise EditRefused(f"line {number} is no JSON object; give the whole text: --file FILE")
        for name in absent:
            document.pop(name, None)
        out.append(orjson.dumps(document | values))
    return b"\n".join(out)


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """``field=value`` of the command line; a value is JSON if it is any, else text. Raises EditRefused."""
    values = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise EditRefused(f"--set {text}: write field=value")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def in_editor(text: bytes) -> tuple[bytes, Path]:
    """What a person made of ``text`` in ``$VISUAL`` or ``$EDITOR``, and the file it stands in. Raises EditRefused."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise EditRefused("set EDITOR to the name of an editor, or give the change: --set field=value or --file FILE")
    descriptor, name = mkstemp(prefix="ezadmin-letter-", suffix=".ndjson")
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    try:
        status = subprocess.call([*shlex.split(editor), name])
    except OSError as error:
        raise EditRefused(f"{editor} cannot be started: {error.strerror}; set EDITOR to an editor") from error
    if status:
        raise EditRefused(f"{editor} ended with status {status}; nothing is done")
    return Path(name).read_bytes(), Path(name)


class EditedLetter:
    """One edited letter on its way into Elasticsearch; afterwards ``stored`` and ``present`` say how many lines are new,
    and were there from an earlier edit, ``ignored`` those that the rules of today leave out.
    """

    live = True

    def __init__(self, settings: Settings, elastic: Elastic, directory: Directory) -> None:
        self._settings = settings
        self._elastic = elastic
        self._directory = directory
        self.stored = self.present = self.ignored = 0
        self._refusals: list[str] = []
        self._foreign = {foreign.topic: foreign for foreign in settings.foreign}

    def write(self, letter: Letter, text: bytes, by: str, host: str | None = None) -> None:
        """Store the lines of ``text`` in the place of ``letter``; ``host``: whose they are, if the letter does not say.

        Raises EditRefused (nothing is stored, if a line is no document; else the others are stored), Unavailable.
        """
        lines = [line for line in text.splitlines() if line.strip()]
        if not lines:
            raise EditRefused("no line is left; to do nothing with a letter, drop it")
        batch = self._batch(letter, lines, host)
        meet(letter, self._directory)
        if batch.stream == GENERATION and letter.text("topic") in self._foreign:
            self._directory.meet(batch.host, batch.kid, (LABEL, letter.text("topic")))
        maker = DocumentMaker(self._settings.names, self._directory, lambda: datetime.now(UTC))
        # "fresh" makes a 409 known as such: here it says that an earlier edit, or a replay, has stored the line
        chunk = Chunk(self, 0, fresh=True, context=None)
        bad = maker.make(chunk, batch, [(batch.seq, batch.seq + batch.n)])
        if bad:
            raise EditRefused("; ".join(f"line {seq - batch.seq}: {error.reason}: {error}" for seq, _, error in bad))
        self.ignored = len(chunk.ignored)
        mark = {"event.edited_by": by, "event.edited_at": now(), "event.edited_letter": letter.id}
        head = orjson.dumps(mark)[:-1] + b","
        chunk.documents = [head + document[1:] for document in chunk.documents]
        indexer = Indexer(
            self._elastic, current_index=lambda index: "~", clock=time.monotonic, in_flight=1, retry_past_index=0.0
        )
        if chunk.count:
            indexer.add(chunk)
        indexer.drain(lambda: None)
        indexer.close()
        if self._refusals:
            raise EditRefused("; ".join(self._refusals))

    def _batch(self, letter: Letter, lines: list[bytes], host: str | None) -> Batch:
        names = self._settings.names
        kind, topic = letter.text("kind"), letter.text("topic")
        if kind not in ("line", "message"):
            raise EditRefused(f"letters of kind {kind!r} are not edited: replay or drop it")
        if topic in (names.state, names.jobs):
            raise EditRefused(f"what stands in {topic} is the agent's word alone, and comes again: replay or drop it")
        digest = hashlib.blake2b(letter.id.encode() + b"\n" + letter.value, digest_size=8).hexdigest()
        if kind == "message" and topic in self._foreign:
            reader = ForeignReader(self._foreign[topic], names)
            taken = int(parse_time(letter.text("time")).timestamp() * 1000)
            try:
                return reader.read(b"\n".join(lines), taken, GENERATION, digest, 0)
            except WireError as error:
                raise EditRefused(f"{error.reason}: {error}") from error
        if kind == "line":
            if len(lines) != 1:
                raise EditRefused(f"the letter is one line, and now has {len(lines)}")
            return batch_of_line(letter, lines[0], names)
        host = host or letter.host
        if not is_host_id(host):
            raise EditRefused("the letter does not say whose it is; give --for HOST, its host.id or name")
        dataset = letter.text("orig.dataset")
        if not dataset:
            first = orjson.loads(changed(lines[0], {}, ()))
            dataset = str(first.get("event.dataset", ""))
        return Batch(
            host=host,
            kid="",
            topic=names.metrics if topic == names.metrics else names.logs,
            stream=GENERATION,
            epoch=digest,
            seq=0,
            n=len(lines),
            dataset=ANY_DATASET if topic == names.metrics else dataset,
            tmin=now(),
            tmax=now(),
            levels={},
            sent=now(),
            value=b"\n".join(lines) + b"\n",
        )

    def settled(self, lines: int) -> None:
        """See :class:`ezadmin_pipeline.indexer.Owner`."""
        self.stored += lines

    def conflicted(self, chunk: Chunk, i: int) -> None:
        """See :class:`ezadmin_pipeline.indexer.Owner`."""
        self.present += 1
        self.stored -= 1  # settled() follows

    def died(self, chunk: Chunk, i: int, reason: str, text: str) -> None:
        """See :class:`ezadmin_pipeline.indexer.Owner`."""
        self._refusals.append(f"line {chunk.numbers[i]}: {reason}: {text}")

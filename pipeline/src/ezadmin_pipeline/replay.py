"""``replay``: reads messages that Kafka still keeps once more, and indexes what is missing in Elasticsearch.

For the day an index was lost or deleted by mistake. It goes round the workers and their commit records: documents are
written under the names they had, so what is there stays as it is, and nothing is counted again (counts are of what was
received, and that has not changed). The rules of today are for them.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.elastic import Elastic
from ezadmin_pipeline.indexer import Chunk, Indexer
from ezadmin_pipeline.letters import read_partitions
from ezadmin_pipeline.lines import Bounds
from ezadmin_pipeline.reading import Reading
from ezadmin_pipeline.settings import Settings
from ezadmin_wire import WireError

_log = logging.getLogger(__name__)


class Replay:
    """One run of ``replay``; afterwards its counts say what happened to the lines."""

    live = True

    def __init__(self, settings: Settings, elastic: Elastic, directory: Directory) -> None:
        self._settings = settings
        self._reading = Reading(settings, directory)
        self._documents = DocumentMaker(settings.names, directory, lambda: datetime.now(UTC))
        self._indexer = Indexer(
            elastic,
            current_index=lambda index: "~",  # no index is waited for longer than for one of the past
            clock=time.monotonic,
            bulk_bytes=settings.bulk_bytes,
            in_flight=settings.bulk_in_flight,
            retry_past_index=settings.retry_past_index,
        )
        self.lines = 0
        self.present = 0
        self.refused = 0
        self.ignored = 0

    @property
    def stored(self) -> int:
        """Lines that were missing and are there now."""
        return self.lines - self.present - self.refused - self.ignored

    def run(self, topic: str, since_ms: int | None) -> None:
        """Read ``topic`` from ``since_ms`` to its present end. Messages and lines that were dead letters stay such.

        Raises LookupError if it is neither an agents' topic nor a foreign one that is there.
        """
        names = self._settings.names
        if topic not in (names.metrics, names.logs, *self._reading.foreign):
            raise LookupError(
                f"{topic} is no topic to replay: write metrics, logs, or a [[foreign]] topic of the settings that exists"
            )
        for message in read_partitions(self._settings.kafka, topic, since_ms):
            try:
                batch = self._reading.batch(message)
            except WireError as error:
                _log.info("%s/%d/%d passed over: %s", topic, message.partition, message.offset, error)
                continue
            # "fresh" makes a 409 known as such: here it says that the document is there
            chunk = Chunk(self, message.offset, fresh=True, context=batch)
            bounds = Bounds.around(message.timestamp)
            bad = self._documents.make(chunk, batch, [(batch.seq, batch.seq + batch.n)], bounds)
            self.lines += batch.n
            self.refused += len(bad)
            self.ignored += len(chunk.ignored)
            if chunk.count:
                self._indexer.add(chunk)
            while self._indexer.busy:
                self._indexer.pump()
                time.sleep(0.01)
        self._indexer.drain(lambda: None)
        self._indexer.close()

    def settled(self, lines: int) -> None:
        """See :class:`ezadmin_pipeline.indexer.Owner`."""

    def conflicted(self, chunk: Chunk, i: int) -> None:
        """See :class:`ezadmin_pipeline.indexer.Owner`."""
        self.present += 1

    def died(self, chunk: Chunk, i: int, reason: str, text: str) -> None:
        """See :class:`ezadmin_pipeline.indexer.Owner`."""
        self.refused += 1
        _log.warning("refused by Elasticsearch: %s: %s", reason, text)

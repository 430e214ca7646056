"""Makes the documents of a batch: index by the line's own day, ``_id`` by its number, the host's prefix before it; events
as the rules want them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.indexer import Chunk
from ezadmin_pipeline.lines import BadLine, LineReader, suspicious
from ezadmin_pipeline.rules import Plan, RuleSet
from ezadmin_wire.batch import Batch
from ezadmin_wire.ids import event_id_prefix
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

_KNOWN_STREAMS = 50_000


class DocumentMaker:
    """Fills chunks. ``directory`` gives names and labels of hosts, ``today`` the time for ``event.ingested``."""

    def __init__(self, names: Names, directory: Directory, today: Callable[[], datetime]) -> None:
        self._names = names
        self._directory = directory
        self._today = today
        self._reader = LineReader()
        self._id_prefixes: dict[tuple[str, str, str], str] = {}
        self.hits: Counter[str] = Counter()
        """Events per rule that it left out, changed or exempted."""
        self._rules = RuleSet(directory.rules, directory.rules_revision, self.hits)

    @property
    def rules(self) -> RuleSet:
        """The rules in force; a new revision is taken up between batches only."""
        if self._rules.record is not self._directory.rules:
            self._rules = RuleSet(self._directory.rules, self._directory.rules_revision, self.hits)
        return self._rules

    @property
    def rules_revision(self) -> int:
        """The revision that the last batch was made by."""
        return self._rules.revision

    def make(self, chunk: Chunk, batch: Batch, wanted: Sequence[tuple[int, int]]) -> list[tuple[int, bytes, BadLine]]:
        """Put the lines of ``batch`` whose ``seq`` lies in ``wanted`` (half-open ranges) into ``chunk``.

        Those that the rules leave out go to ``chunk.ignored``. Returns those that cannot become documents: seq, line, why.
        """
        host = self._directory.host(batch.host)
        prefix = host.prefix + format_time(self._today()).encode() + b'",'
        events = batch.topic == self._names.logs
        suspect = suspicious(batch.value)
        id_prefix = self._id_prefix(batch)
        lines, start, dataset, read = batch.lines(), batch.seq, batch.dataset, self._reader.read
        targets: dict[str, tuple[str, bytes]] = {}
        bad = []
        for first, last in wanted:
            for seq in range(first, last):
                raw = lines[seq - start]
                try:
                    minute, level, document = read(raw, dataset, prefix, suspect)
                except BadLine as error:
                    bad.append((seq, raw, error))
                    continue
                target = targets.get(minute[:10])
                if target is None:
                    target = targets[minute[:10]] = self._target(events, minute, id_prefix)
                chunk.indices.append(target[0])
                chunk.actions.append(target[1] + b'%x"}}\n' % seq if events else target[1])
                chunk.documents.append(document)
                chunk.numbers.append(seq - start)
                chunk.tags.append((minute, level, raw))
        plan = self.rules.plan(batch, host, suspect) if events else None
        if plan is not None:
            self._apply(plan, chunk, start, bad)
        return bad

    def _apply(self, plan: Plan, chunk: Chunk, start: int, bad: list[tuple[int, bytes, BadLine]]) -> None:
        kept = []
        for i, (minute, level, raw) in enumerate(chunk.tags):
            try:
                verdict = plan.judge(raw, minute, level)
                if verdict is None:
                    kept.append(i)
                    continue
                if verdict.dropped_by is None:
                    chunk.documents[i], counted = verdict.change(chunk.documents[i])
                    kept.append(i)
                else:
                    chunk.ignored.append(chunk.tags[i])
                    counted = [verdict.dropped_by]
            except BadLine as error:
                bad.append((start + chunk.numbers[i], raw, BadLine(error.reason, str(error), minute, level)))
                continue
            self.hits.update(rule.id for rule in counted)
            self.hits.update(rule.id for rule in verdict.matched if rule.exempts)
        if len(kept) < len(chunk.tags):
            chunk.keep(kept)

    def _target(self, events: bool, day: str, id_prefix: str) -> tuple[str, bytes]:
        # events: the action line up to the number of the line; metrics: whole, Elasticsearch makes the id
        if events:
            index = self._names.logs_index(day)
            return index, f'{{"create":{{"_index":"{index}","_id":"{id_prefix}'.encode()
        index = self._names.metrics_index(day)
        return index, f'{{"create":{{"_index":"{index}"}}}}\n'.encode()

    def _id_prefix(self, batch: Batch) -> str:
        key = (batch.host, batch.stream, batch.epoch)
        prefix = self._id_prefixes.get(key)
        if prefix is None:
            if len(self._id_prefixes) >= _KNOWN_STREAMS:
                self._id_prefixes.clear()
            prefix = self._id_prefixes[key] = event_id_prefix(*key)
        return prefix

"""Makes the documents of a batch: index by the line's own day, ``_id`` by its number, the host's prefix before it; events
as the rules want them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import itemgetter

from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.indexer import Chunk, Plain
from ezadmin_pipeline.lines import BadLine, Bounds, Columns, LineReader, escaped, suspicious
from ezadmin_pipeline.rollups import Tally, levels_of, tally_columns
from ezadmin_pipeline.rules import Plan, RuleSet
from ezadmin_wire.batch import Batch
from ezadmin_wire.ids import event_id_prefix
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

_KNOWN_STREAMS = 50_000
_minute: Callable[[tuple[str, str, bytes]], str] = itemgetter(0)


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

    @property
    def retimed(self) -> int:
        """Lines whose ``@timestamp`` was replaced."""
        return self._reader.retimed

    def make(
        self, chunk: Chunk, batch: Batch, wanted: Sequence[tuple[int, int]], bounds: Bounds | None = None
    ) -> list[tuple[int, bytes, BadLine]]:
        """Put the lines of ``batch`` whose ``seq`` lies in ``wanted`` (half-open ranges) into ``chunk``.

        Those that the rules leave out go to ``chunk.ignored``. Returns those that cannot become documents: seq, line, why.
        Raises WireError (``wrong_levels``).
        """
        host = self._directory.host(batch.host)
        prefix = host.prefix + format_time(self._today()).encode() + b'",'
        events = batch.topic == self._names.logs
        suspect = suspicious(batch.value)
        lines = batch.lines()
        columns = self._reader.read_all(batch.value, lines, batch.dataset, suspect, bounds)
        tally = tally_columns(*columns, lines) if columns is not None and (events or batch.levels) else {}
        if columns is None or levels_of(tally) != batch.levels:
            batch.check_levels()
        plan = self.rules.plan(batch, host, suspect or escaped(batch.value)) if events else None
        bad: list[tuple[int, bytes, BadLine]] = []
        if columns is not None and wanted == [(batch.seq, batch.seq + batch.n)]:
            plain = self._plain(batch, prefix, columns, lines, tally) if events else None
            if plain is not None:
                chunk.set_plain(plain)
                if plan is not None and not self._apply_to_cells(plan, plain):
                    self._apply(plan, chunk, batch.seq, bad)
                return bad
            chunk.numbers = list(range(batch.n))
            chunk.documents = [prefix + line[1:] for line in lines]
            chunk.tags = list(zip(*columns, lines, strict=True))
        else:
            for first, last in wanted:
                for number in range(first - batch.seq, last - batch.seq):
                    raw = lines[number]
                    try:
                        found = self._reader.read(raw, batch.dataset, prefix, suspect and suspicious(raw), bounds)
                    except BadLine as error:
                        bad.append((batch.seq + number, raw, error))
                        continue
                    chunk.numbers.append(number)
                    chunk.documents.append(found.document)
                    chunk.tags.append((found.minute, found.level, raw))
        self._place(chunk, batch, events)
        if plan is not None:
            self._apply(plan, chunk, batch.seq, bad)
        return bad

    def exemption(self, batch: Batch) -> Callable[[bytes, str, str], bool] | None:
        """A test whether a rule exempts a line of ``batch``, given the line, its minute and its level; None if none does."""
        plan = self._rules.exemptions(batch, self._directory.host(batch.host), suspicious(batch.value))
        if plan is None:
            return None

        def exempt(line: bytes, minute: str, level: str) -> bool:
            try:
                return plan.judge(line, minute, level) is not None
            except BadLine:  # it was read by no rule, and is stored or withheld like any other
                return False

        return exempt

    def _place(self, chunk: Chunk, batch: Batch, events: bool) -> None:
        """Give every line its index and action: a document stands in the index of its own day, under its number."""
        id_prefix = self._id_prefix(batch)
        minutes = list(map(_minute, chunk.tags))
        targets = {minute: self._target(events, minute, id_prefix) for minute in set(minutes)}
        indices = {index for index, _ in targets.values()}
        if len(indices) == 1:
            chunk.indices = [*indices] * len(minutes)
        else:
            chunk.indices = [targets[minute][0] for minute in minutes]
        heads = [targets[minute][1] for minute in minutes]
        if events:
            seq = batch.seq
            chunk.actions = [head % (seq + number) for head, number in zip(heads, chunk.numbers, strict=True)]
        else:
            chunk.actions = heads

    def _plain(self, batch: Batch, prefix: bytes, columns: Columns, lines: list[bytes], tally: Tally) -> Plain | None:
        """All lines of ``batch``, if they belong to one day."""
        days = {minute[:10] for minute, _ in tally}
        if len(days) > 1:
            return None
        index, action = self._target(True, days.pop(), self._id_prefix(batch))
        return Plain(index, action, prefix, batch.seq, *columns, lines, tally)

    def _apply_to_cells(self, plan: Plan, plain: Plain) -> bool:
        """Apply rules that go by minute and level alone and change nothing; returns whether they are such."""
        if plan.looks:
            return False
        hits: Counter[str] = Counter()
        ignored = set()
        for cell, (count, _) in plain.tally.items():
            verdict = plan.judge(b"", *cell)
            if verdict is None:
                continue
            if verdict.dropped_by is not None:
                ignored.add(cell)
                hits[verdict.dropped_by.id] += count
            elif any(rule.change is not None for rule in verdict.matched):
                return False
            for rule in verdict.matched:
                if rule.exempts:
                    hits[rule.id] += count
        if ignored:
            plain.ignore(ignored)
        self.hits.update(hits)
        return True

    def _apply(self, plan: Plan, chunk: Chunk, start: int, bad: list[tuple[int, bytes, BadLine]]) -> None:
        kept = []
        hits = self.hits
        for i, (minute, level, raw) in enumerate(chunk.tags):
            if plan.levels is not None and level not in plan.levels:
                kept.append(i)
                continue
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
            for rule in counted:
                hits[rule.id] += 1
            for rule in verdict.matched:
                if rule.exempts:
                    hits[rule.id] += 1
        if len(kept) < len(chunk.tags):
            chunk.keep(kept)

    def _target(self, events: bool, day: str, id_prefix: str) -> tuple[str, bytes]:
        # the action line of events has a place for their number; for metrics Elasticsearch makes the id
        if events:
            index = self._names.logs_index(day)
            return index, f'{{"create":{{"_index":"{index}","_id":"{id_prefix}%x"}}}}\n'.encode()
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

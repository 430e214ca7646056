"""The number of requests in flight against a made clock, and against threads and time."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_pipeline.indexer import Chunk, Indexer
from ezadmin_pipeline.window import Window


class Server:
    """Works on ``cores`` requests at a time, ``seconds`` each; refuses what would be more than ``queue`` at once."""

    def __init__(self, cores: int, seconds: float = 0.3, queue: int = 100) -> None:
        self.cores, self.seconds, self.queue = cores, seconds, queue
        self.free = [0.0] * cores
        self.now = 0.0
        self.open: list[tuple[float, float, bool]] = []

    def run(self, window: Window, requests: int) -> tuple[int, float]:
        """Keep the window full for so many requests; returns how many were taken, and the mean number in flight."""
        taken, seen = 0, 0
        for _ in range(requests):
            while len(self.open) < window.size:
                self._send()
            seen += len(self.open)
            self.now, sent, refused = heapq.heappop(self.open)
            if refused:
                window.refused(sent, self.now)
            else:
                taken += 1
                window.answered(sent, self.now)
        return taken, seen / requests

    def _send(self) -> None:
        if len(self.open) >= self.queue:
            heapq.heappush(self.open, (self.now + 0.01, self.now, True))
            return
        start = max(self.now, heapq.heappop(self.free))
        heapq.heappush(self.free, start + self.seconds)
        heapq.heappush(self.open, (start + self.seconds, self.now, False))


def test_it_grows_while_answers_are_quick() -> None:
    window = Window(8)
    assert window.size == 2
    Server(cores=8).run(window, 60)
    assert window.size == 8


def test_it_finds_what_the_server_takes() -> None:
    window = Window(16)
    server = Server(cores=16, queue=5)
    taken, mean = server.run(window, 2000)
    assert 3 <= mean <= 5.5
    assert taken > 1500


def test_a_volley_of_refusals_counts_once() -> None:
    window = Window(8)
    Server(cores=8).run(window, 60)
    for _ in range(8):
        window.refused(100.0, 100.5)
    assert window.size == 4
    window.refused(100.4, 100.6)  # sent before the decrease
    assert window.size == 4
    window.refused(100.5, 100.7)
    assert window.size == 2


def test_a_slow_answer_takes_a_tenth_and_a_long_bulk_is_not_slow() -> None:
    window = Window(8)
    for _ in range(60):
        window.answered(0.0, 0.01)
    window.answered(1.0, 1.4)
    assert window.size == 8, "half a second is never slow"
    window.answered(2.0, 3.0)
    assert window.size == 7
    window.answered(2.5, 3.6)
    assert window.size == 7
    for i in range(60):
        window.answered(4.0 + i, 5.0 + i)
    assert window.size == 8, "a second is usual now"


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 100)), max_size=50),
)
def test_it_stays_within_its_bounds(most: int, events: list[tuple[bool, float, float]]) -> None:
    window = Window(most)
    for refused, sent, took in events:
        (window.refused if refused else window.answered)(sent, sent + took)
        assert 1 <= window.size <= most


class Slots:
    """An Elasticsearch of two slots: what finds none free is refused with 429, item by item."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.working = 0
        self.refused = 0
        self.taken = 0

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Any]:
        lines = (body or b"").count(b"\n") // 2
        with self.lock:
            busy = self.working >= 2
            self.working += 1
            self.refused += busy
        time.sleep(0.002 if busy else 0.01)
        with self.lock:
            self.working -= 1
        if busy:
            error = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
            return 200, {"errors": True, "items": [{"create": error}] * lines}
        with self.lock:
            self.taken += lines
        return 200, {"errors": False, "items": [{"create": {"status": 201}}] * lines}


class Owner:
    live = True
    lines = 0

    def settled(self, lines: int) -> None:
        self.lines += lines

    def conflicted(self, chunk: Chunk, i: int) -> None:
        raise AssertionError

    def died(self, chunk: Chunk, i: int, reason: str, text: str) -> None:
        raise AssertionError


@pytest.mark.parametrize("most", [1, 8])
def test_the_indexer_settles_everything_whatever_is_refused(most: int) -> None:
    elastic, owner = Slots(), Owner()
    indexer = Indexer(elastic, current_index=lambda index: index, clock=time.monotonic, bulk_bytes=400, in_flight=most)
    for number in range(300):
        chunk = Chunk(owner, number, fresh=False, context=None)
        chunk.indices, chunk.actions, chunk.documents = ["i"] * 10, [b'{"create":{}}\n'] * 10, [b'{"message":"x"}'] * 10
        chunk.numbers, chunk.tags = list(range(10)), [("m", "info", b"{}")] * 10
        indexer.add(chunk)
        while indexer.busy:
            indexer.pump()
    indexer.drain(lambda: None)
    indexer.close()
    assert owner.lines == elastic.taken == 3000
    assert indexer.waiting_bytes == 0
    assert (elastic.refused == 0) == (most == 1)
    assert elastic.refused < 150, "it learns from refusals"

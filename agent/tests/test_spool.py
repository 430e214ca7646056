"""The spool against its invariants: a state machine with crashes, then single cases."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ezadmin_agent import spool as spool_module
from ezadmin_agent.spool import Position, Spool, SpoolError, SpoolFull, Spools, StreamSpec

T = "2026-11-24T08:00:00.000Z"


def append(spool: Spool, lines: list[bytes], positions: dict | None = None) -> int:
    return spool.append(lines, dataset="test", tmin=T, tmax=T, positions=positions)


def drain(spool: Spool, place: Position | None = None) -> list[tuple[str, int, bytes]]:
    place = place or spool.acked
    found = []
    while True:
        frame = spool.next_frame(place)
        if frame is None:
            return found
        assert frame.n == len(frame.lines())
        found += [(frame.epoch, frame.seq + i, line) for i, line in enumerate(frame.lines())]
        place = frame.end


class SpoolMachine(RuleBasedStateMachine):
    """A source counts up and appends; a reader takes frames and acknowledges; crashes cut or spoil what was not synced.

    At the end every line of the source that was synced was handed out, under one number; no number had two lines.
    """

    def __init__(self) -> None:
        super().__init__()
        # in memory where there is such a place: thousands of fsyncs to a disk prove nothing more
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.directory = Path(tempfile.mkdtemp(prefix="ezspool-", dir=memory))
        self.names: dict[tuple[str, int], bytes] = {}  # every (epoch, seq) ever handed out
        self.synced_lines: set[bytes] = set()
        self.unsynced: list[bytes] = []
        self.frames: list = []
        self.acked_lines: set[bytes] = set()
        self.open()

    def open(self) -> None:
        self.spool = Spool(self.directory / "s", "s", segment_bytes=600)
        self.counter = self.spool.positions.get("gen", 0)
        self.cursor = self.spool.acked
        self.frames = []

    @initialize()
    def begin(self) -> None:
        assert self.spool.next_seq == 0

    @rule(n=st.integers(1, 5), size=st.sampled_from([0, 3, 200]))
    def append(self, n: int, size: int) -> None:
        lines = [b"%d:%s" % (self.counter + i, b"x" * size) for i in range(n)]
        self.counter += n
        append(self.spool, lines, {"gen": self.counter})
        self.unsynced += lines

    @rule()
    def sync(self) -> None:
        self.spool.sync()
        self.synced_lines.update(self.unsynced)
        self.unsynced = []

    @rule(n=st.integers(1, 4))
    def take(self, n: int) -> None:
        for _ in range(n):
            frame = self.spool.next_frame(self.cursor)
            if frame is None:
                return
            for i, line in enumerate(frame.lines()):
                # the number of a line that was handed out never names another line
                assert self.names.setdefault((frame.epoch, frame.seq + i), line) == line
            self.frames.append(frame)
            self.cursor = frame.end

    @precondition(lambda self: self.frames)
    @rule(n=st.integers(1, 4))
    def ack(self, n: int) -> None:
        for frame in self.frames[:n]:
            self.spool.ack(frame)
            self.acked_lines.update(frame.lines())
        del self.frames[:n]

    @rule()
    def read_again(self) -> None:
        self.cursor = self.spool.acked
        self.frames = []

    @rule()
    def mark(self) -> None:
        self.spool.mark({"other": self.counter})  # syncs
        self.synced_lines.update(self.unsynced)
        self.unsynced = []

    @rule(
        cut=st.sampled_from([0.0, 0.3, 0.7, 1.0]) | st.floats(0, 1),
        spoil=st.booleans(),
        forget_acked=st.booleans(),
        seed=st.integers(0, 1 << 30),
    )
    def crash(self, cut: float, spoil: bool, forget_acked: bool, seed: int) -> None:
        """kill -9 or loss of power: what stands behind the last fsync may be cut anywhere, or be anything."""
        newest = max((self.directory / "s").glob("*.seg"))
        safe = self.spool._synced.offset
        size = newest.stat().st_size
        # rolling to a new segment syncs: lines that the test thinks unsynced may be safe already
        os.close(self.spool._writer)
        os.close(self.spool._acked_file)
        self.spool._close_reader()
        keep = safe + int(cut * (size - safe))
        os.truncate(newest, keep)
        if spoil and keep > safe:
            data = bytearray(newest.read_bytes())
            data[random.Random(seed).randrange(safe, keep)] ^= 0x55
            newest.write_bytes(data)
        if forget_acked:
            (self.directory / "s" / "acked").unlink()
        self.open()
        self.unsynced = []

    @invariant()
    def counts(self) -> None:
        files = sum(path.stat().st_size for path in (self.directory / "s").glob("*.seg"))
        assert self.spool.disk_bytes == files
        assert self.spool.pending_bytes >= 0

    def teardown(self) -> None:
        self.spool.sync()
        self.synced_lines.update(self.unsynced)
        for epoch, seq, line in drain(self.spool):
            assert self.names.setdefault((epoch, seq), line) == line
        # complete: each synced line, once, in the order of its numbers, and nothing between is missing
        assert len(self.names) == len(set(self.names.values()))
        handed = sorted((seq, line) for (_, seq), line in self.names.items())
        assert [seq for seq, _ in handed] == list(range(len(handed)))
        numbers = [int(line.split(b":")[0]) for _, line in handed]
        assert numbers == list(range(self.spool.positions.get("gen", 0)))
        assert self.synced_lines <= set(self.names.values())
        assert self.spool.lost == 0
        self.spool.close()
        shutil.rmtree(self.directory)


SpoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSpoolMachine = SpoolMachine.TestCase


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def test_only_synced_frames_are_handed_out(directory: Path) -> None:
    spool = Spool(directory, "logs")
    assert append(spool, [b"a", b"b"]) == 0
    assert spool.next_frame(spool.acked) is None
    spool.sync()
    assert [line for _, _, line in drain(spool)] == [b"a", b"b"]
    spool.close()


def test_freed_segments_are_deleted_and_numbers_go_on_in_a_new_process(directory: Path) -> None:
    spool = Spool(directory, "logs", segment_bytes=2000)
    for i in range(200):
        append(spool, [b"x" * 100], {"f": i})
    spool.sync()
    assert len(list(directory.glob("*.seg"))) > 5
    place = spool.acked
    while (frame := spool.next_frame(place)) is not None:
        spool.ack(frame)
        place = frame.end
    assert len(list(directory.glob("*.seg"))) == 1
    assert spool.pending_lines == 0
    epoch = spool.epoch
    spool.close()
    again = Spool(directory, "logs")
    assert (again.epoch, again.next_seq, again.positions, again.pending_lines) == (epoch, 200, {"f": 199}, 0)
    again.close()


def test_damage_in_the_middle_is_skipped_counted_and_its_numbers_stay_used(directory: Path) -> None:
    spool = Spool(directory, "logs")
    offsets = []
    for i in range(5):
        offsets.append(spool._segments[-1].size)
        append(spool, [b"line %d" % i, b"second"], {"f": i})
        spool.sync()
    spool.close()
    path = max(directory.glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[offsets[2] + 30] ^= 1
    path.write_bytes(data)
    again = Spool(directory, "logs")
    assert again.next_seq == 10
    assert again.positions == {"f": 4}
    assert [seq for _, seq, _ in drain(again)] == [0, 1, 2, 3, 6, 7, 8, 9]
    drain(again)  # reading it again does not count the loss again
    assert again.lost == 2
    again.close()


def test_a_torn_frame_takes_those_behind_it_along(directory: Path) -> None:
    """Pages reach the disk in any order: a frame may be whole though one before it is not. Neither was handed out."""
    spool = Spool(directory, "logs")
    append(spool, [b"safe"], {"f": 1})
    spool.sync()
    torn = spool._segments[-1].size
    append(spool, [b"torn"], {"f": 2})
    append(spool, [b"whole"], {"f": 3})
    os.close(spool._writer)
    path = max(directory.glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[torn + 20] ^= 1
    path.write_bytes(data)
    again = Spool(directory, "logs")
    assert (again.positions, again.next_seq, again.lost) == ({"f": 1}, 1, 0)  # the source reads both again
    assert [line for _, _, line in drain(again)] == [b"safe"]
    again.close()


def test_a_segment_is_on_disk_whole_before_the_next_begins(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk: dict[int, int] = {}
    real = os.fdatasync

    def note(descriptor: int) -> None:
        real(descriptor)
        on_disk[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    monkeypatch.setattr(spool_module.os, "fdatasync", note)
    spool = Spool(directory, "logs", segment_bytes=1000)
    for _ in range(30):
        append(spool, [b"x" * 100])
    *old, _ = sorted(directory.glob("*.seg"))
    assert len(old) > 2
    assert all(on_disk[path.stat().st_ino] == path.stat().st_size for path in old)
    spool.close()


def test_a_damaged_begin_of_the_newest_segment_begins_a_new_epoch(directory: Path) -> None:
    spool = Spool(directory, "logs", segment_bytes=500)
    for i in range(12):
        append(spool, [b"y" * 100], {"f": i})
    spool.sync()
    epoch = spool.epoch
    spool.close()
    newest = max(directory.glob("*.seg"))
    newest.write_bytes(b"\0" * 50)
    again = Spool(directory, "logs", segment_bytes=500)
    assert again.epoch != epoch
    assert again.next_seq == 0
    assert newest.with_suffix(".bad").exists()
    kept = drain(again)
    assert kept
    assert {e for e, _, _ in kept} == {epoch}
    append(again, [b"new"])
    again.sync()
    assert drain(again)[-1] == (again.epoch, 0, b"new")
    again.close()
    once_more = Spool(directory, "logs")
    assert once_more.next_seq == 1
    once_more.close()


def test_a_full_disk_raises_and_leaves_the_spool_as_it_was(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(directory, "logs")
    append(spool, [b"before"], {"f": 1})
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 10:
            return real(descriptor, data[:10])  # a part still fits
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spool_module.os, "write", full)
    with pytest.raises(SpoolError, match="the disk is full"):
        append(spool, [b"during"], {"f": 2})
    monkeypatch.undo()
    assert spool.positions == {"f": 1}
    append(spool, [b"after"], {"f": 3})
    spool.sync()
    assert [(seq, line) for _, seq, line in drain(spool)] == [(0, b"before"), (1, b"after")]
    spool.close()


def test_a_failed_fsync_takes_the_sources_back(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(directory, "logs")
    append(spool, [b"safe"], {"f": 1})
    spool.sync()
    append(spool, [b"gone"], {"f": 2})

    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(spool_module.os, "fdatasync", broken)
    with pytest.raises(SpoolError, match="cannot fsync"):
        spool.sync()
    monkeypatch.undo()
    assert (spool.positions, spool.next_seq) == ({"f": 1}, 1)
    append(spool, [b"gone"], {"f": 2})
    spool.sync()
    assert [line for _, _, line in drain(spool)] == [b"safe", b"gone"]
    spool.close()


SPECS = [
    StreamSpec("metrics", "t.metrics", priority=0, droppable=True),
    StreamSpec("logs", "t.logs", priority=5, droppable=False, share=0.5),
]


def fill(spools: Spools, name: str, count: int) -> int:
    done = 0
    while done < count:
        try:
            append(spools[name], [b"z" * 1000])
        except SpoolFull:
            break
        done += 1
        if done % 10 == 0:
            spools[name].sync()
    spools[name].sync()
    return done


def test_at_the_cap_metrics_drop_their_oldest_and_the_gap_is_counted(tmp_path: Path) -> None:
    spools = Spools(tmp_path, SPECS, cap_bytes=400_000)
    assert fill(spools, "metrics", 2000) == 2000
    assert spools.disk_bytes <= 400_000
    metrics = spools["metrics"]
    rest = drain(metrics)
    assert rest[-1][1] == 1999
    assert metrics.dropped == {"unknown": 2000 - len(rest)}
    assert rest[0][1] == 2000 - len(rest)
    spools.close()


def test_at_the_cap_logs_push_metrics_out_and_then_wait(tmp_path: Path) -> None:
    spools = Spools(tmp_path, SPECS, cap_bytes=400_000)
    fill(spools, "metrics", 1000)
    assert spools.has_room("logs", 1000)
    taken = fill(spools, "logs", 1000)
    assert 100 < taken < 200
    assert not spools.has_room("logs", 2000)
    assert spools["logs"].dropped == {}
    assert [seq for _, seq, _ in drain(spools["logs"])] == list(range(taken))
    assert spools["metrics"].pending_lines > 50  # logs never take more than their share
    assert fill(spools, "metrics", 10) == 10
    spools.close()


def test_a_dropped_frame_that_was_under_way_counts_as_delivered_when_it_is_acknowledged(tmp_path: Path) -> None:
    spools = Spools(tmp_path, SPECS, cap_bytes=400_000)
    metrics = spools["metrics"]
    fill(spools, "metrics", 1)
    under_way = metrics.next_frame(metrics.acked)
    fill(spools, "metrics", 1000)
    before = metrics.dropped["unknown"]
    acked = metrics.acked
    metrics.ack(under_way)
    assert metrics.dropped["unknown"] == before - 1
    assert metrics.acked == acked
    spools.close()

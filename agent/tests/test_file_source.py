"""A followed file: every way of rotating, with the reader killed at any moment."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ezadmin_agent.logs.file import FileSource
from ezadmin_agent.logs.siblings import HEAD
from ezadmin_agent.logs.source import MAX_BYTES, MAX_LINE


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Tail:
    """A source and a spool that keeps only lines and the last position."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.clock = Clock()
        self.options = options
        self.position: Any = None
        self.lines: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        self.source = FileSource(self.path, "log.file", syslog=False, monotonic=self.clock, grace=5.0, **self.options)
        self.position = json.loads(json.dumps(self.source.resume(self.position)))

    def crash(self) -> None:
        self.source.close()
        self.start()

    def read(self) -> list[str]:
        found = []
        while True:
            batch = self.source.read()
            if batch.position is not None:
                self.position = json.loads(json.dumps(batch.position))
            assert sum(len(line) + 1 for line in batch.lines) <= MAX_BYTES or len(batch.lines) == 1
            assert len(batch.lines) <= 500
            found += [json.loads(line) for line in batch.lines]
            if not batch.more:
                self.lines += found
                return [line["message"] for line in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_reads_what_is_appended_with_offsets(path: Path) -> None:
    write(path, "old")
    tail = Tail(path)
    assert tail.read() == []
    write(path, "a", "", "가나다")
    assert tail.read() == ["a", "가나다"]
    assert [line["log.offset"] for line in tail.lines] == [4, 7]
    assert tail.lines[0]["log.file.path"] == str(path)
    tail.crash()
    assert tail.read() == []


def test_from_start_and_a_file_that_appears_later(path: Path) -> None:
    tail = Tail(path)
    assert tail.read() == []
    write(path, "first")
    assert tail.read() == ["first"]
    assert Tail(path, from_start=True).read() == ["first"]


def test_the_end_is_remembered_before_the_first_line(path: Path) -> None:
    write(path, "old")
    tail = Tail(path)
    write(path, "written before the crash")
    tail.crash()
    assert tail.read() == ["written before the crash"]


def test_a_partial_line_waits_for_its_end(path: Path) -> None:
    tail = Tail(path)
    with path.open("a") as file:
        file.write("half")
        file.flush()
        assert tail.read() == []
        tail.crash()
        file.write(" whole\nnext")
        file.flush()
        assert tail.read() == ["half whole"]


def test_a_long_line_is_cut_and_marked_and_the_next_is_whole(path: Path) -> None:
    tail = Tail(path)
    with path.open("a") as file:
        file.write("x" * (MAX_LINE + 10))
        file.flush()
        assert tail.read() == ["x" * MAX_LINE]
        tail.crash()
        file.write("y" * 300_000 + "\nshort\n" + "z" * (3 * MAX_LINE) + "\nend\n")
        file.flush()
    assert tail.read() == ["short", "z" * MAX_LINE, "end"]
    assert [line.get("log.truncated") for line in tail.lines] == [True, None, True, None]


def test_bytes_that_are_no_text(path: Path) -> None:
    tail = Tail(path)
    path.write_bytes(b"caf\xe9 \x00\x1b[0m\r\n\xff\n")
    assert tail.read() == ["caf\ufffd \x00\x1b[0m", "\ufffd"]


def test_lines_that_grow_in_json_still_fit_the_batch(path: Path) -> None:
    tail = Tail(path)
    write(path, *("\x01" * 60_000 for _ in range(6)), *("a" for _ in range(1200)))
    assert len(tail.read()) == 1206


def test_renamed_with_a_writer_that_goes_on_in_the_old_file(path: Path) -> None:
    tail = Tail(path)
    with path.open("a") as old:
        old.write("1\n")
        old.flush()
        assert tail.read() == ["1"]
        old.write("2\n")
        old.flush()
        path.rename(path.with_name("app.log.1"))
        write(path, "4")
        assert tail.read() == ["2", "4"]
        tail.clock.now += 3
        old.write("3 without newline")
        old.flush()
        assert tail.read() == []
    tail.crash()
    for _ in range(3):
        tail.clock.now += 6
        tail.read()
    assert [line["message"] for line in tail.lines] == ["1", "2", "4", "3 without newline"]
    assert len(tail.position["parts"]) == 1
    tail.crash()
    assert tail.read() == []


def test_rotated_several_times_while_the_agent_was_down(path: Path) -> None:
    tail = Tail(path)
    write(path, "a1")
    assert tail.read() == ["a1"]
    write(path, "a2")
    for generation in "bcd":
        for number in (3, 2, 1):
            older = path.with_name(f"app.log.{number}")
            if older.exists():
                older.rename(path.with_name(f"app.log.{number + 1}"))
        path.rename(path.with_name("app.log.1"))
        write(path, f"{generation}1", f"{generation}2")
    tail.crash()
    assert tail.read() == ["a2", "b1", "b2", "c1", "c2", "d1", "d2"]


def test_a_new_file_under_the_old_inode_is_read_from_its_begin(path: Path) -> None:
    tail = Tail(path)
    write(path, "first file, line one", "first file, line two")
    tail.read()
    tail.source.close()
    # as if the inode had been used again: same file, other content, and longer than what was read
    path.write_text("second file, with a line that is longer than both of the others together\nlast\n")
    tail.start()
    assert tail.read() == ["second file, with a line that is longer than both of the others together", "last"]


def test_copytruncate_takes_the_rest_from_the_copy(path: Path) -> None:
    tail = Tail(path)
    write(path, "one", "two")
    assert tail.read() == ["one", "two"]
    write(path, "three")
    shutil.copy(path, path.with_name("app.log.1"))
    os.truncate(path, 0)
    write(path, "four")
    assert tail.read() == ["three", "four"]
    for _ in range(3):
        tail.clock.now += 6
        assert tail.read() == []
    write(path, "five")
    tail.crash()
    assert tail.read() == ["five"]


def test_emptied_more_than_once_while_the_agent_was_down(path: Path) -> None:
    write(path.with_name("app.log.1"), "read long ago")
    time.sleep(0.01)
    tail = Tail(path)
    write(path, "one")
    assert tail.read() == ["one"]
    write(path, "two")
    for number in (2, 3, 4):
        shutil.copy(path, path.with_name(f"app.log.{number}"))
        os.truncate(path, 0)
        time.sleep(0.01)  # times of files are as coarse as the kernel's ticks
        write(path, f"after copy {number}")
    tail.crash()
    assert tail.read() == ["two", "after copy 2", "after copy 3", "after copy 4"]
    tail.crash()
    assert tail.read() == []


def test_emptied_more_than_once_when_all_before_was_read(path: Path) -> None:
    tail = Tail(path)
    write(path, "one")
    assert tail.read() == ["one"]
    for number in (1, 2):
        shutil.copy(path, path.with_name(f"app.log.{number}"))
        os.truncate(path, 0)
        time.sleep(0.01)
        write(path, f"after copy {number}")
    assert tail.read() == ["after copy 1", "after copy 2"]


@pytest.mark.parametrize("lines", [1, 100], ids=["short", "longer than the head"])
def test_emptied_and_filled_again_between_look_and_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    tail = Tail(path)
    write(path, *[f"line {number} of the old file" for number in range(lines)])
    tail.read()
    write(path, "the last line")
    real = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        if size > HEAD:  # the read of lines, behind the look
            monkeypatch.setattr(os, "pread", real)
            shutil.copy(path, path.with_name("app.log.1"))
            os.truncate(path, 0)
            write(path, *[f"line {number} of the new file, longer" for number in range(lines + 5)])
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    found = tail.read() + tail.read()
    assert found == ["the last line", *[f"line {number} of the new file, longer" for number in range(lines + 5)]]


def empty(path: Path, copy: str) -> None:
    """What copytruncate does."""
    shutil.copy(path, path.with_name(copy))
    os.truncate(path, 0)
    time.sleep(0.01)  # times of files are as coarse as the kernel's ticks


@pytest.mark.parametrize("crash", [False, True], ids=["", "crash"])
@pytest.mark.parametrize("first", ["", "one"], ids=["empty at first", "read at first"])
@pytest.mark.parametrize("again", [1, 3])
def test_emptied_again_before_a_line_of_it_was_read(path: Path, crash: bool, first: str, again: int) -> None:
    write(path.with_name("app.log.0"), "read long ago")
    write(path, *filter(None, [first]))
    tail = Tail(path, from_start=True)
    assert tail.read() == [*filter(None, [first])]
    if first:
        empty(path, "app.log.1")
        assert tail.read() == []  # it is seen that it was emptied, before there is a line in it
    for number in range(again):
        write(path, f"line {number}")
        empty(path, f"app.log.{2 + number}")
    write(path, "last")
    if crash:
        tail.crash()
    assert tail.read() == [*[f"line {number}" for number in range(again)], "last"]
    tail.crash()
    assert tail.read() == []


def test_emptied_while_what_was_before_in_it_is_read_from_the_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = Tail(path)
    write(path, "one")
    tail.read()
    write(path, *[f"line {number}" for number in range(2000)])  # several batches
    empty(path, "app.log.1")
    write(path, "between")
    real = os.pread
    reads = 0

    def pread(fd: int, size: int, offset: int) -> bytes:
        nonlocal reads
        if size > HEAD:
            reads += 1
            if reads == 3:
                empty(path, "app.log.2")
                write(path, "last")
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert tail.read() == [*[f"line {number}" for number in range(2000)], "between", "last"]


@pytest.mark.parametrize("when", ["before", "behind"])
def test_emptied_between_look_and_first_read(path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    tail = Tail(path)
    write(path, "one")
    tail.read()
    empty(path, "app.log.1")
    tail.read()
    write(path, "two")
    real = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        if size <= HEAD:
            return real(fd, size, offset)
        monkeypatch.setattr(os, "pread", real)
        data = real(fd, size, offset)
        empty(path, "app.log.2")
        write(path, "three")
        return data if when == "behind" else real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert tail.read() + tail.read() == ["two", "three"]


def test_a_copy_of_what_is_not_emptied_yet_is_not_read(path: Path) -> None:
    tail = Tail(path)
    write(path, "one")
    tail.read()
    write(path, "two")
    empty(path, "app.log.1")
    write(path, *[f"line {number}" for number in range(100)])
    shutil.copy(path, path.with_name("app.log.2"))
    found = tail.source.read()  # and the crash comes before it is in the spool
    assert len(found.lines) == 101
    tail.crash()
    assert tail.read() == ["two", *[f"line {number}" for number in range(100)]]
    os.truncate(path, 0)
    write(path, "three")
    assert tail.read() == ["three"]
    tail.crash()
    assert tail.read() == []


def test_what_is_beside_an_unread_file_is_no_copy_of_it(path: Path) -> None:
    old, alive = path.with_name("app.log.2"), path.with_name("app.log.1")
    write(old, "old")
    write(alive, "another process's")
    tail = Tail(path)
    write(path, "one")
    tail.read()
    empty(path, "app.log.3")
    assert tail.read() == []
    shutil.copy(old, path.with_name("app.log.2.bak"))  # by hand
    shutil.copy(path.with_name("app.log.3"), path.with_name("app.log.old"))
    write(path.with_name("app.log.4"), "unpacked by hand")
    os.utime(path.with_name("app.log.4"), (1e9, 1e9))
    write(alive, "goes on")
    time.sleep(0.01)
    assert tail.read() == []
    tail.crash()
    write(path, "two")
    assert tail.read() == ["two"]


@pytest.mark.parametrize("way", ["copy", "rename"])
@pytest.mark.parametrize("crash", [False, True], ids=["", "crash"])
def test_names_shift_while_they_are_listed(path: Path, monkeypatch: pytest.MonkeyPatch, way: str, crash: bool) -> None:
    """A rotation that falls into the search for the files of the one before."""
    tail = Tail(path)
    write(path, "one")
    tail.read()

    def rotate(line: str) -> None:
        write(path, line)
        for number in (2, 1):
            if (name := path.with_name(f"app.log.{number}")).exists():
                name.rename(path.with_name(f"app.log.{number + 1}"))
        if way == "copy":
            empty(path, "app.log.1")
        else:
            path.rename(path.with_name("app.log.1"))
            time.sleep(0.01)
            write(path)

    rotate("two")
    rotate("three")
    write(path, "four")
    real = os.open
    shifted = False

    def shift(name: Any, *arguments: Any) -> int:
        nonlocal shifted
        if not shifted and str(name).endswith((".1", ".2")):
            shifted = True
            rotate("five")
            write(path, "six")
        return real(name, *arguments)

    monkeypatch.setattr(os, "open", shift)
    if crash:
        tail.crash()
    found = tail.read() + tail.read()
    assert shifted
    assert found == ["two", "three", "four", "five", "six"]


def test_rotated_between_look_and_opening(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = Tail(path)
    write(path, "one")
    tail.read()
    path.rename(path.with_name("app.log.1"))
    write(path, "two")
    real = os.open
    rotated = False

    def rotate(name: Any, *arguments: Any) -> int:
        nonlocal rotated
        if not rotated and Path(name) == path:
            rotated = True
            time.sleep(0.01)
            path.rename(path.with_name("app.log.2"))
            write(path, "three")
        return real(name, *arguments)

    monkeypatch.setattr(os, "open", rotate)
    assert tail.read() + tail.read() == ["two", "three"]


def test_an_empty_file_that_was_finished_says_nothing_of_a_later_one_under_its_inode(path: Path) -> None:
    tail = Tail(path)
    write(path)
    tail.read()
    path.rename(path.with_name("app.log.1"))
    write(path, "one")
    tail.read()
    for _ in range(2):
        tail.clock.now += 6
        tail.read()
    assert len(tail.position["parts"]) == 1
    old = path.with_name("app.log.1")
    position = tail.position
    time.sleep(0.01)
    # as if the inode of the empty file had been freed and taken by the file of a rotation that nobody saw
    write(old, "two")
    path.rename(path.with_name("app.log.2"))
    write(path, "three")
    os.utime(old)
    assert position == tail.position
    assert sorted(tail.read()) == ["three", "two"]


def test_another_log_beside_is_not_taken_for_a_rotated_file(path: Path) -> None:
    beside = [path.with_name(name) for name in ("app.log-errors", "app.log.audit", "app.log.lock")]
    tail = Tail(path)
    write(path, "one")
    assert tail.read() == ["one"]
    path.rename(path.with_name("app.log.1"))
    for other in beside:
        write(other, "of another log")
    write(path, "two")
    assert tail.read() == ["two"]
    shutil.copy(path, path.with_name("app.log.2"))
    os.truncate(path, 0)
    for other in beside:
        write(other, "of another log")
    write(path, "three")
    assert tail.read() == ["three"]


@pytest.mark.parametrize(
    "name", ["app.log.1", "app.log-20261124", "app.log.2026-11-24", "app.log.20261124-08", "app.log.old"]
)
def test_names_of_rotated_files(path: Path, name: str) -> None:
    tail = Tail(path)
    write(path, "one")
    assert tail.read() == ["one"]
    write(path, "two")
    shutil.copy(path, path.with_name(name))
    os.truncate(path, 0)
    assert tail.read() == ["two"]


def test_removed_and_made_anew(path: Path) -> None:
    tail = Tail(path)
    write(path, "one")
    assert tail.read() == ["one"]
    write(path, "two")
    path.unlink()
    assert tail.read() == ["two"]
    write(path, "three")
    assert tail.read() == ["three"]


@pytest.mark.parametrize("seed", range(60))
def test_random_schedule_gives_every_line_once(path: Path, seed: int) -> None:
    """Writes, renames, copies, reads, and crashes that take the reader back to the last position of the spool."""
    chance = random.Random(seed)
    writer = path.open("a")
    tail = Tail(path)
    written = 0
    delayed = 0  # lines that the writer still writes into the renamed file before it reopens
    generation = 0
    for _ in range(150):
        action = chance.choices(["write", "rename", "copy", "read", "crash", "lose"], [8, 1, 0.7, 4, 1, 1])[0]
        if action == "write":
            for _ in range(chance.choice([1, 3, 40])):
                writer.write(f"line {written} {'x' * chance.choice([0, 10, 2000])}\n")
                written += 1
            writer.flush()
            if delayed:
                delayed -= 1
                if not delayed:
                    writer.close()
                    writer = path.open("a")
        elif action == "rename" and not delayed and os.fstat(writer.fileno()).st_size:
            generation += 1
            path.rename(path.with_name(f"app.log.{generation}"))
            delayed = chance.choice([1, 2])
            path.touch()
        elif action == "copy" and not delayed:
            for _ in range(chance.choice([1, 1, 2, 3])):
                for _ in range(chance.choice([0, 1, 50])):
                    writer.write(f"line {written} before the copy\n")
                    written += 1
                writer.flush()
                generation += 1
                shutil.copy(path, path.with_name(f"app.log.{generation}"))
                os.truncate(path, 0)
                time.sleep(0.005)  # times of files are as coarse as the kernel's ticks
                if chance.random() < 0.3:
                    tail.read()
                elif chance.random() < 0.3:
                    tail.source.read()  # never in the spool
                    tail.crash()
                elif chance.random() < 0.3:
                    tail.crash()
            tail.read()
        elif action == "read":
            tail.read()
            tail.clock.now += 0 if delayed else chance.choice([0, 1, 3])
        elif action == "crash":
            tail.crash()
        else:  # a batch was read, but the crash came before it was in the spool
            tail.source.read()
            tail.crash()
    writer.close()
    for _ in range(4):
        tail.read()
        tail.clock.now += 6
    numbers = sorted(int(line["message"].split()[1]) for line in tail.lines)
    assert numbers == list(range(written))

"""Files found by globs, the kernel's ring, syslog sockets, and rules that change while the agent runs."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from base64 import b85encode
from pathlib import Path
from typing import Any

import pytest

from ezadmin_agent.config import Watch
from ezadmin_agent.logs.kernel import KernelSource
from ezadmin_agent.logs.reader import LogReader
from ezadmin_agent.logs.source import Counts
from ezadmin_agent.logs.sources import SourceSet
from ezadmin_agent.logs.surge import Ladder
from ezadmin_agent.logs.syslog import SyslogSource, parse_rfc5424
from ezadmin_agent.spool import Spools, StreamSpec
from ezadmin_wire.logs.parse import Parser
from ezadmin_wire.logs.rules import RuleConfig
from ezadmin_wire.logs.settings import LogConfig


class Agent:
    """A reader on a spool; :meth:`crash` begins again from what the spool knows."""

    def __init__(self, folder: Path, configs: list[LogConfig], cap_bytes: int = 64 << 20, **options: Any) -> None:
        self.folder, self.configs, self.cap_bytes, self.options = folder, configs, cap_bytes, options
        self.new: list[LogConfig] | None = None
        self.now = 0.0
        self.start()

    def start(self) -> None:
        specs = [
            StreamSpec("errors", "t.logs", 6, False, share=1.0, over=("logs",)),
            StreamSpec("logs", "t.logs", 5, False),
        ]
        self.spools = Spools(self.folder / "spool", specs, cap_bytes=self.cap_bytes)
        self.set = SourceSet(self.configs, load=self.load, clock=lambda: self.now)
        self.reader = LogReader([], self.spools, "logs", errors="errors", more=self.set, **self.options)

    def load(self) -> list[LogConfig] | None:
        found, self.new = self.new, None
        return found

    def look(self, seconds: float = 3.0) -> None:
        self.now += seconds
        while self.reader.look():
            pass

    def crash(self) -> None:
        self.set.close()
        self.spools.close()
        self.start()

    def documents(self, *, ack: bool = False) -> list[dict[str, Any]]:
        found = []
        for spool in self.spools:
            place = spool.acked
            while (frame := spool.next_frame(place)) is not None:
                found += [json.loads(line) for line in frame.lines()]
                place = frame.end
                if ack:
                    spool.ack(frame)
        return found

    def messages(self) -> list[str]:
        return sorted(document["message"] for document in self.documents())

    def close(self) -> None:
        self.set.close()
        self.spools.close()


def files(pattern: Path, **rules: Any) -> LogConfig:
    return LogConfig(pattern, "app", False, False, rules=RuleConfig(**rules))


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_files_of_a_glob_come_and_go(tmp_path: Path) -> None:
    write(tmp_path / "old.log", "from before")
    (tmp_path / "no.txt").write_text("not ours\n")
    agent = Agent(tmp_path, [files(tmp_path / "*.log")])
    agent.look()
    write(tmp_path / "old.log", "1")
    write(tmp_path / "new.log", "2")
    agent.look()
    write(tmp_path / "new.log", "3")
    agent.crash()
    agent.look()
    assert agent.messages() == ["1", "2", "3"]
    # a day later: another name; the old file goes
    write(tmp_path / "day2.log", "4")
    (tmp_path / "new.log").unlink()
    agent.look()
    source = next(s for s in agent.set.sources if s.name.endswith("new.log"))
    source._grace = 0.0
    agent.look()
    agent.look()
    agent.look()
    assert not any(s.name.endswith("new.log") for s in agent.set.sources)
    assert not any(name.endswith("new.log") for name in agent.spools["logs"].positions)
    gone = agent.spools["logs"].positions[f"glob:{tmp_path}/*.log"]["counts"]
    assert gone == {"read": 2, "kept": 2}
    assert agent.messages() == ["1", "2", "3", "4"]
    agent.close()


@pytest.mark.parametrize("crash", [False, True])
def test_a_file_renamed_within_the_glob_is_not_read_twice(tmp_path: Path, crash: bool) -> None:
    agent = Agent(tmp_path, [files(tmp_path / "*.log*")])
    agent.look()
    for name in ("a.log", "b.log"):
        write(tmp_path / name, f"{name} 1")
    agent.look()
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")  # rotated: a sibling of its successor
    (tmp_path / "b.log").rename(tmp_path / "c.log")  # renamed for good
    if crash:
        agent.crash()
    agent.look()
    write(tmp_path / "a.log", "a.log 2")
    write(tmp_path / "c.log", "c.log 2")
    agent.look()
    assert agent.messages() == ["a.log 1", "a.log 2", "b.log 1", "c.log 2"]
    agent.close()


def test_rules_change_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    agent = Agent(tmp_path, [files(path)])
    agent.look()
    write(path, "noise 1", "signal 1")
    agent.look()
    agent.new = [files(path, exclude=("noise",)), files(tmp_path / "b.log")]
    write(path, "noise 2", "signal 2")
    write(tmp_path / "b.log", "of another file")
    agent.look()
    write(tmp_path / "b.log", "and more")
    agent.look()
    assert agent.messages() == ["and more", "noise 1", "signal 1", "signal 2"]
    agent.new = [files(path)]
    write(path, "noise 3")
    write(tmp_path / "b.log", "not read any more")
    agent.look()
    assert "noise 3" in agent.messages()
    assert "not read any more" not in agent.messages()
    agent.close()


def test_a_wrong_new_configuration_is_told_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[[logs]]\npath = "/a"\n')
    watch = Watch(path)
    assert watch.changed() is None
    path.write_text('[[logs]]\npath = "/a"\nexclude = ["("]\n')
    assert watch.changed() is None
    assert "the one before stays in force" in caplog.text
    assert "line 3: logs.exclude" in caplog.text
    path.write_text('[[logs]]\npath = "/a"\nexclude = ["x"]\n')
    config = watch.changed()
    assert config is not None
    assert config.logs is not None
    assert config.logs[0].rules.exclude == ("x",)
    assert watch.changed() is None


class Ring:
    """Stands in for /dev/kmsg, whose overruns cannot be made here."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.at = 0
        self.overrun = False

    def add(self, seq: int, text: str, priority: int = 6) -> None:
        self.records.append(f"{priority},{seq},{seq * 1000},-;{text}\n SUBSYSTEM=x\n".encode())

    def __call__(self, _fd: int) -> bytes:
        if self.overrun:
            self.overrun = False
            raise OSError(errno.EPIPE, "overwritten")
        if self.at >= len(self.records):
            raise BlockingIOError
        self.at += 1
        return self.records[self.at - 1]


def kernel(ring: Ring, boot: str = "b1", **options: Any) -> KernelSource:
    return KernelSource(
        "system.kernel",
        device=os.devnull,
        boot=boot,
        record=ring,
        clock=lambda: 1000.0,
        uptime=lambda: 100.0,
        **options,
    )


def texts(source: Any) -> list[str]:
    return [json.loads(line)["message"] for line in source.read().lines]


def test_kernel_ring_goes_on_at_its_number_and_counts_gaps() -> None:
    ring = Ring()
    ring.add(1, "old")
    source = kernel(ring)
    position = source.resume(None)
    assert (position["boot"], position["seq"]) == ("b1", 1)
    ring.add(2, "usb\\x0a\\xec\\x98\\xa4", priority=3)
    batch = source.read()
    document = json.loads(batch.lines[0])
    assert document["message"] == "usb 오"
    assert (document["log.level"], document["@timestamp"]) == ("error", "1970-01-01T00:15:00.002Z")
    source.close()
    # killed: the same boot goes on behind number 2
    ring.at = 0
    ring.add(3, "three")
    ring.overrun = True
    ring.add(9, "nine")
    source = kernel(ring)
    source.resume(batch.position)
    assert texts(source) == ["three", "nine"]
    assert source.counts.lost == 5
    source.close()
    # another boot begins anew
    ring.at = 0
    source = kernel(ring, boot="b2")
    source.resume(batch.position)
    assert texts(source) == ["old", "usb 오", "three", "nine"]
    source.close()


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="needs /dev/kmsg")
def test_the_real_kernel_ring() -> None:
    source = KernelSource("system.kernel", from_start=True)
    source.resume(None)
    batch = source.read()
    assert batch.lines
    again = KernelSource("system.kernel")
    assert again.resume(batch.position) == batch.position
    source.close()
    again.close()


def test_rfc5424() -> None:
    text = '<165>1 2026-11-24T08:15:30.003Z web1 app 812 ID47 [ex@1 iut="3" q="a\\"\\]b"][x@2 y="z"] \ufeffwent well'
    parsed = parse_rfc5424(text, Parser(True), 0)
    assert parsed is not None
    assert (parsed.level, parsed.facility, parsed.name, parsed.pid, parsed.host) == ("notice", 20, "app", 812, "web1")
    assert parsed.message == "went well"
    assert parsed.root is not None
    assert parsed.root["log.syslog.structured_data"] == {"ex@1": {"iut": "3", "q": 'a"]b'}, "x@2": {"y": "z"}}
    assert parsed.root["log.syslog.msgid"] == "ID47"
    assert parse_rfc5424("<13>Nov 24 08:15:30 h p: x", Parser(True), 0) is None
    bare = parse_rfc5424("<14>1 - - - - - -", Parser(True), 0)
    assert bare is not None
    assert (bare.time, bare.host, bare.name, bare.message) == (None, None, None, "")


def collect(source: SyslogSource, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    end = time.monotonic() + 10
    while len(found) < count:
        assert time.monotonic() < end, found
        found += [json.loads(line) for line in source.read().lines]
        time.sleep(0.01)
    return found


def test_udp_and_what_failed_to_come_into_the_spool_comes_again() -> None:
    source = SyslogSource("udp://127.0.0.1:0", "system.syslog")
    source.resume(None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for text in (
            "<11>Nov 24 08:15:30 web1 sshd[7]: failed",
            "<14>1 2026-11-24T08:15:30Z web2 app - - - fine",
            "<12>only text",
        ):
            sender.sendto(text.encode(), source.address)
    time.sleep(0.5)  # so that one batch holds all of them
    found = collect(source, 3)
    assert [(d["message"], d["log.level"]) for d in found] == [
        ("failed", "error"),
        ("fine", "info"),
        ("only text", "warning"),
    ]
    assert found[0]["source.ip"] == "127.0.0.1"
    assert (found[0]["process.name"], found[1]["log.syslog.appname"]) == ("sshd", "app")
    source.resume({"counts": {}})
    assert [d["message"] for d in collect(source, 3)] == ["failed", "fine", "only text"]
    source.close()


def test_udp_overflow_is_counted() -> None:
    source = SyslogSource("udp://127.0.0.1:0", "system.syslog", queue_bytes=2000)
    source.resume(None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for i in range(200):
            sender.sendto(f"<14>message {i:4}".encode(), source.address)
    time.sleep(0.5)
    found = collect(source, 1)
    assert len(found) + source.counts.lost == 200
    assert source.counts.lost > 50
    source.close()


def test_a_port_in_use_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("ezadmin_agent.logs.syslog.RETRY_SECONDS", 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        source = SyslogSource(f"udp://127.0.0.1:{port}", "system.syslog")
        source.resume(None)
        assert "Address already in use; it is tried again" in caplog.text
    source.read()
    assert source.address == ("127.0.0.1", port)
    source.close()


def test_tcp_framings() -> None:
    source = SyslogSource("tcp://127.0.0.1:0", "system.syslog")
    source.resume(None)
    counted = "<11>1 - h a - - - two\nlines"
    data = f"<14>by line\n{len(counted.encode())} {counted}<13>by line again\n<12>without its end".encode()
    with socket.create_connection(source.address) as sender:
        for i in range(0, len(data), 7):
            sender.sendall(data[i : i + 7])
    found = collect(source, 4)
    assert [d["message"] for d in found] == ["by line", "two\nlines", "by line again", "without its end"]
    source.close()


def test_at_the_cap_low_levels_go_first_and_every_line_is_accounted_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A source that cannot wait fills the spool; then come so many errors that they need the room of the rest."""
    path = tmp_path / "a.log"
    path.touch()
    config = LogConfig(path, "app", False, False, full="drop")
    agent = Agent(tmp_path, [config], cap_bytes=8 << 20, ladder=Ladder(1 << 40, 1 << 40, 1.0))
    agent.look()
    levels = ["DEBUG", "INFO", "WARN", "ERROR"]
    written = dict.fromkeys(levels, 0)

    def more(level: str) -> None:
        write(path, *(f"{level} {b85encode(os.urandom(400)).decode()} {i}" for i in range(200)))
        written[level] += 200
        agent.look()

    def kept() -> dict[str, int]:
        found = agent.documents()
        return {level: sum(d["message"].startswith(level) for d in found) for level in levels}

    for block in range(110):
        more(levels[block % 4] if block % 8 != 3 else "INFO")
    (source,) = agent.set.sources
    found = kept()
    assert found["ERROR"] == written["ERROR"]
    assert found["DEBUG"] < found["INFO"]
    assert found["DEBUG"] / written["DEBUG"] < found["INFO"] / written["INFO"] < found["WARN"] / written["WARN"]
    assert sum(written.values()) == source.counts.read == sum(found.values()) + source.counts.dropped
    assert agent.reader.shed == source.counts.dropped
    assert agent.spools["logs"].dropped == {}
    for _ in range(45):
        more("ERROR")
    assert agent.spools.disk_bytes <= 8 << 20
    found = kept()
    logs = agent.spools["logs"]
    pushed = sum(logs.dropped.values())
    assert found["ERROR"] == written["ERROR"]
    assert agent.spools["errors"].dropped == {}
    assert pushed > 0
    assert set(logs.dropped) <= {"debug", "info", "warning"}
    assert sum(written.values()) == source.counts.read == sum(found.values()) + source.counts.dropped + pushed
    frame = logs.next_frame(logs.acked)
    assert frame is not None
    assert frame.seq == pushed, "the loss is a gap in the numbers, as wide as it is"
    assert "the spool is at its cap: " in caplog.text
    assert " lines of stream logs are dropped (" in caplog.text
    dropped = source.counts.dropped
    agent.crash()
    agent.look()
    assert agent.set.sources[0].counts.dropped == dropped, "the counts survive kill -9"
    assert kept() == found
    agent.close()


def test_sources_that_wait_push_nothing_out(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    agent = Agent(tmp_path, [files(path)], cap_bytes=4 << 20)
    agent.look()
    lines = [f"{('INFO', 'ERROR')[i % 2]} {i} {os.urandom(400).hex()}" for i in range(12_000)]
    write(path, *lines)
    found: list[str] = []
    while len(found) < len(lines):
        agent.look()
        assert agent.spools.disk_bytes <= 4 << 20
        some = [d["message"] for d in agent.documents(ack=True)]
        assert some, "it goes on when there is room"
        found += some
    assert sorted(found) == sorted(lines)
    assert all(spool.dropped == {} for spool in agent.spools)
    agent.close()


def test_a_surge_is_told_in_an_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "a.log"
    path.touch()
    agent = Agent(tmp_path, [files(path)], ladder=Ladder(1000, 1000, 1.0))
    agent.look()
    for _ in range(2):
        write(path, *(f"INFO request {i}" for i in range(5000)))
        agent.look()
    found = agent.documents()
    assert sum(d.get("event.count", 1) for d in found) == 10_000
    assert len(found) < 5600
    assert "a surge:" in caplog.text
    (counts,) = agent.reader.counts().values()
    assert counts["surging"] is True
    assert Counts.of(counts).read == 10_000
    agent.close()

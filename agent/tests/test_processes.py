"""Processes, sockets and the masking of secrets; psutil is the check on this machine."""

from __future__ import annotations

import json
import os
import socket as sockets
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from ezadmin_testing.recorded import Recorded

from ezadmin_agent import registry
from ezadmin_agent.collectors import process, socket
from ezadmin_agent.reader import Process, Reader
from ezadmin_agent.secrets import mask_arguments, mask_text
from ezadmin_agent.ticks import Ticker
from ezadmin_wire import processes as lists
from ezadmin_wire.batch import MAX_LINE


def one(pid: int, ticks: int = 0, start: int = 1000, rss: int = 0, name: str = "p", parent: int = 1) -> Process:
    return Process(pid, name, "S", parent, ticks, 1, start, rss)


def test_the_busiest_are_by_the_cpu_since_the_run_before_and_the_largest_by_memory() -> None:
    reader = Recorded()
    reader.procs = [one(pid, ticks=10_000 * pid, rss=pid) for pid in range(1, 21)]
    state = process.collect_top(reader, None).state
    reader.at += 10
    reader.procs = [p._replace(ticks=p.ticks + (500 if p.pid == 3 else p.pid < 8)) for p in reader.procs]
    documents = process.collect_top(reader, state).documents
    assert [int(d["process.entity_id"].split("-")[1]) for d in documents] == [3, 1, 2, 4, 5, 20, 19, 18, 17, 16]
    assert all(d["process.pid"] == int(d["process.entity_id"].split("-")[1]) for d in documents)
    assert documents[0]["system.process.cpu.total.pct"] == 0.5
    assert documents[1]["system.process.cpu.total.pct"] == 0.001
    assert documents[0]["process.entity_id"] == "0123abcd-3-1000"


def test_a_pid_used_again_or_seen_late_gives_no_false_share() -> None:
    reader = Recorded()
    reader.procs = [one(1, ticks=50_000, rss=1), one(2, ticks=900, rss=1)]
    state = process.collect_top(reader, None).state
    reader.at += 10
    uptime = int(reader.uptime() * process.HZ)
    reader.procs = [
        one(1, ticks=100, start=uptime - 5 * process.HZ, rss=1),  # another program under the pid, 5 s old
        one(2, ticks=800, rss=1),  # its counter went back
        one(3, ticks=10**6, start=1000, rss=1),  # old, but it could not be read before
    ]
    found = {
        d["process.pid"]: d.get("system.process.cpu.total.pct") for d in process.collect_top(reader, state).documents
    }
    assert found == {1: 0.1, 2: None, 3: None}


def test_command_lines_are_told_when_new_and_once_a_minute() -> None:
    reader = Recorded()
    reader.procs = [one(1, rss=5)]
    sample = process.collect_top(reader, None)
    told = []
    for tick in range(14):
        reader.at += 10
        if tick == 3:
            reader.procs = [*reader.procs, one(2, rss=1)]
        sample = process.collect_top(reader, sample.state)
        told.append([d["process.pid"] for d in sample.documents if "process.command_line" in d])
    assert told == [[1], [], [], [2], [], [], [1, 2], [], [], [], [], [], [1, 2], []]


def test_the_list_holds_every_process_and_always_fits() -> None:
    reader = Recorded()
    document = process.collect_list(reader, None).documents[0]
    rows = lists.decode(document["system.processes.list"])
    assert [row.pid for row in rows] == [p.pid for p in reader.procs]
    assert document["system.processes.count"] == len(rows)
    assert document["system.processes.complete"] is True
    assert rows[0].command == "/usr/bin/p1 --password=*** -v"
    assert rows[13].command == "[p14]"
    for count, left_out in ((1500, False), (30_000, True)):
        reader.procs = [one(pid, name='\u0001"' * 7, rss=pid << 20) for pid in range(1, count + 1)]
        reader.identity = lambda process: ("\u8d26", f"\t\n{process.pid}" + "\u8d26" * 200)  # type: ignore[method-assign]
        document = process.collect_list(reader, None).documents[0]
        assert len(json.dumps(document)) < 256 << 10 < MAX_LINE
        rows = lists.decode(document["system.processes.list"])
        assert [row.pid for row in rows] == list(range(1, len(rows) + 1))
        assert document["message"].startswith(f"{count} processes")
        assert ("left out" in document["message"]) is left_out
        if left_out:
            assert f"{count - len(rows)} of them" in document["message"]


def test_between_complete_lists_stands_what_changed() -> None:
    """Every quarter of an hour all of it; between, command lines of new processes and no idle kernel threads."""
    reader = Recorded()
    reader.procs = [
        one(1, rss=5 << 20),
        one(2, name="kthreadd", parent=0),
        one(3, name="kworker/0", parent=2),
        one(4, name="gone", rss=3)._replace(state="Z", parent=2, rss=0),
        one(9, rss=1),
    ]
    sample = process.collect_list(reader, None)  # primed
    found = []
    for minute in range(32):
        reader.at += 60
        if minute == 3:
            reader.procs = [*reader.procs, one(12, rss=1 << 20, start=10_000)]
        if minute == 5:
            reader.procs = [p._replace(ticks=p.ticks + 60) if p.pid == 3 else p for p in reader.procs]
        sample = process.collect_list(reader, sample.state)
        (document,) = sample.documents
        rows = lists.decode(document["system.processes.list"])
        found.append((document["system.processes.complete"], {row.pid: row for row in rows}))
        assert document["system.processes.count"] == len(reader.procs)
    assert [n for n, (complete, _) in enumerate(found) if complete] == [0, 15, 30]
    assert set(found[0][1]) == {1, 2, 3, 4, 9}
    assert set(found[1][1]) == {1, 4, 9}, "a zombie is no kernel thread"
    assert (found[0][1][1].command, found[1][1][1].command) == ("/usr/bin/p --password=*** -v", "[p]")
    assert (found[3][1][12].command, found[4][1][12].command) == ("/usr/bin/p --password=*** -v", "[p]")
    assert found[5][1][3].cpu == 1.0
    assert found[5][1][1].memory == 5
    assert found[15][1][12].command.startswith("/usr/bin/p ")


def test_this_machine_agrees_with_psutil() -> None:
    reader = Reader()
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", "--token", "abcdef", "/dev/null"], stdout=subprocess.PIPE
    )
    try:
        time.sleep(0.2)
        reader.begin_tick()
        found = {p.pid: p for p in reader.processes()}
        assert abs(len(found) - len(psutil.pids())) < 30
        check = psutil.Process(child.pid)
        mine = found[child.pid]
        assert mine.name == check.name()
        assert (mine.parent, mine.threads) == (os.getpid(), check.num_threads())
        assert abs(mine.ticks / process.HZ - sum(check.cpu_times()[:2])) < 0.3
        assert abs(mine.rss - check.memory_info().rss) < 4 << 20
        assert abs(reader.boot_time() + mine.start / process.HZ - check.create_time()) < 1.1
        user, command_line = reader.identity(mine)
        assert user == check.username()
        assert command_line == " ".join(check.cmdline()).replace("abcdef", "***")
        assert "***" in command_line
    finally:
        child.kill()
        child.communicate()


def test_sockets_agree_with_psutil() -> None:
    with sockets.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        reader = Reader()
        for _ in range(5):  # other programs open and close meanwhile
            document = socket.collect_states(reader, None).documents[0]
            check = Counter(c.status for c in psutil.net_connections("tcp"))
            if (
                document["system.socket.summary.tcp.all.listening"] == check["LISTEN"]
                and abs(document["system.socket.summary.tcp.all.established"] - check["ESTABLISHED"]) <= 4
            ):
                return
        pytest.fail(f"{document} against {check}")


def test_socket_states_of_a_recorded_table(tmp_path: Path) -> None:
    net = tmp_path / "net"
    net.mkdir()
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    rows = [(0, "0A"), (1, "01"), (2, "01"), (12345, "08"), (12346, "06")]
    net.joinpath("tcp").write_text(
        head
        + "".join(f"{n:4d}: 0100007F:1F90 0100007F:D431 {state} 00000000:00000000 00:0 0 0 0 1\n" for n, state in rows)
    )
    six = "00000000000000000000000001000000"
    net.joinpath("tcp6").write_text(head + f"   0: {six}:0016 {'0' * 32}:0000 0A 00000000:00000000 00:0 0 0 0 1\n")
    net.joinpath("sockstat").write_text(
        "sockets: used 300\nTCP: inuse 3 orphan 7 tw 1 alloc 9 mem 5\nUDP: inuse 2 mem 1\n"
    )
    net.joinpath("sockstat6").write_text("TCP6: inuse 1\nUDP6: inuse 4\n")
    reader = Reader(proc=str(tmp_path))
    document = {**socket.collect(reader, None).documents[0], **socket.collect_states(reader, None).documents[0]}
    page = os.sysconf("SC_PAGE_SIZE")
    found = {name.rpartition("summary.")[2]: value for name, value in document.items() if value}
    assert found == {
        "all.count": 11,
        "tcp.all.count": 5,
        "tcp.all.listening": 2,
        "tcp.all.established": 2,
        "tcp.all.close_wait": 1,
        "tcp.all.time_wait": 1,
        "tcp.all.orphan": 7,
        "tcp.memory": 5 * page,
        "udp.all.count": 6,
        "udp.memory": page,
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["java", "-Djavax.net.ssl.keyStorePassword=changeit", "-jar", "a.jar"],
            "java -Djavax.net.ssl.keyStorePassword=*** -jar a.jar",
        ),
        (["app", "--db-password", "s3 cret", "--port", "1"], "app --db-password *** --port 1"),
        (["/usr/bin/mysql", "-psecret", "-p", "shop"], "/usr/bin/mysql -p*** -p shop"),
        (
            ["curl", "-u", "ann:pw", "http://ann:pw@host/x?token=abc&q=1"],
            "curl -u *** http://ann:***@host/x?token=***&q=1",
        ),
        (["curl", "-H", "Authorization: Bearer eyJ.a-b"], "curl -H Authorization: Bearer ***"),
        (["env", "API_KEY='a b'", "AWS_SECRET_ACCESS_KEY=x", "run"], "env API_KEY=*** AWS_SECRET_ACCESS_KEY=*** run"),
        (["sshpass", "-p", "pw", "ssh", "-p", "22", "h"], "sshpass -p *** ssh -p *** h"),
        (["sh", "-c", "tool --passphrase hunter2 x"], "sh -c tool --passphrase *** x"),
        (["app", "--env", '{"token":"a\\"b","n":1}'], 'app --env {"token":***,"n":1}'),
        (["app", r"{\"password\":\"hunter2\",\"n\":1}"], r"app {\"password\":***,\"n\":1}"),
        (["app", '{"password":"unclosed hunter2'], 'app {"password":***'),
        (["app", "--password=hun;ter2 x", "--pass", "hunter2"], "app --password=*** --pass ***"),
        (["openssl", "-passin", "pass:hunter2", "--bypass=1"], "openssl -passin pass:*** --bypass=1"),
        (["passwd", "ann"], "passwd ann"),
        (["ls", "-la", "/srv/tokens"], "ls -la /srv/tokens"),
    ],
)
def test_secrets_in_arguments_are_masked(arguments: list[str], expected: str) -> None:
    assert " ".join(mask_arguments(arguments)) == expected


def test_secrets_in_text_are_masked() -> None:
    assert mask_text('sasl_password = "x y"\nuser = "ann"') == 'sasl_password = ***\nuser = "ann"'
    assert mask_text('{"token": "abc", "n": 1}') == '{"token": ***, "n": 1}'


def test_a_stretched_collector_runs_more_rarely_and_counters_leave_once_a_minute() -> None:
    reader = Recorded()
    ticker = Ticker(reader, registry.COLLECTORS)
    ticker.prime()
    ticker.stretch = {"top": 2, "processes": 2}
    busiest, lists, counters = [], [], []
    for tick in range(1, 26):
        reader.at += 10
        metrics, events = ticker.run(tick * 10_000)
        busiest.append(any(b'"system.process"' in line for line in metrics))
        lists.append(bool(events))
        host = json.loads(metrics[0])
        counters.append("system.cpu.user.ticks" in host)
        assert "system.diskio.total.read.bytes_per_sec" in host
    assert busiest[:4] == [False, True, False, True]
    assert [n for n, ran in enumerate(lists) if ran] == [0, 12, 24]
    assert [n for n, ran in enumerate(counters) if ran] == [0, 6, 12, 18, 24]

"""Collectors over recorded figures, their field tables, and this machine."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from ezadmin_testing.recorded import Recorded, link, nic, times
from ezadmin_testing.recorded import disk as disk_io

from ezadmin_agent import registry
from ezadmin_agent.collectors import cpu, disk, filesystem, memory, network, own, process
from ezadmin_agent.collectors import rate as rate_of
from ezadmin_agent.reader import Mount, Reader, _Prober
from ezadmin_agent.ticks import Ticker, choose, tick_after

PYTHON = {"text": str, "long": int, "integer": int, "float": float, "keyword": str, "date": str, "boolean": bool}

DATASETS = {**registry.datasets(), **registry.events()}


def check_types(line: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(line)
    fields = {field.name: field for field in DATASETS[document["event.dataset"]]}
    for name, value in document.items():
        for one in value if isinstance(value, list) else [value]:
            whole = type(one) is int and fields[name].type == "float"  # 5 for 5.0, as bytes count
            assert whole or type(one) is PYTHON[fields[name].type], name
        if fields[name].unit == "ratio" and name != "system.process.cpu.total.pct":  # as top has it: 1 is one core
            assert 0 <= value <= 1, name
        if fields[name].kind == "counter":
            assert value >= 0, name
    for field in fields.values():
        assert not field.dimension or field.name in document
    return document


def figures(reader: Recorded) -> own.Figures:
    cost = own.Cost(int(reader.at), reader.at, reader.at / 2, 0)
    return own.Figures(reader.at / 100, 1 << 20, {"cpu": cost}, 1, 5, 600, 7000, 10000, 8, 900, {"cap": 2})


def test_field_tables_can_be_one_mapping() -> None:
    kinds: dict[str, tuple[str, str, str]] = {}
    for dataset, fields in registry.datasets().items():
        names = [field.name for field in fields]
        assert len(names) == len(set(names)), dataset
        for field in fields:
            # a name means the same everywhere; host, agent and labels are the pipeline's
            assert kinds.setdefault(field.name, (field.type, field.unit, field.kind)) == (
                field.type,
                field.unit,
                field.kind,
            )
            assert not field.name.startswith(("host.", "agent.", "labels"))
            assert re.fullmatch(r"@timestamp|[a-z0-9_.]+", field.name)
    for name in kinds:
        assert not any(other.startswith(f"{name}.") for other in kinds), f"{name} is a value and an object at once"


def test_every_field_is_written_by_recorded_figures_with_its_type() -> None:
    reader = Recorded()
    ticker = Ticker(reader, (*registry.COLLECTORS, own.collector(lambda: figures(reader), ["cpu"])))
    ticker.prime()
    reader.at += 10
    reader.procs = [one._replace(ticks=one.ticks + one.pid) for one in reader.procs]
    reader.cores = [times(user=12, system=6, idle=105, iowait=2, guest=1), times(user=22, system=6, idle=95)]
    reader.disks = {**reader.disks, "sda": disk_io(12)}
    reader.net = {**reader.net, "eth0": nic(110)}
    tick = ticker.run(1_795_000_000_000)
    lines = [*tick.metrics, *(line for _, line in tick.events)]
    written: dict[str, set[str]] = {}
    for line in lines:
        document = check_types(line)
        assert b" " not in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)
        assert document["@timestamp"] == "2026-11-18T11:06:40.000Z"
        assert document["event.created"] == "2026-11-18T11:06:40.500Z"
        written.setdefault(document["event.dataset"], set()).update(document)
    assert not ticker.errors
    for dataset, fields in DATASETS.items():
        names = {field.name for field in fields}
        if dataset == own.DATASET:
            names -= {n for n in names if n.startswith("ezadmin.agent.collector.")} - {
                "ezadmin.agent.collector.cpu.cpu.ms"
            }
        assert names == written[dataset]


def test_this_machine_keeps_the_field_tables() -> None:
    ticker = Ticker(Reader(), registry.COLLECTORS)
    ticker.prime()
    time.sleep(0.2)
    documents = [check_types(line) for line in ticker.run(1_795_000_000_000).metrics]
    assert not ticker.errors
    assert {document["event.dataset"] for document in documents} >= {"system.host", "system.network", "system.core"}
    host = documents[0]
    assert host["system.memory.total"] == psutil.virtual_memory().total
    assert abs(host["system.process.summary.total"] - len(psutil.pids())) < 20
    later = [json.loads(line) for line in ticker.run(1_795_000_010_000).metrics]
    assert {document["event.dataset"] for document in later}.isdisjoint({"system.core", "system.filesystem"})


def test_cpu_shares_are_of_the_time_between() -> None:
    reader = Recorded()
    first = cpu.collect(reader, None)
    assert "system.cpu.total.norm.pct" not in first.documents[0]
    reader.at += 10
    reader.cores = [times(user=15, system=5, idle=103, iowait=3), times(user=20, system=5, idle=100)]
    document = cpu.collect(reader, first.state).documents[0]
    assert document["system.cpu.user.norm.pct"] == 0.25  # 5 of 20 s
    assert document["system.cpu.total.norm.pct"] == 0.25
    assert document["system.cpu.iowait.norm.pct"] == 0.1
    assert document["system.cpu.user.ticks"] == 3500


def test_a_core_that_comes_or_goes_gives_no_false_share() -> None:
    reader = Recorded()
    state, cores = cpu.collect(reader, None).state, cpu.collect_cores(reader, None).state
    reader.at += 10
    reader.cores.append(times(user=1000))
    assert "system.cpu.total.norm.pct" not in cpu.collect(reader, state).documents[0]
    assert all("system.core.total.pct" not in document for document in cpu.collect_cores(reader, cores).documents)


def test_reset_counters_and_hot_plug_give_no_peak() -> None:
    assert rate_of(5, 10, 10) is None
    assert rate_of(10, 5, 0) is None
    assert rate_of(10, 5, 10) == 0.5
    reader = Recorded()
    host, devices = disk.collect(reader, None).state, disk.collect_devices(reader, None).state
    total, nics = network.collect(reader, None).state, network.collect_nics(reader, None).state
    reader.at += 10
    reader.disks = {"sda": disk_io(1), "sdb": disk_io(10**9)}  # one was reset, one is new with a long past
    reader.net = {"eth0": nic(1), "eth1": nic(10**9)}
    reader.links = {"eth0": link(), "eth1": link()}
    document = disk.collect(reader, host).documents[0]
    assert document["system.diskio.total.read.bytes_per_sec"] == 0
    for found in disk.collect_devices(reader, devices).documents:
        assert "system.diskio.read.bytes_per_sec" not in found
        assert "system.diskio.io.utilization" not in found
    assert network.collect(reader, total).documents[0]["system.network.total.in.bytes_per_sec"] == 0
    for found in network.collect_nics(reader, nics).documents:
        assert "system.network.in.bytes_per_sec" not in found
        assert "system.network.utilization" not in found


def test_disk_totals_count_hardware_once_and_devices_leave_out_partitions() -> None:
    reader = Recorded()
    before, devices = disk.collect(reader, None), disk.collect_devices(reader, None)
    assert before.documents[0]["system.diskio.total.read.bytes"] == 10_000
    assert [d["system.diskio.name"] for d in devices.documents] == ["sda", "md0"]
    reader.at += 10
    reader.disks = {**reader.disks, "sda": disk_io(60)}
    document = disk.collect(reader, before.state).documents[0]
    assert document["system.diskio.total.write.bytes_per_sec"] == 10_000.0
    sda = disk.collect_devices(reader, devices.state).documents[0]
    assert sda["system.diskio.io.utilization"] == 0.5


def test_network_total_is_hardware_and_links_say_what_is_known() -> None:
    reader = Recorded()
    before, first = network.collect(reader, None), network.collect_nics(reader, None)
    assert before.documents[0]["system.network.total.in.bytes"] == 100_000
    found = {d["system.network.name"]: d for d in first.documents}
    assert set(found) == {"lo", "eth0", "br0"}
    assert found["eth0"]["system.network.link.speed_mbps"] == 1000
    assert "system.network.link.speed_mbps" not in found["br0"]
    assert "system.network.link.duplex" not in found["lo"]
    reader.at += 1
    reader.net = {"eth0": nic(100 + 62_500)}  # 62.5 MB in a second: half of 1 Gbit/s
    document = network.collect_nics(reader, first.state).documents[0]
    assert document["system.network.utilization"] == 0.5
    assert document["system.network.in.bytes_per_sec"] == 62_500_000.0


def test_memory_follows_metricbeat() -> None:
    document = memory.collect(Recorded(), None).documents[0]
    assert document["system.memory.used.bytes"] == 900
    assert document["system.memory.actual.used.pct"] == 0.6
    assert document["system.memory.swap.in.pages"] == 8
    assert document["system.memory.swap.used.pct"] == 0.25


def test_process_states() -> None:
    document = process.collect(Recorded(), None).documents[0]
    assert document["system.process.summary.total"] == 19
    assert document["system.process.summary.sleeping"] == 11
    assert document["system.process.summary.unknown"] == 1


def test_filesystems_one_per_device_and_a_hung_one_says_so() -> None:
    documents = filesystem.collect(Recorded(), None).documents
    assert [d["system.filesystem.mount_point"] for d in documents] == ["/", "/home"]
    root, home = documents
    assert root["system.filesystem.used.pct"] == 0.6667
    assert root["system.filesystem.used_files.pct"] == 0.1
    assert home["system.filesystem.responding"] is False
    assert "system.filesystem.total" not in home


def test_a_mount_that_hangs_stalls_nothing_and_is_asked_once() -> None:
    released = threading.Event()
    calls: list[str] = []

    def statvfs(mount_point: str) -> Any:
        calls.append(mount_point)
        if mount_point == "/hung":
            released.wait(20)
        return None if mount_point == "/hung" else mount_point

    prober = _Prober(statvfs)
    begin = time.monotonic()
    assert prober.probe(["/a", "/hung", "/b", "/c"], 0.4) == {"/a": "/a", "/b": "/b", "/c": "/c"}
    assert prober.probe(["/a", "/hung", "/b"], 0.4) == {"/a": "/a", "/b": "/b"}
    assert time.monotonic() - begin < 2
    assert calls.count("/hung") == 1
    released.set()
    time.sleep(0.1)
    assert prober.probe(["/hung", "/a"], 0.4) == {"/hung": None, "/a": "/a"}  # it answers again, and is asked again
    assert calls.count("/hung") == 2


def test_process_names_with_brackets_are_read_right(tmp_path: Path) -> None:
    for pid, name, state in ((1, "init", "S"), (2, "evil) R (x", "Z"), (3, "k) (S", "R")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) {state} 1 1 1 0" + " 5" * 40)
    (tmp_path / "stat").write_text("cpu 1 2\nprocs_running 4\nprocs_blocked 2\n")
    reader = Reader(proc=str(tmp_path))
    assert [(one.name, one.state, one.parent) for one in sorted(reader.processes())] == [
        ("init", "S", 1),
        ("evil) R (x", "Z", 1),
        ("k) (S", "R", 1),
    ]
    assert reader.threads() == (4, 2)


def test_tick_times_are_aligned_and_strictly_increase() -> None:
    assert tick_after(1_000_123, 0, 10_000) == 1_000_000
    assert tick_after(1_009_999, 1_000_000, 10_000) == 1_000_001
    assert tick_after(500_000, 1_000_000, 10_000) == 1_000_001  # the clock was set back
    assert tick_after(1_010_000, 1_000_001, 10_000) == 1_010_000


def test_a_collector_that_fails_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    reader = Recorded()
    reader.load = lambda: 1 / 0  # type: ignore[method-assign]
    reader.mounted = [Mount("/dev/sda9", "/not/recorded", "ext4", "rw")]
    ticker = Ticker(reader, registry.COLLECTORS)
    for _ in range(3):
        documents = [json.loads(line) for line in ticker.run(1_795_000_000_000).metrics]
    assert "system.memory.free" in documents[0]
    assert "system.load.1" not in documents[0]
    assert ticker.errors == {"load": 3, "filesystem": 3, "fsstat": 3}
    assert len([r for r in caplog.records if "load failed" in r.message]) == 1


def test_only_names_collectors() -> None:
    assert [c.name for c in choose(registry.COLLECTORS, "cpu, load")] == ["cpu", "load"]
    with pytest.raises(ValueError, match="unknown collector: gpu; there are cpu, load"):
        choose(registry.COLLECTORS, "cpu,gpu")

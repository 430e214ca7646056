"""Inventory and the thread that reports it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from ezadmin_agent import inventory
from ezadmin_agent.spool import Spool
from ezadmin_agent.state import StateReporter
from ezadmin_wire import state
from ezadmin_wire.state import AgentStatus, Inventory

T = "2026-11-24T08:00:00.000Z"


def tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_recorded_machine(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "etc/os-release": 'NAME="Rocky Linux"\nVERSION_ID="9.4"\nID="rocky"\nID_LIKE="rhel centos fedora"\n',
            "etc/timezone": "Asia/Seoul\n",
            "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
            "sys/class/dmi/id/sys_vendor": "Dell Inc.\n",
            "sys/class/dmi/id/product_name": "PowerEdge R650\n",
            "sys/class/dmi/id/product_serial": "ABC1234\n",
            "sys/class/dmi/id/bios_version": "1.2.3\n",
            "proc/cpuinfo": "".join(
                f"processor\t: {i}\nmodel name\t: Xeon Gold\nphysical id\t: {i // 2}\nflags\t\t: fpu\n\n"
                for i in range(4)
            ),
            "sys/block/sda/size": "2048\n",
            "sys/block/sda/queue/rotational": "1\n",
            "sys/block/sda/device/model": "ST4000  \n",
            "sys/block/loop0/size": "100\n",
            "sys/block/cciss!c0d0/size": "4096\n",
            "sys/block/empty/size": "0\n",
        },
    )
    found = inventory.collect(T, boot_time=1_795_000_000.7, fqdn="h.example.org", root=root)
    assert (found.os_name, found.os_version, found.os_family) == ("Rocky Linux", "9.4", "rhel")
    assert (found.vendor, found.model, found.serial, found.bios_version) == (
        "Dell Inc.",
        "PowerEdge R650",
        "ABC1234",
        "1.2.3",
    )
    assert (found.cpu_model, found.cpu_sockets, found.virtualization) == ("Xeon Gold", 2, "none")
    assert [(d.name, d.size, d.model, d.rotational) for d in found.disks] == [
        ("cciss/c0d0", 4096 * 512, None, None),
        ("sda", 2048 * 512, "ST4000", True),
    ]
    assert found.disk_total == 6144 * 512
    assert (found.timezone, found.fqdn, found.boot_time) == ("Asia/Seoul", "h.example.org", "2026-11-18T11:06:40.000Z")
    other = tree(tmp_path, {"etc/machine-id": "f" * 32})
    assert inventory.collect(T, root=other).fingerprint != found.fingerprint
    assert state.decode(state.encode(found)) == found


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/class/dmi/id/sys_vendor": "QEMU"}, "kvm"),
        (
            {
                "sys/class/dmi/id/sys_vendor": "Microsoft Corporation",
                "sys/class/dmi/id/product_name": "Virtual Machine",
            },
            "hyper-v",
        ),
        ({"sys/class/dmi/id/sys_vendor": "Amazon EC2"}, "amazon"),
        ({"proc/cpuinfo": "flags : fpu hypervisor\n"}, "other"),
        ({"run/systemd/container": "lxc\n"}, "lxc"),
        ({".dockerenv": ""}, "docker"),
        ({"proc/cpuinfo": "flags : fpu\n"}, "none"),
    ],
)
def test_virtualization(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    assert inventory.collect(T, root=tree(tmp_path, files)).virtualization == expected


def test_packages_are_counted_by_each_manager_and_again_only_after_a_change(tmp_path: Path) -> None:
    def count(root: Path) -> int | None:
        return inventory.collect(T, root=str(root)).packages

    status = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: deinstall ok config-files\n\n"
    dpkg = Path(tree(tmp_path / "dpkg", {"var/lib/dpkg/status": status}))
    assert count(dpkg) == 1
    tree(dpkg, {"var/lib/dpkg/status": f"{status}Package: c\nStatus: install ok installed\n"})
    assert count(dpkg) == 2
    apk = Path(tree(tmp_path / "apk", {"lib/apk/db/installed": "P:musl\nV:1\n\nP:busybox\nV:2\n"}))
    assert count(apk) == 2
    rpm = tmp_path / "rpm/var/lib/rpm"
    rpm.mkdir(parents=True)
    sqlite3 = pytest.importorskip("sqlite3")
    with closing(sqlite3.connect(rpm / "rpmdb.sqlite")) as database:
        database.execute("create table Packages (hnum integer primary key, blob blob)")
        database.executemany("insert into Packages values (?, ?)", [(1, b""), (2, b""), (3, b"")])
        database.commit()
    assert count(tmp_path / "rpm") == 3
    pacman = Path(
        tree(tmp_path / "pacman", {"var/lib/pacman/local/ALPM_DB_VERSION": "9", "var/lib/pacman/local/zsh/desc": ""})
    )
    assert count(pacman) == 1
    assert count(tmp_path) is None


def test_an_empty_tree_leaves_unknown_what_it_does_not_say(tmp_path: Path) -> None:
    found = inventory.collect(T, root=str(tmp_path))
    assert (found.vendor, found.os_name, found.fingerprint, found.disks) == (None, None, None, [])


def test_this_machine() -> None:
    found = inventory.collect(T)
    assert found.memory == psutil.virtual_memory().total
    assert found.hostname
    assert all(nic.name != "lo" for nic in found.nics)
    for nic in found.nics:
        for address in nic.addresses:
            assert "%" not in address.address
            assert address.prefix is not None


def documents(spool: Spool) -> list[Any]:
    spool.sync()
    found, place = [], spool.acked
    while (frame := spool.next_frame(place)) is not None:
        found += [state.decode(line) for line in frame.lines()]
        place = frame.end
    return found


def test_inventory_is_sent_when_it_changed_and_once_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    now = [1_795_000_000.0]
    monkeypatch.setattr("ezadmin_agent.state.time.time", lambda: now[0])
    model = ["R650"]
    boots = [1000.0]
    monkeypatch.setattr("ezadmin_agent.state.psutil.boot_time", lambda: boots[0])

    def collect(collected: str, **known: Any) -> Inventory:
        return Inventory(collected=collected, hostname="h", model=model[0], boot_time=str(known["boot_time"]))

    monkeypatch.setattr(inventory, "collect", collect)
    spool = Spool(tmp_path, "state")

    def report() -> int:
        reporter = StateReporter(spool, lambda: AgentStatus(collected=T, version="1", started=T))
        before = len([d for d in documents(spool) if isinstance(d, Inventory)])
        reporter.report()
        return len([d for d in documents(spool) if isinstance(d, Inventory)]) - before

    assert report() == 1
    boots[0] = 1001.0  # the kernel's boot time moves as the clock is adjusted: no change
    now[0] += 60
    assert report() == 0
    assert not caplog.messages
    model[0] = "R660"
    assert report() == 1
    assert caplog.messages == ["the inventory has changed: model"]
    now[0] += 24 * 3600
    assert report() == 1
    now[0] -= 10 * 24 * 3600  # a clock that was set back must not keep it silent for days
    assert report() == 1
    assert len([d for d in documents(spool) if isinstance(d, AgentStatus)]) == 5
    spool.close()

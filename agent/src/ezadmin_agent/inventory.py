"""What this host is: hardware, system, addresses, as :class:`ezadmin_wire.state.Inventory`. Unknown members stay None."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional
from urllib.parse import quote

import psutil

from ezadmin_agent import __version__
from ezadmin_wire.state import Address, Disk, Inventory, Nic
from ezadmin_wire.times import format_epoch_ms

SECTOR = 512  # /sys/block/*/size counts these, whatever the device's own sectors are
HYPERVISORS = (  # words in DMI's vendor and product, and what they mean
    ("amazon ec2", "amazon"),
    ("google", "google"),
    ("vmware", "vmware"),
    ("virtualbox", "virtualbox"),
    ("microsoft corporation virtual machine", "hyper-v"),
    ("xen", "xen"),
    ("kvm", "kvm"),
    ("qemu", "kvm"),
    ("bochs", "kvm"),
    ("openstack", "kvm"),
    ("parallels", "parallels"),
)


def collect(
    collected: str, *, boot_time: Optional[float] = None, fqdn: Optional[str] = None, root: str = ""
) -> Inventory:
    """Read everything now. ``root`` is put before /proc, /sys and /etc; ``boot_time`` and ``fqdn`` are the caller's.

    (The kernel's moment of boot moves by a second as the clock is adjusted, and a name server may be slow.)
    """
    tree = Path(root or "/")
    os_release = _os_release(tree)
    dmi = {name: _text(tree / "sys/class/dmi/id" / name) for name in DMI}
    cpu = _cpu(tree)
    disks = _disks(tree)
    return Inventory(
        collected=collected,
        hostname=socket.gethostname().lower(),
        fqdn=fqdn,
        os_name=os_release.get("NAME"),
        os_version=os_release.get("VERSION_ID"),
        os_family=(os_release.get("ID_LIKE") or os_release.get("ID") or "").split(" ")[0] or None,
        kernel=platform.release(),
        architecture=platform.machine(),
        vendor=dmi["sys_vendor"],
        model=dmi["product_name"],
        serial=dmi["product_serial"],
        bios_version=dmi["bios_version"],
        virtualization=_virtualization(tree, dmi, cpu.get("flags", "")),
        cpu_model=cpu.get("model"),
        cpu_sockets=int(cpu["sockets"]) if "sockets" in cpu else None,
        cpu_physical=psutil.cpu_count(logical=False),
        cpu_logical=psutil.cpu_count(),
        memory=psutil.virtual_memory().total,
        swap=psutil.swap_memory().total,
        disk_total=sum(disk.size or 0 for disk in disks) if disks else None,
        boot_time=None if boot_time is None else format_epoch_ms(int(boot_time) * 1000),
        timezone=_timezone(tree),
        agent_version=__version__,
        fingerprint=_fingerprint(tree, dmi),
        packages=_packages(tree),
        nics=_nics(),
        disks=disks,
    )


DMI = ("sys_vendor", "product_name", "product_serial", "product_uuid", "board_serial", "bios_version")


def boot_id() -> str:
    """The kernel's random name of this boot; empty where there is none."""
    return _text(Path("/proc/sys/kernel/random/boot_id")) or ""


def _text(path: Path) -> Optional[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\n") or None
    except OSError:
        return None


def _os_release(tree: Path) -> Mapping[str, str]:
    text = _text(tree / "etc/os-release") or _text(tree / "usr/lib/os-release") or ""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name: value.strip("\"'") for name, sign, value in pairs if sign}


def _cpu(tree: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    sockets = set()
    for line in (_text(tree / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        name, value = name.strip(), value.strip()
        if name == "physical id":
            sockets.add(value)
        elif name in ("model name", "Model", "cpu model") and value:
            found.setdefault("model", value)
        elif name in ("flags", "Features"):
            found.setdefault("flags", value)
    if sockets:
        found["sockets"] = str(len(sockets))
    return found


def _disks(tree: Path) -> list[Disk]:
    base = tree / "sys/block"
    try:
        names = sorted(os.listdir(base))
    except OSError:
        return []
    disks = []
    for name in names:
        if name.startswith(("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd")):
            continue
        directory = base / name
        size = _number(_text(directory / "size"))
        if not size:
            continue
        rotational = _text(directory / "queue/rotational")
        disks.append(
            Disk(
                name=name.replace("!", "/"),
                size=size * SECTOR,
                model=_text(directory / "device/model"),
                serial=_text(directory / "device/serial") or _text(directory / "serial"),
                rotational=None if rotational is None else rotational == "1",
            )
        )
    return disks


def _nics() -> list[Nic]:
    stats = psutil.net_if_stats()
    nics = []
    for name, addresses in sorted(psutil.net_if_addrs().items()):
        if name == "lo" or name.startswith("veth"):
            continue
        mac = None
        found = []
        for address in addresses:
            if address.family == psutil.AF_LINK:
                mac = address.address.upper().replace(":", "-")
            elif address.family in (socket.AF_INET, socket.AF_INET6):
                found.append(Address(address.address.partition("%")[0], _prefix(address.family, address.netmask)))
        stat = stats.get(name)
        nics.append(
            Nic(
                name=name,
                mac=mac if mac != "00-00-00-00-00-00" else None,
                addresses=sorted(found, key=lambda a: (":" in a.address, a.address)),
                mtu=stat.mtu if stat else None,
                speed_mbps=stat.speed if stat and 0 < stat.speed < 1 << 31 else None,
                up=bool(stat.isup) if stat else None,
            )
        )
    return nics


def _prefix(family: int, netmask: Optional[str]) -> Optional[int]:
    try:
        return bin(int.from_bytes(socket.inet_pton(family, netmask or ""), "big")).count("1")
    except (OSError, ValueError):
        return None


def _virtualization(tree: Path, dmi: Mapping[str, Optional[str]], flags: str) -> str:
    """``none`` on bare metal, else the container engine or hypervisor."""
    container = _text(tree / "run/systemd/container")
    if container:
        return container
    if (tree / ".dockerenv").exists():
        return "docker"
    if (tree / "run/.containerenv").exists():
        return "podman"
    words = f"{dmi['sys_vendor'] or ''} {dmi['product_name'] or ''}".lower()
    for word, meaning in HYPERVISORS:
        if word in words:
            return meaning
    return "other" if "hypervisor" in flags.split() else "none"


_PACKAGES: dict[Path, tuple[int, int, Optional[int]]] = {}


def _packages(tree: Path) -> Optional[int]:
    """Installed packages of dpkg, rpm, apk or pacman; counted anew only when the database's file has changed."""
    for name, count in _MANAGERS.items():
        path = tree / name
        try:
            found = path.stat()
        except OSError:
            continue
        known = _PACKAGES.get(path)
        if known is None or known[:2] != (found.st_mtime_ns, found.st_size):
            known = _PACKAGES[path] = (found.st_mtime_ns, found.st_size, count(path))
        return known[2]
    return None


def _dpkg(path: Path) -> Optional[int]:
    try:
        return path.read_bytes().count(b"\nStatus: install ok installed\n")
    except OSError:
        return None


def _apk(path: Path) -> Optional[int]:
    try:
        return (b"\n" + path.read_bytes()).count(b"\nP:")
    except OSError:
        return None


def _rpm(path: Path) -> Optional[int]:
    try:
        import sqlite3  # Pythons are built without it, too
    except ImportError:
        return None
    try:
        database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1)
    except sqlite3.Error:
        return None
    try:
        return int(database.execute("select count(*) from Packages").fetchone()[0])
    except sqlite3.Error:
        return None
    finally:
        database.close()


def _pacman(path: Path) -> Optional[int]:
    try:
        return sum(entry.is_dir() for entry in os.scandir(path))
    except OSError:
        return None


_MANAGERS: Mapping[str, Callable[[Path], Optional[int]]] = {
    "var/lib/dpkg/status": _dpkg,
    "var/lib/rpm/rpmdb.sqlite": _rpm,
    "usr/lib/sysimage/rpm/rpmdb.sqlite": _rpm,
    "lib/apk/db/installed": _apk,
    "var/lib/pacman/local": _pacman,
}


def _timezone(tree: Path) -> Optional[str]:
    name = _text(tree / "etc/timezone")
    if name:
        return name
    try:
        target = os.readlink(tree / "etc/localtime")
    except OSError:
        return None
    return target.partition("zoneinfo/")[2] or None


def _fingerprint(tree: Path, dmi: Mapping[str, Optional[str]]) -> Optional[str]:
    parts = [_text(tree / "etc/machine-id"), dmi["product_uuid"], dmi["product_serial"], dmi["board_serial"]]
    if not any(parts):
        return None
    return hashlib.sha256("\n".join(part or "" for part in parts).encode()).hexdigest()[:32]


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.isdigit() else None

"""File systems: space and inodes, once a minute.

Kept are those on a block device (not loop) and those of a network or a pool; tmpfs, overlay and the kernel's own are
left out. Of several mounts of one device the one with the shortest path speaks for all. A mount whose server does not
answer gets a document that says so, and holds up nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from ezadmin_agent.collectors import Collector, Document, Sample
from ezadmin_agent.fields import boolean, gauge, keyword
from ezadmin_agent.reader import Mount, Reader

FIELDS = (
    keyword("system.filesystem.mount_point", "Where it is mounted", dimension=True),
    keyword("system.filesystem.device_name", "The device, or the server and its path", dimension=True),
    keyword("system.filesystem.type", "Type as the kernel names it: ext4, xfs, nfs4 …"),
    keyword("system.filesystem.options", "Options of the mount"),
    boolean("system.filesystem.responding", "False: it did not answer in time, so it has no figures"),
    gauge("system.filesystem.total", "long", "byte", "Size"),
    gauge("system.filesystem.free", "long", "byte", "Free space, with what is reserved for root"),
    gauge("system.filesystem.available", "long", "byte", "Free space for everyone"),
    gauge("system.filesystem.used.bytes", "long", "byte", "Space in use"),
    gauge("system.filesystem.used.pct", "float", "ratio", "used / (used + available), as df says it"),
    gauge("system.filesystem.files", "long", "", "Inodes; absent where there is no fixed number"),
    gauge("system.filesystem.free_files", "long", "", "Free inodes"),
    gauge("system.filesystem.used_files.pct", "float", "ratio", "Share of inodes in use"),
)
TOTAL_FIELDS = (
    gauge("system.fsstat.count", "integer", "", "File systems counted"),
    gauge("system.fsstat.total_size.total", "long", "byte", "Size of all of them"),
    gauge("system.fsstat.total_size.used", "long", "byte", "Space in use in all of them"),
    gauge("system.fsstat.total_size.free", "long", "byte", "Free space in all of them"),
)
REMOTE = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "ceph",
    "fuse.sshfs",
    "glusterfs",
    "fuse.glusterfs",
    "lustre",
    "zfs",
    "9p",
    "virtiofs",
)
NEVER = ("overlay", "tmpfs", "devtmpfs", "squashfs", "iso9660", "ramfs")


def collect(reader: Reader, _previous: None) -> Sample:
    """One document per file system."""
    mounts = _choose(reader.mounts())
    usage = reader.usage([mount.mount_point for mount in mounts])
    documents = []
    for mount in mounts:
        document: Document = {
            "system.filesystem.mount_point": mount.mount_point,
            "system.filesystem.device_name": mount.device,
            "system.filesystem.type": mount.type,
            "system.filesystem.options": mount.options[:256],
        }
        found = usage.get(mount.mount_point)
        document["system.filesystem.responding"] = found is not None
        if found is not None:
            used = found.total - found.free
            document.update(
                {
                    "system.filesystem.total": found.total,
                    "system.filesystem.free": found.free,
                    "system.filesystem.available": found.available,
                    "system.filesystem.used.bytes": used,
                    "system.filesystem.used.pct": _ratio(used, used + found.available),
                }
            )
            if found.files:
                document["system.filesystem.files"] = found.files
                document["system.filesystem.free_files"] = found.free_files
                document["system.filesystem.used_files.pct"] = _ratio(found.files - found.free_files, found.files)
        documents.append(document)
    return Sample(documents)


def collect_total(reader: Reader, _previous: None) -> Sample:
    """One fragment of the host document: file systems on this machine's own devices."""
    mounts = [mount for mount in _choose(reader.mounts()) if mount.type not in REMOTE]
    usage = reader.usage([mount.mount_point for mount in mounts])
    found = [usage[mount.mount_point] for mount in mounts if mount.mount_point in usage]
    sizes = [one for one in found if one is not None]
    return Sample(
        [
            {
                "system.fsstat.count": len(sizes),
                "system.fsstat.total_size.total": sum(one.total for one in sizes),
                "system.fsstat.total_size.used": sum(one.total - one.free for one in sizes),
                "system.fsstat.total_size.free": sum(one.free for one in sizes),
            }
        ]
    )


def _choose(mounts: Iterable[Mount]) -> list[Mount]:
    chosen: dict[str, Mount] = {}
    for mount in mounts:
        on_device = mount.device.startswith("/dev/") and not mount.device.startswith("/dev/loop")
        if mount.type in NEVER or not (on_device or mount.type in REMOTE):
            continue
        before = chosen.get(mount.device)
        if before is None or len(mount.mount_point) < len(before.mount_point):
            chosen[mount.device] = mount
    return list(chosen.values())


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


TOTAL = Collector("fsstat", "system.host", TOTAL_FIELDS, collect_total, seconds=60)
FILESYSTEMS = Collector("filesystem", "system.filesystem", FIELDS, collect, seconds=60)

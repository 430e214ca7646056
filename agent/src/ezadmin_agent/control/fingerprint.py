"""By what this machine is known again, and whether a disk that came to life in another one is a copy.

The values themselves never leave the host, but for the MACs, which the inventory tells anyway.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Optional

from ezadmin_agent.control import files
from ezadmin_wire.enrolment import Fingerprint
from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import dump, load

log = logging.getLogger(__name__)

ROOT = "EZADMIN_AGENT_ROOT"
"""Environment: what is put before /etc and /sys, where a fingerprint is taken (an image that is mounted, a test)."""
_MEANINGLESS = re.compile(
    r"(?:not (?:specified|present|applicable|settable|available)|to be filled by o\.?e\.?m\.?|default string|none|n/?a"
    r"|unknown|system serial number|0123456789|[0f\-.:\s]*)",
    re.IGNORECASE,
)
"""What makers write where they had nothing to write: the same on thousands of machines."""


def collect(root: Optional[str] = None) -> Fingerprint:
    """The fingerprint of this machine, or of the tree ``root`` (else that of the environment)."""
    tree = Path(root or os.environ.get(ROOT) or "/")
    said = [_text(tree / "sys/class/dmi/id" / name) for name in ("product_uuid", "product_serial")]
    hardware = [text for text in said if text and not _MEANINGLESS.fullmatch(text)]
    machine = _text(tree / "etc/machine-id")
    return Fingerprint(
        machine=_hash(machine) if machine and machine != "uninitialized" else None,
        hardware=_hash("\n".join(hardware).lower()) if hardware else None,
        macs=_macs(tree / "sys/class/net"),
    )


def copied(before: Fingerprint, now: Fingerprint) -> Optional[str]:
    """Why the disk must be a copy, in another machine than before; None if it is the same machine.

    Other hardware is; so is another machine-id without a single MAC in common. What cannot be read says nothing (a plain
    user may not read DMI), and neither does one changed network interface.
    """
    if before.hardware and now.hardware and before.hardware != now.hardware:
        return "its hardware (product UUID, serial number) is another one"
    if before.machine and now.machine and before.machine != now.machine and not set(before.macs) & set(now.macs):
        return "its machine-id is another one, and no network interface is the same"
    return None


def merged(before: Fingerprint, now: Fingerprint) -> Fingerprint:
    """``now``, with what could not be read this time as it was ``before``."""
    return Fingerprint(now.machine or before.machine, now.hardware or before.hardware, now.macs or before.macs)


def digest(fingerprint: Fingerprint) -> str:
    """What a poll says of it: SHA-256 of its canonical JSON."""
    return hashlib.sha256(dump(fingerprint)).hexdigest()


def file(state_dir: Path) -> Path:
    """Where the fingerprint stands, beside the identity that it belongs to."""
    return state_dir / "fingerprint.json"


def read(state_dir: Path) -> Optional[Fingerprint]:
    """The fingerprint of the machine that the identity belongs to; None if none was kept, or it is damaged. Raises OSError."""
    try:
        return load(Fingerprint, file(state_dir).read_bytes())
    except FileNotFoundError:
        return None
    except WireError as error:
        log.warning("%s is damaged (%s): whether this disk is a copy cannot be told", file(state_dir), error)
        return None


def keep(state_dir: Path, fingerprint: Fingerprint) -> None:
    """Keep it beside the identity. Raises OSError."""
    if read(state_dir) != fingerprint:
        files.write(file(state_dir), dump(fingerprint) + b"\n")


def _macs(net: Path) -> list[str]:
    """Of the physical interfaces: those that a device stands behind."""
    found = set()
    try:
        names = sorted(os.listdir(net))
    except OSError:
        return []
    for name in names:
        if not (net / name / "device").exists():
            continue
        address = _text(net / name / "address")
        if address and not re.fullmatch("[0:]*", address):
            found.add(address.upper().replace(":", "-"))
    return sorted(found)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(path: Path) -> Optional[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\n") or None
    except OSError:
        return None

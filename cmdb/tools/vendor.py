#!/usr/bin/env python3
"""Brings the web application's assets from npm into the package, as ``static/vendor.lock.json`` lists them.

    vendor.py            fetch what the lock lists; a version that is new to it is written into it, checksums and licence
    vendor.py --check    compare the files that are there with the lock; exit status 1 if they differ

Users' browsers must not need the internet, and nobody must be able to change an asset unnoticed: the lock holds npm's own
checksum of each package (sha512, base64), and one of each file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

STATIC = Path(__file__).resolve().parent.parent / "src" / "ezadmin_cmdb" / "static"
LOCK = STATIC / "vendor.lock.json"


def folder(package: dict[str, Any]) -> Path:
    """Where a package's files stand."""
    return STATIC / "vendor" / f"{package['name']}-{package['version']}"


def digest(data: bytes) -> str:
    """``sha512-`` and base64, as npm and browsers write it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def fetch(package: dict[str, Any]) -> None:
    """Fetch a package and unpack its listed files. Exits if npm's package is not the one in the lock."""
    name = f"{package['name']}@{package['version']}"
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", name, "--json", "--pack-destination", scratch]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        archive = (Path(scratch) / answer[0]["filename"].replace("@", "").replace("/", "-")).read_bytes()
        found = digest(archive)
        if package.setdefault("integrity", found) != found:
            sys.exit(f"{name}: npm gives {found}, the lock says {package['integrity']}")
        with tarfile.open(Path(scratch) / answer[0]["filename"]) as tar:
            metadata = json.load(tar.extractfile("package/package.json"))  # type: ignore[arg-type]
            package["license"] = metadata["license"]
            files = {}
            for path in package["files"]:
                member = tar.extractfile(f"package/{path}")
                if member is None:
                    sys.exit(f"{name}: no file {path}")
                data = member.read()
                files[path] = digest(data)
                target = folder(package) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            package["files"] = files


def problems(lock: dict[str, Any]) -> list[str]:
    """How the files that are there differ from the lock."""
    expected = {folder(package) / path: sha for package in lock["packages"] for path, sha in package["files"].items()}
    there = {path for path in (STATIC / "vendor").rglob("*") if path.is_file()}
    return [
        *(f"not in the lock: {path}" for path in sorted(there - expected.keys())),
        *(f"missing: {path}" for path in sorted(expected.keys() - there)),
        *(
            f"changed: {path}"
            for path in sorted(there & expected.keys())
            if digest(path.read_bytes()) != expected[path]
        ),
    ]


def main() -> int:
    """The command."""
    lock = json.loads(LOCK.read_text())
    if "--check" not in sys.argv:
        for package in lock["packages"]:
            fetch(package)
        LOCK.write_text(json.dumps(lock, indent=2) + "\n")
    found = problems(lock)
    print("\n".join(found) or "all assets are as the lock says")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

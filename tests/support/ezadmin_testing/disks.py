"""A small real file system, which can be filled."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE = 16 << 20


class NotPermitted(Exception):
    """This user or machine cannot mount file systems; says why."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """An ext4 of 16 MiB, mounted at ``folder``/disk. Raises NotPermitted.

    It is a loop device under another name: the agent leaves out what is in memory (tmpfs) and what is called /dev/loop*.
    """
    image, place, node = folder / "disk.img", folder / "disk", Path(f"/dev/ezadmin-test-{secrets.token_hex(4)}")
    with image.open("wb") as file:
        file.truncate(SIZE)
    place.mkdir()
    _run("mkfs.ext4", "-q", "-m", "0", str(image))
    loop = _run("losetup", "--find", "--show", str(image))
    try:
        _run("mknod", "-m", "600", str(node), "b", *_numbers(loop))
        _run("mount", "-t", "ext4", str(node), str(place))
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True, timeout=30)
    finally:
        node.unlink(missing_ok=True)
        subprocess.run(["losetup", "--detach", loop], check=True, timeout=30)


def fill(place: Path) -> Path:
    """Write a file until nothing more fits; returns it."""
    path = place / "full"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    return path


def _numbers(device: str) -> tuple[str, str]:
    number = os.stat(device).st_rdev
    return str(os.major(number)), str(os.minor(number))


def _run(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise NotPermitted(f"there is no {words[0]}") from error
    if done.returncode:
        raise NotPermitted(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()

"""What a host installs its agent with: scripts that carry the gateway's address, its certificate authority and hashes.

``install.sh`` holds the SHA-256 of ``bundle.json``, which holds those of the wheels; the line that a person pastes holds
the SHA-256 of ``install.sh``, and came to him by the web application. So nothing runs on a host that was changed on its way.
"""

from __future__ import annotations

import hashlib
import pprint
import shlex
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from ezadmin_cmdb.install import bundle
from ezadmin_cmdb.install.bundle import Bundle, BundleError

__all__ = ["Bundle", "BundleError", "Downloads", "Scripts", "one_liner", "scripts"]

_HOST = resources.files(__name__) / "host"
_PARTS = {
    "unit": "system.service",
    "user_unit": "user.service",
    "service": "service.sh",
    "init": "init.sh",
    "openrc": "openrc.sh",
    "uninstall": "uninstall.sh",
}


def _text(name: str) -> str:
    return (_HOST / name).read_text("utf-8")


@dataclass(frozen=True)
class Scripts:
    """The scripts for ``bundle`` as served at ``url`` (None: for the offline archive alone), ``ca`` its authority as PEM."""

    bundle: Bundle
    url: str | None
    ca: str | None

    @cached_property
    def install(self) -> bytes:
        """install.sh, always the same for the same bundle, address and authority."""
        settings = {"url": self.url, "ca": self.ca, "bundle": self.bundle.sha256}
        settings |= {name: _text(file) for name, file in _PARTS.items()}
        program = (
            f"{_text('installer.py')}\n\nSETTINGS.update(\n{pprint.pformat(settings, width=118)}\n)\n"
            "sys.exit(main(sys.argv[1], sys.argv[2:]))"
        )
        return _text("install.sh").replace("@INSTALLER@", program).encode()

    @property
    def uninstall(self) -> bytes:
        """uninstall.sh."""
        return _text("uninstall.sh").encode()

    @property
    def sha256(self) -> str:
        """Of install.sh, 64 hex digits."""
        return hashlib.sha256(self.install).hexdigest()

    @cached_property
    def public(self) -> frozenset[str]:
        """The SHA-256 of each file that install.sh asks for."""
        return frozenset({self.bundle.sha256, *self.bundle.files})

    def archive(self, folder: Path, target: str | None = None) -> bytes:
        """The offline archive of the bundle in ``folder``. Raises BundleError for a target that it does not have."""
        return bundle.archive(folder, self.bundle, {"install.sh": self.install, "uninstall.sh": self.uninstall}, target)


def scripts(folder: Path, url: str | None, ca_file: Path | None) -> Scripts:
    """The scripts for the bundle in ``folder`` (``[gateway] files``), served at ``url``.

    Raises BundleError if there is no bundle, or the authority cannot be read.
    """
    found = bundle.read(folder)
    if found is None:
        raise BundleError(f"there is no bundle of the agent in {folder}; make it: ezadmin-cmdb agent bundle")
    try:
        ca = ca_file.read_text("ascii") if ca_file is not None else None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"ca_file {ca_file} cannot be read: {error}") from error
    return Scripts(found, url.rstrip("/") if url else None, ca)


class Downloads:
    """What the gateway hands out to hosts that it does not know yet: read anew when the bundle or the authority changes."""

    def __init__(self, folder: Path | None, url: str | None, ca_file: Path | None) -> None:
        self._folder, self._url, self._ca_file = folder, url, ca_file
        self._stamp: object = None
        self._scripts: Scripts | None = None

    def scripts(self) -> Scripts:
        """The scripts as they are now. Raises BundleError if there is no bundle."""
        if self._folder is None:
            raise BundleError('the settings name no folder for the bundle: write files = "…" under [gateway]')
        stamp = tuple(_stamp(path) for path in (self._folder / bundle.MANIFEST, self._ca_file) if path is not None)
        if self._scripts is None or stamp != self._stamp:
            self._scripts, self._stamp = scripts(self._folder, self._url, self._ca_file), stamp
        return self._scripts

    def document(self, name: str) -> bytes:
        """The content of ``install.sh``, ``uninstall.sh`` or ``bundle.json``. Raises BundleError."""
        found = self.scripts()
        return {"install.sh": found.install, "uninstall.sh": found.uninstall, bundle.MANIFEST: found.bundle.text()}[
            name
        ]

    def public(self) -> frozenset[str]:
        """The SHA-256 of each file that anybody may have: those of the bundle. None while there is no bundle."""
        try:
            return self.scripts().public
        except BundleError:
            return frozenset()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def one_liner(found: Scripts, token: str, *, tool: str = "curl") -> str:
    """The line to paste on a host: fetches install.sh, checks it, and only then runs it.

    ``tool``: "curl" or "wget". An own authority is not known to the host yet, so the fetch itself checks no certificate: the hash
    in the line does. ``mktemp``: another user of the host could exchange a file between check and run in a folder of all. The
    token goes by the environment: other users can read a command line. The parentheses keep variable and trap, which
    removes the file, out of the shell that the line is pasted into.
    """
    fetch = {
        "curl": f'curl -fsS{"k" if found.ca else ""} -o "$f"',
        "wget": f'wget -q{" --no-check-certificate" if found.ca else ""} -O "$f"',
    }[tool]
    start = f"(f=$(mktemp) && trap 'rm -f \"$f\"' EXIT && {fetch} {found.url}/api/agent/v1/install.sh"
    return f'{start} && echo "{found.sha256}  $f" | sha256sum -c - && EZADMIN_TOKEN={shlex.quote(token)} sh "$f")'

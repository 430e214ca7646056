"""The table ``[commands]`` of the cmdb's settings, which all its processes read alike."""

from __future__ import annotations

import pwd
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any


class CommandSettingsError(ValueError):
    """A setting that cannot be used; the text names the file, the key and what to write."""


@dataclass(frozen=True)
class CommandSettings:
    """How commands are signed. Without ``public_key`` and ``signer_socket`` none can be sent.

    ``public_key``: 64 hex digits, what agents trust. ``signing_key``: the file that the signer alone reads;
    ``signer_log`` what it signed, ``signer_log`` + ``.halted`` its emergency switch. ``signer_users``: numbers of the users
    whose processes may ask, besides its own. ``max_hosts_per_minute``: how many commands it signs in any minute (those
    that stop agents are not counted). ``max_lifetime``: how long a command may wait for its host. ``keep``: for how long the cmdb
    keeps a command that has ended, and what was said of it; None for ever.
    """

    signer_socket: Path | None = None
    signing_key: Path | None = None
    signer_log: Path | None = None
    public_key: str | None = None
    signer_users: tuple[int, ...] = ()
    max_hosts_per_minute: int = 1000
    max_lifetime: timedelta = timedelta(days=7)
    keep: timedelta | None = timedelta(days=400)

    @property
    def halted(self) -> Path | None:
        """The file that halts the signer while it is there."""
        return None if self.signer_log is None else self.signer_log.with_name(f"{self.signer_log.name}.halted")


def load(path: Path) -> CommandSettings:
    """The table of a settings file. Raises CommandSettingsError."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise CommandSettingsError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandSettingsError(f"{path}: {error}") from error
    found = table.get("commands", {})
    if not isinstance(found, Mapping):
        raise CommandSettingsError(f"{path}: commands must be a table: write [commands] above its settings")
    return parse(found, f"{path}: [commands]")


def parse(table: Mapping[str, Any], where: str) -> CommandSettings:
    """Check the table; ``where`` names it in errors. Raises CommandSettingsError."""
    paths = ("signer_socket", "signing_key", "signer_log")
    known = {*paths, "public_key", "signer_users", "max_hosts_per_minute", "max_lifetime_hours", "keep_days"}
    for key, value in table.items():
        if key not in known:
            raise CommandSettingsError(f"{where}: unknown setting {key!r}; known are {', '.join(sorted(known))}")
        if key in paths and (not isinstance(value, str) or not value.startswith("/")):
            raise CommandSettingsError(f"{where}: {key} = {value!r}: write the absolute path of a file")
    socket, key_file, log_file = (Path(table[key]) if key in table else None for key in paths)
    made = CommandSettings(socket, key_file, log_file)
    if made.signing_key is not None and made.signer_log is None:
        made = replace(made, signer_log=made.signing_key.with_name("signed.ndjson"))
    if "public_key" in table:
        text = table["public_key"]
        if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{64}", text):
            raise CommandSettingsError(
                f"{where}: public_key: write the 64 hex digits that `ezadmin-cmdb key generate` printed for signing_key"
            )
        made = replace(made, public_key=text)
    for key, least, most in (
        ("max_hosts_per_minute", 1, 1_000_000),
        ("max_lifetime_hours", 1, 24 * 90),
        ("keep_days", 0, 36_500),
    ):
        if key in table:
            value = table[key]
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise CommandSettingsError(f"{where}: {key} = {value!r}: write a whole number from {least} to {most}")
    if "keep_days" in table:
        made = replace(made, keep=timedelta(days=table["keep_days"]) if table["keep_days"] else None)
    if "max_hosts_per_minute" in table:
        made = replace(made, max_hosts_per_minute=table["max_hosts_per_minute"])
    if "max_lifetime_hours" in table:
        made = replace(made, max_lifetime=timedelta(hours=table["max_lifetime_hours"]))
    return replace(made, signer_users=_users(table.get("signer_users", []), where))


def _users(value: Any, where: str) -> tuple[int, ...]:
    wrong = CommandSettingsError(
        f'{where}: signer_users: write a list of names of users of this machine, such as ["ezadmin"]'
    )
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise wrong
    try:
        return tuple(pwd.getpwnam(name).pw_uid for name in value)
    except KeyError as error:
        raise CommandSettingsError(f"{wrong}; there is no user {error.args[0].rpartition(' ')[2]}") from error

"""A new key for this host: made beside the old one, made known with it, taken once the gateway knows it.

The key in use is always ``host.key``; ``host.key.new`` is one that is on its way. Until the gateway answers under the new key,
the old one is used, and both are good there. So whatever is killed when: one of them works, and a start goes on.
"""

from __future__ import annotations

import os
from pathlib import Path

from ezadmin_agent.control import files
from ezadmin_agent.control.client import Client, GatewayError
from ezadmin_agent.control.me import Me
from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import dump
from ezadmin_wire.signing import SigningKey, signed_bytes

CONTEXT = "ezadmin/rotate/1"


def pending(state_dir: Path) -> bool:
    """Whether a new key is on its way."""
    return _file(state_dir).exists()


def make(state_dir: Path) -> SigningKey:
    """The key that is on its way, or a new one. Raises OSError."""
    path = _file(state_dir)
    if path.exists():
        try:
            return SigningKey.load(path)
        except WireError:
            files.remove(path)  # nobody knows it yet, or the old one still works
    key = SigningKey.generate()
    key.save(path)
    return key


def announce(client: Client, me: Me, new: SigningKey) -> None:
    """Have the gateway know the new key beside the old one. Raises GatewayError."""
    public = new.public.hex()
    proof = new.sign(signed_bytes(CONTEXT, [me.host.encode(), public.encode()])).hex()
    body = dump({"public_key": public, "proof": proof})
    headers = {"Content-Type": "application/json"}
    answer = client.signed(me.key, me.host, "POST", "/keys", body=body, headers=headers, timeout=60.0)
    if answer.status != 200:
        raise answer.error()


def known(client: Client, me: Me, new: SigningKey) -> bool:
    """Whether the gateway answers under the new key. Raises GatewayError."""
    answer = client.signed(new, me.host, "GET", "/me")
    if answer.status == 200:
        return True
    error = answer.error()
    if error.reason in ("unknown_key", "revoked"):
        return False
    raise error


def switch(state_dir: Path, me: Me, new: SigningKey) -> None:
    """Use the new key from now on. Raises OSError."""
    os.replace(_file(state_dir), state_dir / "host.key")
    files.sync_directory(state_dir)
    me.key = new


def give_up(state_dir: Path) -> None:
    """Forget the new key; the gateway refused it. Raises OSError."""
    files.remove(_file(state_dir))


def rotate(client: Client, me: Me, state_dir: Path) -> None:
    """All of it, or what a crash left of it. Raises GatewayError (it goes on later, unless refused), OSError."""
    new = make(state_dir)
    if not known(client, me, new):
        try:
            announce(client, me, new)
        except GatewayError as error:
            refused = 400 <= error.status < 500 and error.status not in (401, 408, 429)
            if refused and not known(client, me, new):
                give_up(state_dir)
            raise
        if not known(client, me, new):
            raise GatewayError("the gateway does not know the new key yet")
    switch(state_dir, me, new)


def _file(state_dir: Path) -> Path:
    return state_dir / "host.key.new"

"""How a host becomes known: with a token, or as the copy that its disk is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Optional

from ezadmin_agent import __version__
from ezadmin_agent.control import copies, files, fingerprint
from ezadmin_agent.control.client import Address, Client, GatewayError, check_proxy, pinned
from ezadmin_agent.control.enrolment import ACTIVE, RETIRED, REVOKED, Enrolment, read
from ezadmin_agent.identity import Identity, IdentityError, load_or_make
from ezadmin_wire.enrolment import CloneProof, EnrolAnswer, EnrolRequest, Token, read_token
from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import dump, load
from ezadmin_wire.ids import is_host_id

_HINTS = {
    "token_unknown": "copy it again, whole, or make a new one",
    "token_expired": "make a new one",
    "token_used_up": "make a new one, for more hosts",
    "token_revoked": "ask who revoked it, or make a new one",
    "bad_clone_proof": "enrol with a token: ezadmin-agent enrol TOKEN",
    "host_taken": "if this machine was installed again, make a token that may replace hosts; if it is a copy, remove host.id "
    "and host.key from its state directory",
    "stale_request": "set this host's clock: is a time service (chrony, systemd-timesyncd) running?",
    "revoked": "remove host.id, host.key and enrolment.json from the state directory to enrol it as a new host",
}


def enrol(
    text: str, identity: Identity, state_dir: Path, *, proxy: Optional[str] = None, insecure: bool = False
) -> Enrolment:
    """Have this host known by the token ``text``, and keep what comes of it; it may be repeated.

    ``insecure``: plain HTTP beyond this machine is allowed. Raises WireError for a damaged token, GatewayError with what to
    do, OSError.
    """
    token, ca, client = _trusted(text, proxy, insecure)
    try:
        answer = _ask(client, identity, secret=token.secret)
    finally:
        client.close()
    if token.command_key not in answer.command_keys:
        raise GatewayError(
            "the gateway names other keys for commands than the token does: it is not to be trusted, or the token is old",
            "make a new token",
        )
    # the token's key alone: that of a gateway which adds one of its own is not taken
    made = Enrolment(
        answer.host, token.url, answer.prefix, answer.state, [token.command_key], ca=ca, proxy=proxy, kafka=answer.kafka
    )
    _take(made, identity, state_dir)
    return made


def known_already(
    text: str, state_dir: Path, *, proxy: Optional[str] = None, insecure: bool = False
) -> Optional[Enrolment]:
    """The enrolment of a host that the token's gateway knows: then nothing is to be done, and the token is not used.

    Raises as :func:`enrol` does.
    """
    before = read(state_dir)
    machine = fingerprint.read(state_dir)
    is_copy = machine is not None and fingerprint.copied(machine, fingerprint.collect()) is not None
    if before is None or is_copy or copies.proof(state_dir) is not None:
        return None
    token, ca, client = _trusted(text, proxy, insecure)
    try:
        identity = load_or_make(state_dir)
        state = None
        if (before.gateway, before.host) == (token.url, identity.host_id):
            state = _me(client, identity)
    finally:
        client.close()
    if state is None:
        return None
    found = replace(before, state=state, ca=ca, proxy=proxy, command_keys=[token.command_key])
    if found != before:
        found.save(state_dir)
    return found


def _trusted(text: str, proxy: Optional[str], insecure: bool) -> tuple[Token, Optional[str], Client]:
    """The token, its authority (PEM) and a client that trusts nobody else."""
    token = read_token(text)
    if proxy is not None:
        check_proxy(proxy)
    address = Address.of(token.url)
    if not address.secure and not (address.loopback or insecure):
        raise GatewayError(
            f"the token is for {token.url}, which is not encrypted: who listens could become this host",
            "give the gateway a certificate, or say --insecure if you are sure of the network between",
        )
    ca = pinned(token.url, token.ca, proxy) if token.ca is not None and address.secure else None
    return token, ca, Client(token.url, ca=ca, proxy=proxy)


def enrol_copy(identity: Identity, proof: CloneProof, before: Enrolment, state_dir: Path) -> Enrolment:
    """Have a copied disk known as a host of its own: ``before`` is what its original had. Raises GatewayError, OSError."""
    client = Client(before.gateway, ca=before.ca, proxy=before.proxy)
    try:
        answer = _ask(client, identity, clone=proof)
    finally:
        client.close()
    made = replace(before, host=answer.host, state=answer.state, prefix=answer.prefix, kafka=answer.kafka)
    _take(made, identity, state_dir)
    return made


def _take(made: Enrolment, identity: Identity, state_dir: Path) -> None:
    """Keep it; last the enrolment itself, so that a crash before leaves a host that asks again."""
    if made.host != identity.host_id:  # a known machine, installed again
        files.write(state_dir / "host.id", f"{made.host}\n".encode())
    before = fingerprint.read(state_dir)
    now = fingerprint.collect()
    fingerprint.keep(state_dir, now if before is None else fingerprint.merged(before, now))
    made.save(state_dir)
    copies.enrolled(state_dir)


def _ask(
    client: Client, identity: Identity, *, secret: Optional[str] = None, clone: Optional[CloneProof] = None
) -> EnrolAnswer:
    request = EnrolRequest(
        host=identity.host_id,
        public_key=identity.key.public.hex(),
        name=identity.host_name,
        version=__version__,
        fingerprint=fingerprint.collect(),
        secret=secret,
        clone=clone,
    )
    answer = client.signed(
        identity.key,
        identity.host_id,
        "POST",
        "/enrol",
        body=dump(request),
        headers={"Content-Type": "application/json"},
        timeout=60.0,
    )
    if answer.status != 200:
        refused = answer.error()
        hint = _HINTS.get(refused.reason, "")
        if answer.status == 429:
            hint = f"too many wrong tokens came from here: try again in {refused.retry:.0f} s"
        raise GatewayError(str(refused), hint, status=refused.status, reason=refused.reason, retry=refused.retry)
    try:
        found = load(EnrolAnswer, answer.body)
        if not is_host_id(found.host):
            raise WireError("bad_value", f"host: {found.host!r} is no host.id")
        return found
    except WireError as error:
        raise GatewayError(f"the gateway's answer cannot be read: {error}", "are both of the same version?") from error


def _me(client: Client, identity: Identity) -> Optional[str]:
    """The state in which the gateway knows this host and key; None if it does not."""
    answer = client.signed(identity.key, identity.host_id, "GET", "/me")
    if answer.status == 200:
        return str(answer.json().get("state", ACTIVE))
    if answer.status == 404 or answer.error().reason in ("unknown_key", REVOKED, RETIRED):
        return None
    raise answer.error()


def read_token_file(path: Path) -> str:
    """The token in a file. Raises IdentityError if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise IdentityError(f"cannot read the token file {path}: {error.strerror}") from error

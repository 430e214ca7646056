"""How a machine becomes a host, or the host again that it was; how a host gets another key.

Three ways, each of them in one transaction, and each may be repeated without another effect, for an answer can be lost:

* with a token: a new host; or, if the token says so, the host that this machine was before it was installed anew;
* with the key of a copied disk: a host of its own, in quarantine until a person has seen it;
* with its own key: the same host, with another key beside it, which takes the place of the old one after a while.

What a machine says of itself (host.id, fingerprint) is a claim. A token that lets machines take their old places believes it only
where nobody has been heard for a while, and only of hosts that the token is bound to.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import mysql

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.audit import services as audit
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.enrolment.models import CLONED, NEW, REINSTALLED, Enrolment, EnrolmentToken, HostLine, HostMachine
from ezadmin_cmdb.enrolment.tokens import digest, settings
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts import states
from ezadmin_cmdb.hosts.models import Host, HostKey
from ezadmin_cmdb.rights.access import ALL
from ezadmin_cmdb.rights.models import HostGroupMember
from ezadmin_wire import WireError
from ezadmin_wire.enrolment import CloneProof, EnrolRequest, Fingerprint, clone_bytes
from ezadmin_wire.signing import VerifyKey, signed_bytes

_log = logging.getLogger(__name__)
QUARANTINED, REVOKED = "quarantined", "revoked"
ROTATE_CONTEXT = "ezadmin/rotate/1"
CLONES_MAX = 20
"""Copies of one host that may wait to be accepted."""
MACS_MAX = 64


class Refused(Exception):
    """The gateway answers ``status`` with ``reason``."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Known:
    """What became of a request: the host, its state on the wire, and its key that the gateway must know before it answers."""

    host_id: str
    state: str
    kid: str


def _actor(name: str, address: str | None) -> Actor:
    return Actor(name, "agent", ALL, str(uuid.uuid4()), address=address)


def enrol(request: EnrolRequest, address: str | None) -> Known:
    """Make the machine known that asks so, and has the key (the caller has checked that). Raises Refused."""
    key = VerifyKey.from_hex(request.public_key)
    if request.clone is not None:
        return _copy(request, request.clone, key, address)
    token = _token(request.secret or "", address)
    actor = _actor(f"token {token.name}", address)
    again = _known_already(request, key)
    if again is not None:
        return again
    _check_token(token, actor, request)
    _check(request)
    like = _like(request.fingerprint)
    host = _former(token, like, request.host) if token.replace else None
    if host is None and db.session.get(Host, request.host) is not None:
        audit.note(
            "enrolment", "host_taken", actor, audit.FAILURE, about=("host", request.host, request.name),
            details={"kid": key.kid}, kept=True,
        )  # fmt: skip
        raise Refused(409, "host_taken", f"host {request.host} is known, with another key: is this a copied disk?")
    if host is not None:
        kind = REINSTALLED
        _install_again(actor, host, key, token)
    else:
        kind = NEW
        host = _make(actor, request, key, token, like)
    token.uses += 1
    token.last_used, token.last_address = utc_now(), address
    other = next((one.id for one in like if one.id != host.id), None)
    _keep_machine(host, request.fingerprint, None)
    _note(actor, kind, host, request, key, other, token)
    return Known(host.id, states.on_the_wire(host), key.kid)


def _token(secret: str, address: str | None) -> EnrolmentToken:
    # locked until the end: however many come with it at once, they are counted one after the other
    query = select(EnrolmentToken).where(EnrolmentToken.secret_hash == digest(secret)).with_for_update()
    token = db.session.scalar(query.execution_options(populate_existing=True))
    if token is None:
        _log.warning("refused: an enrolment token that is not known", extra={"fields": {"client.ip": address}})
        raise Refused(401, "token_unknown", "the enrolment token is not known; make a new one")
    return token


def _check_token(token: EnrolmentToken, actor: Actor, request: EnrolRequest) -> None:
    why = None
    if token.revoked is not None:
        why = ("token_revoked", f"the enrolment token {token.name} was revoked")
    elif utc_now() >= token.expires:
        why = ("token_expired", f"the enrolment token {token.name} was good until {token.expires:%Y-%m-%d %H:%M} UTC")
    elif token.uses >= token.uses_max:
        why = ("token_used_up", f"the enrolment token {token.name} was good for {token.uses_max} hosts, and they came")
    if why is not None:
        audit.note(
            "enrolment", why[0], actor, audit.FAILURE, about=("enrolment_token", token.id, token.name),
            details={"host": request.host, "name": request.name[:253]}, kept=True,
        )  # fmt: skip
        raise Refused(401, *why)


def _known_already(request: EnrolRequest, key: VerifyKey) -> Known | None:
    """The answer for a key that is known: that of before."""
    found = db.session.scalar(select(HostKey).where(HostKey.public == key.public.hex()))
    if found is None:
        return None
    asked = select(Enrolment.asked).where(Enrolment.public == found.public, Enrolment.host_id == found.host_id)
    if request.host not in (found.host_id, *db.session.scalars(asked)):
        raise Refused(409, "host_taken", f"this key is that of host {found.host_id}: a key belongs to one host")
    host = db.session.get(Host, found.host_id)
    if found.revoked or host is None:
        raise Refused(403, "revoked", f"key {key.kid} was revoked; the host needs a new one")
    return Known(host.id, states.on_the_wire(host), key.kid)


def _check(request: EnrolRequest) -> None:
    name, print_ = request.name.strip(), request.fingerprint
    if not 1 <= len(name) <= 253 or not name.isprintable():
        raise Refused(400, "bad_value", "name: write 1 to 253 printable characters")
    if not 1 <= len(request.version) <= 64 or not request.version.isprintable():
        raise Refused(400, "bad_value", "version: write 1 to 64 printable characters")
    hashes = [one for one in (print_.machine, print_.hardware) if one is not None]
    if any(len(one) != 64 or not one.isalnum() or not one.isascii() for one in hashes):
        raise Refused(400, "bad_value", "fingerprint: machine and hardware are SHA-256 in hex")
    if len(print_.macs) > MACS_MAX or any(len(one) > 64 or not one.isprintable() for one in print_.macs):
        raise Refused(400, "bad_value", f"fingerprint: at most {MACS_MAX} macs of 64 characters")


def _like(print_: Fingerprint) -> Sequence[Host]:
    """Hosts on this machine, by its hardware or, without any, by its machine-id."""
    query = select(Host).join(HostMachine, HostMachine.host_id == Host.id).order_by(Host.created, Host.id)
    if print_.hardware is not None:
        return db.session.scalars(query.where(HostMachine.hardware == print_.hardware)).all()
    if print_.machine is not None:
        bare = query.where(HostMachine.machine == print_.machine, HostMachine.hardware.is_(None))
        return db.session.scalars(bare).all()
    return []


def heard(host: Host) -> datetime | None:
    """When the host was heard last, in whatever way."""
    seen = db.session.scalar(select(HostLine.seen).where(HostLine.host_id == host.id))
    now = utc_now()  # a report from ahead of our clock was a wrong clock's
    known = [min(one, now) for one in (host.agent_collected, host.inventory_collected, seen) if one is not None]
    return max(known, default=None)


def _former(token: EnrolmentToken, like: Sequence[Host], asked: str) -> Host | None:
    """The one host that this machine was, locked; None if there are none or several, or if somebody is there."""
    alive = [one for one in like if one.state != REVOKED]
    if len(alive) != 1:
        return None
    host = hosts.lock([alive[0].id])[0]
    last = heard(host)
    if last is not None and utc_now() - last < settings().gateway.reinstall_after:
        _log.warning(
            "a machine like host %s was installed, which is not silent: it is a host of its own", host.name,
            extra={"fields": {"host.id": host.id, "asked": asked}},
        )  # fmt: skip
        return None
    if token.site_id is not None and host.site_id != token.site_id:
        return None
    if token.group_id is not None:
        member = db.session.get(HostGroupMember, (token.group_id, host.id))
        if member is None:
            return None
    return host


def _install_again(actor: Actor, host: Host, key: VerifyKey, token: EnrolmentToken) -> None:
    with hosts.changing(actor, host):
        for one in host.keys:
            one.revoked = True
        host.keys.append(HostKey(kid=key.kid, public=key.public.hex(), revoked=False))
        if token.quarantine:
            states.choose(host, QUARANTINED)
        elif host.state == states.RETIRED and not host.state_by_rule:
            states.choose(host, states.ACTIVE)


def _make(
    actor: Actor, request: EnrolRequest, key: VerifyKey, token: EnrolmentToken | None, like: Sequence[Host]
) -> Host:
    doubtful = token is None or token.quarantine or any(one.state == REVOKED for one in like)
    host = Host(
        id=request.host, name=request.name.strip(), state=QUARANTINED if doubtful else states.NEW, state_by_rule=False
    )
    if token is not None:
        host.site = token.site
        host.member_of = {str(token.group.id): token.group.name} if token.group is not None else None
    with hosts.changing(actor, host, new=True):
        db.session.add(host)
        host.keys.append(HostKey(kid=key.kid, public=key.public.hex(), revoked=False))
        db.session.flush()
        if token is not None and token.group_id is not None:
            db.session.add(HostGroupMember(group_id=token.group_id, host_id=host.id))
    return host


def _copy(request: EnrolRequest, proof: CloneProof, key: VerifyKey, address: str | None) -> Known:
    """A disk was copied, and this is the machine with the copy."""
    found = db.session.get(Host, proof.host, with_for_update=True, populate_existing=True)
    old = next((one for one in found.keys if one.kid == proof.kid and not one.revoked), None) if found else None
    actor = _actor(f"copy of host {proof.host}", address)
    if found is None or old is None or found.state == REVOKED or not _proves(old, request, proof):
        audit.note("enrolment", "bad_clone_proof", actor, audit.FAILURE, about=("host", proof.host, ""), kept=True)
        raise Refused(401, "bad_clone_proof", "the proof is not one of a valid key of the host that was copied")
    again = _known_already(request, key)
    if again is not None:
        return again
    _check(request)
    if db.session.get(Host, request.host) is not None:
        raise Refused(409, "host_taken", f"host {request.host} is known, with another key")
    waiting = (
        select(func.count())
        .select_from(Enrolment)
        .join(Host, Host.id == Enrolment.host_id)
        .where(Enrolment.other == found.id, Enrolment.kind == CLONED, Host.state == QUARANTINED)
    )
    if (db.session.scalar(waiting) or 0) >= CLONES_MAX:
        raise Refused(429, "too_many_clones", f"{CLONES_MAX} copies of host {found.name} wait to be accepted")
    host = _make(actor, request, key, None, ())
    _keep_machine(host, request.fingerprint, found.id)
    _note(actor, CLONED, host, request, key, found.id, None)
    _log.warning(
        "a disk of host %s was copied: the copy is %s, in quarantine", found.name, host.id,
        extra={"fields": {"host.id": host.id}},
    )  # fmt: skip
    return Known(host.id, states.on_the_wire(host), key.kid)


def _proves(old: HostKey, request: EnrolRequest, proof: CloneProof) -> bool:
    try:
        signature = bytes.fromhex(proof.sig)
        signed = clone_bytes(proof.host, request.host, request.public_key)
        return VerifyKey.from_hex(old.public).verify(signature, signed)
    except (ValueError, WireError):
        return False


def _keep_machine(host: Host, print_: Fingerprint, cloned_from: str | None) -> None:
    machine = db.session.get(HostMachine, host.id)
    if machine is None:
        machine = HostMachine(host_id=host.id, cloned_from=cloned_from)
        db.session.add(machine)
    machine.machine, machine.hardware, machine.macs = print_.machine, print_.hardware, list(print_.macs)


def _note(
    actor: Actor,
    kind: str,
    host: Host,
    request: EnrolRequest,
    key: VerifyKey,
    other: str | None,
    token: EnrolmentToken | None,
) -> None:
    db.session.add(
        Enrolment(
            kind=kind,
            host_id=host.id,
            host_name=host.name,
            asked=request.host,
            public=key.public.hex(),
            token_id=None if token is None else token.id,
            token_name=None if token is None else token.name,
            address=actor.address,
            version=request.version,
            other=other,
        )
    )
    details: dict[str, Any] = {"kid": key.kid, "asked": request.host, "other": other, "state": host.state}
    if token is not None:
        details |= {"token": token.name, "group": None if token.group is None else token.group.name}
    audit.note("enrolment", kind, actor, about=("host", host.id, host.name), details=details)
    db.session.flush()


def rotate(host_id: str, signer: str, public_key: str, proof: str, address: str | None) -> Known:
    """Take another key of a host, which its key ``signer`` asks for; the old ones end later.

    Raises Refused, also for a ``signer`` that was itself replaced: whoever finds an old key gets no new one by it.
    """
    try:
        key = VerifyKey.from_hex(public_key)
        proven = key.verify(bytes.fromhex(proof), signed_bytes(ROTATE_CONTEXT, [host_id.encode(), public_key.encode()]))
    except (WireError, ValueError) as error:
        raise Refused(400, "bad_value", f"public_key, proof: {error}") from error
    if not proven:
        raise Refused(400, "bad_proof", "the proof is not the new key's")
    found = hosts.lock([host_id])
    if not found:
        raise Refused(404, "unknown_host", f"there is no host {host_id}")
    host, public = found[0], key.public.hex()
    known = next((one for one in host.keys if one.public == public), None)
    if known is not None and not known.revoked:
        return Known(host.id, states.on_the_wire(host), key.kid)
    if known is not None or db.session.scalar(select(HostKey.kid).where(HostKey.public == public)) is not None:
        raise Refused(409, "key_taken", "this key was used before; make a new one")
    asking = next((one for one in host.keys if one.kid == signer and not one.revoked), None)
    if asking is None or asking.ends is not None:
        raise Refused(403, "key_replaced", f"key {signer} was replaced: only the newest key may ask for another one")
    ends = utc_now() + settings().gateway.old_keys
    with hosts.changing(_actor(host_id, address), host):
        for one in host.keys:
            if not one.revoked and one.ends is None:
                one.ends = ends
        host.keys.append(HostKey(kid=key.kid, public=public, revoked=False))
    return Known(host.id, states.on_the_wire(host), key.kid)


def end_keys() -> int:
    """Revoke the keys whose time is over; returns how many. The caller commits."""
    due = select(HostKey.host_id).where(HostKey.ends <= utc_now(), ~HostKey.revoked).distinct().limit(200)
    done = 0
    for host in hosts.lock(db.session.scalars(due).all()):
        with hosts.changing(_RULE, host):
            for one in host.keys:
                if one.ends is not None and one.ends <= utc_now() and not one.revoked:
                    one.revoked = True
                    done += 1
    return done


_RULE = Actor("replaced keys", "rule", ALL)


def accept(actor: Actor, host: Host) -> None:
    """A host in quarantine is listened to from now on. Raises Forbidden; Conflict if it is not in quarantine."""
    _decide(actor, host, states.ACTIVE)


def reject(actor: Actor, host: Host) -> None:
    """A host in quarantine is none of ours: it and its keys are revoked. Raises as :func:`accept`."""
    _decide(actor, host, REVOKED)


def _decide(actor: Actor, host: Host, state: str) -> None:
    if host.state != QUARANTINED:
        raise Conflict(f"{host.name} is not in quarantine: it is {host.state}")
    if state == REVOKED:
        for key in [one for one in host.keys if not one.revoked]:
            hosts.revoke_key(actor, host, key.kid)
    hosts.set_state(actor, host, state)
    action = "accepted" if state == states.ACTIVE else "rejected"
    audit.note("enrolment", action, actor, about=("host", host.id, host.name))


# -- lines ---


@dataclass(frozen=True)
class Line:
    """A host's newest poll."""

    host_id: str
    seen: datetime
    address: str | None
    instance: str | None
    config: int | None
    fingerprint: str | None


def keep_lines(lines: Sequence[Line]) -> None:
    """Write down when hosts polled, with two statements however many they are. The caller commits."""
    there = set(db.session.scalars(select(Host.id).where(Host.id.in_([line.host_id for line in lines]))))
    rows = [vars(line) for line in lines if line.host_id in there]
    if rows:
        insert = mysql.insert(HostLine).values(rows)
        columns = ("seen", "address", "instance", "config", "fingerprint")
        db.session.execute(
            insert.on_duplicate_key_update({name: insert.inserted[name] for name in columns}),
            execution_options={"synchronize_session": False},
        )


def note_twins(host_id: str, addresses: Sequence[str], instances: Sequence[str], again: bool) -> None:
    """Two machines poll as one host. ``again``: it was noted before, so that only its time is new. The caller commits."""
    host = db.session.get(Host, host_id)
    if host is None:
        return
    line = db.session.get(HostLine, host_id, with_for_update=True)
    if line is None:
        line = HostLine(host_id=host_id)
        db.session.add(line)
    now = utc_now().isoformat()
    before: Mapping[str, Any] = line.twins or {}
    line.twins = {"since": before.get("since", now), "time": now, "addresses": sorted(set(addresses))}
    if not again:
        details = {"addresses": sorted(set(addresses)), "instances": sorted(set(instances))}
        actor = _actor(host_id, addresses[-1] if addresses else None)
        audit.note(
            "enrolment", "two_machines", actor, audit.FAILURE, about=("host", host.id, host.name), details=details
        )


def forget_twins(actor: Actor, host: Host) -> None:
    """A person has dealt with it. Raises Forbidden."""
    line = db.session.get(HostLine, host.id)
    if line is None or line.twins is None:
        raise Invalid(f"{host.name}: no two machines were noted")
    if not hosts.may(actor, hosts.HOST_CHANGE, host):
        from ezadmin_cmdb.rights import services as rights

        raise rights.refusal(actor, hosts.HOST_CHANGE, "host", host.id)
    before = {"twins": line.twins}
    line.twins = None
    changes.record(actor, "host", host.id, host.name, before, {"twins": None})


def about(host: Host) -> dict[str, Any]:
    """What the page of a host shows: its line, its machine, how it became known, and what looks like it."""
    machine = db.session.get(HostMachine, host.id)
    came = db.session.scalars(
        select(Enrolment)
        .where(Enrolment.host_id == host.id)
        .order_by(Enrolment.time.desc(), Enrolment.id.desc())
        .limit(20)
    ).all()
    copies = db.session.scalars(
        select(Host).join(HostMachine, HostMachine.host_id == Host.id).where(HostMachine.cloned_from == host.id)
        .order_by(Host.created).limit(50)
    ).all()  # fmt: skip
    others = {one.other for one in came if one.other} | (
        {machine.cloned_from} if machine and machine.cloned_from else set()
    )
    names = {row.id: row.name for row in db.session.execute(select(Host.id, Host.name).where(Host.id.in_(others)))}
    return {
        "line": db.session.get(HostLine, host.id),
        "machine": machine,
        "came": came,
        "copies": copies,
        "names": names,
    }

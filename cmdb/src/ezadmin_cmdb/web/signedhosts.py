"""Requests of hosts: signed with the host's own key, as :mod:`ezadmin_wire.requests` says. No person is asked to sign in.

What is refused names its reason, so that ``ezadmin-agent check`` can tell what to do: 401 for no or a stale signature, 404
for a host that is not known here, 403 for a key that is not (or no longer) its own. The texts are read on a host's command
line, and so in English alone.
"""

from __future__ import annotations

from flask import request

from ezadmin_cmdb.database import db
from ezadmin_cmdb.errors import DomainError, NotFound
from ezadmin_cmdb.hosts.models import Host
from ezadmin_wire import WireError
from ezadmin_wire.requests import WINDOW_SECONDS, parse
from ezadmin_wire.signing import VerifyKey
from ezadmin_wire.times import now


class NotSigned(DomainError):
    """The request carries no signature of a host, or an old one."""

    status = 401


class WrongKey(DomainError):
    """The request is not signed by a key of the host that it is made for."""

    status = 403


def requesting_host(host_id: str) -> Host:
    """The host ``host_id``, which has signed the request under way. Raises NotSigned, NotFound, WrongKey."""
    try:
        claim = parse(request.headers.get("Authorization", ""))
    except WireError as error:
        raise NotSigned("this request is for hosts alone, which sign it with their key") from error
    moment = now()
    if abs(claim.age(moment)) > WINDOW_SECONDS:
        raise NotSigned(f"the request was signed at {claim.time}, but here it is {moment}")
    host = db.session.get(Host, host_id) if claim.host == host_id else None
    if host is None:
        raise NotFound(f"no host {host_id} is known here")
    key = next((key for key in host.keys if key.kid == claim.kid), None)
    if key is None:
        raise WrongKey(f"key {claim.kid} is not one of host {host.name}")
    if key.revoked:
        raise WrongKey(f"key {claim.kid} of host {host.name} was revoked")
    target = request.full_path if request.query_string else request.path
    if not claim.signed_by(VerifyKey.from_hex(key.public), request.method, target, request.get_data(cache=True)):
        raise WrongKey(f"the signature is not that of key {claim.kid}")
    return host

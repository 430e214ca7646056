"""Who makes a request: the host that signed it (:mod:`ezadmin_wire.requests`), with a key that is good now."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from ezadmin_cmdb.gateway.directory import Directory, Host
from ezadmin_cmdb.gateway.problems import Problem
from ezadmin_wire import WireError, requests
from ezadmin_wire.signing import VerifyKey
from ezadmin_wire.times import now


@dataclass(frozen=True)
class Signer:
    """The host of a request whose signature is checked."""

    id: str
    host: Host
    kid: str


def claim_of(request: Request) -> requests.Claim:
    """What the request says of itself. Raises Problem (``bad_authorization``; ``stale_request`` with our ``time``)."""
    try:
        claim = requests.parse(request.headers.get("authorization", ""))
    except WireError as error:
        raise Problem(401, error.reason, str(error)) from error
    at = now()
    if abs(claim.age(at)) > requests.WINDOW_SECONDS:
        raise Problem(
            401,
            "stale_request",
            f"the request is of {claim.time}, here it is {at}: is the host's clock right?",
            time=at,
        )
    return claim


def admit(directory: Directory, claim: requests.Claim) -> tuple[Host, VerifyKey]:
    """The host and key of a claim, before anything of the body is read. Raises Problem."""
    host = directory.find(claim.host)
    host.check_state()
    return host, host.key(claim.kid)


def target(request: Request) -> str:
    """What the signature covers of the address: path and query from ``/api/`` on, as they were sent."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    path = raw.split(b"?", 1)[0].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    start = path.find("/api/")
    return path[max(start, 0) :] + (f"?{query}" if query else "")


def prove(claim: requests.Claim, key: VerifyKey, request: Request, body: bytes = b"") -> None:
    """Raises Problem (``bad_signature``) if ``key`` did not sign exactly this."""
    if not claim.signed_by(key, request.method, target(request), body):
        raise Problem(401, "bad_signature", "the signature does not fit the request")


def signer(directory: Directory, request: Request, body: bytes = b"") -> Signer:
    """The host of a request without a body, or with one that is read. Raises Problem."""
    claim = claim_of(request)
    host, key = admit(directory, claim)
    prove(claim, key, request, body)
    return Signer(claim.host, host, claim.kid)

"""The one way to Elasticsearch: raw bytes through the official client's transport (nodes, TLS, sign-in are its own).

Only what a 8.19 or 9.x cluster and the small local distribution both have is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, NdjsonSerializer, TlsError, TransportError
from elasticsearch import Elasticsearch
from elasticsearch.serializer import OrjsonSerializer
from isal import isal_zlib
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from ezadmin_wire import WireError
from ezadmin_wire.elastic import ElasticConnection

_NDJSON = {"accept": "application/json", "content-type": "application/x-ndjson", "content-encoding": "gzip"}
_JSON = {"accept": "application/json", "content-type": "application/json"}
_COMPRESS_FROM = 1024


class Unavailable(Exception):
    """Elasticsearch gave no answer: it is away, or did not answer in time. What it did with the request is unknown."""


class SignInRefused(Exception):
    """Elasticsearch refuses our user (401, 403) or we cannot sign in: trying again would not help, a person must mend it."""


class Elastic(Protocol):
    """What the rest of the pipeline uses of Elasticsearch."""

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Any]:
        """Send a request; returns status and decoded JSON. ``body`` is JSON, or NDJSON for paths ending in ``_bulk``.

        Raises Unavailable or SignInRefused; every other status is returned.
        """


class _Bytes(NdjsonSerializer):
    """NDJSON that is bytes already; the client's own would end compressed ones with a newline."""

    def dumps(self, data: Any) -> bytes:
        return bytes(data)


class _Undecoded(OrjsonSerializer):
    """Leaves answers as they came: see :meth:`ElasticClient.request`."""

    def json_loads(self, data: Any) -> Any:
        return bytes(data)


class ElasticClient:
    """:class:`Elastic` on a real cluster. ``timeout`` in seconds for one request."""

    def __init__(self, connection: ElasticConnection, timeout: float = 60.0, connections: int = 4) -> None:
        self._connection = connection
        self._timeout = timeout
        try:
            options = connection.options()
            authorization = connection.authorization()
        except WireError as error:
            raise SignInRefused(str(error)) from error
        self._sign_in = {} if authorization is None else {"authorization": authorization}
        self._client = Elasticsearch(
            **options,
            connections_per_node=connections,
            serializers={"application/json": _Undecoded(), "application/x-ndjson": _Bytes()},
        )

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Any]:
        """See :class:`Elastic`."""
        headers = dict(_JSON)
        if path.endswith("_bulk"):
            headers = dict(_NDJSON)
            if body is not None and len(body) >= _COMPRESS_FROM:
                body = gzip(body)
            else:
                del headers["content-encoding"]
        target = path + ("?" + "&".join(f"{name}={value}" for name, value in params.items()) if params else "")
        answer = self._perform(method, target, headers | self._sign_in, body)
        status, found = answer.meta.status, answer.body
        if isinstance(found, bytes):
            found = self._decoded(found, params)
        if status == 401 or (status == 403 and _refuses_user(found)):
            raise SignInRefused(f"{self._connection} answered {status} to {method} {path}: {reason(found)}")
        return status, found

    def _decoded(self, answer: bytes, params: Mapping[str, str] | None) -> Any:
        # the items of a bulk without errors say nothing, to decode them would cost as much as compressing the request
        if params is not None and "filter_path" in params and answer.startswith(b'{"errors":false,'):
            return {"errors": False}
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise Unavailable(f"{self._connection}: the answer is no JSON: {error}") from error

    def _perform(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Any:
        for attempts_left in reversed(range(len(self._connection.urls))):
            try:
                # said here, for the transport does not know the client's own settings: it would try three times more, so
                # that a document it wrote itself looked like another's, and wait for 10 s, less than a bulk may take
                return self._client.transport.perform_request(
                    method,
                    target,
                    headers=headers,
                    body=body,
                    max_retries=0,
                    retry_on_timeout=False,
                    request_timeout=self._timeout,
                )
            except TlsError as error:
                hint = "is [elasticsearch] ca_file the right authority, and url the name in the node's certificate?"
                raise Unavailable(f"{self._connection}: no TLS: {error.message}; {hint}") from error
            except (TransportConnectionError, ConnectionTimeout) as error:
                # a node that did not even take the connection has done nothing with the request: another one may
                never_sent = isinstance(error.__cause__, (NewConnectionError, ConnectTimeoutError))
                if not (attempts_left and never_sent):
                    raise Unavailable(f"{self._connection}: {_plain(error.message)}") from error
            except TransportError as error:
                raise Unavailable(f"{self._connection}: {type(error).__name__}: {error}") from error
        raise AssertionError("there is at least one node")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _plain(message: str) -> str:
    """What urllib3 says of a connection, without its own names."""
    return re.sub(
        r"^HTTPS?Connection\(.*?\): (?:Failed to establish a new connection: )?(?:\[Errno -?\d+\] )?", "", message
    )


def _refuses_user(answer: Any) -> bool:
    """Whether a 403 is about the user; Elasticsearch says it of blocked indices and full disks, too."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return not isinstance(error, dict) or error.get("type") == "security_exception"


def reason(answer: Any) -> str:
    """What an answer of Elasticsearch says is wrong, in its own words."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        return str(error.get("reason") or error.get("type") or error)
    return str(error if error is not None else answer)


def gzip(body: bytes) -> bytes:
    """``body`` in gzip's format, by Intel's library: smaller than zlib's level 1, for a fifth to an eighth of its work."""
    return isal_zlib.compress(body, 1, wbits=31)


def action(verb: str, index: str, identifier: str | None = None, **members: Any) -> bytes:
    """The action line of a bulk item, with its newline."""
    target: dict[str, Any] = {"_index": index, **members}
    if identifier is not None:
        target["_id"] = identifier
    return orjson.dumps({verb: target}) + b"\n"

"""The one way to Elasticsearch: raw bytes through the official client's transport (nodes, TLS, sign-in are its own).

Only what a 8.19 or 9.x cluster and the small local distribution both have is used.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, NdjsonSerializer, TransportError
from elasticsearch import Elasticsearch
from elasticsearch.serializer import OrjsonSerializer

_NDJSON = {"accept": "application/json", "content-type": "application/x-ndjson", "content-encoding": "gzip"}
_JSON = {"accept": "application/json", "content-type": "application/json"}
_COMPRESS_FROM = 1024


class Unavailable(Exception):
    """Elasticsearch gave no answer: it is away, or did not answer in time. What it did with the request is unknown."""


class SignInRefused(Exception):
    """Elasticsearch refuses our user (401, 403): trying again would not help, a person has to mend it."""


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


class ElasticClient:
    """:class:`Elastic` on a real cluster. ``timeout`` in seconds for one request."""

    def __init__(self, url: str, timeout: float = 60.0, connections: int = 4) -> None:
        self._timeout = timeout
        self._client = Elasticsearch(
            url,
            connections_per_node=connections,
            serializers={"application/json": OrjsonSerializer(), "application/x-ndjson": _Bytes()},
        )

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Any]:
        """See :class:`Elastic`."""
        headers = dict(_JSON)
        if path.endswith("_bulk"):
            headers = dict(_NDJSON)
            if body is not None and len(body) >= _COMPRESS_FROM:
                body = gzip1(body)
            else:
                del headers["content-encoding"]
        target = path + ("?" + "&".join(f"{name}={value}" for name, value in params.items()) if params else "")
        try:
            # said here, for the transport does not know the client's own settings: it would try three times more, so
            # that a document it wrote itself looked like another's, and wait for 10 s, less than a bulk may take
            answer = self._client.transport.perform_request(
                method,
                target,
                headers=headers,
                body=body,
                max_retries=0,
                retry_on_timeout=False,
                request_timeout=self._timeout,
            )
        except (TransportConnectionError, ConnectionTimeout) as error:
            raise Unavailable(str(error)) from error
        except TransportError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        status = answer.meta.status
        if status in (401, 403):
            raise SignInRefused(f"Elasticsearch answered {status} to {method} {path}: {answer.body!r}")
        return status, answer.body

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def gzip1(body: bytes) -> bytes:
    """gzip at level 1: five times less work than the client's own level 9, for a fifth more bytes."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    return compressor.compress(body) + compressor.flush()


def action(verb: str, index: str, identifier: str | None = None, **members: Any) -> bytes:
    """The action line of a bulk item, with its newline."""
    target: dict[str, Any] = {"_index": index, **members}
    if identifier is not None:
        target["_id"] = identifier
    return orjson.dumps({verb: target}) + b"\n"

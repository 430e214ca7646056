"""The one way to Elasticsearch: searches with a short patience, and one error for all that can be wrong with it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from elasticsearch import Elasticsearch
from elasticsearch.exceptions import ApiError, TransportError
from flask import current_app

from ezadmin_wire import WireError
from ezadmin_wire.elastic import ElasticConnection

TIMEOUT_SECONDS = 5.0


class ElasticUnavailable(Exception):
    """Elasticsearch does not answer, or not what was asked for; the text says what it said."""


class Elastic:
    """A client, made at its first use (so after a server has forked). ``connection`` None: none is set up."""

    def __init__(self, connection: ElasticConnection | None, timeout: float = TIMEOUT_SECONDS) -> None:
        self._connection = connection
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: Elasticsearch | None = None
        self._patient: dict[float, Elasticsearch] = {}

    def search(self, pattern: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Search the indices of ``pattern``; none there is an empty result.

        Raises ElasticUnavailable, also if a shard failed: half an answer is a wrong one.
        """
        try:
            answer = self._connected().search(
                index=pattern,
                body=dict(body),
                ignore_unavailable=True,
                allow_no_indices=True,
                allow_partial_search_results=False,
            )
        except (ApiError, TransportError) as error:
            raise ElasticUnavailable(cause(error)) from error
        return dict(answer.body)

    def searches(
        self, pattern: str, bodies: Sequence[Mapping[str, Any]], only: str | None = None
    ) -> list[dict[str, Any]]:
        """Several searches in one request, the answers in their order; ``only``: the part of each that is wanted, and else
        not sent (an answer without it is empty). Raises ElasticUnavailable, as :meth:`search`."""
        head = {"index": pattern, "ignore_unavailable": True, "allow_partial_search_results": False}
        lines = [line for body in bodies for line in (head, dict(body))]
        try:
            parts = None if only is None else [f"responses.{part}" for part in (only, "status", "error")]
            answers = self._connected().msearch(searches=lines, filter_path=parts).body["responses"]
        except (ApiError, TransportError) as error:
            raise ElasticUnavailable(cause(error)) from error
        for answer in answers:
            if "error" in answer:
                raise ElasticUnavailable(f"{answer['status']}: {_cause(answer['error'])}")
        return list(answers)

    def client(self, timeout: float, opaque_id: str | None = None) -> Elasticsearch:
        """The client itself, with a patience (seconds) of its own, for what is more than one search; ``opaque_id``: under which
        its tasks run. It raises the client's own errors, of which :func:`cause` makes a text. Raises ElasticUnavailable."""
        if opaque_id is not None:
            return self._connected().options(request_timeout=timeout, max_retries=0, opaque_id=opaque_id)
        if timeout not in self._patient:  # making one costs as much as a small search
            self._patient[timeout] = self._connected().options(request_timeout=timeout, max_retries=0)
        return self._patient[timeout]

    def field_types(self, pattern: str) -> dict[str, dict[str, bool]]:
        """The fields of all indices of ``pattern``: by name their types, each with whether it can be searched.

        Raises ElasticUnavailable.
        """
        try:
            answer = self._connected().field_caps(
                index=pattern, fields="*", ignore_unavailable=True, allow_no_indices=True, filters="-metadata,-parent"
            )
        except (ApiError, TransportError) as error:
            raise ElasticUnavailable(cause(error)) from error
        return {
            name: {kind: bool(one["searchable"]) for kind, one in kinds.items()}
            for name, kinds in answer.body["fields"].items()
        }

    def health(self) -> dict[str, Any]:
        """The cluster's health (``info`` and ``ping`` are missing in small distributions). Raises ElasticUnavailable."""
        try:
            return dict(self._connected().cluster.health(timeout="2s").body)
        except (ApiError, TransportError) as error:
            raise ElasticUnavailable(cause(error)) from error

    def _connected(self) -> Elasticsearch:
        if self._connection is None:
            raise ElasticUnavailable("no [elasticsearch] url in the settings")
        with self._lock:
            if self._client is None:
                try:
                    options = self._connection.options()
                except WireError as error:
                    raise ElasticUnavailable(str(error)) from error
                self._client = Elasticsearch(
                    **options,
                    request_timeout=self._timeout,
                    max_retries=len(self._connection.urls) - 1,
                    retry_on_timeout=False,
                )
            return self._client

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()


def cause(error: ApiError | TransportError) -> str:
    """What Elasticsearch, or the way to it, says of an error."""
    if isinstance(error, ApiError):
        body = error.body if isinstance(error.body, dict) else {}
        return f"{error.status_code}: {_cause(body.get('error', error.message))}"
    return str(error.message)


def _cause(error: Any) -> str:
    """Elasticsearch wraps what went wrong; the innermost part says it."""
    if not isinstance(error, Mapping):
        return str(error)
    causes = error.get("root_cause") or [error]
    return str(causes[0].get("reason") or causes[0].get("type"))


def elastic() -> Elastic:
    """The application's Elasticsearch."""
    found: Elastic = current_app.extensions["ezadmin_elastic"]
    return found

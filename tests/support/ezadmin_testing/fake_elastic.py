"""An Elasticsearch of a few dictionaries, for what the real one cannot be made to do on demand: die between two items of
a bulk, carry out a request and not answer, refuse one item with 429. It keeps the real one's rules for create, index,
``if_seq_no`` and external versions (the integration tests show the same engine on the real one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ezadmin_pipeline.elastic import Unavailable


class Killed(BaseException):
    """The process under test was killed here."""


class FakeElastic:
    """``fault(kind)`` is asked before each request ("request"), each written item ("item") and each answer ("answer");
    it may raise Killed or Unavailable, or return "429" for an item."""

    def __init__(self, fault: Callable[[str], str | None] = lambda kind: None) -> None:
        self.docs: dict[tuple[str, str], dict[str, Any]] = {}
        self.fault = fault
        self.closed: set[str] = set()
        self.ignore_seq_no = False
        self._seq_no = 0

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Any]:
        self.fault("request")
        if path == "/_bulk":
            answer = self._bulk(body or b"")
        elif path == "/_mget":
            answer = {"docs": [self._get(doc["_index"], doc["_id"]) for doc in orjson.loads(body or b"")["docs"]]}
        else:
            _, index, _, identifier = path.split("/")
            found = self._get(index, identifier)
            self.fault("answer")
            return (200 if found.get("found") else 404), found
        self.fault("answer")
        return 200, answer

    def _get(self, index: str, identifier: str) -> dict[str, Any]:
        if index in self.closed:
            return {"_index": index, "_id": identifier, "error": {"type": "index_closed_exception", "reason": "closed"}}
        doc = self.docs.get((index, identifier))
        if doc is None:
            return {"_index": index, "_id": identifier, "found": False}
        return {"_index": index, "_id": identifier, "found": True, **doc}

    def _bulk(self, body: bytes) -> dict[str, Any]:
        lines = body.split(b"\n")
        assert lines[-1] == b"", "a bulk body ends with a newline"
        items = []
        for head, source in zip(lines[:-1:2], lines[1::2], strict=True):
            ((verb, target),) = orjson.loads(head).items()
            if self.fault("item") == "429":
                items.append(self._failed(verb, 429, "es_rejected_execution_exception", "busy"))
            else:
                items.append({verb: self._write(verb, target, orjson.loads(source))})
        return {"errors": any(next(iter(item.values()))["status"] >= 300 for item in items), "items": items}

    def _failed(self, verb: str, status: int, kind: str, reason: str) -> dict[str, Any]:
        return {verb: {"status": status, "error": {"type": kind, "reason": reason}}}

    def _write(self, verb: str, target: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
        index = target["_index"]
        identifier = target.get("_id") or "tsdb-" + str(
            [source.get(name) for name in ("host.id", "event.dataset", "@timestamp")]
        )
        if index in self.closed:
            return {"status": 400, "error": {"type": "index_closed_exception", "reason": "closed"}}
        number = source.get("number")
        if number is not None and not isinstance(number, int):
            reason = f"[1:1] failed to parse field [number] of type [long] in document with id '{identifier}'"
            return {"status": 400, "error": {"type": "document_parsing_exception", "reason": reason}}
        if source.get("poison"):
            return {"status": 400, "error": {"type": "illegal_argument_exception", "reason": "poison"}}
        old = self.docs.get((index, identifier))
        conflict = {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "conflict"}}
        if verb == "create" and old is not None:
            return conflict
        if "if_seq_no" in target and not self.ignore_seq_no and (old is None or old["_seq_no"] != target["if_seq_no"]):
            return conflict
        version = 1 if old is None else old["_version"] + 1
        if target.get("version_type") == "external_gte":
            version = target["version"]
            if old is not None and old["_version"] > version:
                return conflict
        self._seq_no += 1
        self.docs[index, identifier] = {
            "_source": source, "_seq_no": self._seq_no, "_primary_term": 1, "_version": version
        }  # fmt: skip
        return {"status": 201, "_seq_no": self._seq_no, "_primary_term": 1}


__all__ = ["FakeElastic", "Killed", "Unavailable"]

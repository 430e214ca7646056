"""Reading whole result sets."""

from __future__ import annotations

from typing import Any

import orjson

from ezadmin_pipeline.elastic import Elastic


def search_all(elastic: Elastic, pattern: str, query: dict[str, Any], source: bool | list[str]) -> list[dict[str, Any]]:
    """All hits of ``query`` in the indices that match, with what was written just before; none while it cannot tell."""
    status, opened = elastic.request("POST", f"/{pattern}/_refresh")
    if status == 200:
        status, opened = elastic.request("POST", f"/{pattern}/_pit", params={"keep_alive": "2m"})
    if status != 200:
        return []
    body: dict[str, Any] = {
        "size": 10_000,
        "query": query,
        "_source": source,
        "track_total_hits": False,
        "pit": {"id": opened["id"], "keep_alive": "2m"},
        "sort": [{"_shard_doc": "asc"}],
    }
    hits: list[dict[str, Any]] = []
    while True:
        status, answer = elastic.request("POST", "/_search", body=orjson.dumps(body))
        assert status == 200, answer
        found = answer["hits"]["hits"]
        if not found:
            break
        hits += found
        body["search_after"] = found[-1]["sort"]
    elastic.request("DELETE", "/_pit", body=orjson.dumps({"id": opened["id"]}))
    return hits

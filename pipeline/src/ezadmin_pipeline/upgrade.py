"""Indices that are there brought up to the templates: fields that came are added, and nothing is lost or overwritten.

Elasticsearch cannot change the type of a field of an index that is there. Such a change begins with the next index, and is told;
an index that was made ahead and is still empty is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from ezadmin_pipeline import families
from ezadmin_pipeline.elastic import Elastic, reason
from ezadmin_pipeline.families import ask
from ezadmin_pipeline.install import custom, templates
from ezadmin_wire.names import Names

_SHOWN = 5
_MISSING_IS_NONE = {"ignore_unavailable": "true", "allow_no_indices": "true"}


def upgrade(elastic: Elastic, names: Names, now: datetime | None = None) -> list[str]:
    """Bring all indices up to the templates as they stand in the files; returns a line for what was done or cannot be.

    Raises Unavailable, SignInRefused.
    """
    now = now or datetime.now(UTC)
    lines = []
    for name, body in templates(names):
        own = _users_fields(elastic, name)
        properties = body["template"]["mappings"]["properties"]
        wanted = {field: mapping for field, mapping in properties.items() if field not in own}
        refused: dict[str, list[str]] = {}
        for pattern in body["index_patterns"]:
            for index, found in ask(elastic, "GET", f"/{pattern}/_mapping", _MISSING_IS_NONE).items():
                known = flattened(found["mappings"].get("properties", {}))
                missing = {field: mapping for field, mapping in wanted.items() if field not in known}
                changed = {field: mapping for field, mapping in wanted.items() if known.get(field, mapping) != mapping}
                if missing:
                    lines.append(_add(elastic, index, missing))
                kept = [
                    problem
                    for field, mapping in changed.items()
                    if (problem := _change(elastic, index, field, mapping))
                ]
                if kept and _made_anew(elastic, index, names, now):
                    lines.append(f"{index} was made ahead and empty: made anew")
                    kept = []
                for problem in kept:
                    refused.setdefault(problem, []).append(index)
        for problem, indices in refused.items():
            shown = ", ".join(sorted(indices)[-_SHOWN:]) + (", …" if len(indices) > _SHOWN else "")
            lines.append(f"{problem}: begins with the next index; as it was in {len(indices)}: {shown}")
    return lines


def flattened(properties: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Field by dotted name, of a mapping as Elasticsearch tells it."""
    found: dict[str, Any] = {}
    for name, mapping in properties.items():
        inner = mapping.get("properties")
        if inner is not None:
            found |= flattened(inner, f"{before}{name}.")
        else:
            found[before + name] = mapping
    return found


def _users_fields(elastic: Elastic, name: str) -> set[str]:
    """The fields that the user's own component template says something of: they are his."""
    status, answer = elastic.request("GET", f"/_component_template/{custom(name)}")
    if status != 200:
        return set()
    template = answer["component_templates"][0]["component_template"]["template"]
    return set(flattened(template.get("mappings", {}).get("properties", {})))


def _add(elastic: Elastic, index: str, missing: Mapping[str, Any]) -> str:
    names = ", ".join(sorted(missing)[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
    problem = _put(elastic, index, missing)
    if problem:
        return f"{index}: {len(missing)} field(s) cannot be added ({names}): {problem}; they begin with the next index"
    return f"{index}: {len(missing)} field(s) added: {names}"


def _change(elastic: Elastic, index: str, field: str, mapping: Mapping[str, Any]) -> str | None:
    problem = _put(elastic, index, {field: mapping})
    return f"{field} as {mapping.get('type')}" if problem else None


def _put(elastic: Elastic, index: str, properties: Mapping[str, Any]) -> str | None:
    status, answer = elastic.request("PUT", f"/{index}/_mapping", body=orjson.dumps({"properties": properties}))
    return None if status == 200 else f"{status} {reason(answer)}"


def _made_anew(elastic: Elastic, index: str, names: Names, now: datetime) -> bool:
    """Whether an index of days to come, which is empty, was made anew."""
    known = families.parse(index, names)
    if known is None or known[1].start <= now + timedelta(hours=1):
        return False
    # written to by a host whose clock is ahead, perhaps just now: nothing may come between the look and the end
    ask(elastic, "PUT", f"/{index}/_block/write")
    ask(elastic, "POST", f"/{index}/_refresh")
    if ask(elastic, "GET", f"/{index}/_stats/docs")["_all"]["primaries"]["docs"]["count"]:
        ask(elastic, "PUT", f"/{index}/_settings", body=orjson.dumps({"index.blocks.write": None}))
        return False
    ask(elastic, "DELETE", f"/{index}")
    ask(elastic, "PUT", f"/{index}")
    return True

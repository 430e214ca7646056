#!/usr/bin/env python3
"""Makes what derives from the FIELDS tables of agent and pipeline: templates of metrics, field list, documentation.

python es/generate.py            writes es/templates/{metrics,rollup-metrics}.json, es/fields.json and docs/fields.md
python es/generate.py --check    says which of them are not what the tables say, and exits 1
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ezadmin_agent.fields import Field
from ezadmin_agent.registry import all_fields
from ezadmin_agent.registry import datasets as agent_datasets
from ezadmin_agent.registry import seconds as agent_seconds
from ezadmin_pipeline import fields as pipeline

ROOT = Path(__file__).resolve().parent.parent
PIPELINE_FIELDS: dict[str, dict[str, Any]] = {
    # what the pipeline puts before every line
    "host.id": {"type": "keyword", "time_series_dimension": True},
    "host.name": {"type": "keyword"},
    "labels": {"type": "flattened", "ignore_above": 1024},
    "event.ingested": {"type": "date"},
    "event.original_timestamp": {"type": "keyword", "ignore_above": 1024},
    "event.edited_by": {"type": "keyword", "ignore_above": 1024},
    "event.edited_at": {"type": "date"},
    "event.edited_letter": {"type": "keyword", "ignore_above": 1024},
    "unmapped": {"type": "flattened", "ignore_above": 1024},
}


def datasets() -> dict[str, Sequence[Field]]:
    """The fields of each dataset of metrics: the agent's, and the pipeline's own."""
    known = all_fields()
    # a worker is a process: its figures are not kept by the hour, as those of other processes are not
    own = [Field(name, kind_of, unit, kind, False, about) for name, kind_of, unit, kind, about in pipeline.FIELDS]
    return {**agent_datasets(), pipeline.DATASET: [*(known[name] for name in pipeline.COMMON), *own]}


def mapping(field: Field) -> dict[str, Any]:
    """A field's mapping. Figures are read through doc values alone: an index of their points would cost more than them."""
    if field.dimension:
        return {"type": field.type, "time_series_dimension": True}
    kind: dict[str, Any] = {"type": field.type}
    if field.kind in ("gauge", "counter"):
        kind["time_series_metric"] = field.kind
        kind["index"] = False
    elif field.type == "keyword":
        kind["ignore_above"] = 1024
    return kind


def metrics_template(fields: Mapping[str, Field]) -> dict[str, Any]:
    """The index template of metrics: time_series, so that Elasticsearch makes the ``_id`` of dimensions and time."""
    properties = dict(PIPELINE_FIELDS)
    for name, field in fields.items():
        properties[name] = {"type": "date"} if name == "@timestamp" else mapping(field)
    dimensions = sorted(name for name, body in properties.items() if body.get("time_series_dimension"))
    return {
        "index_patterns": ["ezadmin-metrics-*"],
        "priority": 200,
        "_meta": {"ezadmin": {"version": 1}},
        "template": {
            "settings": {
                "index.number_of_shards": 1,
                "index.auto_expand_replicas": "0-1",
                "index.refresh_interval": "1s",
                "index.mode": "time_series",
                "index.routing_path": dimensions,
                "index.mapping.source.mode": "stored",
                "index.mapping.ignore_malformed": False,
                "index.mapping.total_fields.limit": 1000,
                "index.mapping.dimension_fields.limit": 32,
            },
            "mappings": {
                "dynamic": False,
                "_source": {"excludes": ["*"]},
                "properties": properties,
            },
        },
    }


STATISTICS = {"min": "double", "max": "double", "sum": "double", "avg": "double", "count": "integer"}
"""What is kept of a figure by the hour, each as ``<field>.<statistic>``, and its type."""


def hourly_template(found: Mapping[str, Sequence[Field]]) -> dict[str, Any]:
    """The index template of metrics by the hour. ``_meta`` says what is summed up: items and figures of each dataset."""
    properties: dict[str, dict[str, Any]] = {
        "@timestamp": {"type": "date"},
        "rollup": {"type": "keyword"},
        "documents": {"type": "integer"},
        "host.id": {"type": "keyword"},
        "host.name": {"type": "keyword"},
        "labels": {"type": "flattened", "ignore_above": 1024},
        "event.dataset": {"type": "keyword"},
    }
    kept: dict[str, dict[str, list[str]]] = {}
    for dataset, fields in found.items():
        figures = [field.name for field in fields if field.rollup]
        if not figures:
            continue
        items = sorted(field.name for field in fields if field.dimension and field.name not in properties)
        kept[dataset] = {"items": items, "figures": figures}
        properties |= {name: {"type": "keyword", "ignore_above": 1024} for name in items}
        for name in figures:
            properties |= {f"{name}.{one}": {"type": kind, "index": False} for one, kind in STATISTICS.items()}
    return {
        "index_patterns": ["ezadmin-rollup-metrics-*"],
        "priority": 200,
        "_meta": {"ezadmin": {"version": 1, "datasets": kept}},
        "template": {
            "settings": {
                "index.number_of_shards": 1,
                "index.auto_expand_replicas": "0-1",
                "index.refresh_interval": "1s",
                "index.codec": "best_compression",
                "index.sort.field": ["host.id", "event.dataset", "@timestamp"],
                "index.sort.order": ["asc", "asc", "asc"],
                "index.mapping.total_fields.limit": 2000,
            },
            "mappings": {
                "dynamic": False,
                "_source": {"excludes": ["*"]},
                "properties": properties,
            },
        },
    }


def field_list(found: Mapping[str, Sequence[Field]]) -> list[dict[str, Any]]:
    """Every field with its dataset and the least time between two of its values, for the web app."""
    seconds = agent_seconds()
    return [
        {"dataset": dataset, **asdict(field), "seconds": seconds.get(field.name, 0)}
        for dataset, fields in found.items()
        for field in fields
    ]


def documentation(found: Mapping[str, Sequence[Field]]) -> str:
    """``docs/fields.md``."""
    out = [
        "# Fields of metrics",
        "",
        "Made by `python es/generate.py` from the FIELDS tables of the agent's collectors and the pipeline; do not edit.",
        "Every document also has `host.id`, `host.name`, `labels.*` and `event.ingested`, which the pipeline adds.",
    ]
    for dataset, fields in found.items():
        out += ["", f"## {dataset}", "", "| field | type | unit | kind | description |", "|---|---|---|---|---|"]
        for field in fields:
            kind = "dimension" if field.dimension else field.kind
            out.append(f"| `{field.name}` | {field.type} | {field.unit} | {kind} | {field.description} |")
    return "\n".join(out) + "\n"


def outputs() -> dict[Path, str]:
    """What should stand in each file."""
    found = datasets()
    fields = {field.name: field for group in found.values() for field in group}

    def dump(value: object) -> str:
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

    return {
        ROOT / "es/templates/metrics.json": dump(metrics_template(fields)),
        ROOT / "es/templates/rollup-metrics.json": dump(hourly_template(found)),
        ROOT / "es/fields.json": dump(field_list(found)),
        ROOT / "docs/fields.md": documentation(found),
    }


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [path for path, text in outputs().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is not what the FIELDS tables say; run: python es/generate.py")
        else:
            path.write_text(outputs()[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

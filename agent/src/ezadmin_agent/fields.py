"""How a collector declares its fields: one table from which templates, units in Grafana and the field list are made."""

from __future__ import annotations

from dataclasses import dataclass

TYPES = ("keyword", "long", "integer", "float", "double", "date", "ip", "boolean", "text", "flattened")
UNITS = ("", "byte", "byte/s", "ratio", "ms", "s", "1/s", "mbit/s", "mhz")
KINDS = ("gauge", "counter", "keyword", "date", "boolean")


@dataclass(frozen=True)
class Field:
    """A field of a metric document.

    ``type``: Elasticsearch's (one of :data:`TYPES`). ``unit``: one of :data:`UNITS`, empty for a plain number or word.
    ``kind``: a ``counter`` grows since boot (its rate is a gauge of its own beside it). ``rollup``: worth keeping in
    long-term averages. ``dimension``: part of the document's identity.
    """

    name: str
    type: str
    unit: str
    kind: str
    rollup: bool
    description: str
    dimension: bool = False

    def __post_init__(self) -> None:
        if self.type not in TYPES or self.unit not in UNITS or self.kind not in KINDS or not self.description:
            raise ValueError(f"field {self.name}: unknown type, unit or kind, or no description")


def gauge(name: str, type: str, unit: str, description: str) -> Field:
    """A value that goes up and down."""
    return Field(name, type, unit, "gauge", True, description)


def counter(name: str, unit: str, description: str) -> Field:
    """A whole number that grows from boot on."""
    return Field(name, "long", unit, "counter", False, description)


def keyword(name: str, description: str, *, dimension: bool = False) -> Field:
    """A word."""
    return Field(name, "keyword", "", "keyword", False, description, dimension)


def boolean(name: str, description: str) -> Field:
    """True or false."""
    return Field(name, "boolean", "", "boolean", False, description)


COMMON: tuple[Field, ...] = (
    Field("@timestamp", "date", "", "date", False, "Tick of the host: all documents of a tick share it"),
    keyword("event.dataset", "Which kind of document it is", dimension=True),
    Field("event.created", "date", "", "date", False, "When the agent read the figures"),
)
"""Fields that every metric document has beside those of its collector."""

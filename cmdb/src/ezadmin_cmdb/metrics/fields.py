"""What the fields of metrics mean: the agent's own tables, as ``es/fields.json`` holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ezadmin_wire.limits import MIN_NO_DATA

COMMON = ("@timestamp", "event.dataset", "event.created")
HOST_DATASET = "system.host"


@dataclass(frozen=True)
class Field:
    """A field of a dataset. ``kind``: gauge, counter, date, keyword or boolean; ``unit`` as the agent names it.

    ``seconds``: the least time between two of its values, 0 for one of each tick.
    """

    dataset: str
    name: str
    unit: str
    kind: str
    description: str
    dimension: bool
    seconds: int = 0

    @property
    def least_no_data(self) -> int:
        """After so many seconds without a value something is wrong: two of them were missed."""
        return max(MIN_NO_DATA, self.seconds * 5 // 2)

    @property
    def short(self) -> str:
        """The name without the part that all fields of its group share."""
        return self.name.removeprefix(self.dataset + ".").removeprefix("system.")


@cache
def datasets() -> dict[str, dict[str, Field]]:
    """Fields by name, by dataset, in the agent's order; without those that all datasets share."""
    table = json.loads(Path(__file__).with_name("fields.json").read_text())
    found: dict[str, dict[str, Field]] = {}
    for row in table:
        if row["name"] not in COMMON:
            field = Field(
                *(row[name] for name in ("dataset", "name", "unit", "kind", "description", "dimension", "seconds"))
            )
            found.setdefault(field.dataset, {})[field.name] = field
    return found

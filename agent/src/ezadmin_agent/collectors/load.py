"""Load averages."""

from __future__ import annotations

from ezadmin_agent.collectors import Collector, Sample
from ezadmin_agent.fields import gauge
from ezadmin_agent.reader import Reader

MINUTES = (1, 5, 15)
FIELDS = (
    *(gauge(f"system.load.{m}", "float", "", f"Threads that run or wait, mean of {m} min") for m in MINUTES),
    *(gauge(f"system.load.norm.{m}", "float", "", f"Load of {m} min divided by the cores") for m in MINUTES),
)


def collect(reader: Reader, _previous: None) -> Sample:
    """One fragment of the host document."""
    cores = reader.cpu_count()
    document = {}
    for minutes, load in zip(MINUTES, reader.load()):
        document[f"system.load.{minutes}"] = round(load, 2)
        document[f"system.load.norm.{minutes}"] = round(load / cores, 4)
    return Sample([document])


HOST = Collector("load", "system.host", FIELDS, collect, slow=[f"system.load.norm.{m}" for m in MINUTES])

"""Network traffic: of the host in total, and per NIC with its link.

The total counts hardware NICs (or, where there is none, as in a container, all but loopback): what passes a bridge,
bond or vlan passes the hardware too. veth pairs, and NICs that are down and were never used, get no document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

from ezadmin_agent.collectors import Collector, Document, Sample, put, rate, significant
from ezadmin_agent.fields import Field, boolean, counter, gauge, keyword
from ezadmin_agent.reader import Reader

COUNTERS = (
    ("in", "bytes", "bytes_recv"),
    ("in", "packets", "packets_recv"),
    ("in", "errors", "errin"),
    ("in", "dropped", "dropin"),
    ("out", "bytes", "bytes_sent"),
    ("out", "packets", "packets_sent"),
    ("out", "errors", "errout"),
    ("out", "dropped", "dropout"),
)
WORDS = {"in": "received", "out": "sent"}
DUPLEX = {1: "half", 2: "full"}  # psutil's NicDuplex: HALF is 1, FULL is 2, unknown 0


def _fields(prefix: str, whose: str, counters: Sequence[tuple[str, str, str]]) -> list[Field]:
    fields = []
    for way, what, _ in counters:
        unit = "byte" if what == "bytes" else ""
        label = {
            "bytes": f"Bytes {WORDS[way]}",
            "packets": f"Packets {WORDS[way]}",
            "errors": f"Packets not {WORDS[way]} because of an error",
            "dropped": f"Packets dropped instead of being {WORDS[way]}",
        }[what]
        fields.append(counter(f"{prefix}.{way}.{what}", unit, f"{label}, {whose}, since boot"))
        fields.append(
            gauge(f"{prefix}.{way}.{what}_per_sec", "float", f"{unit or '1'}/s", f"{label}, {whose}, per second")
        )
    return fields


TRAFFIC = tuple(one for one in COUNTERS if one[1] in ("bytes", "packets"))
TROUBLE = tuple(one for one in COUNTERS if one[1] in ("errors", "dropped"))
"""Nearly always nought: once a minute, with the rate over the minute."""
FIELDS = tuple(_fields("system.network.total", "all hardware NICs", TRAFFIC))
TROUBLE_FIELDS = tuple(_fields("system.network.total", "all hardware NICs", TROUBLE))
NIC_FIELDS = (
    keyword("system.network.name", "The network interface", dimension=True),
    *_fields("system.network", "the NIC", TRAFFIC),
    boolean("system.network.link.up", "Whether the NIC is up and has a link"),
    keyword("system.network.link.duplex", "full or half; absent when unknown"),
    gauge("system.network.link.speed_mbps", "long", "mbit/s", "Negotiated speed; absent when unknown"),
    gauge("system.network.link.mtu", "integer", "byte", "Largest packet"),
    gauge("system.network.utilization", "float", "ratio", "Busier direction in bit/s divided by the link's speed"),
)
NIC_TROUBLE_FIELDS = tuple(_fields("system.network", "the NIC", TROUBLE))


class _State(NamedTuple):
    at: float
    nics: Mapping[str, Any]


def _counted(reader: Reader) -> _State:
    every = reader.network_io()
    hardware = reader.hardware_nics() & every.keys()
    counted = hardware or {name for name in every if name != "lo" and not name.startswith("veth")}
    return _State(reader.monotonic(), {name: every[name] for name in counted})


def collect(reader: Reader, previous: Optional[_State]) -> Sample:
    """One fragment of the host document."""
    state = _counted(reader)
    return Sample([_total(state, previous, TRAFFIC)], state)


def collect_trouble(reader: Reader, previous: Optional[_State]) -> Sample:
    """One fragment of the host document."""
    state = _counted(reader)
    return Sample([_total(state, previous, TROUBLE)], state)


def _total(state: _State, previous: Optional[_State], counters: Sequence[tuple[str, str, str]]) -> Document:
    document: Document = {}
    for way, what, attribute in counters:
        document[f"system.network.total.{way}.{what}"] = sum(getattr(io, attribute) for io in state.nics.values())
        if previous is not None:
            rates = [
                rate(getattr(io, attribute), _before(previous, name, attribute), state.at - previous.at)
                for name, io in state.nics.items()
            ]
            document[f"system.network.total.{way}.{what}_per_sec"] = significant(sum(r for r in rates if r is not None))
    return document


def collect_nics(reader: Reader, previous: Optional[_State]) -> Sample:
    """One document per NIC."""
    state = _State(reader.monotonic(), reader.network_io())
    links = reader.nics()
    documents = _per_nic(state, previous, links, TRAFFIC)
    for document in documents:
        link = links.get(document["system.network.name"])
        if link is not None:
            document["system.network.link.up"] = bool(link.isup)
            put(document, "system.network.link.duplex", DUPLEX.get(int(link.duplex)))
            document["system.network.link.mtu"] = link.mtu
            if 0 < link.speed < 1 << 31:  # 0 and -1 (as an unsigned number) mean unknown
                document["system.network.link.speed_mbps"] = link.speed
                busier = max(document.get(f"system.network.{way}.bytes_per_sec", -1.0) for way in WORDS)
                if busier >= 0:
                    document["system.network.utilization"] = round(busier * 8 / (link.speed * 1e6), 4)
    return Sample(documents, state)


def collect_nic_trouble(reader: Reader, previous: Optional[_State]) -> Sample:
    """A fragment of the document of each NIC."""
    state = _State(reader.monotonic(), reader.network_io())
    return Sample(_per_nic(state, previous, reader.nics(), TROUBLE), state)


def _per_nic(
    state: _State, previous: Optional[_State], links: Mapping[str, Any], counters: Sequence[tuple[str, str, str]]
) -> list[Document]:
    documents = []
    seconds = state.at - previous.at if previous is not None else 0.0
    for name, io in state.nics.items():
        link = links.get(name)
        unused = not io.packets_recv and not io.packets_sent and not (link is not None and link.isup)
        if name.startswith("veth") or unused:
            continue
        document: Document = {"system.network.name": name}
        for way, what, attribute in counters:
            now = getattr(io, attribute)
            document[f"system.network.{way}.{what}"] = now
            put(
                document, f"system.network.{way}.{what}_per_sec", rate(now, _before(previous, name, attribute), seconds)
            )
        documents.append(document)
    return documents


def _before(previous: Optional[_State], name: str, attribute: str) -> Optional[float]:
    if previous is None or name not in previous.nics:
        return None
    return getattr(previous.nics[name], attribute, None)


HOST = Collector("network", "system.host", FIELDS, collect)
TROUBLE_HOST = Collector("networktrouble", "system.host", TROUBLE_FIELDS, collect_trouble, seconds=60)
NICS = Collector(
    "nic",
    "system.network",
    NIC_FIELDS,
    collect_nics,
    slow=("system.network.link.duplex", "system.network.link.speed_mbps", "system.network.link.mtu"),
)
TROUBLE_NICS = Collector("nictrouble", "system.network", NIC_TROUBLE_FIELDS, collect_nic_trouble, seconds=60)

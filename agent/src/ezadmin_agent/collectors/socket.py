"""Sockets: how many each tick, from sockstat; by state once a minute, from /proc/net/tcp{,6}.

For the latter the kernel walks its whole table of connections, whose size follows the memory: 8 ms with 24 GiB, however
few there are. (psutil also walks the files of every process.)
"""

from __future__ import annotations

from ezadmin_agent.collectors import Collector, Document, Sample, put
from ezadmin_agent.fields import gauge
from ezadmin_agent.reader import Reader

STATES = {  # enum of include/net/tcp_states.h
    "01": "established",
    "02": "syn_sent",
    "03": "syn_recv",
    "04": "fin_wait1",
    "05": "fin_wait2",
    "06": "time_wait",
    "07": "close",
    "08": "close_wait",
    "09": "last_ack",
    "0A": "listening",
    "0B": "closing",
    "0C": "syn_recv",  # a request socket before its handshake is over
}
WORDS = tuple(dict.fromkeys(STATES.values()))
TCP = "system.socket.summary.tcp"
UDP = "system.socket.summary.udp"
FIELDS = (
    gauge("system.socket.summary.all.count", "integer", "", "TCP and UDP sockets"),
    gauge(f"{TCP}.all.count", "integer", "", "TCP sockets, of IPv4 and IPv6"),
    gauge(f"{TCP}.all.time_wait", "integer", "", "TCP sockets that wait for late packets after their end"),
    gauge(f"{TCP}.all.orphan", "integer", "", "TCP sockets that no process holds any more"),
    gauge(f"{TCP}.memory", "long", "byte", "Memory of TCP sockets"),
    gauge(f"{UDP}.all.count", "integer", "", "UDP sockets, of IPv4 and IPv6"),
    gauge(f"{UDP}.memory", "long", "byte", "Memory of UDP sockets"),
)
STATE_FIELDS = tuple(
    gauge(f"{TCP}.all.{word}", "integer", "", f"TCP sockets in the state {word}")
    for word in WORDS
    if word != "time_wait"
)


def collect(reader: Reader, _previous: None) -> Sample:
    """One fragment of the host document."""
    stat = reader.sockstat()
    waiting = stat.get("TCP.tw", 0)
    tcp = stat.get("TCP.inuse", 0) + stat.get("TCP6.inuse", 0) + waiting
    udp = stat.get("UDP.inuse", 0) + stat.get("UDP6.inuse", 0)
    document: Document = {
        "system.socket.summary.all.count": tcp + udp,
        f"{TCP}.all.count": tcp,
        f"{TCP}.all.time_wait": waiting,
    }
    put(document, f"{TCP}.all.orphan", stat.get("TCP.orphan"))
    document[f"{UDP}.all.count"] = udp
    for name, field in (("TCP.mem", f"{TCP}.memory"), ("UDP.mem", f"{UDP}.memory")):
        if name in stat:
            document[field] = stat[name] * reader.page_size
    return Sample([document])


def collect_states(reader: Reader, _previous: None) -> Sample:
    """One fragment of the host document."""
    counts = dict.fromkeys(WORDS, 0)
    for code, count in reader.tcp_states().items():
        if code in STATES:
            counts[STATES[code]] += count
    return Sample([{f"{TCP}.all.{word}": count for word, count in counts.items() if word != "time_wait"}])


SLOW = (f"{TCP}.all.orphan", f"{TCP}.memory", f"{UDP}.memory")
HOST = Collector("socket", "system.host", FIELDS, collect, slow=SLOW)
BY_STATE = Collector("socketstate", "system.host", STATE_FIELDS, collect_states, seconds=60)

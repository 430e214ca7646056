"""A part's own figures, warnings and errors, as a signed producer with a host.id of its own.

For parts that see Kafka anyway (pipeline, cmdb). Nothing here may hold the work up or be lost without a trace: lines wait
in a queue of a fixed length, one thread sends them, and what does not fit is dropped and counted.

**Numbers.** The streams (``own-logs``, ``own-metrics``, ``own-state``) live in memory: their epoch is new with every process,
their numbers begin at 0. A batch is tried again under its numbers until Kafka has it; what was not sent when the process
ended is lost.

**No loops.** An event about this producer, or about what came from it (a field ``host.id`` that is its own), never becomes
an event; of the same warning, one in ten seconds does, and says how many it stands for. Nothing is sent before ``ready``
says that the key is known, for each batch would become a dead letter.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ezadmin_wire import batch
from ezadmin_wire.errors import WireError
from ezadmin_wire.ids import is_host_id, new_epoch
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.state import AgentStatus, encode
from ezadmin_wire.times import format_epoch_ms, now

_log = logging.getLogger(__name__)

MEMORY = "own-"
"""Streams that live in memory only have names that begin so."""
MAX_WAITING = 2_000
MAX_TEXT = 8_000
STATUS_SECONDS = 60.0
SAME_SECONDS = 10.0
"""Of events of the same form, one in so many seconds is written."""
_MAX_FORMS = 500
KEY_PREFIX = b"ezadmin/own/1"
"""What stands before a public key where a host.id is made of it."""
_BATCH_LINES = 200
_PRODUCER: Mapping[str, Any] = {
    "acks": "all",
    "compression_type": "gzip",
    "allow_auto_create_topics": False,
    "bootstrap_timeout_ms": 4_000,
    "max_block_ms": 3_000,
    "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 15_000,
}


def host_id_of(public: bytes) -> str:
    """The host.id of a part of ezadmin with this public key, unless its settings name another: random as the key is."""
    return str(uuid.UUID(bytes=sha256(KEY_PREFIX + public).digest()[:16], version=4))


@dataclass(frozen=True)
class Identity:
    """Who a part is: its key, and a host.id that is random as the key is, unless another one is given."""

    host_id: str
    key: SigningKey

    @classmethod
    def load(cls, key_file: Path, host_id: Optional[str] = None) -> Identity:
        """Read the key file. Raises WireError (``bad_key``, ``bad_host``)."""
        key = SigningKey.load(key_file)
        if host_id is not None and not is_host_id(host_id):
            raise WireError("bad_host", f"host_id {host_id!r}: write a UUID in lower case")
        return cls(host_id or host_id_of(key.public), key)

    def public(self, name: str) -> dict[str, str]:
        """What the cmdb must be told; ``name`` is the host name."""
        public = self.key.public.hex()
        return {"host.id": self.host_id, "host.name": name, "kid": self.key.kid, "public_key": public}


class Line(NamedTuple):
    """One line that waits: ``topic`` is ``logs``, ``metrics`` or ``state``."""

    topic: str
    dataset: str
    time: str
    data: bytes


class OwnProducer(threading.Thread):
    """Sends a part's own lines. ``connect`` makes a KafkaProducer of options; ``ready``: whether our key is known.

    ``dropped`` and ``sent`` count lines.
    """

    def __init__(
        self,
        identity: Identity,
        names: Names,
        version: str,
        connect: Callable[..., Any],
        ready: Callable[[], bool],
    ) -> None:
        super().__init__(name="own", daemon=True)
        self.identity = identity
        self.dropped = 0
        self.sent = 0
        self._names = names
        self._version = version
        self._connect = connect
        self._ready = ready
        self._epoch = new_epoch()
        self._seq = {"logs": 0, "metrics": 0, "state": 0}
        self._waiting: deque[Line] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._producer: Any = None
        self._since = now()
        self._next_status = 0.0
        self._cpu = (time.monotonic(), time.process_time())

    def put(self, line: Line) -> None:
        """Take a line, or drop it; never waits."""
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self.dropped += 1
                return
            self._waiting.append(line)
        self._wake.set()

    def stop(self, seconds: float = 2.0) -> None:
        """Send what waits, for at most ``seconds``, and end."""
        self._stopping = True
        self._wake.set()
        self.join(seconds)

    def run(self) -> None:
        """The thread."""
        pause = 1.0
        told = False
        while True:
            self._wake.wait(1.0)
            self._wake.clear()
            if not self._ready():
                if not told:
                    _log.warning(
                        "own figures and errors are not sent: no active host %s with key %s is known; make it known with "
                        "the command `identity` of this part and `ezadmin-cmdb host add`",
                        *(self.identity.host_id, self.identity.key.kid),
                    )
                told = True
            else:
                self._add_status()
                while (lines := self._next()) and self._ready():
                    if self._send(lines):
                        pause = 1.0
                        continue
                    if self._stopping:
                        break
                    time.sleep(pause)
                    pause = min(30.0, 2 * pause)
            if self._stopping:
                break
        if self._producer is not None:
            self._producer.close(timeout=1)

    def _add_status(self) -> None:
        clock = time.monotonic()
        if clock < self._next_status:
            return
        self._next_status = clock + STATUS_SECONDS
        before, self._cpu = self._cpu, (clock, time.process_time())
        seconds = self._cpu[0] - before[0]
        status = AgentStatus(
            collected=now(),
            version=self._version,
            started=self._since,
            lines_sent=self.sent,
            lines_dropped=self.dropped,
            rss_bytes=rss_bytes(),
            cpu_pct=round((self._cpu[1] - before[1]) / seconds, 5) if seconds >= 1 else None,
        )
        self.put(Line("state", "agent", status.collected, encode(status)))

    def _next(self) -> list[Line]:
        """The oldest lines that may leave together; they stay where they are."""
        with self._lock:
            if not self._waiting:
                return []
            first = self._waiting[0]
            lines: list[Line] = []
            size = 0
            for line in self._waiting:
                same = (line.topic, line.dataset) == (first.topic, first.dataset)
                if not same or len(lines) >= _BATCH_LINES or size + len(line.data) > batch.MAX_BYTES:
                    break
                lines.append(line)
                size += len(line.data) + 1
            return lines

    def _send(self, lines: list[Line]) -> bool:
        """Send lines as one batch; whether Kafka has it. Tried again, it is the same batch."""
        from kafka.errors import KafkaError  # who has own figures has the client; the rest of this package needs none

        kind = lines[0].topic
        topic = str(getattr(self._names, kind))
        headers, value = batch.encode(
            self.identity.key,
            host=self.identity.host_id,
            topic=topic,
            stream=f"{MEMORY}{kind}",
            epoch=self._epoch,
            seq=self._seq[kind],
            lines=[line.data for line in lines],
            dataset=lines[0].dataset,
            tmin=min(line.time for line in lines),
            tmax=max(line.time for line in lines),
            sent=now(),
            count=kind == "logs",
        )
        try:
            if self._producer is None:
                self._producer = self._connect(**_PRODUCER)
            key = self.identity.host_id.encode()
            self._producer.send(topic, key=key, value=value, headers=headers).get(timeout=20)
        except (KafkaError, OSError, WireError) as error:
            _log.info("own figures and errors wait, Kafka does not take them: %s", error)
            if self._producer is not None:
                self._producer.close(timeout=0)
                self._producer = None
            return False
        self._seq[kind] += len(lines)
        self.sent += len(lines)
        with self._lock:
            for _ in lines:
                self._waiting.popleft()
        return True

    def metrics(self, dataset: str, members: Mapping[str, Any]) -> None:
        """Take a document of figures of this moment."""
        moment = now()
        document = {"@timestamp": moment, "event.dataset": dataset, "event.created": moment, **members}
        self.put(Line("metrics", dataset, moment, _json(document)))


class EventHandler(logging.Handler):
    """Makes events of a part's warnings and errors: dataset ``dataset``, of loggers whose names begin with ``prefixes``."""

    def __init__(self, producer: OwnProducer, dataset: str, program: str, prefixes: tuple[str, ...]) -> None:
        super().__init__(logging.WARNING)
        self._producer = producer
        self._dataset = dataset
        self._program = program
        self._prefixes = prefixes
        self._forms: dict[tuple[str, str], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; what goes wrong in here costs the event, not the work."""
        try:
            if record.name == __name__ or not record.name.startswith(self._prefixes):
                return
            extra = dict(getattr(record, "fields", {}))
            if extra.get("host.id") == self._producer.identity.host_id:
                return
            count = self._due(record)
            if count:
                self._producer.put(self._line(record, extra, count))
        except Exception:  # noqa: BLE001 - whatever it is, the work goes on
            self.handleError(record)

    def _due(self, record: logging.LogRecord) -> int:
        """How many records of its form this one stands for; 0: it is not written itself."""
        form = (record.name, str(record.msg))
        since, left_out = self._forms.get(form, (float("-inf"), 0))
        if record.created - since < SAME_SECONDS:
            self._forms[form] = (since, left_out + 1)
            return 0
        if len(self._forms) >= _MAX_FORMS:
            self._forms.clear()
        self._forms[form] = (record.created, 0)
        return left_out + 1

    def _line(self, record: logging.LogRecord, extra: dict[str, Any], count: int) -> Line:
        moment = format_epoch_ms(int(record.created * 1000))
        document: dict[str, Any] = {
            "@timestamp": moment,
            "event.dataset": self._dataset,
            "event.created": moment,
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "message": record.getMessage()[:MAX_TEXT],
            "process.name": self._program,
            "process.pid": record.process or os.getpid(),
        }
        if count > 1:
            document["event.count"] = count
        if "error.type" in extra:
            document["error.type"] = str(extra.pop("error.type"))
        if record.exc_info and record.exc_info[1] is not None:
            document["error.type"] = type(record.exc_info[1]).__name__
            document["error.stack_trace"] = logging.Formatter().formatException(record.exc_info)[-MAX_TEXT:]
        if extra:
            document["fields"] = {name: str(value)[:1000] for name, value in extra.items()}
        return Line("logs", self._dataset, moment, _json(document))


def entity_id() -> str:
    """``process.entity_id`` of this process: boot, pid and start, so never the same for another one."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot}-{os.getpid()}-{start}"


def rss_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _json(document: Mapping[str, Any]) -> bytes:
    # what UTF-8 does not have (halves of surrogate pairs) becomes "?"
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

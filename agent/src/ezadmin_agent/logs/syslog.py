"""A syslog socket: RFC 3164 and RFC 5424 over UDP or TCP (RFC 6587: octet counting, or one message a line).

There is no place to go back to: a message is in the spool within about a second of its arrival, or counted as lost,
save what a kill -9 finds between the two. Over TCP a full queue makes the sender wait; over UDP it does not, so what
finds no room, here or in the kernel's own buffer, is counted.
"""

from __future__ import annotations

import logging
import re
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Optional

from ezadmin_agent.logs.builder import Builder, Patterns
from ezadmin_agent.logs.source import CALM, MAX_LINE, Batch, Counts, Mode, empty
from ezadmin_wire.levels import SYSLOG_LEVELS
from ezadmin_wire.logs.levels import level_of
from ezadmin_wire.logs.parse import Parsed, Parser
from ezadmin_wire.logs.rfc5424 import parse_rfc5424
from ezadmin_wire.logs.rules import RuleConfig, Rules

log = logging.getLogger(__name__)

QUEUE_BYTES = 8 << 20
CONNECTIONS = 100
RETRY_SECONDS = 30.0
SO_RXQ_OVFL = 40


class SyslogSource:
    """Listens on ``listen`` (``udp://host:port`` or ``tcp://host:port``) from :meth:`resume` on."""

    waits = False
    rereads = False

    def __init__(
        self,
        listen: str,
        dataset: str,
        *,
        rules: Optional[Rules] = None,
        queue_bytes: int = QUEUE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = f"syslog:{listen}"
        self.dataset = dataset
        self.counts = Counts()
        self._rules = rules or Rules(RuleConfig())
        self._parser = Parser(True)
        self._patterns = Patterns()
        self._clock = clock
        self._receiver = _Receiver(listen, queue_bytes)
        self._given: list[tuple[bytes, str]] = []  # read, but perhaps not yet in the spool

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._receiver.address

    def resume(self, position: Any) -> Any:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self.counts = Counts.of((position or {}).get("counts"))
        self._receiver.give_back(self._given)
        self._given = []
        self._receiver.start()
        return {"counts": self.counts.position()}

    def read(self, mode: Mode = CALM) -> Batch:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self._given = []
        self._receiver.start()  # where it could not listen before
        now_ms = int(self._clock() * 1000)
        builder = Builder(
            self._rules,
            self._parser,
            self._patterns,
            self.counts,
            dataset=self.dataset,
            now_ms=now_ms,
            mode=mode,
        )
        lost = self._receiver.take_lost()
        if lost:
            self.counts.lost += lost
            log.warning("%s: %d messages are lost: they came faster than they could be taken", self.name, lost)
        while (item := self._receiver.get()) is not None:
            raw, peer = item
            if not builder.add_parsed(self._parsed(raw, peer, now_ms), len(raw), cut=len(raw) >= MAX_LINE):
                self._receiver.give_back([item])
                break
            self._given.append(item)
        if not (builder.changed or lost):
            return empty()
        return builder.batch({"counts": self.counts.position()}, builder.full)

    def use(self, rules: Rules) -> None:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self._rules = rules
        self._patterns.clear()

    def close(self) -> None:
        """Close the sockets."""
        self._receiver.stop()

    def _parsed(self, raw: bytes, peer: str, now_ms: int) -> Parsed:
        text = raw[:MAX_LINE].decode(self._rules.encoding, "replace").rstrip("\r\n\x00")
        parsed = parse_rfc5424(text, self._parser, now_ms) or self._parser.parse(text, now_ms)
        if parsed.severity is None and text.startswith("<"):  # a priority, and then neither time nor host
            number, closed, rest = text[1:].partition(">")
            if closed and number.isascii() and number.isdigit() and len(number) < 4 and int(number) < 192:
                facility, severity = divmod(int(number), 8)
                parsed = Parsed(None, SYSLOG_LEVELS[severity], rest, severity=severity, facility=facility)
        if parsed.level is None:
            parsed = parsed._replace(level=level_of(parsed.message))
        return parsed._replace(root={**(parsed.root or {}), "source.ip": peer}) if peer else parsed


class _Receiver:
    """The thread that takes messages off the sockets into a queue of at most ``queue_bytes``."""

    def __init__(self, listen: str, queue_bytes: int) -> None:
        scheme, _, rest = listen.partition("://")
        host, _, port = rest.rpartition(":")
        self._udp = scheme == "udp"
        self._target = (host.strip("[]"), int(port))
        self._listen = listen
        self._room = queue_bytes
        self._queue: deque[tuple[bytes, str]] = deque()
        self._size = 0
        self._lost = 0
        self._kernel_lost = 0
        self._lock = threading.Lock()
        self._retry_at = 0.0
        self._stopping = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._socket: Optional[socket.socket] = None

    @property
    def address(self) -> tuple[str, int]:
        if self._socket is None:
            raise OSError(f"{self._listen} is not open")
        name = self._socket.getsockname()
        return name[0], name[1]

    def start(self) -> None:
        if self._thread is not None or time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._stopping.clear()
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_DGRAM if self._udp else socket.SOCK_STREAM)
        try:
            if self._udp:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
                listener.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self._target)
            if not self._udp:
                listener.listen(16)
        except OSError as error:
            listener.close()
            log.error("cannot listen on %s: %s; it is tried again", self._listen, error.strerror)
            return
        listener.setblocking(False)
        self._socket = listener
        self._thread = threading.Thread(
            target=self._run, args=(listener,), name=f"syslog-{self._target[1]}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None
            self._retry_at = 0.0

    def get(self) -> Optional[tuple[bytes, str]]:
        with self._lock:
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._size -= len(item[0])
            return item

    def give_back(self, items: list[tuple[bytes, str]]) -> None:
        with self._lock:
            self._queue.extendleft(reversed(items))
            self._size += sum(len(raw) for raw, _ in items)

    def take_lost(self) -> int:
        with self._lock:
            lost, self._lost = self._lost, 0
            return lost

    def _put(self, raw: bytes, peer: str) -> None:
        if not raw.strip():
            return
        with self._lock:
            if self._size + len(raw) > self._room and self._udp:
                self._lost += 1
                return
            self._queue.append((raw, peer))
            self._size += len(raw)

    def _run(self, listener: socket.socket) -> None:
        buffers: dict[socket.socket, tuple[bytearray, str]] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if not self._udp and self._size > self._room:
                    self._stopping.wait(0.05)  # the senders wait
                    continue
                for key, _ in selector.select(0.2):
                    connection = key.fileobj
                    if not isinstance(connection, socket.socket):
                        continue
                    if self._udp:
                        self._datagrams(listener)
                    elif connection is listener:
                        self._accept(listener, selector, buffers)
                    elif not self._stream(connection, *buffers[connection]):
                        buffer, peer = buffers.pop(connection)
                        self._put(bytes(buffer[:MAX_LINE]), peer)  # the last message may lack its newline
                        selector.unregister(connection)
                        connection.close()
            for connection in buffers:
                connection.close()
        listener.close()

    def _datagrams(self, listener: socket.socket) -> None:
        for _ in range(1000):
            try:
                raw, ancillary, _flags, peer = listener.recvmsg(MAX_LINE, 64)
            except BlockingIOError:
                return
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, SO_RXQ_OVFL):
                    (total,) = struct.unpack("=I", data[:4])
                    with self._lock:
                        self._lost += (total - self._kernel_lost) & 0xFFFFFFFF
                    self._kernel_lost = total
            self._put(raw, peer[0])

    def _accept(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        buffers: dict[socket.socket, tuple[bytearray, str]],
    ) -> None:
        try:
            connection, peer = listener.accept()
        except OSError:
            return
        if len(buffers) >= CONNECTIONS:
            log.warning("%s: more than %d connections; one from %s is refused", self._listen, CONNECTIONS, peer[0])
            connection.close()
            return
        connection.setblocking(False)
        buffers[connection] = (bytearray(), peer[0])
        selector.register(connection, selectors.EVENT_READ)

    def _stream(self, connection: socket.socket, buffer: bytearray, peer: str) -> bool:
        """Take what came; False when the connection is over."""
        try:
            data = connection.recv(256 << 10)
        except BlockingIOError:
            return True
        except OSError:
            return False
        buffer += data
        place = 0
        while place < len(buffer):
            counted = re.compile(rb"[1-9][0-9]{0,5} (?=<)").match(buffer, place)
            if counted is not None:
                end = counted.end() + int(counted[0])
                if end > len(buffer):
                    break
                self._put(bytes(buffer[counted.end() : min(end, counted.end() + MAX_LINE)]), peer)
                place = end
                continue
            newline = buffer.find(b"\n", place)
            if newline < 0:
                if len(buffer) - place <= 1 << 20:
                    break
                newline = len(buffer)
            self._put(bytes(buffer[place : min(newline, place + MAX_LINE)]), peer)
            place = newline + 1
        del buffer[:place]
        return bool(data)

"""A proxy (HTTP CONNECT, as kafka-python's ``proxy_url`` wants it) that cuts connections on demand.

``cut()`` closes all of them; ``swallow(n)`` lets requests through and throws the next answers away before it closes: the
broker has appended, the client will never know.
"""

from __future__ import annotations

import contextlib
import socket
import threading


class CuttingProxy:
    """Listens on a free port of 127.0.0.1 until :meth:`close`."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._swallow: set[socket.socket] = set()
        self._closed = False
        self.blocked = False
        """While true, new connections are closed at once."""
        self.divert: tuple[str, int] | None = None
        """Where all new connections lead instead, as with a proxy that somebody else has taken over."""
        self.cuts = 0
        self.swallowed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Close all connections; returns how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)
        self.cuts += len(pairs)
        return len(pairs)

    def swallow(self) -> None:
        """For each connection: throw away the next answer of the broker, then close."""
        self._swallow |= {remote for _, remote in self._pairs}

    def close(self) -> None:
        """Stop listening and close everything."""
        self._closed = True
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.blocked:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        remote = None
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(4096)
                if not data:
                    raise ConnectionError("closed before it said where to")
                head += data
            host, _, port = head.split(b" ")[1].decode().rpartition(":")
            remote = socket.create_connection(self.divert or (host, int(port)), timeout=10)
            remote.settimeout(None)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        except OSError:
            client.close()
            if remote is not None:
                remote.close()
            return
        pair = (client, remote)
        self._pairs.add(pair)
        if self._closed:
            self._end(pair)
            return
        threading.Thread(target=self._pump, args=(pair, client, remote), daemon=True).start()
        self._pump(pair, remote, client)

    def _pump(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if source in self._swallow:
                    self.swallowed += 1
                    break
                target.sendall(data)
        except OSError:
            pass
        self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for end in pair:
            self._swallow.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

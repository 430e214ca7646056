"""Asks each service whether it really works, by one short exchange. None means it does, else the text says why not."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import struct
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SECONDS = 3.0


class Http:
    """Requests to the stack's own servers.

    ca_file: the authority that is trusted for their certificates. account: user and password, for Elasticsearch.
    """

    def __init__(self, ca_file: Path | None = None, account: tuple[str, str] | None = None) -> None:
        # Without the user's proxies: they do not reach this machine's loopback.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if ca_file is not None:
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
        self._opener = urllib.request.build_opener(*handlers)
        self._headers = {"Content-Type": "application/json"}
        if account is not None:
            self._headers["Authorization"] = "Basic " + base64.b64encode(":".join(account).encode()).decode()

    def answers(self, url: str) -> str | None:
        """None if the server answers with 200, else why not."""
        try:
            with self._opener.open(url, timeout=SECONDS) as response:
                return None if response.status == 200 else f"answers {response.status}"
        except urllib.error.HTTPError as error:
            return f"answers {error.code}"
        except OSError as error:
            return _reason(error)

    def get_json(self, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request to Elasticsearch. Raises OSError, also for an HTTP error, with the server's words."""
        request = urllib.request.Request(  # noqa: S310 (the stack's own address on 127.0.0.1)
            url, json.dumps(body).encode() if body is not None else None, self._headers
        )
        try:
            with self._opener.open(request, timeout=SECONDS) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            raise OSError(f"HTTP {error.code}: {error.read(300).decode(errors='replace')}") from error
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"no HTTP answer: {error}") from error


PLAIN = Http()


def kafka(bootstrap: str) -> str | None:
    """Asks a broker for the cluster's metadata (Kafka protocol, api key 3, version 4) and that it lists a broker.

    A port that accepts connections is not enough: it does so seconds before the broker has joined its own cluster.
    """
    # correlation id 1, client id null; topics: an empty list, for brokers alone; allow_auto_topic_creation false
    request = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">i?", 0, False)
    try:
        with _connected(bootstrap) as connection:
            answer = _asked(connection, request)
    except OSError as error:
        return _reason(error)
    # correlation id, throttle time, number of brokers
    if len(answer) < 12:
        return "gives no metadata"
    correlation, _throttle, brokers = struct.unpack_from(">iii", answer)
    if correlation != 1 or brokers < 1:
        return "its cluster has no broker yet"
    return None


def kafka_over_tls(bootstrap: str, ca_file: Path) -> str | None:
    """Asks a broker that wants a sign-in for what it answers before: the versions it speaks (api key 18, version 0)."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        with (
            _connected(bootstrap) as plain,
            context.wrap_socket(plain, server_hostname=bootstrap.rpartition(":")[0]) as connection,
        ):
            answer = _asked(connection, struct.pack(">hhih", 18, 0, 1, -1))
    except OSError as error:
        return _reason(error)
    # correlation id, error code
    return None if len(answer) >= 6 and struct.unpack_from(">ih", answer) == (1, 0) else "does not say what it speaks"


def _connected(bootstrap: str) -> socket.socket:
    host, _, port = bootstrap.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def _asked(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(struct.pack(">i", len(request)) + request)
    size = struct.unpack(">i", _read(connection, 4))[0]
    return _read(connection, size)


def elasticsearch(url: str, http: Http = PLAIN) -> str | None:
    """Asks for the cluster's health, which must be yellow or green."""
    try:
        status = http.get_json(f"{url}/_cluster/health?filter_path=status").get("status")
    except OSError as error:
        return _reason(error)
    return None if status in ("yellow", "green") else f"cluster health is {status}"


def mariadb(client: Path, client_cnf: Path) -> str | None:
    """Logs in with the stack's own user, over the port."""
    try:
        result = subprocess.run(
            [str(client), f"--defaults-file={client_cnf}", "--connect-timeout=3", "-N", "-B", "-e", "SELECT 1"],
            capture_output=True,
            text=True,
            timeout=SECONDS + 2,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "does not answer"
    if result.returncode == 0 and result.stdout.strip() == "1":
        return None
    return result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "gives no answer"


def grafana(url: str, http: Http = PLAIN) -> str | None:
    """Asks Grafana for its own health, its database included."""
    try:
        return None if http.get_json(f"{url}/api/health").get("database") == "ok" else "its database does not work"
    except OSError as error:
        return _reason(error)


def web(url: str, http: Http = PLAIN) -> str | None:
    """Asks the web application whether its processes answer."""
    return http.answers(f"{url}/healthz")


def gateway(url: str, http: Http = PLAIN) -> str | None:
    """Asks the gateway whether it knows the hosts, so that it takes their requests."""
    return http.answers(f"{url}/api/agent/v1/health")


def signer(path: Path) -> str | None:
    """Whether the signer of commands listens."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(str(path))
    except FileNotFoundError:
        return "does not listen yet"
    except OSError as error:
        return _reason(error)
    return None


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("closes the connection")
        data += part
    return data


def _reason(error: OSError) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, ConnectionRefusedError):
        return "does not listen yet"
    if isinstance(inner, TimeoutError):
        return "does not answer"
    return str(inner)

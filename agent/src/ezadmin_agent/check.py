"""``ezadmin-agent check``: every step between this host and the topics, each with its time and what to do if it fails."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, Optional

from ezadmin_agent import __version__
from ezadmin_agent.config import Config
from ezadmin_agent.identity import Identity, IdentityError, load_or_make
from ezadmin_wire import batch, ids, state, times
from ezadmin_wire.errors import WireError
from ezadmin_wire.state import AgentStatus

TIMEOUT = 5.0


class Step(NamedTuple):
    """One step: ``ok`` None when it was not done. ``text`` says what was found, ``hint`` what to do."""

    name: str
    ok: Optional[bool]
    ms: float
    text: str
    hint: str = ""


class _Failed(Exception):
    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


def run(config: Config) -> Iterator[Step]:
    """The steps, as they are done. What depends on a failed step is left out."""
    found: list[Identity] = []

    def identity() -> str:
        try:
            found.append(load_or_make(config.state_dir))
            with tempfile.TemporaryFile(dir=config.state_dir) as file:
                file.write(b"x" * 4096)
                file.flush()
                os.fsync(file.fileno())
        except (IdentityError, WireError) as error:
            raise _Failed(str(error), "run it as the user that the agent runs as") from error
        except OSError as error:
            raise _Failed(f"cannot write in {config.state_dir}: {error.strerror}", "free some disk space") from error
        return f"host.id {found[0].host_id}, key {found[0].key.kid}, {config.state_dir} can be written"

    step = _timed("identity", identity)
    yield step
    if config.bootstrap is None:
        hint = 'write bootstrap = "host:port" under [kafka]'
        yield Step("kafka", False, 0.0, "no broker is configured", hint)
        return
    target = (
        config.bootstrap if config.proxy is None else config.proxy.partition("://")[2].rpartition("@")[2].rstrip("/")
    )
    reached = False
    for address in target.split(","):
        host, _, port = address.strip().rpartition(":")
        host = host.strip("[]")
        names = _timed(f"dns {host}", lambda host=host: _resolve(host))  # type: ignore[misc]
        yield names
        if names.ok:
            connected = _timed(f"tcp {host}:{port}", lambda host=host, port=port: _connect(host, int(port)))  # type: ignore[misc]
            yield connected
            reached = reached or bool(connected.ok)
    yield Step("tls", None, 0.0, "not done: the connection is configured without TLS; batches are signed all the same")
    if not reached or not found:
        return
    yield from _kafka(config, found[0])


def _timed(name: str, action: Callable[[], str]) -> Step:
    begin = time.monotonic()
    try:
        text, ok, hint = action(), True, ""
    except _Failed as failed:
        text, ok, hint = str(failed), False, failed.hint
    return Step(name, ok, (time.monotonic() - begin) * 1000, text, hint)


def _resolve(host: str) -> str:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _Failed(
            f"the name is not known: {error.strerror or error}", "check the spelling under [kafka] and /etc/resolv.conf"
        ) from error
    return ", ".join(sorted({str(entry[4][0]) for entry in found}))


def _connect(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), TIMEOUT) as connection:
            return f"connected from {connection.getsockname()[0]}"
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError)
        hint = (
            "nothing listens there: is the broker running, and is it this port?"
            if refused
            else "no answer: a firewall between here and there, or a wrong address"
        )
        raise _Failed(f"no connection: {error.strerror or error}", hint) from error


def _kafka(config: Config, identity: Identity) -> Iterator[Step]:
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    from ezadmin_agent.sender import PRODUCER

    options: dict[str, Any] = {**PRODUCER, "client_id": "ezadmin-agent-check", "delivery_timeout_ms": 8000}
    options["request_timeout_ms"] = 5000
    if config.proxy:
        options["proxy_url"] = config.proxy
    made: list[Any] = []

    def sign_in() -> str:
        try:
            brokers = [part.strip() for part in (config.bootstrap or "").split(",")]
            made.append(KafkaProducer(bootstrap_servers=brokers, **options))
        except KafkaError as error:
            raise _Failed(
                f"no broker speaks Kafka there: {type(error).__name__}: {error}",
                "look into the broker's log; a listener with TLS or SASL refuses a plain connection so",
            ) from error
        return "the broker answers; sign-in is not configured"

    step = _timed("kafka", sign_in)
    yield step
    if not made:
        return
    producer = made[0]
    try:
        for topic, stream, dataset, line in _documents(config, identity):
            yield _timed(
                f"topic {topic}",
                lambda t=topic, s=stream, d=dataset, one=line: _produce(producer, identity, t, s, d, one),  # type: ignore[misc]
            )
    finally:
        try:
            producer.close(timeout=2)
        except KafkaError:
            pass
    yield Step(
        "read back",
        None,
        0.0,
        "not done: no address of the web app is configured for agents; look there for the event "
        '"communication test" of this host',
    )


def _documents(config: Config, identity: Identity) -> Iterator[tuple[str, str, str, bytes]]:
    """A record for each topic that an agent may write without harm: its own status, and an event that names the test."""
    now = times.now()
    try:
        running = json.loads((config.state_dir / "status.json").read_text(encoding="utf-8"))
        started = str(running["started"])
    except (OSError, ValueError, KeyError, TypeError):
        started = now
    yield (
        config.names.state,
        "check",
        "agent",
        state.encode(AgentStatus(collected=now, version=__version__, started=started)),
    )
    event = {
        "@timestamp": now,
        "event.dataset": "ezadmin.agent",
        "event.created": now,
        "log.level": "info",
        "message": f"communication test of {identity.host_name}",
        "process.name": "ezadmin-agent",
        "process.pid": os.getpid(),
        "log.logger": "ezadmin_agent.check",
    }
    yield config.names.logs, "check", "ezadmin.agent", json.dumps(event, separators=(",", ":")).encode()


def _produce(producer: Any, identity: Identity, topic: str, stream: str, dataset: str, line: bytes) -> str:
    from kafka.errors import KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

    now = times.now()
    headers, value = batch.encode(
        identity.key,
        host=identity.host_id,
        topic=topic,
        stream=stream,
        epoch=ids.new_epoch(),
        seq=0,
        lines=[line],
        dataset=dataset,
        tmin=now,
        tmax=now,
        sent=now,
        count=topic.endswith(".logs"),
    )
    try:
        if not producer.partitions_for(topic):
            raise UnknownTopicOrPartitionError()
        future = producer.send(topic, value=value, key=identity.host_id.encode(), headers=headers)
        written = future.get(timeout=10)
    except TopicAuthorizationFailedError as error:
        raise _Failed(
            "this sign-in may not write there", "give it the right to write (ACL Write on the topic)"
        ) from error
    except (UnknownTopicOrPartitionError, KafkaTimeoutError) as error:
        raise _Failed(
            "the topic is not there, or this sign-in may not see it",
            "compare prefix with that of the pipeline, and run: ezadmin-pipeline setup",
        ) from error
    except KafkaError as error:
        raise _Failed(f"not written: {type(error).__name__}: {error}", "look into the broker's log") from error
    return f"a signed record was written, partition {written.partition} offset {written.offset}"

"""``ezadmin-agent check``: every step from this host to Elasticsearch, each with its time and what to do if it fails.

The host has no right to read Kafka or Elasticsearch: whether a record has arrived is asked of the web application, in a
request signed with the host's own key.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, Callable, NamedTuple, Optional

from ezadmin_agent import __version__, brokers
from ezadmin_agent.config import Config
from ezadmin_agent.identity import Identity, IdentityError, load_or_make
from ezadmin_wire import batch, ids, requests, state, times
from ezadmin_wire.errors import WireError
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.state import AgentStatus

TIMEOUT = 5.0
WAIT = 30.0
"""Seconds in which a record has to arrive: a pipeline under load takes its time, a stopped one for ever."""
RENEW_DAYS = 14
SKEW_SECONDS = 5
UNKNOWN_TOPIC = 3  # error code of Kafka's protocol

# X509_V_ERR_… of OpenSSL
_CERTIFICATE_HINTS = {
    7: "ca_file must hold the certificate of the authority that signed it",
    9: "it is not valid yet: is this host's clock right?",
    10: "it has expired: renew it there, or set this host's clock",
    18: "it is signed by itself: write ca_file = its own file if it is the right one",
    19: "ca_file must hold the certificate of the authority that signed it",
    20: "ca_file must hold the certificate of the authority that signed it",
    21: "ca_file must hold the certificate of the authority that signed it",
    62: "reach it by a name that the certificate is for (for a broker: bootstrap and advertised.listeners)",
    64: "reach it by an address that the certificate is for (for a broker: bootstrap and advertised.listeners)",
}


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


class _Advice(NamedTuple):
    """Found right, and yet there is something to do."""

    text: str
    hint: str


def run(config: Config, wait: float = WAIT) -> Iterator[Step]:
    """The steps, as they are done. What depends on a failed step is left out. ``wait``: seconds for a record to arrive."""
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

    yield _timed("identity", identity)
    if config.gateway is not None:
        if not found:
            return
        event = yield from _gateway(config, found[0])
        if config.transport == "https":
            if event is not None:
                yield from _arrival(config, found[0], event, wait)
            return
    if config.kafka is None:
        hint = 'write bootstrap = "host:port" under [kafka], or enrol this host: ezadmin-agent enrol TOKEN'
        yield Step("kafka", False, 0.0, "no broker is configured", hint)
        return
    kafka = config.kafka
    settings = _timed("settings", lambda: _settings(kafka))
    yield settings
    reached = yield from _network(config, kafka, bool(settings.ok))
    if not (reached and found and settings.ok):
        return
    event = yield from _kafka(config, kafka, found[0])
    if event is not None:
        yield from _arrival(config, found[0], event, wait)


def _arrival(config: Config, identity: Identity, event: str, wait: float) -> Iterator[Step]:
    """The steps of the way back, if the web application's address is known."""
    if config.server is None:
        text = "not done: no address of the web application is configured"
        yield Step("read back", None, 0.0, text, 'write server = "https://…" at the top of the configuration')
        return
    yield from _read_back(config, identity, event, wait)


def _gateway(config: Config, identity: Identity) -> Generator[Step, None, Optional[str]]:
    """The steps at the gateway; returns the ``_id`` of the event that went through it, None if none did."""
    from ezadmin_agent.control import check as gateway
    from ezadmin_agent.control.me import Me

    found = gateway.GatewayCheck(config, Me(identity.host_id, identity.key))

    def step(name: str, action: Callable[[], gateway.Found]) -> Step:
        def done() -> object:
            try:
                text, hint = action()
            except gateway.Failed as failed:
                raise _Failed(str(failed), failed.hint) from failed
            return _Advice(text, hint) if hint else text

        return _timed(name, done)

    before = "proxy before the gateway" if found.proxied else "gateway"
    try:
        for name, action in (
            (f"{before}: dns {found.host}", found.dns),
            (f"{before}: tcp {found.host}:{found.port}", found.tcp),
            ("gateway: tls", found.tls),
            ("gateway: signature", found.signature),
            ("gateway: clock", found.clock),
            ("gateway: poll", found.poll),
        ):
            done = step(name, action)
            yield done
            if not done.ok:
                return None
        if config.transport != "https":
            return None
        event: Optional[str] = None
        for topic, stream, dataset, line in _documents(config, identity):
            epoch = ids.new_epoch()
            message = _batch(identity, topic, stream, epoch, dataset, line)

            def send(message: tuple[list[tuple[str, bytes]], bytes] = message) -> gateway.Found:
                (error,) = found.batches([message])
                if error is not None:
                    raise gateway.Failed(f"not taken: {error}", "look into the gateway's log")
                return gateway.Found("the gateway has brought a signed record to Kafka")

            sent = step(f"gateway: topic {topic}", send)
            yield sent
            if sent.ok and topic == config.names.logs:
                event = ids.event_id(ids.event_id_prefix(identity.host_id, stream, epoch), 0)
        return event
    finally:
        found.close()


def _timed(name: str, action: Callable[[], object]) -> Step:
    begin = time.monotonic()
    ok, hint = True, ""
    try:
        done = action()
        text, hint = done if isinstance(done, _Advice) else (str(done), "")
    except _Failed as failed:
        text, ok, hint = str(failed), False, failed.hint
    return Step(name, ok, (time.monotonic() - begin) * 1000, text, hint)


# ------------------------------------------------------------------ the network


def _settings(kafka: KafkaConnection) -> str:
    try:
        kafka.check_files("[kafka]")
    except WireError as error:
        raise _Failed(str(error), "mend the configuration or the file that it names") from error
    return f"{kafka}; the files it names can be read"


def _network(config: Config, kafka: KafkaConnection, settings_ok: bool) -> Generator[Step, None, bool]:
    """The steps for each broker, or for the proxy before them; returns whether one of them can be talked to."""
    proxied = config.proxy is not None
    servers = [str(config.proxy).partition("://")[2].rpartition("@")[2].rstrip("/")] if proxied else kafka.servers
    reached = False
    for server in servers:
        host, _, port = server.rpartition(":")
        host = host.strip("[]")
        names = _timed(f"dns {host}", lambda host=host: _resolve(host))  # type: ignore[misc]
        yield names
        if not names.ok:
            continue
        connected = _timed(f"tcp {host}:{port}", lambda host=host, port=port: _connect(host, int(port)))  # type: ignore[misc]
        yield connected
        good = bool(connected.ok)
        if good and kafka.tls and settings_ok and not proxied:
            secured = _timed(f"tls {host}:{port}", lambda host=host, port=port: _tls(kafka, host, int(port)))  # type: ignore[misc]
            yield secured
            good = bool(secured.ok)
        reached = reached or good
    if not kafka.tls:
        yield Step(
            "tls", None, 0.0, "not done: the connection is configured without TLS; batches are signed all the same"
        )
    elif proxied:
        yield Step("tls", None, 0.0, "not done apart: the connection to the brokers leads through the proxy")
    return reached


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


def _tls(kafka: KafkaConnection, host: str, port: int) -> object:
    context = kafka.tls_context() or ssl.create_default_context()
    try:
        with context.wrap_socket(socket.create_connection((host, port), TIMEOUT), server_hostname=host) as secured:
            certificate: dict[str, Any] = secured.getpeercert() or {}
            version = secured.version()
    except ssl.SSLCertVerificationError as error:
        hint = _CERTIFICATE_HINTS.get(error.verify_code, "look at it: openssl s_client -connect " + f"{host}:{port}")
        raise _Failed(f"the broker's certificate is not good: {error.verify_message}", hint) from error
    except ssl.SSLError as error:
        why = (error.reason or str(error)).replace("_", " ").lower()
        raise _Failed(f"no TLS: {why}", "is this a listener with TLS, and does it take our certificate?") from error
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise _Failed(f"no TLS: {why}", "is this a listener with TLS? Look into the broker's log") from error
    days = int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) // 86400)
    names = ", ".join(value for _, value in certificate.get("subjectAltName", ())) or "no name"
    text = f"{version}, certificate for {names}, signed by {_common_name(certificate)}, valid for {days} more days"
    return _Advice(text, "renew the broker's certificate") if days < RENEW_DAYS else text


def _common_name(certificate: dict[str, Any]) -> str:
    issuer = {name: value for parts in certificate.get("issuer", ()) for name, value in parts}
    return str(issuer.get("commonName") or issuer.get("organizationName") or "an authority without a name")


# ------------------------------------------------------------------ Kafka


def _kafka(config: Config, kafka: KafkaConnection, identity: Identity) -> Generator[Step, None, Optional[str]]:
    """The steps at the brokers; returns the ``_id`` of the event that was written, None if it was not."""
    from kafka import KafkaAdminClient, KafkaProducer
    from kafka.errors import KafkaError

    from ezadmin_agent.sender import PRODUCER

    more: dict[str, Any] = {**kafka.options(), "client_id": "ezadmin-agent-check", "request_timeout_ms": 5000}
    if config.proxy:
        more["proxy_url"] = config.proxy
    made: list[Any] = []
    names = config.names

    def sign_in() -> str:
        proxied = config.proxy is not None
        reason = None if proxied else brokers.probe(kafka, TIMEOUT)
        if reason is None:
            try:
                made.append(KafkaProducer(**{**PRODUCER, **more, "delivery_timeout_ms": 8000}))
            except (KafkaError, OSError) as error:
                reason = brokers.why(error, kafka, proxied=proxied)
        if reason is not None:
            raise _Failed(*reason)
        if kafka.sasl:
            return f"signed in as {kafka.user} ({kafka.sasl})"
        if kafka.certificate_file:
            return "the broker takes our certificate"
        return "the broker answers; sign-in is not configured"

    yield _timed("sign-in", sign_in)
    if not made:
        return None
    producer = made[0]
    event: Optional[str] = None
    try:
        rights = _timed("rights", lambda: _rights(KafkaAdminClient, more, (names.metrics, names.logs, names.state)))
        yield rights
        for topic, stream, dataset, line in _documents(config, identity):
            epoch = ids.new_epoch()
            written = _timed(
                f"topic {topic}",
                lambda t=topic, s=stream, e=epoch, d=dataset, one=line: _produce(producer, identity, t, s, e, d, one),  # type: ignore[misc]
            )
            yield written
            if written.ok and topic == names.logs:
                event = ids.event_id(ids.event_id_prefix(identity.host_id, stream, epoch), 0)
    finally:
        try:
            producer.close(timeout=2)
        except KafkaError:
            pass
    return event


def _rights(make_admin: Callable[..., Any], options: dict[str, Any], topics: tuple[str, ...]) -> str:
    """What the broker says this sign-in may do with the topics: nothing is written to find it out."""
    from kafka.errors import KafkaError

    try:
        admin = make_admin(**options)
        try:
            found = {one["name"]: one for one in admin.describe_topics(list(topics))}
        finally:
            admin.close()
    except (KafkaError, OSError) as error:
        raise _Failed(
            f"the broker does not say: {type(error).__name__}: {error}", "look into the broker's log"
        ) from error
    may = {topic: set(found[topic]["authorized_operations"] or ()) for topic in topics}
    missing = [topic for topic in topics if found[topic]["error_code"] == UNKNOWN_TOPIC]
    refused = [topic for topic in topics if "WRITE" not in may[topic]]
    if missing:
        raise _Failed(
            f"not there: {', '.join(missing)}",
            "compare prefix with that of the pipeline, and run: ezadmin-pipeline setup",
        )
    if refused:
        raise _Failed(
            f"this sign-in may not write to {', '.join(refused)}", "give it the right to (ACL Write on the topic)"
        )
    more = sorted({one for topic in topics for one in may[topic]} - {"WRITE", "DESCRIBE"})
    text = f"may write to {', '.join(topics)}"
    if more:
        return f"{text}; more than an agent needs: {', '.join(more)}"
    return text


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


def _batch(
    identity: Identity, topic: str, stream: str, epoch: str, dataset: str, line: bytes
) -> tuple[list[tuple[str, bytes]], bytes]:
    now = times.now()
    return batch.encode(
        identity.key,
        host=identity.host_id,
        topic=topic,
        stream=stream,
        epoch=epoch,
        seq=0,
        lines=[line],
        dataset=dataset,
        tmin=now,
        tmax=now,
        sent=now,
        count=topic.endswith(".logs"),
    )


def _produce(producer: Any, identity: Identity, topic: str, stream: str, epoch: str, dataset: str, line: bytes) -> str:
    from kafka.errors import KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

    headers, value = _batch(identity, topic, stream, epoch, dataset, line)
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


# ------------------------------------------------------------------ the way back


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect: the signature is for the configured server alone."""
        return


def _read_back(config: Config, identity: Identity, event: str, wait: float) -> Iterator[Step]:
    """Ask the web application for the event until it is there; the first answer also tells how far the clocks differ."""
    begin = time.monotonic()
    answers: list[_Answer] = []

    def ask() -> _Answer:
        answers.append(_ask(config, identity, event))
        return answers[-1]

    def clock() -> object:
        skew = ask().skew
        if skew is None:
            return "the server tells no time"
        if abs(skew) > requests.WINDOW_SECONDS:
            way = "ahead of" if skew > 0 else "behind"
            raise _Failed(f"this host's clock is {abs(skew):.0f} s {way} the server's", _CLOCK)
        text = f"within {max(1.0, abs(skew)):.0f} s of the server's"
        return _Advice(text, _CLOCK) if abs(skew) > SKEW_SECONDS else text

    def arrive() -> str:
        while True:
            answer = answers[-1]
            if answer.status in (401, 403, 404):
                raise _Failed(f"the web application refuses: {answer.text}", _REFUSED[answer.status])
            if answer.arrived:
                return f"the event is in Elasticsearch {time.monotonic() - begin:.1f} s after it was written"
            if time.monotonic() - begin > wait:
                if answer.status != 200:
                    raise _Failed(f"the web application cannot tell: {answer.text}", "look into its log")
                raise _Failed(
                    f"written, but not in Elasticsearch after {wait:.0f} s",
                    "does the pipeline run, is it behind, or is the event a dead letter? On its machine: "
                    "ezadmin-pipeline check; ezadmin-pipeline dlq ls",
                )
            time.sleep(0.3)
            ask()

    server = _timed(f"server {config.server}", lambda: _name_of(ask()))
    yield server
    if not answers:
        return
    yield _timed("clock", clock)
    yield _timed("read back", arrive)


_CLOCK = "set the clock: is a time service (chrony, systemd-timesyncd) running?"
_REFUSED = {
    401: "the signature is too old or was changed on its way: compare the clocks",
    403: "register the key that `ezadmin-agent identity` prints: ezadmin-cmdb host add … --add-key",
    404: "register this host: ezadmin-cmdb host add, with what `ezadmin-agent identity` prints",
}


class _Answer(NamedTuple):
    """``skew``: seconds that this host's clock is ahead. ``arrived`` only with status 200."""

    status: int
    text: str
    arrived: bool
    skew: Optional[float]


def _name_of(answer: _Answer) -> str:
    return f"the web application answers ({answer.status})"


def _ask(config: Config, identity: Identity, event: str) -> _Answer:
    """One signed question. Raises _Failed if what answers is not the web application."""
    target = f"/api/v1/hosts/{identity.host_id}/arrivals/{event}"
    header = requests.authorization(identity.key, host=identity.host_id, method="GET", target=target)
    asked = urllib.request.Request(f"{config.server}{target}", headers={"Authorization": header})  # noqa: S310
    # not the default context: that of Python 3.13 refuses what many private authorities sign
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if config.server_ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(config.server_ca_file)
    except OSError as error:
        raise _Failed(
            f"server_ca_file {config.server_ca_file}: {error.strerror or error}", "name a PEM file"
        ) from error
    opener = urllib.request.build_opener(_Stay(), urllib.request.HTTPSHandler(context=context))
    sent = time.time()
    try:
        with opener.open(asked, timeout=TIMEOUT) as answer:
            status, headers, body = answer.status, answer.headers, answer.read(1 << 16)
    except urllib.error.HTTPError as error:
        with error:
            status, headers, body = error.code, error.headers, error.read(1 << 16)
    except urllib.error.URLError as error:
        raise _unreached(error.reason, str(config.server)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreached(error, str(config.server)) from error
    if 300 <= status < 400:
        raise _Failed(f"the server sends us on to {headers.get('Location')}", "write this address as server")
    try:
        table = json.loads(body)
        text = str(table.get("detail", ""))  # of a problem (RFC 9457)
        arrived = bool(table.get("arrived"))
        known = "arrived" in table or "request_id" in table
    except (ValueError, TypeError, KeyError, AttributeError):
        known = False
    if not known:
        raise _Failed(
            f"what answers ({status}) is not ezadmin's web application",
            "check the address that server = names, and whether it is http or https",
        )
    skew = None
    try:
        skew = (
            (sent + time.time()) / 2 - parsedate_to_datetime(headers["Date"]).timestamp() - 0.5
        )  # Date has no fractions
    except (TypeError, ValueError):
        pass
    return _Answer(status, text, arrived, skew)


def _unreached(error: object, server: str) -> _Failed:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = _CERTIFICATE_HINTS.get(error.verify_code, "is ca_file the right authority?")
        return _Failed(
            f"the server's certificate is not good: {error.verify_message}",
            hint.replace("ca_file", "server_ca_file"),
        )
    if isinstance(error, ssl.SSLError):
        return _Failed(f"no TLS: {(error.reason or str(error)).replace('_', ' ').lower()}", "is it http:// instead?")
    if isinstance(error, socket.gaierror):
        return _Failed(f"the name is not known: {error.strerror}", "check the address that server = names")
    if isinstance(error, ConnectionRefusedError):
        return _Failed("no connection: nothing listens there", "is the web application running, at this port?")
    if isinstance(error, (ConnectionError, http.client.BadStatusLine)) and server.startswith("http://"):
        return _Failed(
            f"no answer: {error}",
            "is it https:// instead? Then server_ca_file names its authority, unless the system trusts that",
        )
    return _Failed(f"no answer: {error}", "a firewall between here and there, or a wrong address")

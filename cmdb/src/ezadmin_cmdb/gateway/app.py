"""The gateway's endpoints, all under ``/api/agent/v1``. What they take and answer stands in docs/contracts.md."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from flask import Flask
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute

from ezadmin_cmdb.enrolment import services as enrolment
from ezadmin_cmdb.gateway import bodies, signed
from ezadmin_cmdb.gateway.database import Database
from ezadmin_cmdb.gateway.directory import Directory, Reader
from ezadmin_cmdb.gateway.graphs import Graphs
from ezadmin_cmdb.gateway.limits import OnceInAWhile, WrongTokens
from ezadmin_cmdb.gateway.live import Live
from ezadmin_cmdb.gateway.polls import Polls
from ezadmin_cmdb.gateway.problems import Problem
from ezadmin_cmdb.gateway.uploads import Uploads
from ezadmin_cmdb.install import BundleError, Downloads
from ezadmin_cmdb.kafka_access import users as kafka_users
from ezadmin_cmdb.settings import Settings
from ezadmin_wire import WireError, upload
from ezadmin_wire.enrolment import EnrolAnswer, EnrolRequest, KafkaAccess
from ezadmin_wire.fields import dump, load
from ezadmin_wire.signing import VerifyKey
from ezadmin_wire.times import now

_log = logging.getLogger(__name__)
PATH = "/api/agent/v1"
WAIT_MAX = 120.0
JSON_BYTES = 64 << 10
PUBLISHED_SECONDS = 10.0
"""How long an answer waits until this gateway knows the key that it tells the host to use."""
_INSTANCE = re.compile("[0-9a-f]{16}")
_SHA256 = re.compile("[0-9a-f]{64}")
_REFUSED_TOKENS = ("token_unknown", "token_expired", "token_used_up", "token_revoked", "bad_clone_proof")
_FORGED = ("bad_signature", "unknown_key", "revoked", "host_taken", "key_replaced", "key_taken")
Endpoint = Callable[[Request], Awaitable[Response]]


class Gateway:
    """All parts of a gateway process, and its endpoints."""

    def __init__(self, settings: Settings, core: Flask, config_key: VerifyKey) -> None:
        self.settings = settings
        self.counters: Counter[str] = Counter()
        self.database = Database(core)
        self.directory = Directory([config_key])
        self.polls = Polls(self.directory, self.database, self.counters)
        self.uploads = Uploads(self.directory, settings.kafka, settings.names, self.counters)
        self.wrong_tokens = WrongTokens()
        self._told = OnceInAWhile()
        self.downloads = Downloads(settings.gateway.files, settings.gateway.url, settings.gateway.ca_file)
        self.live = Live(settings, core, self.database)
        self.graphs = Graphs(settings, core, self.database, self.directory)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known = asyncio.Event()
        self.reader = Reader(self.directory, settings.kafka, settings.names.config, self._changed)

    def _changed(self, host_ids: Collection[str]) -> None:
        """In the reader's thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell, list(host_ids))

    def _tell(self, host_ids: Collection[str]) -> None:
        self.polls.changed(host_ids)
        self._known.set()
        self._known = asyncio.Event()

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Start and end what runs beside the requests."""
        self._loop = asyncio.get_running_loop()
        self.reader.start()
        tasks = [
            asyncio.create_task(self.polls.look_for_commands()),
            asyncio.create_task(self.polls.keep_lines()),
            asyncio.create_task(self.live.look()),
            asyncio.create_task(self.graphs.flush()),
        ]
        try:
            yield
        finally:
            self.reader.stop()
            self.graphs.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(TimeoutError):  # a database that hangs must not hold up the end
                await asyncio.wait_for(self.polls.write_lines(), 1.0)
            self.database.close()
            await asyncio.to_thread(self.uploads.close, 1.0)

    # -- requests ---

    def address(self, request: Request) -> str:
        """Where a request comes from: what trusted proxies say, and nobody else."""
        found = request.client.host if request.client else ""
        named = [one.strip() for one in request.headers.get("x-forwarded-for", "").split(",") if one.strip()]
        while named and self._trusted(found):
            found = named.pop()
        return found[:45]

    def _trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(mapped in network for network in self.settings.gateway.trusted_proxies)

    async def _json(self, request: Request) -> tuple[bytes, bytes]:
        """The body as sent, and unpacked."""
        body = await bodies.read(request, JSON_BYTES)
        return body, bodies.unpacked(request, body, JSON_BYTES)

    # -- endpoints ---

    async def enrol(self, request: Request) -> Response:
        """A machine asks to be known."""
        address = self.address(request)
        self.wrong_tokens.check(address)
        body, plain = await self._json(request)
        claim = signed.claim_of(request)
        try:
            asked = load(EnrolRequest, plain)
            key = VerifyKey.from_hex(asked.public_key)
        except WireError as error:
            raise Problem(400, error.reason, str(error)) from error
        if (claim.host, claim.kid) != (asked.host, key.kid):
            raise Problem(401, "bad_signature", "an enrolment is signed with the new key, under the host.id asked for")
        signed.prove(claim, key, request, body)
        if not self.directory.ready:
            raise Problem(503, "starting", "the gateway has not read its configuration yet", retry=2)
        await self.polls.write_lines()  # who was heard a moment ago is not somebody whose place is free
        try:
            known = await self.database.run(enrolment.enrol, asked, address)
        except Problem as problem:
            if problem.reason in _REFUSED_TOKENS:
                self.counters["enrolments_refused"] += 1
                self.wrong_tokens.note(address)
            raise
        await self._published(known)
        self.counters["enrolments"] += 1
        _log.info("host %s is known", known.host_id, extra={"fields": {"host.id": known.host_id, "client.ip": address}})
        host = self.directory.get(known.host_id)
        command_key = self.settings.commands.public_key
        answer = EnrolAnswer(
            host=known.host_id,
            state=known.state if host is None else host.state,
            command_keys=[] if command_key is None else [command_key],
            prefix=self.settings.names.prefix,
            kafka=await self._kafka_access(known.host_id),
        )
        return Response(dump(answer), media_type="application/json")

    async def _kafka_access(self, host_id: str) -> KafkaAccess | None:
        gateway = self.settings.gateway
        if gateway.agents_kafka is None:
            return None
        ca, user, password = None, None, None
        if gateway.agents_kafka_ca_file is not None:
            try:
                ca = gateway.agents_kafka_ca_file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise Problem(500, "misconfigured", f"[gateway] agents_kafka_ca_file: {error}") from error
        if gateway.agents_kafka_users:
            user, password = host_id, await self.database.run(kafka_users.make, host_id)
        return KafkaAccess(gateway.agents_kafka, gateway.agents_kafka_tls, ca, user, password)

    async def _published(self, known: enrolment.Known) -> None:
        """Wait until the key stands in the directory: before, whatever it signs would be refused."""
        deadline = time.monotonic() + PUBLISHED_SECONDS
        while True:
            event = self._known
            host = self.directory.get(known.host_id)
            if host is not None and host.knows(known.kid):
                return
            left = deadline - time.monotonic()
            if left <= 0:
                text = "the host's record is not published yet (does the cmdb's worker run, and Kafka?); ask again"
                raise Problem(503, "not_published", text, retry=5)
            try:
                await asyncio.wait_for(event.wait(), left)
            except TimeoutError:
                continue

    async def poll(self, request: Request) -> Response:
        """Commands, when there are some."""
        signer = signed.signer(self.directory, request)
        query = request.query_params
        instance = query.get("instance", "")
        if not _INSTANCE.fullmatch(instance):
            raise Problem(400, "bad_value", "instance: write 16 hex digits")
        try:
            seconds = min(max(float(query.get("wait", "50")), 0.0), WAIT_MAX)
            config = int(query["config"]) if "config" in query else None
        except ValueError as error:
            raise Problem(400, "bad_value", "wait, config: write numbers") from error
        print_ = query.get("fingerprint")
        if print_ is not None and not _SHA256.fullmatch(print_):
            raise Problem(400, "bad_value", "fingerprint: write a SHA-256 in hex")
        if config is not None and not 0 <= config < 2**53:
            raise Problem(400, "bad_value", "config: write a version")
        self.polls.seen(signer.id, instance, self.address(request), config, print_)
        gone = asyncio.ensure_future(_gone(request))
        try:
            body = await self.polls.wait(signer.id, signer.kid, instance, seconds, gone)
        finally:
            gone.cancel()
        self.counters["polls"] += 1
        return Response(status_code=204) if body is None else JSONResponse(body)

    async def batches(self, request: Request) -> Response:
        """Batches for Kafka."""
        claim = signed.claim_of(request)
        host, key = signed.admit(self.directory, claim)
        host.check_active()
        packed = request.headers.get("content-encoding", "identity").lower() != "identity"
        size = bodies.announced(request, upload.MAX_BODY) + (upload.MAX_BODY if packed else 0)
        with self.uploads.room(size):
            body = await bodies.read(request, upload.MAX_BODY)
            signed.prove(claim, key, request, body)
            plain = bodies.unpacked(request, body, upload.MAX_BODY)
            results = await self.uploads.take(claim.host, host, plain)
        self.counters["upload_bytes"] += len(plain)
        return JSONResponse({"results": results})

    async def keys(self, request: Request) -> Response:
        """Another key of a host."""
        body, plain = await self._json(request)
        signer = signed.signer(self.directory, request, body)
        try:
            asked = json.loads(plain)
            public_key, proof = asked["public_key"], asked["proof"]
            if not isinstance(public_key, str) or not isinstance(proof, str):
                raise TypeError("no text")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Problem(400, "bad_value", 'write {"public_key": "…", "proof": "…"}') from error
        known = await self.database.run(
            enrolment.rotate, signer.id, signer.kid, public_key, proof, self.address(request)
        )
        await self._published(known)
        self.counters["rotations"] += 1
        return JSONResponse({"host": known.host_id, "state": known.state, "kid": known.kid})

    async def me(self, request: Request) -> Response:
        """Who the host is here."""
        signer = signed.signer(self.directory, request)
        host = signer.host
        return JSONResponse(
            {"host": signer.id, "name": host.name, "state": host.state, "kid": signer.kid, "time": now()}
        )

    async def file(self, request: Request) -> Response:
        """A file by its SHA-256."""
        name, folder = request.path_params["name"], self.settings.gateway.files
        if not _SHA256.fullmatch(name):
            raise Problem(404, "unknown_file", "a file is named by its SHA-256, 64 hex digits")
        if name not in self.downloads.public():
            signed.signer(self.directory, request).host.check_active()
        path = None if folder is None else folder / name
        if path is None or not path.is_file():
            raise Problem(404, "unknown_file", f"there is no file {name} here")
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{name}"'}
        return FileResponse(path, media_type="application/octet-stream", headers=headers)

    async def document(self, request: Request) -> Response:
        """A script of the installation, or the list of what it takes."""
        name = request.url.path.rpartition("/")[2]
        try:
            text = await asyncio.to_thread(self.downloads.document, name)
        except BundleError as error:
            raise Problem(404, "unknown_file", str(error)) from error
        kind = "application/json" if name.endswith(".json") else "text/x-shellscript"
        return Response(text, media_type=f"{kind}; charset=utf-8", headers={"Cache-Control": "no-cache"})

    async def ca(self, request: Request) -> Response:
        """The certificate authority that agents are to trust; the token says which one it is."""
        path = self.settings.gateway.ca_file
        if path is None:
            raise Problem(404, "unknown_file", "this gateway has a certificate of a public authority, or none")
        return PlainTextResponse(await asyncio.to_thread(path.read_text), media_type="application/x-pem-file")

    async def health(self, request: Request) -> Response:
        """Whether it works: for proxies, and for people."""
        body = {
            "status": "ok" if self.directory.ready else "starting",
            "configuration": "read" if self.reader.connected else "as it was read last",
            "kafka": "away" if self.uploads.away else "ok",
            "database": "away" if self.database.away else "ok",
        }
        return JSONResponse(body, 200 if self.directory.ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Figures in the format of Prometheus."""
        gauges = {
            "polls_waiting": self.polls.count,
            "browsers": self.live.count + self.graphs.count,
            "graphs_kept_bytes": self.graphs.samples.kept.bytes,
            "hosts_known": len(self.directory),
            "upload_bytes_in_flight": self.uploads.bytes,
            "config_records_refused": self.directory.refused,
        }
        lines = []
        for kind, figures in (("gauge", gauges), ("counter", dict(self.counters))):
            for name, value in sorted(figures.items()):
                full = f"ezadmin_gateway_{name}{'_total' if kind == 'counter' else ''}"
                lines += [f"# TYPE {full} {kind}", f"{full} {value}"]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    def application(self) -> Starlette:
        """Everything as an ASGI application."""

        def route(path: str, endpoint: Endpoint, method: str = "GET") -> Route:
            return Route(path, self._answering(endpoint), methods=[method])

        routes = [
            route("/enrol", self.enrol, "POST"),
            route("/poll", self.poll),
            route("/batches", self.batches, "POST"),
            route("/keys", self.keys, "POST"),
            route("/me", self.me),
            route("/files/{name}", self.file),
            route("/install.sh", self.document),
            route("/uninstall.sh", self.document),
            route("/bundle.json", self.document),
            route("/ca.pem", self.ca),
            route("/health", self.health),
            route("/metrics", self.metrics),
            WebSocketRoute("/ws", self.live.serve),
            WebSocketRoute("/graphs", self.graphs.serve),
        ]

        async def unknown(request: Request, error: Exception) -> Response:
            status = error.status_code if isinstance(error, HTTPException) else 500
            reason = {404: "unknown_path", 405: "wrong_method"}.get(status, "failed")
            return Problem(status, reason, f"{request.method} {request.url.path}").response()

        return Starlette(
            routes=[Mount(PATH, routes=routes)], lifespan=self.lifespan, exception_handlers={HTTPException: unknown}
        )

    def _answering(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint whose refusals are answers."""

        async def answered(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Problem as problem:
                self.counters[f"answers_{problem.status}"] += 1
                if problem.status in (401, 403, 409):
                    self._note(request, problem)
                return problem.response()
            except Exception:  # noqa: BLE001 - a mistake of ours is no reason to hang up
                self.counters["answers_500"] += 1
                _log.exception("%s %s failed", request.method, request.url.path)
                return Problem(500, "failed", "the gateway failed; its log says why").response()

        return answered

    def _note(self, request: Request, problem: Problem) -> None:
        """Log a refusal: as a warning, and so as an event, what no agent of ours does by itself."""
        host = _claimed(request)
        forged = problem.reason in _FORGED and self._told.first(f"{problem.reason} {host}")
        _log.log(
            logging.WARNING if forged else logging.INFO, "%s %s refused: %s", request.method, request.url.path, problem,
            extra={"fields": {"error.type": problem.reason, "client.ip": self.address(request), "host.id": host}},
        )  # fmt: skip


def _claimed(request: Request) -> str:
    """The host that the request says it is of, true or not."""
    found = re.match(r"Ezadmin host=([0-9a-f-]{36})", request.headers.get("authorization", ""))
    return found[1] if found else "-"


async def _gone(request: Request) -> None:
    """Returns when the other side has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

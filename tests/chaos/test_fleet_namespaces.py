"""A fleet of network namespaces: real agents, installed by the line that ezadmin shows, through everything that befalls hosts.

Some ship by Kafka, some by HTTPS through a proxy and reach nothing else. All are commanded; one's disk is copied twice, one is
revoked while it writes, one is installed anew, one is renamed. At the end the CMDB tells the truth, and so do the counts of
lines. ``EZADMIN_FULL=1``: 20 hosts, else 6.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import scratch_hosts
from ezadmin_testing.commands import signer
from ezadmin_testing.gateway import KIM, GatewayUnderTest
from ezadmin_testing.installing import STATE, Way, gateway_with_bundle, host_id, new_line, paste, status
from ezadmin_testing.processes import Process, pipeline, wait_until
from ezadmin_testing.scratch_hosts import ScratchHost
from ezadmin_testing.search import search_all
from flask.testing import FlaskClient
from sqlalchemy import select

from ezadmin_cmdb import settings
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts import tokens
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.database import db
from ezadmin_cmdb.enrolment.models import HostMachine
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.rights.permissions import known
from ezadmin_cmdb.signer.settings import CommandSettings
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

HOSTS = 20 if os.environ.get("EZADMIN_FULL") else 6
LINES = 200
SERVICE = "/opt/ezadmin-agent/current/bin/ezadmin-agent-service"
SYSLOG = "/var/log/syslog"


@dataclass
class Fleet:
    """The hosts by number, copies of one, and the installation that they report to."""

    gateway: GatewayUnderTest
    web: FlaskClient
    api_token: str
    way: Way
    elastic: ElasticClient
    names: Names
    folder: Path
    hosts: list[ScratchHost]
    copies: list[ScratchHost]

    def make(self, name: str) -> ScratchHost:
        host = ScratchHost(self.folder / name, name, network=True)
        host.write(SYSLOG, "")
        return host

    def write(self, host: ScratchHost, what: str, lines: int = LINES) -> None:
        """Lines in the host's system log, which its agent is to send."""
        at = datetime.now(UTC).isoformat()
        with host.path(SYSLOG).open("a") as log:
            log.writelines(f"{at} {host.name} app[1]: {what} line {number}\n" for number in range(lines))

    def arrived(self) -> Counter[tuple[str, str]]:
        """Documents in Elasticsearch by host.id and what they say."""
        query = {"term": {"event.dataset": "system.syslog"}}
        hits = search_all(self.elastic, f"{self.names.prefix}-logs-*", query, ["host.id", "message"])
        found: Counter[tuple[str, str]] = Counter()
        for hit in hits:
            document = hit["_source"]
            host = document.get("host.id") or document["host"]["id"]
            found[host, str(document["message"]).partition(" line ")[0]] += 1
        return found

    def wait_arrived(self, what: str, wanted: dict[str, int]) -> None:
        """Until each host has so many lines of ``what``, and not one more."""

        def there() -> bool:
            now = self.arrived()
            return all(now[host, what] >= lines for host, lines in wanted.items())

        try:
            wait_until(there, 240, f"the lines of {what}")
        except AssertionError:
            pytest.fail(f"{what}: wanted {wanted}, there are {self.arrived()}")
        assert {host: self.arrived()[host, what] for host in wanted} == wanted

    def ask(self, method: str, path: str, status: int, body: dict[str, Any] | None = None) -> Any:
        """What the web application's API answers to kim's program."""
        headers = {"Authorization": f"Bearer {self.api_token}"}
        answer = self.web.open(f"/api/v1{path}", method=method, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json

    def command_all(self, hosts: list[ScratchHost], kind: str, arguments: dict[str, Any]) -> None:
        """Have each do something, and wait until each says that it is done."""
        ids = [host_id(host) for host in hosts]
        wanted = {"kind": kind, "ids": ids, "arguments": arguments}
        assert self.ask("POST", "/commands/preview", 200, wanted)["count"] == len(ids)
        run = self.ask("POST", "/commands", 201, {**wanted, "expected": len(ids)})["id"]

        def states() -> dict[str, str]:
            return {one["host_name"]: one["state"] for one in self.ask("GET", f"/commands/{run}/hosts", 200)}

        try:
            wait_until(lambda: list(states().values()) == ["done"] * len(ids), 120, kind)
        except AssertionError:
            pytest.fail(f"{kind}: {states()}")


@pytest.fixture
def fleet(stack: Any, names: Names, database: str, tmp_path: Path, elastic: ElasticClient) -> Iterator[Fleet]:
    reason = scratch_hosts.usable()
    if reason:
        pytest.skip(reason)
    folder = tmp_path / "server"
    folder.mkdir()
    with signer(folder) as signing:
        yield from _fleet(signing, stack, names, database, tmp_path, elastic)


def _fleet(
    signing: CommandSettings, stack: Any, names: Names, database: str, tmp_path: Path, elastic: ElasticClient
) -> Iterator[Fleet]:
    folder = tmp_path / "server"
    gateway = gateway_with_bundle(stack, names, database, folder, signing=signing)
    gateway.config.write_text(f'{gateway.config.read_text()}[elasticsearch]\nurl = "{stack.elasticsearch}"\n')
    app = create_app(settings.load(gateway.config))
    with gateway.work():
        user = accounts.create_user(KIM, "kim", "correct horse battery staple", admin=True)
        db.session.flush()
        token = tokens.create(KIM, user, "test", [one.name for one in known()])[1]
    public = SigningKey.load(folder / "config.key").public.hex()
    config = folder / "pipeline.toml"
    config.write_text(
        f'prefix = "{names.prefix}"\nsignatures = "required"\npartitions = 3\nconfig_public_key = "{public}"\n'
        f'[kafka]\nbootstrap = "{stack.kafka}"\n[elasticsearch]\nurl = "{stack.elasticsearch}"\n'
    )
    worker: Process = pipeline(config, folder / "pipeline.log").start()
    made = Fleet(gateway, app.test_client(), token, Way(gateway, stack.kafka), elastic, names, tmp_path, [], [])
    try:
        yield made
    finally:
        for host in [*made.hosts, *made.copies]:
            host.close()
        made.way.proxy.close()
        worker.stop()
        gateway.stop()
        for name in ("ezadmin_elastic", "ezadmin_kafka"):
            app.extensions[name].close()
        with app.app_context():
            db.engine.dispose()


def copy_of(fleet: Fleet, original: ScratchHost, name: str) -> ScratchHost:
    """Another machine with a copy of the original's disk, as it was while nothing ran."""
    copy = fleet.make(name)
    fleet.copies.append(copy)
    for folder in ("/opt/ezadmin-agent", "/etc/ezadmin", STATE):
        shutil.copytree(original.path(folder), copy.path(folder), symlinks=True)
    fleet.way.direct(copy)
    return copy


def test_the_cmdb_ends_with_the_truth(fleet: Fleet) -> None:
    gateway = fleet.gateway
    line = new_line(gateway, "--uses", str(HOSTS + 1), "--replace")
    fleet.hosts += [fleet.make(f"web{number}") for number in range(HOSTS)]
    ways = [fleet.way.proxied if number % 2 else fleet.way.direct for number in range(HOSTS)]
    options = [way(host) for way, host in zip(ways, fleet.hosts, strict=True)]

    def install(number: int) -> str:
        shell = "export https_proxy=http://127.0.0.1:3128; " if number % 2 else ""
        return paste(fleet.hosts[number], line, f"{options[number]} --wait 120", way=shell).stdout

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(install, range(HOSTS)))
    for number, text in enumerate(said):
        assert "runs and sends" in text
        assert status(fleet.hosts[number])["transport"] == ("https" if number % 2 else "kafka")
    ids = [host_id(host) for host in fleet.hosts]
    assert len(set(ids)) == HOSTS

    # all are commanded, and ship
    fleet.command_all(fleet.hosts, "inventory", {})
    for host in fleet.hosts:
        fleet.write(host, "first")
    fleet.wait_arrived("first", dict.fromkeys(ids, LINES))

    original, revoked, anew, renamed = fleet.hosts[:4]

    # a disk is copied twice: the copies know that they are none of the original
    original.run(SERVICE, "stop")
    copies = [copy_of(fleet, original, f"copy{number}") for number in (1, 2)]
    for host in (original, *copies):
        host.run(SERVICE, "start")
    wait_until(lambda: all(host_id(copy) not in ids for copy in copies), 60, "the copies have names of their own")
    copy_ids = [host_id(copy) for copy in copies]
    assert len({*copy_ids, *ids}) == HOSTS + 2
    wait_until(
        lambda: all((status(copy).get("control") or {}).get("state") == "quarantined" for copy in copies),
        90,
        "they wait",
    )
    gateway.run("host", "accept", copy_ids[0])
    wait_until(lambda: status(copies[0])["control"]["state"] == "active", 90, "one copy is accepted")
    for host in (original, *copies):
        fleet.write(host, "second")
    fleet.wait_arrived("second", {ids[0]: LINES, copy_ids[0]: LINES})

    # one is revoked while it writes: nothing that it writes from then on is believed
    stopping = threading.Event()

    def chatter() -> None:
        while not stopping.wait(0.2):
            fleet.write(revoked, "stream", 5)

    writer = threading.Thread(target=chatter)
    writer.start()
    wait_until(lambda: fleet.arrived()[ids[1], "stream"] >= 20, 90, "its stream arrives")
    gateway.run("host", "state", ids[1], "revoked")
    moment = time.monotonic()
    wait_until(lambda: status(revoked)["control"]["state"] == "revoked", 60, "it knows that it is revoked")
    assert time.monotonic() - moment < 60
    fleet.write(revoked, "after")

    # one is installed anew on a wiped disk, and is the host that it was
    key = status_kid(anew)
    anew.run("sh", "/opt/ezadmin-agent/uninstall.sh")
    assert not anew.path(STATE).exists()
    time.sleep(3)  # longer than the gateway waits for a host that may still be there
    assert "runs and sends" in paste(anew, line, f"{options[2]} --wait 120").stdout
    assert host_id(anew) == ids[2]
    assert status_kid(anew) != key

    # one is renamed
    renamed.run("hostname", "mail9")
    renamed.run(SERVICE, "restart")

    living = [host for host in (*fleet.hosts, copies[0]) if host is not revoked]
    wait_until(lambda: all((status(host).get("control") or {}).get("connected") for host in living), 90, "all poll")
    fleet.command_all(living, "inventory", {})
    for host in living:
        fleet.write(host, "last")
    fleet.wait_arrived("last", {host_id(host): LINES for host in living})
    stopping.set()
    writer.join()

    # the truth
    arrived = fleet.arrived()
    assert {host for host, _ in arrived} == {*ids, copy_ids[0]}, "nothing of the copy that nobody accepted"
    assert {host: arrived[host, "after"] for host in ids} == dict.fromkeys(ids, 0)
    for what, hosts in (("first", ids), ("last", [host_id(host) for host in living])):
        assert {host: arrived[host, what] for host in hosts} == dict.fromkeys(hosts, LINES)
    with gateway.app.app_context():
        hosts = {host.id: host for host in db.session.scalars(select(Host))}
        of = {one.host_id: one.cloned_from for one in db.session.scalars(select(HostMachine))}
        states = {host.id: host.state for host in hosts.values()}
        keys = {host.id: [one.kid for one in host.keys if not one.revoked] for host in hosts.values()}
        hostnames = {host.id: host.hostname for host in hosts.values()}
    assert set(hosts) == {*ids, *copy_ids}
    assert states == {
        **dict.fromkeys(ids, "active"), ids[1]: "revoked", copy_ids[0]: "active", copy_ids[1]: "quarantined"
    }  # fmt: skip
    for host in living:
        assert status_kid(host) in keys[host_id(host)]
    assert key not in keys[ids[2]], "the key of the wiped disk is good for nothing"
    assert len({kid for kids in keys.values() for kid in kids}) == sum(map(len, keys.values()))
    assert [of[one] for one in copy_ids] == [ids[0], ids[0]]
    assert hostnames[ids[3]] == "mail9"
    assert {hostnames[one] for one in ids} == {f"web{number}" for number in range(HOSTS) if number != 3} | {"mail9"}


def status_kid(host: ScratchHost) -> str:
    """The name of the key that a host has."""
    done = host.run("/opt/ezadmin-agent/current/bin/ezadmin-agent", "identity")
    return str(json.loads(done.stdout)["kid"])

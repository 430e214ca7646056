"""Agents installed by the line that ezadmin shows, on hosts of a test's own (:mod:`.scratch_hosts`)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ezadmin_cmdb.install import bundle
from ezadmin_cmdb.signer.settings import CommandSettings
from ezadmin_testing.certificates import Authority
from ezadmin_testing.gateway import GatewayUnderTest
from ezadmin_testing.proxy import CuttingProxy
from ezadmin_testing.scratch_hosts import ScratchHost
from ezadmin_wire.names import Names

PROXY_PORT = 3128
STATE = "/var/lib/ezadmin-agent"


def gateway_with_bundle(
    stack: Any, names: Names, database: str, folder: Path, *, signing: CommandSettings | None = None, **settings: str
) -> GatewayUnderTest:
    """A gateway with a certificate of an authority of its own, and the agent's bundle for hosts like this machine.

    ``signing``: the signer whose commands agents do; without, those of the test's own key.
    """
    authority = Authority(folder / "authority")
    certificate, key = authority.issue("gateway", ("127.0.0.1",))
    gateway = GatewayUnderTest(
        stack, names, database, folder, cert_file=f'"{certificate}"', key_file=f'"{key}"',
        ca_file=f'"{authority.ca_file}"', agents_kafka=f'"{stack.kafka}"', **settings,
    )  # fmt: skip
    if signing is not None:
        gateway.signed_by(signing)
    bundle.build(gateway.files, [bundle.here()])
    gateway.start()
    return gateway


def new_line(gateway: GatewayUnderTest, *options: str) -> str:
    """The line for new hosts, as ``enrolment-token create`` shows it."""
    made = json.loads(gateway.run("enrolment-token", "create", "--name", "line", "--json", *options))
    return str(made["command"])


class Way:
    """How a host reaches the rest: an own network with nothing in it but what is forwarded."""

    def __init__(self, gateway: GatewayUnderTest, kafka: str) -> None:
        self.gateway = gateway
        self.kafka = kafka
        self.proxy = CuttingProxy()

    def direct(self, host: ScratchHost) -> str:
        """To gateway and brokers; options for the line."""
        port = int(self.kafka.rpartition(":")[2])
        host.forward(port, ("127.0.0.1", port))
        host.forward(self.gateway.port, ("127.0.0.1", self.gateway.port))
        return "--service none"

    def proxied(self, host: ScratchHost) -> str:
        """To a proxy, and to nothing else."""
        host.forward(PROXY_PORT, ("127.0.0.1", int(self.proxy.url.rpartition(":")[2])))
        return f"--service none --transport https --proxy http://127.0.0.1:{PROXY_PORT}"


def paste(
    host: ScratchHost, line: str, options: str, *, way: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Paste the line into a root shell of the host; ``way``: what its shell sets before, such as a proxy."""
    return host.run("sh", "-c", f"{way}{line.removesuffix(')')} {options})", check=check, timeout=300)


def token_of(line: str) -> str:
    """The token in a line."""
    return line.partition("EZADMIN_TOKEN=")[2].split()[0]


def status(host: ScratchHost) -> dict[str, Any]:
    """What the agent says of itself; empty if it says nothing."""
    done = host.run("/opt/ezadmin-agent/current/bin/ezadmin-agent", "status", "--json", check=False)
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found


def host_id(host: ScratchHost) -> str:
    """Its host.id."""
    return host.path(f"{STATE}/host.id").read_text().strip()

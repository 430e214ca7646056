"""A Kafka and an Elasticsearch with everything locked: TLS, sign-in, rights. Real ones, started for the tests that ask."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ezadmin_testing.certificates import Authority

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "deploy" / "local"))

from ezadmin_local import config, install, machine  # noqa: E402
from ezadmin_local.layout import Layout  # noqa: E402
from ezadmin_local.stack import MAP_USER  # noqa: E402

HERE = ("127.0.0.1", "localhost")


def password_of(user: str) -> str:
    """Every user's password."""
    return f"{user}-secret"


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


class Service:
    """A server process of ours; ``log`` holds what it says."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str], ready: Callable[[], bool]) -> None:
        """Start it and wait until ``ready``."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(list(command), stdout=log, stderr=log, env={**os.environ, **environment})
        deadline = time.monotonic() + 120
        while not ready():
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.3)

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)


class SecuredKafka(Service):
    """A broker with rights, and three ways in:

    ``sasl``: TLS, and a user by PLAIN or SCRAM; ``mtls``: TLS with a certificate, whose CN is the user; ``inside``:
    neither, for the tests themselves, who may do everything there.
    """

    def __init__(self, folder: Path, users: Sequence[str]) -> None:
        super().__init__(folder)
        self.authority = Authority(folder / "ca")
        inside, controller, sasl, mtls = free_ports(4)
        self.inside, self.sasl, self.mtls = (f"127.0.0.1:{port}" for port in (inside, sasl, mtls))
        java, layout = _java(), Layout.find(None)
        certificate, key = self.authority.issue("broker", HERE)
        both = folder / "broker-keystore.pem"
        both.write_text(key.read_text() + certificate.read_text())
        properties = folder / "kafka.properties"
        properties.write_text(_kafka_properties(self, controller, both, users))
        log4j = folder / "log4j2.xml"
        log4j.write_text(config.KAFKA_LOG4J)
        command = config.kafka_java(java, layout.dist, "384m", log4j)
        scram = [
            f"{mechanism}=[name={user},password={password_of(user)}]"
            for user in users
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]
        subprocess.run(
            [
                *(*command, "kafka.tools.StorageTool", "format", "--cluster-id", config.CLUSTER_ID),
                *("--config", str(properties)),
                *(part for entry in scram for part in ("--add-scram", entry)),
            ],
            check=True,
            capture_output=True,
        )
        self.start(
            config.with_parent([*command, "kafka.Kafka", str(properties)]),
            {},
            lambda: _listens(sasl) and _listens(inside),
        )

    def table(self, user: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, Any]:
        """``[kafka]`` for a user with a password."""
        return {
            "bootstrap": self.sasl,
            "tls": True,
            "ca_file": str(self.authority.ca_file),
            "sasl": mechanism,
            "user": user,
            "password_file": str(password_file(self.folder, user)),
        }

    def mtls_table(self, user: str) -> dict[str, Any]:
        """``[kafka]`` for a user with a certificate."""
        certificate, key = self.authority.issue(user)
        return {
            "bootstrap": self.mtls,
            "tls": True,
            "ca_file": str(self.authority.ca_file),
            "certificate_file": str(certificate),
            "key_file": str(key),
        }


def _kafka_properties(kafka: SecuredKafka, controller: int, keystore: Path, users: Sequence[str]) -> str:
    plain = " ".join(f'user_{user}="{password_of(user)}"' for user in users)
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=INSIDE://{kafka.inside},CONTROLLER://127.0.0.1:{controller},SASL://{kafka.sasl},MTLS://{kafka.mtls}
advertised.listeners=INSIDE://{kafka.inside},SASL://{kafka.sasl},MTLS://{kafka.mtls}
listener.security.protocol.map=INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MTLS:SSL
inter.broker.listener.name=INSIDE
controller.listener.names=CONTROLLER
log.dirs={kafka.folder / "data"}
auto.create.topics.enable=false
message.max.bytes=4194304
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=3
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={kafka.authority.ca_file}
listener.name.mtls.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=(.*?)$/$1/,DEFAULT
listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required {plain};
listener.name.sasl.scram-sha-256.sasl.jaas.config={scram}
listener.name.sasl.scram-sha-512.sasl.jaas.config={scram}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
"""


class SecuredElastic(Service):
    """A node with TLS on HTTP, and users with roles from files. ``home``: an unpacked Elasticsearch; ``java``: its Java."""

    def __init__(
        self,
        folder: Path,
        users: Mapping[str, str],
        roles: Mapping[str, Any],
        home: Path | None = None,
        java: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self.authority = Authority(folder / "ca")
        home = home or install.elasticsearch_home(Layout.find(None))
        http, transport = free_ports(2)
        self.url = f"https://127.0.0.1:{http}"
        etc, temporary = folder / "etc", folder / "tmp"
        for made in (etc / "jvm.options.d", temporary, folder / "data"):
            made.mkdir(parents=True, exist_ok=True)
        certificate, key = self.authority.issue("node", HERE)
        for path, name in ((certificate, "node.pem"), (key, "node.key")):
            (etc / name).write_bytes(path.read_bytes())
        (etc / "elasticsearch.yml").write_text(
            "cluster.name: secured\nnode.name: secured\ndiscovery.type: single-node\nnetwork.host: 127.0.0.1\n"
            f"http.port: {http}\ntransport.port: {transport}\n"
            f"path.data: {json.dumps(str(folder / 'data'))}\npath.logs: {json.dumps(str(temporary))}\n"
            "xpack.security.enabled: true\nxpack.security.enrollment.enabled: false\n"
            "xpack.security.http.ssl.enabled: true\n"
            "xpack.security.http.ssl.certificate: node.pem\nxpack.security.http.ssl.key: node.key\n"
            "cluster.routing.allocation.disk.watermark.low: 2gb\ncluster.routing.allocation.disk.watermark.high: 1gb\n"
            "cluster.routing.allocation.disk.watermark.flood_stage: 500mb\n"
        )
        (etc / "jvm.options").write_text(
            config.elasticsearch_jvm_options((home / "config" / "jvm.options").read_text())
        )
        (etc / "jvm.options.d" / "test.options").write_text("-Xms512m\n-Xmx512m\n-XX:-AlwaysPreTouch\n")
        (etc / "log4j2.properties").write_text(config.ELASTICSEARCH_LOG4J)
        # JSON is YAML, but the reader of this file wants each role's name at the beginning of a line
        (etc / "roles.yml").write_text("".join(f"{name}: {json.dumps(role)}\n" for name, role in roles.items()))
        (etc / "users").write_text("".join(f"{user}:{_hashed(password_of(user))}\n" for user in users))
        (etc / "users_roles").write_text("".join(f"{role}:{user}\n" for user, role in users.items()))
        command = config.elasticsearch_command(home, MAP_USER if os.geteuid() == 0 else [])
        environment = {
            "ES_JAVA_HOME": str(java or _java()),
            "ES_PATH_CONF": str(etc),
            "ES_TMPDIR": str(temporary),
        }
        self.start(command, environment, lambda: _listens(http) and b"started" in self.log.read_bytes())

    def table(self, user: str) -> dict[str, Any]:
        """``[elasticsearch]`` for a user."""
        return {
            "url": self.url,
            "ca_file": str(self.authority.ca_file),
            "user": user,
            "password_file": str(password_file(self.folder, user)),
        }


def password_file(folder: Path, user: str, password: str | None = None) -> Path:
    """A file that holds the user's password, or another."""
    path = folder / f"{user}{'' if password is None else '-other'}.password"
    path.touch(0o600)
    path.write_text((password_of(user) if password is None else password) + "\n")
    return path


def toml(table: Mapping[str, Any]) -> str:
    """The members of a TOML table."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


def _hashed(password: str) -> str:
    """As the file realm reads it: PBKDF2 with SHA-512, 32 bytes of salt and of hash."""
    salt = os.urandom(32)
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 1000, 32)
    return f"{{PBKDF2}}1000${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"


def _java() -> Path:
    java = machine.find_java()
    assert java is not None, "no Java 17 or newer"
    return java


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True

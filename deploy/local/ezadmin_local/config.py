"""Every configuration file of a stack, as text. Nothing here touches the machine."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .layout import Layout
from .processes import MARK, mark
from .security import ADMINISTRATOR, PREFIX, Security

DATABASE = "ezadmin"
CLUSTER_ID = "ezadmin-local-kafka-00"
"""22 characters of base64url, as Kafka wants it. One for all: every stack is one broker on loopback."""


@dataclass(frozen=True)
class Settings:
    """What a user can set by environment variable."""

    es_heap: str = "1g"
    kafka_heap: str = "512m"


@dataclass(frozen=True)
class Endpoints:
    """Where the services of a stack listen. security: None where they ask for no password and speak no TLS."""

    ports: Mapping[str, int]
    password: str
    socket: Path
    security: Security | None = None

    @property
    def scheme(self) -> str:
        """What the URLs begin with."""
        return "https" if self.security else "http"

    @property
    def kafka(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.ports['kafka']}"

    @property
    def elasticsearch(self) -> str:
        """URL without a slash at its end."""
        return f"{self.scheme}://127.0.0.1:{self.ports['elasticsearch']}"

    @property
    def web(self) -> str:
        """URL of the web application, without a slash at its end."""
        return f"{self.scheme}://127.0.0.1:{self.ports['web']}"

    @property
    def gateway(self) -> str:
        """URL of the gateway, without a slash at its end."""
        return f"{self.scheme}://127.0.0.1:{self.ports['gateway']}"

    @property
    def grafana(self) -> str:
        """URL of the stack's own Grafana, if it runs one."""
        return f"{self.scheme}://127.0.0.1:{self.ports['grafana']}"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database."""
        tls = f"&ssl_ca={self.security.ca_file}&ssl_check_hostname=true" if self.security else ""
        port = self.ports["mariadb"]
        return f"mysql+pymysql://{DATABASE}:{self.password}@127.0.0.1:{port}/{DATABASE}?charset=utf8mb4{tls}"

    def kafka_table(self, user: str) -> dict[str, str | bool]:
        """``[kafka]`` of a user; user: of a secure stack."""
        table: dict[str, str | bool] = {"bootstrap": self.kafka}
        if self.security:
            password_file = str(self.security.password_file("kafka", user))
            table |= {"tls": True, "ca_file": str(self.security.ca_file)}
            table |= {"sasl": "SCRAM-SHA-512", "user": user, "password_file": password_file}
        return table

    def elasticsearch_table(self, user: str) -> dict[str, str | bool]:
        """``[elasticsearch]`` of a user; user: of a secure stack."""
        table: dict[str, str | bool] = {"url": self.elasticsearch}
        if self.security:
            password_file = str(self.security.password_file("elasticsearch", user))
            table |= {"ca_file": str(self.security.ca_file), "user": user, "password_file": password_file}
        return table

    def certificate_table(self) -> dict[str, str | bool]:
        """What ``[web]`` and ``[gateway]`` of a secure stack have more."""
        if self.security is None:
            return {}
        return {"cert_file": str(self.security.certificate), "key_file": str(self.security.key)}


@dataclass(frozen=True)
class Program:
    """One program under supervisord.

    stamp: hash of whatever it reads at its start; when that changes, `up` starts it anew.
    """

    name: str
    command: list[str]
    directory: Path
    start_seconds: int
    environment: dict[str, str] = field(default_factory=dict)
    stamp: str = ""


def with_parent(command: list[str]) -> list[str]:
    """The command so that it is asked to end when its parent, supervisord, is gone, however that went."""
    return ["setpriv", "--pdeathsig", "TERM", *command]


def stamp(*contents: str | bytes) -> str:
    """One short hash over contents."""
    digest = hashlib.sha256()
    for content in contents:
        data = content.encode() if isinstance(content, str) else content
        digest.update(len(data).to_bytes(8) + data)
    return digest.hexdigest()[:16]


# -- Kafka ---


def kafka_properties(data: Path, endpoints: Endpoints) -> str:
    """One broker that is its own controller (KRaft)."""
    controller = endpoints.ports["kafka_controller"]
    data_protocol, controller_protocol = ("SASL_SSL", "SSL") if endpoints.security else ("PLAINTEXT", "PLAINTEXT")
    return f"""\
# Written by deploy/local/up at each start; changes here are lost.
# Listens on 127.0.0.1 only: for this machine, not for a network.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=DATA://{endpoints.kafka},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=DATA://{endpoints.kafka}
listener.security.protocol.map=DATA:{data_protocol},CONTROLLER:{controller_protocol}
inter.broker.listener.name=DATA
controller.listener.names=CONTROLLER
log.dirs={data}

# `ezadmin-pipeline setup` makes the topics; a mistyped name must fail instead of making one more.
auto.create.topics.enable=false
num.partitions=6
# The dead letters hold what did not fit elsewhere, so the broker takes more than a data topic does (2 MiB).
message.max.bytes=4194304
replica.fetch.max.bytes=4194304

# One broker: nothing can have a second copy.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=3

# Consumers are few and known: the first one need not wait for others.
group.initial.rebalance.delay.ms=0
controlled.shutdown.enable=true
# Compaction's buffer comes out of the small heap (default 128 MiB).
log.cleaner.dedupe.buffer.size=16777216
{_kafka_security(endpoints.security) if endpoints.security else ""}"""


def _kafka_security(security: Security) -> str:
    """TLS, users by SCRAM, and rights: whom no right allows something may not do it."""
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    password = security.password("kafka", ADMINISTRATOR)
    return f"""
ssl.keystore.type=PEM
ssl.keystore.location={security.both}
ssl.truststore.type=PEM
ssl.truststore.location={security.ca_file}
# The broker is its own controller's client, and known there by its certificate.
listener.name.controller.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=(.*?)$/$1/,DEFAULT
listener.name.data.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.data.scram-sha-512.sasl.jaas.config={scram} username="{ADMINISTRATOR}" password="{password}";
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:server;User:{ADMINISTRATOR}
allow.everyone.if.no.acl.found=false
# A user who is gone is sent away a minute later at most.
connections.max.reauth.ms=60000
"""


def kafka_format_arguments(layout: Layout, endpoints: Endpoints) -> str:
    """What formats Kafka's storage, in a file for Java: a password on the command line is seen by every user."""
    words = ["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID]
    words += ["--config", str(layout.etc / "kafka.properties")]
    words += ["--ignore-formatted"]  # the run before this one may have been cut off half way
    if endpoints.security:
        password = endpoints.security.password("kafka", ADMINISTRATOR)
        words += ["--add-scram", f"SCRAM-SHA-512=[name={ADMINISTRATOR},password={password}]"]
    return "\n".join(words) + "\n"


KAFKA_LOG4J = """\
<?xml version="1.0" encoding="UTF-8"?>
<!-- Written by deploy/local/up. To standard output, which supervisord keeps and rotates; until Kafka has ended, which
     is after log4j's own end would come. -->
<Configuration status="WARN" shutdownHook="disable">
  <Appenders>
    <Console name="console" target="SYSTEM_OUT">
      <PatternLayout pattern="%d{ISO8601} %-5p %c{1}: %m%n"/>
    </Console>
  </Appenders>
  <Loggers>
    <!-- Hundreds of lines of settings at each start. -->
    <Logger name="kafka.server.KafkaConfig" level="WARN"/>
    <Logger name="org.apache.kafka.common.config" level="WARN"/>
    <Root level="INFO"><AppenderRef ref="console"/></Root>
  </Loggers>
</Configuration>
"""


def kafka_java(java_home: Path, dist: Path, heap: str, log4j: Path | None) -> list[str]:
    """The command of a Kafka program, without the name of its class. heap: Java's -Xmx."""
    logging = [f"-Dlog4j2.configurationFile={log4j}"] if log4j else []
    return [
        str(java_home / "bin" / "java"),
        f"-Xmx{heap}",
        "-XX:+ExitOnOutOfMemoryError",
        *logging,
        "-cp",
        f"{dist}/kafka/libs/*",
    ]


# -- Elasticsearch ---


def elasticsearch_yml(layout: Layout, endpoints: Endpoints) -> str:
    """One node."""
    text = json.dumps  # a JSON string is a YAML string
    return f"""\
# Written by deploy/local/up at each start; changes here are lost.
cluster.name: ezadmin-local
node.name: local
path.data: {text(str(layout.data / "elasticsearch"))}
path.logs: {text(str(layout.run / "elasticsearch"))}
discovery.type: single-node

# On 127.0.0.1 only; where security is off it must stay there: whoever reaches the port reads and writes everything.
network.host: 127.0.0.1
http.port: {endpoints.ports["elasticsearch"]}
transport.port: {endpoints.ports["elasticsearch_transport"]}
{_ELASTICSEARCH_SECURITY if endpoints.security else "xpack.security.enabled: false"}

# Absolute: the default of 85 % used would stop a big disk with hundreds of free gigabytes.
cluster.routing.allocation.disk.watermark.low: 2gb
cluster.routing.allocation.disk.watermark.high: 1gb
cluster.routing.allocation.disk.watermark.flood_stage: 500mb
"""


_ELASTICSEARCH_SECURITY = """\
xpack.security.enabled: true
xpack.security.enrollment.enabled: false
xpack.security.http.ssl.enabled: true
xpack.security.http.ssl.certificate: server.pem
xpack.security.http.ssl.key: server.key
# Nobody else is in this cluster, and without this anyone on this machine could say that he is.
xpack.security.transport.ssl.enabled: true
xpack.security.transport.ssl.certificate: server.pem
xpack.security.transport.ssl.key: server.key
xpack.security.transport.ssl.certificate_authorities: ca.pem"""


def elasticsearch_jvm_options(shipped: str) -> str:
    """The server's own options without the files that it would write (log of collections, crash reports)."""
    lines = [
        line for line in shipped.splitlines() if not line.startswith(("-Xlog:", "-XX:ErrorFile=", "-XX:HeapDumpPath="))
    ]
    return "\n".join(lines) + "\n"


def elasticsearch_heap_options(layout: Layout, heap: str) -> str:
    """The options of this stack, for the folder jvm.options.d."""
    folder = layout.run / "elasticsearch"
    return (
        f"-Xms{heap}\n-Xmx{heap}\n"
        "# Elasticsearch's default takes the whole heap from the machine at once; here it is taken as it is used.\n"
        "-XX:-AlwaysPreTouch\n"
        f"-XX:HeapDumpPath={folder}\n-XX:ErrorFile={folder}/hs_err_pid%p.log\n"
        "# Else built-in roles are written to an index, which needs a module that is not there: a warning at each change.\n"
        "-Des.queryable_built_in_roles_enabled=false\n"
    )


ELASTICSEARCH_LOG4J = """\
# Written by deploy/local/up. To standard output, which supervisord keeps and rotates.
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1.}: %m%consoleException%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


def elasticsearch_command(dist_home: Path, as_other_user: list[str]) -> list[str]:
    """The command of Elasticsearch. as_other_user: what makes it another than root, which it refuses; else empty."""
    return [*as_other_user, *with_parent([str(dist_home / "bin" / "elasticsearch")])]


# -- MariaDB ---


def mariadb_options(data: Path, user: str | None) -> list[str]:
    """What making the data folder and running the server have in common. user: to run as, where root starts it."""
    return [
        "--no-defaults",  # first, or the machine's own /etc/mysql would be read
        f"--datadir={data}",
        "--innodb-log-file-size=16M",  # 96 MB else, in an empty instance
        *([f"--user={user}"] if user else []),
    ]


def mariadb_command(mariadbd: Path, layout: Layout, endpoints: Endpoints, user: str | None) -> list[str]:
    """The command of MariaDB."""
    return [
        str(mariadbd),
        *mariadb_options(layout.data / "mariadb", user),
        "--bind-address=127.0.0.1",
        f"--port={endpoints.ports['mariadb']}",
        f"--socket={endpoints.socket}",
        f"--pid-file={layout.run / 'mariadb.pid'}",
        f"--init-file={layout.etc / 'mariadb-init.sql'}",
        "--skip-name-resolve",
        "--skip-log-bin",
        "--character-set-server=utf8mb4",
        "--innodb-buffer-pool-size=64M",
        "--max-connections=100",
        *(_mariadb_security(endpoints.security) if endpoints.security else []),
    ]


def _mariadb_security(security: Security) -> list[str]:
    return [
        f"--ssl-ca={security.ca_file}",
        f"--ssl-cert={security.certificate}",
        f"--ssl-key={security.key}",
        "--require-secure-transport=ON",
    ]


def mariadb_init_sql(password: str, secure: bool = False) -> str:
    """Run at each start: the database, and its user with rights on it, unless secure on databases for tests as well."""
    user = f"'{DATABASE}'@'%'"  # the server listens on loopback only
    tests = "" if secure else f"GRANT ALL PRIVILEGES ON `{DATABASE}\\_%`.* TO {user};\n"
    return f"""\
CREATE DATABASE IF NOT EXISTS `{DATABASE}` CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{password}';
ALTER USER {user} IDENTIFIED BY '{password}';
GRANT ALL PRIVILEGES ON `{DATABASE}`.* TO {user};
{tests}"""


def mariadb_client_cnf(endpoints: Endpoints) -> str:
    """For `mariadb --defaults-file=…`: a password on the command line is seen by every user of the machine."""
    security = endpoints.security
    tls = f"ssl-ca={security.ca_file}\nssl-verify-server-cert\n" if security else ""
    return (
        f"[client]\nprotocol=tcp\nhost=127.0.0.1\n{tls}"
        f"port={endpoints.ports['mariadb']}\nuser={DATABASE}\npassword={endpoints.password}\n"
        f"[mariadb]\ndatabase={DATABASE}\n"
    )


# -- ezadmin's own parts ---


def agent_toml(layout: Layout, endpoints: Endpoints, log_file: Path | None, command_key: str) -> str:
    """Configuration of the agent. log_file: the one file to read; None leaves it to the agent to find one.

    command_key: 64 hex digits, the public key that commands are signed with. In a secure stack the way to Kafka is what the
    gateway gave at the enrolment.
    """
    security = endpoints.security
    ca_file = f"server_ca_file = {_toml(security.ca_file)}\n" if security else ""
    kafka = "" if security else _section("kafka", endpoints.kafka_table(""))
    logs = f"\n[[logs]]\npath = {_toml(log_file)}\n" if log_file else ""
    return (
        "# Written by deploy/local/up at each start; changes here are lost.\n"
        f"prefix = {_toml(PREFIX)}\nstate_dir = {_toml(layout.state / 'agent')}\ninterval = 10\n"
        f"server = {_toml(endpoints.web)}\n{ca_file}gateway = {_toml(endpoints.gateway)}\n\n"
        f"[commands]\ncommand_keys = [{_toml(command_key)}]\n{kafka}{logs}"
    )


def administrator_toml(endpoints: Endpoints) -> str:
    """How up and status reach Kafka."""
    return _section("kafka", endpoints.kafka_table(ADMINISTRATOR)).lstrip()


def pipeline_toml(
    layout: Layout, endpoints: Endpoints, config_public_key: str, user: str = f"{PREFIX}-pipeline"
) -> str:
    """Configuration of the pipeline. config_public_key: 64 hex digits; user: of Kafka and Elasticsearch, if they ask."""
    return (
        "# Written by deploy/local/up at each start; changes here are lost.\n"
        f'prefix = {_toml(PREFIX)}\nsignatures = "required"\nconfig_public_key = {_toml(config_public_key)}\n'
        + _section("kafka", endpoints.kafka_table(user))
        + _section("elasticsearch", endpoints.elasticsearch_table(user))
        + _section("own", {"key": str(layout.keys / "pipeline.key")})
    )


def cmdb_toml(layout: Layout, endpoints: Endpoints, command_key: str, grafana_url: str | None = None) -> str:
    """Configuration of the cmdb's commands. grafana_url: how browsers reach Grafana, if there is one.

    command_key: 64 hex digits, the public half of the key that the signer reads.
    """
    user = f"{PREFIX}-cmdb"
    return _cmdb_toml(layout, endpoints, command_key, user, grafana_url) + _section(
        "elasticsearch", endpoints.elasticsearch_table(user)
    )


def gateway_toml(layout: Layout, endpoints: Endpoints, command_key: str, config_key: str) -> str:
    """Configuration of the gateway. config_key: 64 hex digits, the public half of the key of config records."""
    return _cmdb_toml(layout, endpoints, command_key, f"{PREFIX}-gateway", None, config_key)


def _cmdb_toml(
    layout: Layout,
    endpoints: Endpoints,
    command_key: str,
    user: str,
    grafana_url: str | None,
    config_key: str | None = None,
) -> str:
    gateway: dict[str, str | int] = {
        "port": endpoints.ports["gateway"],
        "url": endpoints.gateway,
        "files": str(layout.bundle),
        "agents_kafka": endpoints.kafka,
        **endpoints.certificate_table(),
    }
    if config_key:
        gateway["config_public_key"] = config_key
    if endpoints.security:
        ca_file = str(endpoints.security.ca_file)
        gateway |= {"ca_file": ca_file, "agents_kafka_tls": True, "agents_kafka_ca_file": ca_file}
        gateway["agents_kafka_users"] = True
    commands = {"public_key": command_key, "signer_socket": str(layout.signer_socket)}
    if config_key is None:
        commands["signing_key"] = str(layout.keys / "command.key")
    return (
        "# Written by deploy/local/up at each start; changes here are lost.\n"
        f"prefix = {_toml(PREFIX)}\ndatabase = {_toml(endpoints.database_url)}\n"
        f"config_signing_key = {_toml(layout.keys / 'config.key')}\n"
        f"secret_key_file = {_toml(layout.keys / 'web.secret')}\n"
        + (f"grafana_url = {_toml(grafana_url)}\n" if grafana_url else "")
        + _section("kafka", endpoints.kafka_table(user))
        + _section("web", {"port": endpoints.ports["web"], "workers": 1, **endpoints.certificate_table()})
        + _section("gateway", gateway)
        + _section("commands", commands)
        + _section("own", {"key": str(layout.keys / "cmdb.key")})
    )


PART_COMMANDS = {
    "cmdb-worker": ("ezadmin-cmdb", "worker", "EZADMIN_CMDB_CONFIG"),
    "cmdb-web": ("ezadmin-cmdb", "web", "EZADMIN_CMDB_CONFIG"),
    "cmdb-signer": ("ezadmin-cmdb", "signer", "EZADMIN_CMDB_CONFIG"),
    "cmdb-gateway": ("ezadmin-cmdb", "gateway", "EZADMIN_CMDB_CONFIG"),
    "pipeline": ("ezadmin-pipeline", "run", "EZADMIN_PIPELINE_CONFIG"),
    "agent": ("ezadmin-agent", "run", "EZADMIN_AGENT_CONFIG"),
}
"""Our own long-running programs: command, verb, and the variable that names the configuration file to all its verbs."""


def part_command(layout: Layout, part: str) -> list[str]:
    """The command of one of our own long-running programs."""
    name, verb, _ = PART_COMMANDS[part]
    return with_parent([str(layout.command(name)), verb, "--config", str(layout.config_of(part))])


def part_environment(layout: Layout, part: str) -> dict[str, str]:
    """What tells the other commands of a part where its configuration is."""
    return {PART_COMMANDS[part][2]: str(layout.config_of(part))}


def _section(name: str, table: Mapping[str, str | int]) -> str:
    """A table of TOML; true, a number and a JSON string are written there as in JSON."""
    return f"\n[{name}]\n" + "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items()
    )


def _toml(value: str | Path) -> str:
    return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a TOML basic string


# -- Grafana ---


def grafana_ini(layout: Layout, endpoints: Endpoints) -> str:
    """Configuration of the stack's own Grafana: whoever reaches the port may look unless it is secure; nothing is fetched."""
    data, security = layout.data / "grafana", endpoints.security
    tls = f"protocol = https\ncert_file = {security.certificate}\ncert_key = {security.key}\n" if security else ""
    return f"""\
# Written by deploy/local/up at each start; changes here are lost.
[paths]
data = {data}
logs = {layout.run}
plugins = {data / "plugins"}
provisioning = {layout.etc / "grafana"}
[server]
http_addr = 127.0.0.1
http_port = {endpoints.ports["grafana"]}
{tls}[log]
mode = console
level = warn
[auth.anonymous]
enabled = {"false" if security else "true"}
org_role = Viewer
[analytics]
reporting_enabled = false
check_for_updates = false
check_for_plugin_updates = false
[news]
news_feed_enabled = false
[security]
admin_user = admin
# $__file: Grafana reads it from there
admin_password = $__file{{{layout.keys / "grafana.password"}}}
disable_gravatar = true
[plugins]
plugin_admin_enabled = false
"""


# -- supervisord and stack.json ---


def supervisord_conf(layout: Layout, programs: list[Program], user: str | None) -> str:
    """Configuration of supervisord. user: named where root runs it, which it else warns about."""
    lines = [
        "; Written by deploy/local/up at each start; changes here are lost.",
        "[unix_http_server]",
        f"file={_ini(layout.supervisor_socket)}",
        "chmod=0700",
        "[supervisord]",
        f"logfile={_ini(layout.log_of('supervisord'))}",
        "logfile_maxbytes=5MB",
        "logfile_backups=1",
        f"pidfile={_ini(layout.run / 'supervisord.pid')}",
        f"directory={_ini(layout.state)}",
        f"childlogdir={_ini(layout.log)}",
        "umask=077",
        *([f"user={user}"] if user else []),
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[supervisorctl]",
        f"serverurl=unix://{_ini(layout.supervisor_socket)}",
    ]
    for priority, program in enumerate(programs, start=1):
        environment = {MARK: mark(layout.state, program.name), "EZADMIN_STAMP": program.stamp, **program.environment}
        lines += [
            f"[program:{program.name}]",
            f"command={_ini(shlex.join(program.command))}",
            f"directory={_ini(program.directory)}",
            "environment=" + ",".join(f'{name}="{_ini(value)}"' for name, value in sorted(environment.items())),
            f"priority={priority}",
            "autostart=false",  # supervisord knows no health: `up` starts one after the other
            "autorestart=true",
            f"startsecs={program.start_seconds}",
            "startretries=3",
            "stopwaitsecs=60",  # `down` waits less and says so
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile={_ini(layout.log_of(program.name))}",
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=2",
        ]
    return "\n".join(lines) + "\n"


def _ini(value: str | Path) -> str:
    return str(value).replace("%", "%%")


def stack_json(
    layout: Layout, endpoints: Endpoints, admin: str, log_file: Path | None, host: dict[str, str] | None
) -> dict[str, object]:
    """The endpoints of a stack, for tests and scripts.

    kafka_connection, elasticsearch_connection: tables [kafka] and [elasticsearch] of who may do everything there.
    admin: the user who may do everything in MariaDB, over its socket. log_file: None where only journald takes log
    messages. host: id and name of this machine, None until known.
    """
    return {
        "kafka": endpoints.kafka,
        "kafka_connection": endpoints.kafka_table(ADMINISTRATOR),
        "elasticsearch": endpoints.elasticsearch,
        "elasticsearch_connection": endpoints.elasticsearch_table(ADMINISTRATOR),
        "ca_file": str(endpoints.security.ca_file) if endpoints.security else None,
        "web": endpoints.web,
        "gateway": endpoints.gateway,
        "mariadb": {
            "host": "127.0.0.1",
            "port": endpoints.ports["mariadb"],
            "user": DATABASE,
            "password": endpoints.password,
            "database": DATABASE,
            "socket": str(endpoints.socket),
            "admin": admin,
            "url": endpoints.database_url,
        },
        "prefix": PREFIX,
        "venv": str(layout.venv),
        "state": str(layout.state),
        "log_file": str(log_file) if log_file else None,
        "host": host,
    }

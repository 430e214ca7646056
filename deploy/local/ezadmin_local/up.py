"""`up`: from whatever is there to a stack that runs, is healthy, and has indexed this machine's first document."""

from __future__ import annotations

import getpass
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import config, grafana, install, machine
from .config import Endpoints, Program
from .errors import LocalError
from .layout import GRAFANA, PACKAGES, PARTS, SERVICES, Layout
from .security import ADMINISTRATOR, PREFIX
from .stack import ASKED, Stack, write

FIRST_DOCUMENT_SECONDS = 60
PUBLISH_SECONDS = 30
RUNNING = SERVICES + PARTS
SOURCES = {
    "cmdb-worker": ("wire/src", "cmdb/src"),
    "cmdb-web": ("wire/src", "cmdb/src"),
    "cmdb-signer": ("wire/src", "cmdb/src/ezadmin_cmdb/signer"),
    "cmdb-gateway": ("wire/src", "cmdb/src"),
    "pipeline": ("wire/src", "pipeline/src", "es/templates"),
    "agent": ("wire/src", "agent/src"),
}
"""What a part is made of: when it changes, `up` starts the part anew."""


def up(stack: Stack, services_only: bool, secure: bool) -> None:
    """Brings the stack up. Raises LocalError that names what failed; what runs by then goes on running."""
    layout, console = stack.layout, stack.console
    stack.refuse_other_choice(secure)
    if not services_only:
        absent = [name for name in PACKAGES if name not in install.packages(layout)]
        if absent:
            raise LocalError(
                f"this checkout lacks {', '.join(f'{name}/pyproject.toml' for name in absent)}.\n"
                "Get a whole one, or start the services alone: deploy/local/up --services-only"
            )
    machine.refuse_full_disk(layout.state)
    install.prepare(layout, console)
    stack.bring_security(secure)
    found = machine.find()

    endpoints = stack.new_endpoints(stack.supervisor.states())
    programs = stack.write_services(endpoints, found)
    source = machine.log_source(layout.log / "events.log")
    if source.own and source.file:
        source.file.touch(mode=0o600)
    found_grafana = None if services_only else grafana.find()
    if not services_only:
        programs += _write_parts(stack, endpoints, source, found_grafana)
    stack.write_supervisor(programs)
    host = _known_host(layout)
    _write_stack_file(stack, endpoints, source, host)

    stack.start_supervisor()
    bundle = None if services_only else _Bundle(stack)
    first_login: dict[str, str] | None = None
    took = _start_services(stack, endpoints, found)
    if not services_only:
        started = [part for part in PARTS if not stack.supervisor.states()[part].alive]
        since = datetime.now(UTC)
        if "cmdb-worker" in started or "cmdb-web" in started:
            _command(stack, "cmdb-worker", "db", "upgrade")
            first_login = _first_login(stack)
        if "cmdb-worker" in started or "pipeline" in started:
            if endpoints.security:
                _make_kafka_users(stack)
            # the topics of both, and the index templates
            _command(stack, "pipeline", "setup", "--config", str(layout.setup_config))
        for part in PARTS:
            if part in started and part != "agent":
                if part in ("cmdb-worker", "pipeline"):  # these send data of their own
                    _add_host(stack, part)
                stack.supervisor.start(part)
        if "agent" in started or host is None:
            host = _register_host(stack, endpoints)
            _write_stack_file(stack, endpoints, source, host)
            if "agent" in started:
                stack.supervisor.start("agent")
        elif not started:
            since = datetime.fromtimestamp(0, UTC)
        _wait_first_document(stack, endpoints, host["id"], since, started)
        for part in ASKED:
            stack.wait_for(
                part,
                lambda part=part: stack.ask_part(part, endpoints),  # type: ignore[misc]
                FIRST_DOCUMENT_SECONDS,
                watched=RUNNING,
                blamed=(part,),
            )
        _bring_dashboards(stack, endpoints, found_grafana)
        took |= dict.fromkeys(started, 0.0)
    if bundle is not None:
        bundle.wait()
    stack.complete()
    grafana_url = _grafana_url(endpoints, found_grafana)
    _summary(stack, endpoints, source, bool(took), services_only, first_login, grafana_url)


# -- services ---


def _start_services(stack: Stack, endpoints: Endpoints, found: machine.Machine) -> dict[str, float]:
    """Starts what does not run, all at once, and waits until each works; gives back the seconds of each start."""
    states = stack.supervisor.states()
    down = [name for name in SERVICES if not states[name].alive]
    prepare: dict[str, Callable[[machine.Machine], None]] = {
        "elasticsearch": stack.clear_elasticsearch,
        "kafka": stack.format_kafka,
        "mariadb": stack.install_mariadb,
    }
    since = dict.fromkeys(SERVICES, time.monotonic())

    ready: queue.Queue[str | LocalError] = queue.Queue()

    def prepare_one(name: str) -> None:
        try:
            prepare[name](found)
            ready.put(name)
        except LocalError as error:
            ready.put(error)

    with stack.console.step("preparing " + ", ".join(down)):
        for name in down:
            threading.Thread(target=prepare_one, args=(name,)).start()
        answers = []
        for _ in down:
            answer = ready.get()
            answers.append(answer)
            if isinstance(answer, str):
                stack.supervisor.start(answer)
    for answer in answers:
        if isinstance(answer, LocalError):
            raise answer

    def question(name: str) -> Callable[[], str | None]:
        return lambda: stack.ask(name, endpoints, found.mariadb)

    took = stack.wait_healthy({name: question(name) for name in SERVICES}, since, tell=down)
    return {name: took[name] for name in down}


# -- ezadmin's own parts ---


def _write_parts(
    stack: Stack,
    endpoints: Endpoints,
    source: machine.LogSource,
    found_grafana: grafana.Installed | grafana.Running | None,
) -> list[Program]:
    """Writes the configuration of our own programs; gives back how they are started."""
    layout = stack.layout
    grafana_url, command_key = _grafana_url(endpoints, found_grafana), _public_key(stack, "command")
    config_key = _public_key(stack, "config")
    write(layout.config_of("cmdb-worker"), config.cmdb_toml(layout, endpoints, command_key, grafana_url))
    write(layout.config_of("cmdb-gateway"), config.gateway_toml(layout, endpoints, command_key, config_key))
    write(layout.config_of("pipeline"), config.pipeline_toml(layout, endpoints, config_key))
    write(layout.setup_config, config.pipeline_toml(layout, endpoints, config_key, f"{PREFIX}-setup"))
    write(
        layout.config_of("agent"),
        config.agent_toml(layout, endpoints, source.file if source.own else None, command_key),
    )
    own = [grafana.program(layout, endpoints, found_grafana)] if isinstance(found_grafana, grafana.Installed) else []
    return [
        *own,
        *(
            Program(
                part,
                config.part_command(layout, part),
                layout.run,
                start_seconds=2,
                stamp=config.stamp(
                    layout.config_of(part).read_bytes(),
                    # the gateway takes a renewed one by itself
                    endpoints.security.stamp() if endpoints.security and part == "cmdb-web" else b"",
                    # the way to Kafka stands in the agent's enrolment
                    endpoints.kafka if endpoints.security and part == "agent" else b"",
                    *_sources(layout, part),
                ),
            )
            for part in PARTS
        ),
    ]


def _sources(layout: Layout, part: str) -> list[bytes]:
    contents = []
    for folder in SOURCES[part]:
        for path in sorted((layout.checkout / folder).rglob("*")):
            if path.suffix in (".py", ".json", ".sql", ".toml") and path.is_file():
                contents += [str(path.relative_to(layout.checkout)).encode(), path.read_bytes()]
    return contents


class _Bundle:
    """What hosts install the agent from, made beside all else where it is missing or our source changed.

    For hosts like this machine; a bundle of more kinds of hosts keeps them. Without it the stack works all the same.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stamp = config.stamp(*_sources(stack.layout, "agent"))
        self._file = stack.layout.bundle / ".stamp"
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._make)
        if not self._file.exists() or self._file.read_text() != self._stamp:
            self._thread.start()

    def _make(self) -> None:
        folder = self._stack.layout.bundle
        first = [] if (folder / "bundle.json").exists() else ["--here"]
        result = self._stack.run_part_command("cmdb-worker", "agent", "bundle", "--out", str(folder), *first)
        if result.returncode == 0:
            self._file.write_text(self._stamp)
        else:
            self._problem = (result.stderr.strip().splitlines() or ["no reason given"])[-1]

    def wait(self) -> None:
        """Until it is made; says why if it cannot be."""
        if self._thread.ident is None:
            return
        with self._stack.console.step("making the agent's bundle"):
            self._thread.join()
        if self._problem:
            self._stack.console.say(
                f"no agent can be installed from the gateway: {self._problem}\n"
                f"make its bundle: ezadmin-cmdb agent bundle --out {self._stack.layout.bundle}"
            )


def _public_key(stack: Stack, name: str) -> str:
    """The public half of the key NAME.key ("config", "command"), 64 hex digits; makes the key where there is none."""
    key, public = stack.layout.keys / f"{name}.key", stack.layout.keys / f"{name}.pub"
    if not key.exists():
        answer = _command(stack, "cmdb-worker", "key", "generate", "--out", str(key))
        match = re.search(r"\b[0-9a-f]{64}\b", answer)
        if match is None:
            raise LocalError(
                f"`ezadmin-cmdb key generate` printed no public key of 64 hex digits, but: {answer.strip()!r}"
            )
        write(public, match[0] + "\n")
    if not public.exists():
        raise LocalError(
            f"{key} is there and {public}, its public half, is not.\n"
            "Put it back, or start from nothing: deploy/local/reset"
        )
    return public.read_text().strip()


def _make_kafka_users(stack: Stack) -> None:
    """The users of all parts and their rights in Kafka; changes nothing where they are there."""
    administrator, passwords = stack.layout.administrator_config, stack.layout.keys / "kafka"
    _command(stack, "cmdb-worker", "kafka", "setup", "--as", str(administrator), "--passwords", str(passwords))


def _register_host(stack: Stack, endpoints: Endpoints) -> dict[str, str]:
    """Makes the identity of this machine's agent, tells the cmdb its key, and waits until that is published.

    A batch that came before its sender's key would be a dead letter. In a secure stack the agent enrols, for so it gets a
    user in Kafka. Gives back id and name of the host.
    """
    if endpoints.security:
        return _enrol_host(stack, endpoints)
    host = _add_host(stack, "agent")
    key, topic = f"host/{host['id']}", f"{PREFIX}.config"
    with stack.console.step("waiting until the host's key is published"):
        result = stack.probe_kafka("wait-key", topic, key, str(PUBLISH_SECONDS))
    if result.returncode != 0:
        raise LocalError(
            stack.failed("cmdb-worker", f"did not publish {key} in topic {topic} within {PUBLISH_SECONDS} s")
        )
    return host


def _enrol_host(stack: Stack, endpoints: Endpoints) -> dict[str, str]:
    """Has this machine's agent known by a token, unless it is already; gives back id and name of the host."""
    enrolment = stack.layout.state / "agent" / "enrolment.json"
    if not _enrolled(enrolment, endpoints):
        enrolment.unlink(missing_ok=True)  # the same host again, which the gateway takes: it has the key
        stack.wait_for(
            "gateway",
            lambda: stack.ask_part("cmdb-gateway", endpoints),
            FIRST_DOCUMENT_SECONDS,
            watched=(*SERVICES, "cmdb-worker", "cmdb-gateway"),
            blamed=("cmdb-gateway",),
        )
        made = _command(
            stack, "cmdb-worker", "enrolment-token", "create", "--name", "this machine", "--hours", "1", "--json"
        )
        _command(stack, "agent", "enrol", json.loads(made)["token"])
    host, _ = _identity(stack, "agent")
    return host


def _enrolled(enrolment: Path, endpoints: Endpoints) -> bool:
    """Whether the agent was enrolled, and for the ports that the gateway and Kafka have now."""
    try:
        content = json.loads(enrolment.read_text())
        return (content["gateway"], content["kafka"]["bootstrap"]) == (endpoints.gateway, endpoints.kafka)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _add_host(stack: Stack, part: str) -> dict[str, str]:
    """Makes the identity of a part that sends data of its own, and tells the cmdb its key; gives back id and name."""
    host, public_key = _identity(stack, part)
    _command(
        stack, "cmdb-worker", "host", "add", "--id", host["id"], "--name", host["name"], "--public-key", public_key
    )  # fmt: skip
    return host


def _identity(stack: Stack, part: str) -> tuple[dict[str, str], str]:
    """Id and name of a part as a host, and its public key; made where there is none."""
    text = _command(stack, part, "identity")
    try:
        identity = json.loads(text)
        host = {"id": identity["host.id"], "name": identity["host.name"]}
        public_key = identity["public_key"]
    except (ValueError, KeyError, TypeError) as error:
        program = config.PART_COMMANDS[part][0]
        raise LocalError(
            f"`{program} identity` printed no JSON with host.id, host.name and public_key, but: {text!r}"
        ) from error
    return host, public_key


def _grafana_url(endpoints: Endpoints, found: grafana.Installed | grafana.Running | None) -> str | None:
    return endpoints.grafana if isinstance(found, grafana.Installed) else found.url if found else None


def _bring_dashboards(stack: Stack, endpoints: Endpoints, found: grafana.Installed | grafana.Running | None) -> None:
    """Starts the installed Grafana with the dashboards, or brings them to the running one; without one, goes on."""
    if found is None:
        return
    where = ["--elasticsearch-url", endpoints.elasticsearch, "--web-url", endpoints.web, "--prefix", PREFIX]
    environment = {}
    if security := endpoints.security:
        user = f"{PREFIX}-grafana"
        where += ["--elasticsearch-user", user, "--elasticsearch-ca-file", str(security.ca_file)]
        environment["EZADMIN_ELASTICSEARCH_PASSWORD"] = security.password("elasticsearch", user)
    if isinstance(found, grafana.Running):
        _command(stack, "cmdb-worker", "grafana", "push", "--url", found.url, *where, environment=environment)
        return
    out = str(stack.layout.etc / "grafana")
    _command(stack, "cmdb-worker", "grafana", "provision", "--out", out, *where, environment=environment)
    if not stack.supervisor.states()[GRAFANA].alive:
        stack.supervisor.start(GRAFANA)
        since = {GRAFANA: time.monotonic()}
        stack.wait_healthy(
            {GRAFANA: lambda: stack.ask(GRAFANA, endpoints, machine.find().mariadb)}, since, tell=[GRAFANA]
        )


def _first_login(stack: Stack) -> dict[str, str] | None:
    """Makes the first administrator; gives back name and password, None if there is one already."""
    answer = _command(stack, "cmdb-worker", "user", "create-admin", "--print-once")
    found = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
    return found if {"user", "password"} <= found.keys() else None


def _wait_first_document(stack: Stack, endpoints: Endpoints, host_id: str, since: datetime, started: list[str]) -> None:
    """Waits until a metrics document of this host, not older than `since`, is found; fails as soon as a part ends."""
    body: dict[str, Any] = {
        "size": 0,
        "terminate_after": 1,
        "query": {
            "bool": {
                "filter": [{"term": {"host.id": host_id}}, {"range": {"@timestamp": {"gte": since.isoformat()}}}],
            }
        },
    }
    url = (
        f"{endpoints.elasticsearch}/{PREFIX}-metrics-*/_search"
        "?ignore_unavailable=true&allow_no_indices=true&filter_path=hits.total.value"
    )

    def question() -> str | None:
        try:
            found = stack.elastic_http.get_json(url, body)["hits"]["total"]["value"]
        except (OSError, KeyError) as error:
            return f"Elasticsearch: {error}"
        return None if found else "none yet"

    stack.wait_for(
        "first document of this machine",
        question,
        FIRST_DOCUMENT_SECONDS,
        watched=RUNNING,
        blamed=("agent", "pipeline"),
    )
    if started:
        stack.console.say(
            f"{stack.console.seconds:6.1f} s  {', '.join(started)} running, first document of this machine found"
        )


def _command(stack: Stack, part: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Runs a command of a part; gives back what it printed. Raises LocalError with what it said if it failed."""
    program = config.PART_COMMANDS[part][0]
    shown = " ".join([program, *(word for word in arguments if re.fullmatch(r"[a-z]+", word))])
    with stack.console.step(shown):
        result = stack.run_part_command(part, *arguments, environment=environment)
    if result.returncode != 0:
        said = (result.stderr.strip() or result.stdout.strip()).splitlines()[-20:]
        raise LocalError(
            f"`{shown}` failed (exit status {result.returncode}):\n    "
            + "\n    ".join(said)
            + "\nWhat runs goes on running; stop it with deploy/local/down."
        )
    return result.stdout


# -- what is told ---


def _known_host(layout: Layout) -> dict[str, str] | None:
    """The host that an earlier `up` registered."""
    try:
        host = json.loads(layout.stack_file.read_text())["host"]
    except (OSError, ValueError, KeyError):
        return None
    return host if isinstance(host, dict) else None


def _write_stack_file(
    stack: Stack, endpoints: Endpoints, source: machine.LogSource, host: dict[str, str] | None
) -> None:
    content = config.stack_json(stack.layout, endpoints, getpass.getuser(), source.file, host)
    write(stack.layout.stack_file, json.dumps(content, indent=2) + "\n")


def _summary(
    stack: Stack,
    endpoints: Endpoints,
    source: machine.LogSource,
    started: bool,
    services_only: bool,
    first_login: dict[str, str] | None,
    grafana_url: str | None,
) -> None:
    layout, option, security = stack.layout, stack.layout.option, endpoints.security
    lines = [
        f"{'up' if started else 'all was up'} after {stack.console.seconds:.1f} s",
        "",
        *([] if services_only else [f"  ezadmin        {endpoints.web}", f"  gateway        {endpoints.gateway}"]),
        *(
            [f"                 sign in as {first_login['user']} with {first_login['password']} (shown only this once)"]
            if first_login
            else []
        ),
        *([f"  Grafana        {grafana_url}"] if grafana_url else []),
        f"  Elasticsearch  {endpoints.elasticsearch}",
        f"  Kafka          {endpoints.kafka}",
        f"  MariaDB        mariadb --defaults-file={layout.etc / 'mariadb-client.cnf'}",
        f"  for scripts    {layout.stack_file}",
        *(
            [
                f"  certificate    its authority is {security.ca_file}; browsers and curl have to be told",
                f"  passwords      in {layout.keys}/kafka and {layout.keys}/elasticsearch, one file a user",
            ]
            if security
            else []
        ),
    ]
    if not services_only:
        found = f"{endpoints.elasticsearch}/{PREFIX}-logs-*/_search?q=message:hello"
        if security:
            found = f"curl --cacert {security.ca_file} -u {ADMINISTRATOR} '{found}'"
        lines += [
            "",
            f"  An event: echo 'hello' >> {source.file}" if source.own else "  An event: logger hello",
            f"  It is found {'by' if security else 'in'} {found}",
        ]
        if grafana_url is None:
            lines += ["", f"  {grafana.HOW_TO_GET}"]
    lines += ["", f"  next: deploy/local/status{option} | logs NAME{option} | down{option}"]
    stack.console.say("\n".join(lines))

"""One stack: its files written, its programs started, watched and stopped. What the commands are made of."""

from __future__ import annotations

import functools
import getpass
import json
import os
import pwd
import resource
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from . import config, health, install, machine, ports, processes
from .config import Endpoints, Program, Settings
from .console import Console
from .errors import LocalError
from .layout import GRAFANA, PARTS, PROGRAMS, SERVICES, Layout
from .security import ADMINISTRATOR, USERS, Security, elasticsearch_files
from .supervisor import ProgramState, Supervisor

LOG_LINES = 20
ASKED = ("cmdb-web", "cmdb-gateway", "cmdb-signer")
"""Our own programs that answer for themselves."""
OPEN_FILES = 65536
"""What Kafka and Elasticsearch ask for, as far as this user may."""
ELASTICSEARCH_USER = "ezadmin-elasticsearch"
MAP_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
"""Root as user 1000 of a namespace of its own: it still reads root's folders, and is no root to Elasticsearch."""


class Stack:
    """The stack of one state folder."""

    def __init__(self, layout: Layout, settings: Settings, console: Console, timeout: float) -> None:
        self.layout = layout
        self.settings = settings
        self.console = console
        self.timeout = timeout
        self.supervisor = Supervisor(layout.supervisor_socket)
        self.root = os.geteuid() == 0

    # -- certificates and users ---

    @property
    def security(self) -> Security | None:
        """The certificates and passwords of a secure stack, None for a plain one."""
        return Security(self.layout.tls, self.layout.keys) if self.layout.tls.is_dir() else None

    def refuse_other_choice(self, secure: bool) -> None:
        """Raises LocalError where a stack was begun with another --secure than this.

        It is chosen by the first `up` that gives the stack its ports, for from then on data lies there. Once that came
        to its end, `up` alone goes on with a secure stack.
        """
        layout = self.layout
        if not layout.ports_file.exists():
            return
        reset = f"start from nothing: deploy/local/reset{layout.option}"
        if secure and not layout.tls.is_dir():
            raise LocalError(
                f"the stack in {layout.state} was made without --secure, and its data as well.\n"
                f"Use another folder (--state DIR), or {reset}"
            )
        if not secure and layout.tls.is_dir() and not layout.secure_file.exists():
            raise LocalError(
                f"the stack in {layout.state} was begun with --secure, and did not come to its end.\n"
                f"Go on with it: deploy/local/up --secure{layout.option}\nOr {reset}"
            )

    def bring_security(self, secure: bool) -> None:
        """Certificates, made anew near their end, and the passwords that are missing; nothing for a plain stack.

        secure: as the user says; a secure stack that is complete is one without it.
        """
        if secure:
            self.layout.tls.mkdir(mode=0o700, exist_ok=True)
        elif not self.layout.secure_file.exists():
            shutil.rmtree(self.layout.tls, ignore_errors=True)  # of an `up --secure` that failed before there was data
        security = self.security
        if security is None:
            return
        known = security.certificate.exists()
        result = self._script("certificates.py", str(security.tls))
        if result.returncode != 0:
            said = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise LocalError(f"the certificates in {security.tls} could not be made: {said}")
        if known and result.stdout.strip():
            self.console.say("the certificate was near its end: a new one for all servers")
        for service, users in USERS.items():
            for user in users:
                file = security.password_file(service, user)
                if not file.exists():
                    write(file, secrets.token_hex(24) + "\n")

    def complete(self) -> None:
        """Notes that a secure stack came to its end."""
        if self.security and not self.layout.secure_file.exists():
            write(self.layout.secure_file, "")

    @functools.cached_property
    def http(self) -> health.Http:
        """For requests to our own web servers."""
        return health.Http(self.security.ca_file if self.security else None)

    @functools.cached_property
    def elastic_http(self) -> health.Http:
        """For requests to Elasticsearch."""
        security = self.security
        if security is None:
            return health.Http()
        return health.Http(security.ca_file, (ADMINISTRATOR, security.password("elasticsearch", ADMINISTRATOR)))

    # -- files ---

    def choose_ports(self, states: dict[str, ProgramState]) -> dict[str, int]:
        """The stack's ports, kept in ports.json; says which had to be replaced."""
        running = {name for name, state in states.items() if state.alive}
        chosen, replaced = ports.choose(ports.read(self.layout.ports_file), running, str(self.layout.state))
        for name, port in replaced.items():
            self.console.say(f"the port of {name} is taken by another program now; new port {port}")
        write(self.layout.ports_file, json.dumps(chosen, indent=2) + "\n")
        return chosen

    def endpoints(self) -> Endpoints:
        """Where the services of an existing stack listen. Raises LocalError if there is none."""
        kept = ports.read(self.layout.ports_file)
        password = self.layout.keys / "mariadb.password"
        if set(kept) != set(ports.NAMES) or not password.exists():
            raise LocalError(f"there is no stack in {self.layout.state}; make one: deploy/local/up")
        return Endpoints(kept, password.read_text().strip(), self.layout.mariadb_socket, self.security)

    def new_endpoints(self, states: dict[str, ProgramState]) -> Endpoints:
        """Ports and password, made where they are missing."""
        password = self.layout.keys / "mariadb.password"
        if not password.exists():
            write(password, secrets.token_hex(16) + "\n")
        self.choose_ports(states)
        return self.endpoints()

    def write_services(self, endpoints: Endpoints, programs: machine.Machine) -> list[Program]:
        """Writes the configuration of the three services; gives back how they are started."""
        layout, settings, security = self.layout, self.settings, endpoints.security
        certificate = security.stamp() if security else b""
        kafka_text = config.kafka_properties(layout.data / "kafka", endpoints)
        write(layout.etc / "kafka.properties", kafka_text)
        write(layout.etc / "kafka-log4j2.xml", config.KAFKA_LOG4J)
        write(layout.administrator_config, config.administrator_toml(endpoints))

        es_home = install.elasticsearch_home(layout)
        es_etc = layout.etc / "elasticsearch"
        es_files = {
            "elasticsearch.yml": config.elasticsearch_yml(layout, endpoints),
            "jvm.options": config.elasticsearch_jvm_options((es_home / "config" / "jvm.options").read_text()),
            "jvm.options.d/ezadmin.options": config.elasticsearch_heap_options(layout, settings.es_heap),
            "log4j2.properties": config.ELASTICSEARCH_LOG4J,
        }
        if security:
            es_files |= elasticsearch_files(security, json.loads((layout.checkout / "es" / "roles.json").read_text()))
        for name, text in es_files.items():
            write(es_etc / name, text)
        es_temporary = layout.run / "elasticsearch"
        for folder in (es_temporary, layout.data / "elasticsearch"):
            folder.mkdir(mode=0o700, exist_ok=True)
        as_other_user = self._elasticsearch_user([es_etc, es_temporary, layout.data / "elasticsearch"])

        init_sql = config.mariadb_init_sql(endpoints.password, secure=security is not None)
        write(layout.etc / "mariadb-init.sql", init_sql)
        write(layout.etc / "mariadb-client.cnf", config.mariadb_client_cnf(endpoints))
        mariadb_user = "root" if self.root else None

        kafka_command = config.kafka_java(
            programs.java_home, layout.dist, settings.kafka_heap, layout.etc / "kafka-log4j2.xml"
        )
        return [
            Program(
                "kafka",
                config.with_parent([*kafka_command, "kafka.Kafka", str(layout.etc / "kafka.properties")]),
                layout.run,
                start_seconds=5,
                stamp=config.stamp(kafka_text, config.KAFKA_LOG4J, certificate),
            ),
            Program(
                "elasticsearch",
                config.elasticsearch_command(es_home, as_other_user),
                es_temporary,
                start_seconds=10,
                environment={
                    "ES_JAVA_HOME": str(programs.java_home),
                    "ES_PATH_CONF": str(es_etc),
                    "ES_TMPDIR": str(es_temporary),
                },
                stamp=config.stamp(*es_files.values()),
            ),
            Program(
                "mariadb",
                config.with_parent(config.mariadb_command(programs.mariadbd, layout, endpoints, mariadb_user)),
                layout.run,
                start_seconds=3,
                stamp=config.stamp(init_sql, certificate),
            ),
        ]

    def _elasticsearch_user(self, folders: list[Path]) -> list[str]:
        """What to put before the command so that Elasticsearch, which refuses root, does not run as root."""
        if not self.root:
            return []
        if machine.has_user_namespaces():
            return MAP_USER
        try:
            user = pwd.getpwnam(ELASTICSEARCH_USER)
        except KeyError:
            self.console.say(f"user namespaces are off here: making the system user {ELASTICSEARCH_USER}")
            subprocess.run(
                ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ELASTICSEARCH_USER],
                check=True,
            )
            user = pwd.getpwnam(ELASTICSEARCH_USER)
        for folder in (self.layout.state, self.layout.etc, self.layout.data, self.layout.run):
            folder.chmod(0o711)  # to pass through, not to look around
        for folder in folders:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        for folder in (*self.layout.state.parents, *self.layout.dist.parents):
            if not folder.stat().st_mode & 0o001:
                raise LocalError(
                    f"Elasticsearch refuses to run as root. User namespaces are off here, so it runs as the user "
                    f"{ELASTICSEARCH_USER}, who cannot pass through {folder}.\n"
                    f"Put the checkout and --state DIR where every user may pass, or: chmod o+x {folder}"
                )
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]

    def write_supervisor(self, programs: list[Program]) -> None:
        """Writes supervisord's own configuration."""
        write(
            self.layout.etc / "supervisord.conf",
            config.supervisord_conf(self.layout, programs, getpass.getuser() if self.root else None),
        )

    # -- what must be before a service starts ---

    def clear_elasticsearch(self, programs: machine.Machine) -> None:
        """Takes away what a first start of Elasticsearch that was cut off leaves and the next one stumbles over."""
        (self.layout.etc / "elasticsearch" / "elasticsearch.keystore.tmp").unlink(missing_ok=True)

    def format_kafka(self, programs: machine.Machine) -> None:
        """Makes Kafka's data folder, once."""
        if (self.layout.data / "kafka" / "meta.properties").exists():
            return
        command = config.kafka_java(programs.java_home, self.layout.dist, "256m", self.layout.etc / "kafka-log4j2.xml")
        arguments = self.layout.run / "kafka-format"
        write(arguments, config.kafka_format_arguments(self.layout, self.endpoints()))
        self._once("formatting Kafka's storage", [*command, f"@{arguments}"], "kafka")
        arguments.unlink()

    def install_mariadb(self, programs: machine.Machine) -> None:
        """Makes MariaDB's data folder, once; beside its place, so that one cut off half way is not taken for whole."""
        data = self.layout.data / "mariadb"
        if data.exists():
            return
        new = self.layout.data / "mariadb.new"
        shutil.rmtree(new, ignore_errors=True)
        command = [
            str(programs.mariadb_install_db),
            *config.mariadb_options(new, "root" if self.root else None),
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={getpass.getuser()}",
            "--skip-test-db",
            "--skip-name-resolve",
            "--force",  # also where the machine's own name cannot be looked up: it is not used
        ]
        self._once("making MariaDB's data folder", command, "mariadb")
        new.rename(data)

    def _once(self, what: str, command: list[str], program: str) -> None:
        """Runs a command to its end, its output in the log of the program that it prepares."""
        log = self.layout.log_of(program)
        with log.open("ab") as output:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                cwd=self.layout.run,
                check=False,
            )
        if result.returncode != 0:
            raise LocalError(f"{what} failed (exit status {result.returncode}). {self._tail(program)}")

    # -- supervisord ---

    def start_supervisor(self) -> None:
        """Starts supervisord, which starts nothing by itself, or makes the running one read its configuration.

        What runs with a configuration of before is stopped, so that it is started anew.
        """
        if self.supervisor.runs():
            added, changed = self.supervisor.reload()
            if changed:
                self.console.say(f"changed, so started anew: {', '.join(changed)}")
                self.stop_programs(changed)
                for name in changed:
                    self.supervisor.replace(name)
            for name in added:
                self.supervisor.add(name)
            return
        self.end_leftovers()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))  # inherited by all programs
        command = [str(self.layout.command("supervisord")), "-c", str(self.layout.etc / "supervisord.conf")]
        environment = _environment()
        environment[processes.MARK] = processes.mark(self.layout.state, "supervisord")
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
        )
        deadline = time.monotonic() + 10
        while result.returncode == 0 and not self.supervisor.runs():
            if time.monotonic() > deadline:
                raise LocalError(
                    f"supervisord does not answer on {self.layout.supervisor_socket}. {self._tail('supervisord')}"
                )
            time.sleep(0.05)
        if result.returncode != 0:
            raise LocalError(f"supervisord does not start: {result.stderr.strip() or result.stdout.strip()}")

    def end_leftovers(self) -> None:
        """Ends what is left of a stack whose supervisord was killed or lost its socket."""
        left = processes.find(self.layout.state)
        if not left:
            return
        self.console.say(f"ending what an earlier supervisord left: {_names(left)}")
        for process in left:
            process.send(signal.SIGTERM)
        self._kill_after(20)

    def _kill_after(self, seconds: float) -> None:
        left = processes.wait_gone(lambda: processes.find(self.layout.state), seconds)
        if left:
            self.console.say(f"still there after {seconds:.0f} s, so killed (signal 9): {_names(left)}")
            for process in left:
                process.send(signal.SIGKILL)
            left = processes.wait_gone(lambda: processes.find(self.layout.state), 10)
        if left:
            raise LocalError(f"could not be ended: {_names(left)}")

    def stop_programs(self, names: Collection[str], seconds: float = 30) -> None:
        """Stops programs side by side and waits until they have ended; kills those that take too long, and says so."""
        for name in names:
            self.supervisor.stop(name)

        def left() -> list[processes.Process]:
            return [process for process in processes.find(self.layout.state) if process.program in names]

        remaining = processes.wait_gone(left, seconds)
        if remaining:
            self.console.say(f"still there after {seconds:.0f} s, so killed (signal 9): {_names(remaining)}")
            for process in remaining:
                process.send(signal.SIGKILL)
            processes.wait_gone(left, 10)
        deadline = time.monotonic() + 10  # until supervisord has noticed too
        while time.monotonic() < deadline and any(
            state.alive for name, state in self.supervisor.states().items() if name in names
        ):
            time.sleep(0.05)

    def stop_all(self) -> bool:
        """Stops everything; True if something ran."""
        if not self.supervisor.runs():
            left = bool(processes.find(self.layout.state))
            self.end_leftovers()
            return left
        known = self.supervisor.states()
        # Writers before what they write to, so that nothing has to wait for a service that is gone.
        for group in (["agent"], [*(part for part in PARTS if part != "agent"), GRAFANA], list(SERVICES)):
            self.stop_programs([name for name in group if name in known])
        self.supervisor.shutdown()
        self._kill_after(20)
        return True

    def probe_kafka(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Asks Kafka as its administrator by the client in the virtual environment; see kafka_probe.py."""
        question, *more = arguments
        return self._script("kafka_probe.py", question, str(self.layout.administrator_config), *more)

    def _script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = Path(__file__).with_name(name)
        return subprocess.run(
            # -P: this folder's modules must not stand in for the client's
            [str(self.layout.command("python")), "-P", str(script), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    def run_part_command(
        self, part: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs another command of one of our own programs, with the same configuration."""
        return subprocess.run(
            [str(self.layout.command(config.PART_COMMANDS[part][0])), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.layout.run,
            env=_environment() | config.part_environment(self.layout, part) | dict(environment or {}),
            check=False,
        )

    # -- health ---

    def ask(self, program: str, endpoints: Endpoints, mariadb: Path) -> str | None:
        """Asks a service whether it works; None if it does, else why not."""
        if program == "kafka":
            return self._ask_kafka(endpoints)
        if program == "elasticsearch":
            return health.elasticsearch(endpoints.elasticsearch, self.elastic_http)
        if program == GRAFANA:
            return health.grafana(endpoints.grafana, self.http)
        return health.mariadb(mariadb, self.layout.etc / "mariadb-client.cnf")

    def _ask_kafka(self, endpoints: Endpoints) -> str | None:
        if endpoints.security is None:
            return health.kafka(endpoints.kafka)
        problem = health.kafka_over_tls(endpoints.kafka, endpoints.security.ca_file)
        if problem is None:  # quick to find out; whether it works only a client knows that signs in
            result = self.probe_kafka("ready")
            if result.returncode != 0:
                said = result.stdout.strip() or result.stderr.strip()
                problem = (said.splitlines() or ["gives no answer"])[-1]
        return problem

    def ask_part(self, part: str, endpoints: Endpoints) -> str | None:
        """Asks one of ASKED whether it works; None if it does, else why not."""
        if part == "cmdb-web":
            return health.web(endpoints.web, self.http)
        if part == "cmdb-gateway":
            return health.gateway(endpoints.gateway, self.http)
        return health.signer(self.layout.signer_socket)

    def wait_healthy(
        self, questions: dict[str, Callable[[], str | None]], since: dict[str, float], tell: Collection[str]
    ) -> dict[str, float]:
        """Waits until each program, started before, answers its question with None; gives back the seconds each took.

        since: when each was started, on the monotonic clock. tell: those whose readiness is worth a line.
        Raises LocalError for the first that ends or takes too long, with the last lines of its log.
        """
        waiting = dict(questions)
        took: dict[str, float] = {}
        pids = self.pids(waiting)
        with self.console.step("waiting for answers") as step:
            while waiting:
                self.refuse_ended(waiting, pids)
                for name, question in list(waiting.items()):
                    seconds = time.monotonic() - since[name]
                    reason = question()
                    if reason is None:
                        took[name] = seconds
                        del waiting[name]
                        step.detail(name, None)
                        if name in tell:
                            self.console.say(f"{self.console.seconds:6.1f} s  {name} ready ({seconds:.1f} s)")
                    elif seconds > self.timeout:
                        raise LocalError(self.failed(name, f"is not healthy after {seconds:.0f} s: {reason}"))
                    else:
                        step.detail(name, f"{name}: {reason}")
                if waiting:
                    time.sleep(0.1)
        return took

    def wait_for(
        self,
        what: str,
        question: Callable[[], str | None],
        seconds: float,
        watched: Collection[str],
        blamed: Collection[str],
    ) -> None:
        """Waits until a question is answered with None, while the watched programs must stay up.

        blamed: the programs whose logs may say why it takes too long.
        """
        started = time.monotonic()
        pids = self.pids(watched)
        with self.console.step(f"waiting for the {what}") as step:
            while (reason := question()) is not None:
                self.refuse_ended(watched, pids)
                if time.monotonic() - started > seconds:
                    logs = "\n".join(self._tail(program) for program in blamed)
                    raise LocalError(f"no {what} within {seconds:.0f} s: {reason}\n{logs}\nAll parts go on running.")
                step.detail(what, reason)
                time.sleep(0.2)

    def pids(self, names: Collection[str]) -> dict[str, int]:
        """The process ids of programs, to know later whether they are still the same."""
        return {name: state.pid for name, state in self.supervisor.states().items() if name in names}

    def refuse_ended(self, names: Collection[str], pids: dict[str, int]) -> None:
        """Raises LocalError that names the first of some programs that has ended, with the last lines of its log.

        pids: of before. supervisord may have started a program anew at once, so its state alone does not tell.
        """
        states = self.supervisor.states()
        for name in names:
            state = states.get(name)
            if state is None:
                raise LocalError(self.failed(name, "does not run: supervisord is gone"))
            if not state.alive:
                raise LocalError(self.failed(name, f"does not stay up ({state.state}: {state.problem})"))
            if state.pid != pids[name]:
                raise LocalError(self.failed(name, "does not stay up (ended, and was started again)"))

    def failed(self, program: str, how: str) -> str:
        """The message for a program that failed: its name, the end of its log, what still runs."""
        others = sorted(
            (name for name, state in self.supervisor.states().items() if state.alive and name != program),
            key=PROGRAMS.index,
        )
        running = f"still running: {', '.join(others)}" if others else "nothing else is running"
        return (
            f"{program} {how}. {self._tail(program)}\n{running}. Look further with deploy/local/status and "
            f"deploy/local/logs {program}; stop all with deploy/local/down."
        )

    def _tail(self, program: str) -> str:
        log = self.layout.log_of(program)
        lines = tail(log, LOG_LINES)
        if not lines:
            return f"Its log {log} is empty."
        return f"The end of {log}:\n    " + "\n    ".join(lines)


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file; none if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 400 * lines - 4096))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def _names(found: Collection[processes.Process]) -> str:
    return ", ".join(f"{process.program} (pid {process.pid})" for process in sorted(found, key=lambda one: one.pid))


def _environment() -> dict[str, str]:
    """What programs of the stack get of the user's environment: enough to run, and nothing that changes how they do."""
    kept = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ}


def write(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(path)

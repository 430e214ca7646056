"""The running agent: identity, spool, sender, and the threads that fill the spool."""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ezadmin_agent import __version__
from ezadmin_agent.collectors import own
from ezadmin_agent.config import Config, ConfigError, Watch, kafka_of
from ezadmin_agent.control import copies
from ezadmin_agent.control.enrolment import Enrolment
from ezadmin_agent.control.managed import Managed, merge, own_entries
from ezadmin_agent.control.me import Me
from ezadmin_agent.control.record import RecordError
from ezadmin_agent.governor import Governor
from ezadmin_agent.identity import Identity, IdentityError, load_or_make
from ezadmin_agent.log import Repeated
from ezadmin_agent.logs import journal
from ezadmin_agent.logs.own import OwnSource
from ezadmin_agent.logs.reader import LogReader
from ezadmin_agent.logs.sources import SourceSet
from ezadmin_agent.logs.surge import Ladder
from ezadmin_agent.reader import Reader
from ezadmin_agent.registry import COLLECTORS
from ezadmin_agent.sender import Sender
from ezadmin_agent.spool import SpoolError, Spools, StreamSpec
from ezadmin_agent.state import StateReporter
from ezadmin_agent.ticks import Ticker, tick_after
from ezadmin_wire import times
from ezadmin_wire.batch import ANY_DATASET, MAX_BYTES, MAX_LINES
from ezadmin_wire.errors import WireError
from ezadmin_wire.logs.settings import SYSLOG, SYSTEM_LOGS, LogConfig
from ezadmin_wire.state import AgentStatus
from ezadmin_wire.times import format_epoch_ms

if TYPE_CHECKING:
    from ezadmin_agent.control.line import ControlLine

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
GOVERN_SECONDS = 3.0
LINE_SECONDS = 60.0


class AlreadyRunning(Exception):
    """Another agent uses the state directory."""


class Agent:
    """An agent as configured. Raises ConfigError, AlreadyRunning, IdentityError, WireError, SpoolError when made."""

    def __init__(self, config: Config, file: Optional[Path] = None) -> None:
        if config.transport == "kafka" and config.kafka is None:
            raise ConfigError(
                'no broker is configured; write bootstrap = "host:port" under [kafka], or enrol this host: '
                "ezadmin-agent enrol TOKEN"
            )
        self._config = config
        self._started = times.now()
        self._lock = lock(config.state_dir)
        copy_of = copies.settle(config.state_dir)
        identity = load_or_make(config.state_dir)
        copies.remember(config.state_dir)
        self.host_id = identity.host_id
        self._me = Me(identity.host_id, identity.key)
        names = config.names
        self._spools = Spools(
            config.state_dir / "spool",
            [
                StreamSpec("jobs", names.jobs, priority=10, droppable=False),
                StreamSpec("state", names.state, priority=9, droppable=True),
                StreamSpec("own", names.logs, priority=8, droppable=True),
                StreamSpec("errors", names.logs, priority=6, droppable=False, share=1.0, over=("logs",)),
                StreamSpec("logs", names.logs, priority=5, droppable=False),
                StreamSpec("processes", names.logs, priority=2, droppable=True),
                StreamSpec("metrics", names.metrics, priority=1, droppable=True),
            ],
            cap_bytes=config.cap_bytes,
        )
        self._sender = self._make_sender()
        self._own = OwnSource()
        self._managed = Managed(config.state_dir)
        self._system = () if config.entries is not None else system_logs()
        self._entries = own_entries(config, self._system)
        self._readers = [
            LogReader(
                [],
                self._spools,
                "logs",
                errors="errors",
                more=SourceSet(self._logs(), load=self._reload(file)),
                ladder=Ladder(config.surge_bytes, config.surge_burst, config.surge_share),
            ),
            LogReader([self._own], self._spools, "own"),
        ]
        self._state = StateReporter(self._spools["state"], self.status)
        self._reader = Reader()
        names_of_collectors = [collector.name for collector in COLLECTORS]
        self._ticker = Ticker(self._reader, (*COLLECTORS, own.collector(self._figures, names_of_collectors)))
        self._governor = Governor(config.cpu_percent / 100, config.memory_mib << 20)
        self._stopping = threading.Event()
        self._last_tick: Optional[str] = None
        self._trouble = Repeated(log, logging.ERROR)
        self._cpu = (time.monotonic(), time.process_time())
        self._held: Optional[str] = None
        self._line: Optional[ControlLine] = None
        self._line_broken: Optional[str] = None
        self._identity = identity
        self._line_tried = time.monotonic()
        if config.gateway is not None:
            self._line = self._make_line(identity)
        elif copy_of is not None:
            log.error("this copy of a disk has to be made known by hand: ezadmin-agent identity prints with what")

    def _make_sender(self) -> Sender:
        config = self._config
        common: dict[str, Any] = {
            "host_id": self.host_id,
            "key": self._me.key,
            "bytes_per_second": config.replay_bytes,
        }
        if config.transport == "kafka":
            options = {"proxy_url": config.proxy} if config.proxy else None
            return Sender(self._spools, kafka=config.kafka, options=options, **common)  # type: ignore[arg-type]
        from ezadmin_agent.control.client import Client
        from ezadmin_agent.control.transport import GatewayProducer, GatewayRoute

        gateway = str(config.gateway)

        def make(**_: Any) -> GatewayProducer:
            try:
                client = Client(gateway, ca=config.gateway_authority(), proxy=config.gateway_proxy)
            except ConfigError as error:
                raise WireError("bad_config", str(error)) from error
            return GatewayProducer(client, self._me)

        return Sender(self._spools, kafka=GatewayRoute(gateway), make_producer=make, **common)

    def _make_line(self, identity: Identity) -> Optional[ControlLine]:
        from ezadmin_agent.control.line import ControlLine, Hooks  # an agent without a gateway does not pay for it

        hooks = Hooks(
            hold=self._hold,
            keys_changed=lambda: self._sender.use(key=self._me.key),
            enrolled=self._enrolled,
            inventory=self._state.inventory_now,
            own_logs=lambda: self._entries,
        )
        spools = self._spools
        try:
            return ControlLine(self._config, identity, self._me, spools["own"], spools["jobs"], self._managed, hooks)
        except RecordError as error:
            self._line_broken = str(error)
            self._trouble.tell("line", f"commands are not taken: {error}")
            return None

    def _line_again(self) -> None:
        """A disk that was full when the agent started must not cost the control line for ever."""
        if self._line is not None or self._config.gateway is None or time.monotonic() - self._line_tried < LINE_SECONDS:
            return
        self._line_tried = time.monotonic()
        self._line = self._make_line(self._identity)
        if self._line is not None:
            self._trouble.over("line")
            self._line.start()

    def stop(self, *_: object) -> None:
        """Ask :meth:`run` to end; fit for a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Run until :meth:`stop`; then flush for at most 5 s."""
        logging.getLogger().addHandler(self._own.handler)
        log.info("agent %s of host %s started, state in %s", __version__, self.host_id, self._config.state_dir)
        self._sender.start()
        for thread in (*self._readers, self._state):
            thread.start()
        if self._line is not None:
            self._line.start()
        self._ticker.prime()
        while True:
            self._write_status()
            if not self._wait_for_tick():
                break
            self._tick()
        if self._line is not None:
            self._line.stop()
        for reader in self._readers:
            reader.stop()
        self._state.stop()
        done = self._sender.stop(FLUSH_SECONDS)
        self._spools.close()
        self._write_status()
        log.info("agent stopped; %s", "everything is sent" if done else "what is not sent stays in the spool")
        self._lock.close()

    # ------------------------------------------------------------------ what the control line has it do

    @property
    def _interval(self) -> int:
        usual = self._config.interval
        return usual if self._line is None else self._line.sampling.interval(usual)

    def _hold(self, why: Optional[str]) -> None:
        if why is not None and why != self._held:
            log.warning("nothing is sent: %s. It waits in the spool", why)
        elif why is None and self._held is not None:
            log.warning("batches are sent again")
        self._held = why
        self._sender.hold(why is not None)

    def _enrolled(self, made: Enrolment) -> None:
        """The access to Kafka is another one, as far as the file does not say which."""
        if self._config.transport != "kafka" or "kafka.bootstrap" in self._config.written:
            return
        kafka = kafka_of(made, self._config.state_dir)
        if kafka is None:
            log.error("this host is to send through the gateway from now on: restart the agent")
            return
        self._sender.use(kafka=kafka)

    def _logs(self) -> tuple[LogConfig, ...]:
        """The sources that hold: those of the file, and what is managed under them."""
        try:
            return merge(self._managed.entries, self._entries)
        except WireError as error:
            log.error("the managed configuration is not used: %s", error)
            return merge([], self._entries)

    def _reload(self, file: Optional[Path]) -> Callable[[], Optional[tuple[LogConfig, ...]]]:
        """Asked once a second: the log sources, when the configuration ``file`` or what is managed has changed."""
        watch = None if file is None else Watch(file)
        changes = self._managed.changes

        def changed() -> Optional[tuple[LogConfig, ...]]:
            nonlocal changes
            config = None if watch is None else watch.changed()
            if config is not None:
                self._entries = own_entries(config, () if config.entries is not None else system_logs())
            elif changes == self._managed.changes:
                return None
            changes = self._managed.changes
            return self._logs()

        return changed

    # ------------------------------------------------------------------ ticks

    def _wait_for_tick(self) -> bool:
        """Wait for the next multiple of the interval by the wall clock; False when asked to stop."""
        interval = self._interval
        target = (time.time() // interval + 1) * interval
        while True:
            left = target - time.time()
            if left <= 0:
                return not self._stopping.is_set()
            if (
                left > interval or interval != self._interval
            ):  # the clock was set back; or figures are wanted more often
                interval = self._interval
                target = (time.time() // interval + 1) * interval
                continue
            if self._stopping.wait(min(left, GOVERN_SECONDS)):
                return False
            self._govern()

    def _govern(self) -> None:
        costs = {name: cost.cpu_ms for name, cost in self._ticker.costs.items()}
        for text in self._governor.observe(time.monotonic(), time.process_time(), rss(), costs):
            log.warning("%s", text)
            if self._governor.memory_high:
                self._reader.drop_caches()
                gc.collect()
        self._ticker.stretch = self._governor.stretch

    def _tick(self) -> None:
        self._spools.keep_reserve()
        self._line_again()
        spool = self._spools["metrics"]
        tick = tick_after(int(time.time() * 1000), int(spool.positions.get("tick", 0)), self._interval * 1000)
        lines = self._ticker.run(tick)
        moment = format_epoch_ms(tick)
        self._tick_events(lines.events, moment)
        try:
            for run in batches(lines.metrics):
                try:
                    spool.append(run, dataset=ANY_DATASET, tmin=moment, tmax=moment, positions={"tick": tick})
                except SpoolError as error:
                    spool.skip(len(run))
                    self._trouble.tell("metrics", f"metrics are dropped from {moment} on: {error}", str(error))
                else:
                    self._trouble.over("metrics")
            spool.sync()
        except SpoolError as error:
            self._trouble.tell("metrics", f"metrics are dropped from {moment} on: {error}", str(error))
        self._last_tick = moment

    def _tick_events(self, events: list[tuple[str, bytes]], moment: str) -> None:
        if not events:
            return
        spool = self._spools["processes"]
        try:
            for dataset, line in events:
                spool.append([line], dataset=dataset, tmin=moment, tmax=moment, positions={})
            spool.sync()
        except SpoolError as error:
            spool.skip(1)
            self._trouble.tell("processes", f"the list of processes of {moment} is dropped: {error}", str(error))
        else:
            self._trouble.over("processes")

    # ------------------------------------------------------------------ status

    def status(self) -> AgentStatus:
        """What is sent each minute about the agent itself; ``cpu_pct`` is a share of one core since the status before."""
        sent = self._sender.stats()
        before, self._cpu = self._cpu, (time.monotonic(), time.process_time())
        seconds = self._cpu[0] - before[0]
        return AgentStatus(
            collected=times.now(),
            version=__version__,
            started=self._started,
            spool_bytes=self._spools.disk_bytes,
            spool_lines=sum(spool.pending_lines for spool in self._spools),
            lines_sent=sum(stream["lines_sent"] for stream in sent.values()),
            lines_dropped=sum(self._dropped().values()),
            rss_bytes=rss(),
            cpu_pct=round((self._cpu[1] - before[1]) / seconds, 5) if seconds >= 1 else None,
            transport=self._config.transport,
        )

    def _figures(self) -> own.Figures:
        sent = self._sender.stats()
        return own.Figures(
            cpu_seconds=time.process_time(),
            rss_bytes=rss(),
            costs=dict(self._ticker.costs),
            stretch=max(self._governor.stretch.values(), default=1),
            queue_lines=sum(spool.pending_lines for spool in self._spools),
            queue_bytes=sum(spool.pending_bytes for spool in self._spools),
            spool_bytes=self._spools.disk_bytes,
            spool_cap=self._spools.cap_bytes,
            lines_sent=sum(stream["lines_sent"] for stream in sent.values()),
            bytes_sent=sum(stream["bytes_sent"] for stream in sent.values()),
            dropped=self._dropped(),
        )

    def _dropped(self) -> dict[str, int]:
        """Lines dropped since the start, by reason."""
        return {
            "cap": sum(sum(spool.dropped.values()) for spool in self._spools),
            "level": sum(reader.shed for reader in self._readers),
            "lost": sum(spool.lost for spool in self._spools),
            "refused": sum(stream["lines_refused"] for stream in self._sender.stats().values()),
        }

    def _write_status(self) -> None:
        sent = self._sender.stats()
        by_kafka, connected = self._config.transport == "kafka", self._sender.connected
        status = {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started,
            "written": times.now(),
            "interval": self._config.interval,
            "host.id": self.host_id,
            "last_tick": self._last_tick,
            "transport": self._config.transport,
            "held": self._held,
            "kafka": {"bootstrap": str(self._config.kafka), "connected": connected} if by_kafka else None,
            "gateway": None if by_kafka else {"url": self._config.gateway, "connected": connected},
            "control": {"error": self._line_broken} if self._line is None else self._line.status(),
            "rss_bytes": rss(),
            "cpu_seconds": round(time.process_time(), 3),
            "spool": {"bytes": self._spools.disk_bytes, "cap_bytes": self._spools.cap_bytes},
            "dropped": self._dropped(),
            "streams": {
                spool.stream: {
                    "epoch": spool.epoch,
                    "next_seq": spool.next_seq,
                    "unacked_lines": spool.pending_lines,
                    "unacked_bytes": spool.pending_bytes,
                    "dropped": sum(spool.dropped.values()),
                    "dropped_levels": {level: count for level, count in spool.dropped.items() if count},
                    "lost": spool.lost,
                    **sent[spool.stream],
                }
                for spool in self._spools
            },
            "logs": self._readers[0].counts(),
            "collectors": {
                name: {
                    "ms": self._ticker.cost[name],
                    "runs": cost.runs,
                    "mean_ms": round(cost.cpu_ms / cost.runs, 3),
                    "errors": cost.errors,
                    "stretch": self._governor.stretch.get(name, 1),
                }
                for name, cost in self._ticker.costs.items()
            },
        }
        path = status_file(self._config.state_dir)
        temporary = path.with_suffix(".new")
        try:
            temporary.write_text(json.dumps(status, indent=1), encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            self._trouble.tell("status", f"cannot write {path}: {error.strerror}")


def status_file(state_dir: Path) -> Path:
    """Where a running agent writes its status."""
    return state_dir / "status.json"


def rss() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def batches(lines: list[bytes]) -> list[list[bytes]]:
    """A tick's lines in runs that one batch can hold; nearly always one."""
    runs: list[list[bytes]] = []
    size = 0
    for line in lines:
        if not runs or len(runs[-1]) >= MAX_LINES or size + len(line) + 1 > MAX_BYTES:
            runs.append([])
            size = 0
        runs[-1].append(line)
        size += len(line) + 1
    return runs


def system_logs() -> tuple[LogConfig, ...]:
    """The sources of a host whose file names none."""
    for path in SYSTEM_LOGS:
        if os.access(path, os.R_OK):
            return (LogConfig(Path(path), SYSLOG, True, False),)
    if journal.available():
        return (LogConfig(None, SYSLOG, True, False, kind="journal"),)
    log.warning(
        "no system log is here (%s, journal); %s is read once it appears", ", ".join(SYSTEM_LOGS), SYSTEM_LOGS[0]
    )
    return (LogConfig(Path(SYSTEM_LOGS[0]), SYSLOG, True, False),)


def lock(state_dir: Path) -> Any:
    """Take the lock of the state directory (made if missing). Raises AlreadyRunning, IdentityError."""
    path = state_dir / "lock"
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = open(path, "a+", encoding="ascii")  # noqa: SIM115 - held open as long as the agent lives
    except OSError as error:
        raise IdentityError(f"cannot use the state directory {state_dir}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip()
        file.close()
        raise AlreadyRunning(
            f"another agent{f' (process {owner})' if owner else ''} uses {state_dir}. Stop it, or give this one its own "
            "state_dir"
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file

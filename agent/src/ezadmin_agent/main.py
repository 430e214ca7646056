"""The command ``ezadmin-agent``."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from ezadmin_agent import __version__, config, log
from ezadmin_agent.config import ConfigError
from ezadmin_agent.identity import IdentityError, load_or_make
from ezadmin_wire.errors import WireError


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command and return the exit code: 0, or 1 after an error that is told on stderr, 2 for a wrong call."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        code: int = options.command(options)
    except (ConfigError, IdentityError, WireError) as error:
        print(f"ezadmin-agent: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ezadmin-agent", description="The agent of ezadmin.")
    parser.add_argument("--version", action="version", version=f"ezadmin-agent {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        command.add_argument("--config", type=Path, metavar="FILE", help=f"else ${config.ENVIRONMENT}")
        return command

    run = add("run", _run, "collect and send until SIGTERM")
    run.add_argument("--log-format", choices=("console", "json"), default="json")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    once = add("once", _once, "collect once and print exactly what would be sent; sends and keeps nothing")
    once.add_argument("--stdout", action="store_true", required=True, help="print the documents, one a line")
    once.add_argument("--only", metavar="NAME,…", help="only these collectors")
    once.add_argument("--cost", action="store_true", help="CPU time of each collector on stderr")
    status = add("status", _status, "what the running agent does")
    status.add_argument("--json", action="store_true", help="all of it as JSON")
    add("identity", _identity, "make host.id and key if they are not there, and print them (never the private key)")
    check = add("check", _check, "test every step from this host to Elasticsearch; sends a record that says so")
    check.add_argument("--json", action="store_true", help="one JSON object per step")
    check.add_argument("--wait", type=float, default=30.0, metavar="SECONDS", help="for a record to arrive (30)")
    diagnose = add("diagnose", _diagnose, "an archive for those who help, secrets masked, without the private key")
    diagnose.add_argument("--out", type=Path, metavar="FILE", help="else ezadmin-agent-HOST-TIME.tar.gz here")
    enrol = add("enrol", _enrol, "make this host known to the gateway that an enrolment token names")
    token = enrol.add_mutually_exclusive_group(required=True)
    token.add_argument(
        "token", nargs="?", metavar="TOKEN", help="other users of this host may see it in the process list"
    )
    token.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that holds the token; /dev/stdin reads it there"
    )
    enrol.add_argument("--proxy", metavar="URL", help="reach the gateway through http://host:port, from now on")
    enrol.add_argument("--insecure", action="store_true", help="plain HTTP, if you are sure of the network between")
    enrol.add_argument("--json", action="store_true", help="one JSON object")
    record = commands.add_parser("commands", help="what was done here by command, from this host's own log")
    actions = record.add_subparsers(metavar="ACTION", required=True)
    for name, function, text in (
        ("list", _commands_list, "each command and what became of it, the newest last"),
        ("verify", _commands_verify, "whether the log is whole: nothing changed, nothing missing"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--config", type=Path, metavar="FILE", help=f"else ${config.ENVIRONMENT}")
        action.add_argument("--json", action="store_true", help="JSON, one object a line")
        action.set_defaults(command=function)
    settings = commands.add_parser("config", help="check or show the configuration, or print an example of the file")
    actions = settings.add_subparsers(metavar="ACTION", required=True)
    judge = actions.add_parser("check", help="name what is wrong in the file, its line and what to write")
    judge.add_argument("--config", type=Path, metavar="FILE", help=f"else ${config.ENVIRONMENT}")
    judge.set_defaults(command=_config_check)
    show = actions.add_parser("show", help="every setting that holds, and where it comes from")
    show.add_argument("--config", type=Path, metavar="FILE", help=f"else ${config.ENVIRONMENT}")
    show.add_argument("--json", action="store_true", help="one JSON object a setting")
    show.set_defaults(command=_config_show)
    example = actions.add_parser("example", help="print a whole file with every setting, commented")
    example.set_defaults(command=_config_example)
    logs = commands.add_parser("logs", help="try the rules for log files")
    actions = logs.add_subparsers(metavar="ACTION", required=True)
    trial = actions.add_parser("try", help="show which rule keeps or drops each line of a file; sends nothing")
    trial.add_argument("file", type=Path, metavar="FILE")
    trial.add_argument("--config", type=Path, metavar="FILE", help=f"else ${config.ENVIRONMENT}")
    trial.add_argument(
        "--as", dest="alias", type=Path, metavar="PATH", help="use the rules that the file PATH would have"
    )
    trial.add_argument("--json", action="store_true", help="print the events that would be sent instead")
    trial.add_argument("--summary", action="store_true", help="only the counts")
    trial.set_defaults(command=_logs_try)
    return parser


def _logs_try(options: argparse.Namespace) -> int:
    from collections import Counter

    from ezadmin_agent.logs.trial import entry_for, judge, summary

    path = (options.alias or options.file).absolute()
    entry = entry_for(path, config.load(options.config).logs or ())
    if entry is None:
        print(
            f"ezadmin-agent: no [[logs]] has a path that fits {path}; name one that has with --as PATH", file=sys.stderr
        )
        return 1
    kept: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    try:
        for verdict in judge(options.file, entry, int(time.time() * 1000)):
            level = str(verdict.document.get("log.level", "-"))
            if verdict.dropped_by is None:
                kept[level] += 1
            else:
                dropped[verdict.dropped_by] += 1
            if options.json and verdict.document:
                print(json.dumps(verdict.document, ensure_ascii=False))
            elif not (options.json or options.summary):
                shown = str(verdict.document.get("message", verdict.text)).replace("\n", "\\n")[:160]
                print(f"drop {verdict.dropped_by:24} {shown}" if verdict.dropped_by else f"keep {level:24} {shown}")
    except OSError as error:
        print(f"ezadmin-agent: cannot read {options.file}: {error.strerror}", file=sys.stderr)
        return 1
    print("\n".join(summary(kept, dropped)), file=sys.stderr if options.json else sys.stdout)
    return 0


def _config_check(options: argparse.Namespace) -> int:
    found = config.load(options.config)
    path = config.find(options.config)
    warnings = []
    if found.kafka is None and found.gateway is None:
        warnings.append(
            'no broker: "run" needs bootstrap = "host:port" under [kafka], or an enrolment: ezadmin-agent enrol TOKEN'
        )
    elif found.kafka is not None:
        try:
            found.kafka.check_files("[kafka]")
        except WireError as error:
            warnings.append(str(error))
    for entry in found.logs or ():
        log_path = entry.path
        if log_path is not None and log_path.exists() and not os.access(log_path, os.R_OK):
            warnings.append(f"{log_path} cannot be read by this user; run it as the agent's user, or give it the right")
    for text in warnings:
        print(f"{path}: warning: {text}")
    print(f"{path}: correct" + (f", {len(warnings)} warning(s)" if warnings else ""))
    return 0


def _config_show(options: argparse.Namespace) -> int:
    from ezadmin_agent.control import effective

    for setting in effective.settings(config.load(options.config), config.find(options.config)):
        if options.json:
            print(json.dumps(setting._asdict(), ensure_ascii=False))
        else:
            print(f"{setting.name:32} {json.dumps(setting.value, ensure_ascii=False):48} {setting.origin}")
    return 0


def _enrol(options: argparse.Namespace) -> int:
    # imported here: nothing but enrolling needs it
    from ezadmin_agent.agent import AlreadyRunning, lock
    from ezadmin_agent.control import copies, enrol
    from ezadmin_agent.control.client import GatewayError

    log.setup("console", "warning")
    state_dir = config.state_dir_for_enrolment(options.config)
    try:
        text = options.token if options.token is not None else enrol.read_token_file(options.token_file)
        known = enrol.known_already(text, state_dir, proxy=options.proxy, insecure=options.insecure)
        if known is None:
            with lock(state_dir):
                copies.settle(state_dir)
                identity = load_or_make(state_dir)
                known = enrol.enrol(text, identity, state_dir, proxy=options.proxy, insecure=options.insecure)
    except AlreadyRunning as error:
        print(f"ezadmin-agent: stop the agent first: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        text = str(error) if isinstance(error, GatewayError) else f"cannot write in {state_dir}: {error.strerror}"
        print(f"ezadmin-agent: not enrolled: {text}", file=sys.stderr)
        return 1
    way = "kafka" if known.kafka is not None else "https"
    if options.json:
        print(json.dumps({"host.id": known.host, "state": known.state, "gateway": known.gateway, "transport": way}))
        return 0
    waits = ", which waits to be accepted in the web application" if known.state == "quarantined" else ""
    print(f"this host is known to {known.gateway} as {known.host} ({known.state}){waits}; data goes by {way}")
    return 0


def _commands_list(options: argparse.Namespace) -> int:
    from ezadmin_agent.control import record
    from ezadmin_agent.control.line import directory

    found: dict[str, record.Line] = {}
    try:
        for line in record.read(directory(config.load(options.config).state_dir)):
            if isinstance(line, record.Broken):
                print(f"ezadmin-agent: {line.file}: {line.text}", file=sys.stderr)
                return 1
            if options.json:
                print(json.dumps(record.as_json(line), ensure_ascii=False))
            else:
                key = line.id if line.id is not None and line.known else f"line {line.number}"
                found.pop(key, None)
                found[key] = line
    except OSError as error:
        print(f"ezadmin-agent: cannot read the log of commands: {error}", file=sys.stderr)
        return 1
    for line in found.values():
        who = f"{line.kind or '?':12} {line.state:9} {line.actor or '-':20}"
        print(f"{line.at} {line.id or '-':36} {who} {line.reason or ''}".rstrip())
    return 0


def _commands_verify(options: argparse.Namespace) -> int:
    from ezadmin_agent.control import record
    from ezadmin_agent.control.line import directory

    try:
        found = record.verify(directory(config.load(options.config).state_dir))
    except record.RecordError as error:
        print(f"ezadmin-agent: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found._asdict()))
    elif found.problem is not None:
        print(f"BROKEN: {found.problem}")
    elif found.last is None:
        print("whole: no command has come here yet")
    else:
        print(f"whole: lines {found.first} to {found.last}; the hash of the last is {found.head}")
    return 0 if found.problem is None else 1


def _config_example(_options: argparse.Namespace) -> int:
    sys.stdout.write(config.example())
    return 0


def _check(options: argparse.Namespace) -> int:
    from ezadmin_agent import check

    log.setup("console", "critical")
    failed = False
    for step in check.run(config.load(options.config), options.wait):
        failed = failed or step.ok is False
        if options.json:
            print(json.dumps(step._asdict()), flush=True)
            continue
        word = {True: "ok", False: "FAILED", None: "-"}[step.ok]
        print(f"{word:6} {step.ms:8.1f} ms  {step.name}: {step.text}", flush=True)
        if step.hint:
            print(f"{'':20}-> {step.hint}", flush=True)
    return 1 if failed else 0


def _diagnose(options: argparse.Namespace) -> int:
    from ezadmin_agent import diagnose
    from ezadmin_agent.identity import host_name

    log.setup("console", "critical")
    target = options.out or Path(f"ezadmin-agent-{host_name()}-{time.strftime('%Y%m%dT%H%M%S')}.tar.gz")
    try:
        names = diagnose.write(target, config.find(options.config))
    except OSError as error:
        print(f"ezadmin-agent: cannot write {target}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{target}: {', '.join(names)}")
    return 0


def _run(options: argparse.Namespace) -> int:
    # imported here: the other commands need neither Kafka nor psutil
    from ezadmin_agent.agent import Agent, AlreadyRunning
    from ezadmin_agent.spool import SpoolError

    log.setup(options.log_format, options.log_level)
    try:
        agent = Agent(config.load(options.config), config.find(options.config))
    except (AlreadyRunning, SpoolError) as error:
        print(f"ezadmin-agent: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, agent.stop)
    signal.signal(signal.SIGINT, agent.stop)
    agent.run()
    return 0


def _once(options: argparse.Namespace) -> int:
    from ezadmin_agent.reader import Reader
    from ezadmin_agent.registry import COLLECTORS
    from ezadmin_agent.ticks import Ticker, choose

    log.setup("console", "warning")
    try:
        ticker = Ticker(Reader(), choose(COLLECTORS, options.only))
    except ValueError as error:
        print(f"ezadmin-agent: --only: {error}", file=sys.stderr)
        return 2
    ticker.prime()
    time.sleep(1.0)  # rates and shares of time need two looks
    now = int(time.time() * 1000)
    tick = ticker.run(now - now % 1000)
    for line in (*tick.metrics, *(line for _, line in tick.events)):
        sys.stdout.buffer.write(line + b"\n")
    if options.cost:
        print(f"{len(tick.metrics)} lines of metrics, {_wire_size(tick.metrics)} bytes compressed", file=sys.stderr)
        if tick.events:
            events = [line for _, line in tick.events]
            print(f"{len(events)} events, {_wire_size(events)} bytes compressed", file=sys.stderr)
    if options.cost:
        for name, cost in ticker.cost.items():
            print(f"{name:12} {cost:8.3f} ms", file=sys.stderr)
        print(f"{'all':12} {sum(ticker.cost.values()):8.3f} ms", file=sys.stderr)
    return 1 if ticker.errors else 0


def _wire_size(lines: Sequence[bytes]) -> int:
    """Bytes as the sender's codec makes of them, without the batch's headers."""
    return len(gzip.compress(b"\n".join(lines)))


def _identity(options: argparse.Namespace) -> int:
    found = load_or_make(config.load(options.config).state_dir)
    print(
        json.dumps(
            {
                "host.id": found.host_id,
                "host.name": found.host_name,
                "kid": found.key.kid,
                "public_key": found.key.public.hex(),
            }
        )
    )
    return 0


def _status(options: argparse.Namespace) -> int:
    path = config.load(options.config).state_dir / "status.json"
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        print(f"ezadmin-agent: no agent has run with this configuration ({path} is not there)", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"ezadmin-agent: cannot read {path}: {error}", file=sys.stderr)
        return 1
    running = Path(f"/proc/{status['pid']}/stat").exists() and _is_agent(status["pid"])
    if options.json:
        print(json.dumps({**status, "running": running}))
        return 0 if running else 1
    kafka, gateway = status["kafka"], status.get("gateway")
    way = f"Kafka {kafka['bootstrap']}" if kafka else f"batches through the gateway {gateway['url']}"
    connected = "connected" if (kafka or gateway)["connected"] else "NOT connected"
    print(f"agent {status['version']}  host.id {status['host.id']}")
    print(f"{'running' if running else 'NOT RUNNING'}, process {status['pid']}, since {status['started']}")
    print(f"last tick {status['last_tick'] or 'none yet'}, every {status['interval']} s")
    print(f"{way}: {connected}")
    if status.get("held"):
        print(f"NOTHING IS SENT: {status['held']}")
    _print_control(status.get("control") or {})
    spool = status["spool"]
    mib = 2**20
    print(
        f"spool {spool['bytes'] / mib:.1f} of {spool['cap_bytes'] / mib:.0f} MiB, memory {status['rss_bytes'] / mib:.1f} MiB"
    )
    heads = ("stream", "next seq", "unacked", "bytes", "dropped", "lost")
    print("\n{:10} {:>10} {:>9} {:>10} {:>8} {:>6}  last acknowledged".format(*heads))
    for name, stream in status["streams"].items():
        print(
            f"{name:10} {stream['next_seq']:>10} {stream['unacked_lines']:>9} {stream['unacked_bytes']:>10} "
            f"{stream['dropped'] + stream['lines_refused']:>8} {stream['lost']:>6}  {stream['last_ack'] or '-'}"
        )
    lost = ", ".join(f"{count} {reason}" for reason, count in status["dropped"].items() if count)
    print(f"\ndropped since its start: {lost or 'nothing'}")
    print(f"\n{'collector':15} {'runs':>8} {'ms CPU':>8} {'errors':>7}  governor")
    for name, one in status["collectors"].items():
        slower = f"{one['stretch']} times more rarely" if one["stretch"] > 1 else "-"
        print(f"{name:15} {one['runs']:>8} {one['mean_ms']:>8.3f} {one['errors']:>7}  {slower}")
    return 0 if running else 1


def _print_control(control: dict[str, Any]) -> None:
    """The control line in words; nothing where there is none."""
    gateway = control.get("gateway")
    if gateway:
        line = "connected" if control["connected"] else "NOT connected"
        print(f"control line to {gateway}: {line}, this host is {control['state']}")
    if control.get("error"):
        print(f"  {control['error']}")
    if control.get("stopped"):
        print("  STOPPED: commands are refused until they are resumed")
    if control.get("sampling"):
        print(f"  figures each {control['sampling']['interval']} s until {control['sampling']['until']}")
    if control.get("config_version"):
        print(f"  managed configuration: version {control['config_version']}")
    counts = ", ".join(f"{count} {state}" for state, count in (control.get("commands") or {}).items())
    if counts or control.get("forged"):
        print(f"  commands: {counts or 'none'}; {control.get('forged', 0)} that were none of this host's")


def _is_agent(pid: int) -> bool:
    try:
        return b"ezadmin" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())

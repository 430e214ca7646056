"""The command line of up, down, status, logs and reset."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Mapping

from . import status, up
from .config import Settings
from .console import Console
from .errors import LocalError
from .layout import PROGRAMS, STATE_ENTRIES, Layout
from .locks import hold
from .stack import Stack

LOGS = (*PROGRAMS, "supervisord")


def parser() -> argparse.ArgumentParser:
    """The parser of all five commands; the starters put their own name first."""
    main = argparse.ArgumentParser(prog="deploy/local/", add_help=False)
    commands = main.add_subparsers(dest="command", required=True, prog="deploy/local/")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        # Shown as deploy/local/up, for that is what the user typed.
        sub = commands.add_parser(name, help=text, description=text, prog=f"deploy/local/{name}")
        sub.add_argument("--state", metavar="DIR", help="the stack's folder (default: .ezadmin in the checkout)")
        return sub

    sub = command("up", "Starts ezadmin on this machine: installs what is missing, starts what is down.")
    sub.add_argument("--services-only", action="store_true", help="only Kafka, Elasticsearch and MariaDB, for tests")
    sub.add_argument("--secure", action="store_true", help="a new stack with TLS, users and rights everywhere")
    command("down", "Stops everything that `up` started.")
    sub = command("status", "Shows every part, asked whether it works. Exit status 0 only if all do.")
    sub.add_argument("--json", action="store_true", help="as one JSON object")
    sub = command("logs", "Prints the log of one part.")
    sub.add_argument("name", choices=LOGS, metavar="NAME", help=", ".join(LOGS))
    sub.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    sub.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="the last N lines (default 50)")
    sub = command("reset", "Stops everything and deletes the stack's data. Keeps what was downloaded.")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    return main


def settings(environment: Mapping[str, str]) -> tuple[Settings, float]:
    """Settings, and the seconds that a service may take to start, from environment variables.

    Raises LocalError for one that is no size or number.
    """
    heaps = {}
    for field, name in (("es_heap", "EZADMIN_ES_HEAP"), ("kafka_heap", "EZADMIN_KAFKA_HEAP")):
        value = environment.get(name)
        if value:
            if not re.fullmatch(r"[1-9]\d*[mMgG]", value):
                raise LocalError(f"{name}={value}: give a size such as 1g or 512m.")
            heaps[field] = value
    timeout = environment.get("EZADMIN_START_TIMEOUT") or "120"
    if not re.fullmatch(r"[1-9]\d*", timeout):
        raise LocalError(f"EZADMIN_START_TIMEOUT={timeout}: give a number of seconds.")
    return Settings(**heaps), float(timeout)


def main(arguments: list[str]) -> int:
    """Runs one command; gives back its exit status."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(
            f"error: {error.filename}: {error.strerror}. Is the stack another user's? Then act as that user.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(
            "\ninterrupted; what was started goes on running (deploy/local/status, deploy/local/down)", file=sys.stderr
        )
        return 130
    except BrokenPipeError:
        return 1


def _run(options: argparse.Namespace) -> int:
    layout = Layout.find(options.state)
    if options.command == "logs":
        return _logs(layout, options)
    chosen, timeout = settings(os.environ)
    stack = Stack(layout, chosen, Console(), timeout)
    if options.command == "status":
        return status.show(stack, as_json=options.json)
    if options.command == "up":
        os.umask(0o022)  # what is shared may be read; the state's own folders and files say 0700 and 0600
        layout.make_folders()
        with hold(layout.lock_file, "deploy/local/up"):
            up.up(stack, options.services_only, options.secure)
        return 0
    if not layout.ports_file.exists():
        print(f"there is no stack in {layout.state}")
        return 0
    if options.command == "reset" and not (options.yes or _agrees(layout)):
        print("nothing was deleted")
        return 1
    with hold(layout.lock_file, f"deploy/local/{options.command}"):
        stopped = stack.stop_all()
        print(f"stopped after {stack.console.seconds:.1f} s" if stopped else "nothing was running")
        if options.command == "reset":
            _delete(layout)
    return 0


def _agrees(layout: Layout) -> bool:
    if not sys.stdin.isatty():
        raise LocalError("reset deletes data and there is no one to ask here: say reset --yes")
    print(
        f"This stops the stack in {layout.state} and deletes all its data: documents, messages, database, keys, logs."
    )
    return input("Delete it? [y/N] ").strip().lower() in ("y", "yes")


def _delete(layout: Layout) -> None:
    """Deletes what a stack makes, by name: the folder may hold what the checkout shares."""
    for name in STATE_ENTRIES:
        path = layout.state / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if layout.sockets.is_dir() and not layout.sockets.is_symlink():
        shutil.rmtree(layout.sockets)
    layout.lock_file.unlink()
    if layout.state != layout.shared and not any(layout.state.iterdir()):
        layout.state.rmdir()
    print(f"deleted the stack in {layout.state}")


def _logs(layout: Layout, options: argparse.Namespace) -> int:
    path = layout.log_of(options.name)
    if not path.exists():
        raise LocalError(f"{path} does not exist: {options.name} was never started in this stack.")
    # -F: go on in the new file when supervisord has rotated this one.
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(options.lines), *(["-F"] if options.follow else []), "--", str(path)])  # noqa: S606

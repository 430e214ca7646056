"""Syslog messages of RFC 5424."""

from __future__ import annotations

import re
from typing import Any, Optional

from ezadmin_wire.levels import SYSLOG_LEVELS
from ezadmin_wire.logs.parse import Parsed, Parser

_RFC5424 = re.compile(
    r"<(?P<pri>[0-9]{1,3})>(?P<version>[1-9][0-9]{0,2}) (?P<time>\S{1,64}) (?P<host>\S{1,255}) (?P<app>\S{1,128}) "
    r"(?P<proc>\S{1,128}) (?P<msgid>\S{1,128}) "
)
_ELEMENT = re.compile(r'\[([^\s=\]"]{1,128})((?: [^\s=\]"]{1,128}="(?:[^"\\\]]|\\.)*")*)\]')
_PARAMETER = re.compile(r' ([^\s=\]"]{1,128})="((?:[^"\\\]]|\\.)*)"')


def parse_rfc5424(text: str, parser: Parser, now_ms: int) -> Optional[Parsed]:
    """The message, or None if it is not of RFC 5424."""
    match = _RFC5424.match(text)
    if match is None or int(match["pri"]) > 191:
        return None
    facility, severity = divmod(int(match["pri"]), 8)
    place = match.end()
    data: dict[str, dict[str, str]] = {}
    if text[place : place + 1] == "-":
        place += 1
    else:
        while (element := _ELEMENT.match(text, place)) is not None:
            data[element[1].replace("\x00", "")] = {
                name: re.sub(r'\\(["\\\]])', r"\1", value)[:1024] for name, value in _PARAMETER.findall(element[2])
            }
            place = element.end()
        if not data:
            return None
    message = text[place:].lstrip(" ").lstrip("\ufeff")

    def given(name: str) -> Optional[str]:
        return None if match[name] == "-" else match[name]

    app, proc, msgid = given("app"), given("proc"), given("msgid")
    root: dict[str, Any] = {"log.syslog.version": match["version"]}
    root.update({f"log.syslog.{k}": v for k, v in (("appname", app), ("procid", proc), ("msgid", msgid)) if v})
    if data:
        root["log.syslog.structured_data"] = data
    return Parsed(
        parser.time_of(match["time"], now_ms),
        SYSLOG_LEVELS[severity],
        message,
        app,
        int(proc) if proc is not None and proc.isascii() and proc.isdigit() and len(proc) < 10 else None,
        given("host"),
        severity,
        facility,
        root=root,
    )

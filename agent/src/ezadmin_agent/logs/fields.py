"""The fields of events that this agent writes, for templates and the field list."""

from __future__ import annotations

from ezadmin_agent.fields import COMMON, Field, boolean, keyword

FIELDS: tuple[Field, ...] = (
    *COMMON,
    Field("message", "text", "", "keyword", False, "The text, without what stands in fields of its own"),
    keyword("log.level", "Level in the words of ezadmin_wire.levels; absent when the line names none"),
    keyword("log.file.path", "The file it was read from"),
    Field("log.offset", "long", "", "counter", False, "Byte offset of the line in its file"),
    boolean("log.truncated", "True: the line was longer than 64 KiB and the rest was cut off"),
    keyword("log.logger", "The part of the program that wrote it"),
    keyword("log.syslog.hostname", "Host name in the syslog line"),
    Field("log.syslog.severity.code", "integer", "", "keyword", False, "Syslog severity, 0 (emergency) to 7 (debug)"),
    Field("log.syslog.facility.code", "integer", "", "keyword", False, "Syslog facility, 0 to 23"),
    keyword("process.name", "The program that wrote it"),
    Field("process.pid", "long", "", "keyword", False, "Its process id"),
    Field("event.count", "long", "", "counter", False, "Lines that this event stands for; absent: one"),
    Field("event.start", "date", "", "date", False, "Time of the first of several lines that are one event"),
    Field("event.end", "date", "", "date", False, "Time of the last of them"),
    keyword("log.pattern.hash", "Pattern that they share: the line with numbers and addresses masked"),
    keyword("log.syslog.version", "Version of the syslog protocol (RFC 5424)"),
    keyword("log.syslog.appname", "Program in the syslog message (RFC 5424)"),
    keyword("log.syslog.procid", "Process in the syslog message (RFC 5424)"),
    keyword("log.syslog.msgid", "Kind of the syslog message (RFC 5424)"),
    Field("log.syslog.structured_data", "flattened", "", "keyword", False, "Structured data (RFC 5424)"),
    Field("source.ip", "ip", "", "keyword", False, "Address that the syslog message came from"),
    Field("fields", "flattened", "", "keyword", False, "The application's own fields, as text"),
)

COMMANDS: tuple[Field, ...] = (
    keyword("ezadmin.command.id", "The command; absent where what came is none of this host's"),
    keyword("ezadmin.command.run", "What a person confirmed at once, for all its hosts"),
    Field("ezadmin.command.attempt", "integer", "", "keyword", False, "Which attempt of it, from 1"),
    keyword("ezadmin.command.kind", "What is to be done, such as inventory"),
    keyword("ezadmin.command.state", "accepted, done, failed, refused or lost"),
    keyword("ezadmin.command.reason", "Why it was refused or failed, or what came of it"),
    keyword("ezadmin.command.actor", "Who confirmed it"),
    keyword("ezadmin.command.digest", "SHA-256 of its text"),
    Field("ezadmin.chain.number", "long", "", "counter", False, "Number of the line in the host's log of commands"),
    keyword("ezadmin.chain.hash", "Hash of the line"),
    keyword("ezadmin.chain.previous", "Hash of the line before: a gap or another value means that the log was changed"),
)
"""What the events of the dataset ``agent.command`` have beside time, level and message."""

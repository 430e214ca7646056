"""Messages as other programs write them, from their documentation and sources, become the events that they mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_pipeline.foreign import Foreign, ForeignReader, host_id, moment, numbering
from ezadmin_pipeline.lines import LineReader, suspicious
from ezadmin_wire import WireError
from ezadmin_wire.logs.parse import Parser
from ezadmin_wire.names import Names

WHEN = "2026-11-24T08:15:30.123Z"
TAKEN = 1_795_508_131_000  # 2026-11-24T08:15:31Z
NAMES = Names("t")


def read(value: Any, **settings: Any) -> dict[str, Any]:
    """The event that a message becomes; it must pass the check of every line."""
    reader = ForeignReader(Foreign("other", "other", **settings), NAMES)
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    batch = reader.read(data, TAKEN, "p0", "0" * 16, 7)
    (line,) = batch.lines()
    LineReader().read(line, "other", b"{", suspicious(batch.value))
    document: dict[str, Any] = json.loads(line)
    assert batch.levels == {document.get("log.level", "unknown"): 1}
    assert batch.host == host_id("other", batch.kid)
    return {"host": batch.kid, **document}


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "rsyslog omkafka, RSYSLOG_FileFormat": (
        b"2026-11-24T09:15:30.123456+01:00 web-1 sshd[812]: Accepted publickey for ann\n",
        {"host": "web-1", "process.name": "sshd", "process.pid": 812, "message": "Accepted publickey for ann"},
    ),
    "rsyslog omkafka, RSYSLOG_SyslogProtocol23Format": (
        b'<165>1 2026-11-24T08:15:30.123Z web-1 app 77 ID47 [x@1 k="v"] it is \xef\xbb\xbfdone',
        {
            "host": "web-1",
            "log.level": "notice",
            "process.name": "app",
            "process.pid": 77,
            "log.syslog.facility.code": 20,
        },
    ),
    "rsyslog omkafka, %jsonmesg%": (
        {
            "msg": " Failed password",
            "rawmsg": "<38>Nov 24 08:15:30 web-1 sshd[812]: Failed password",
            "timereported": "2026-11-24T08:15:30.123+00:00",
            "hostname": "web-1",
            "syslogtag": "sshd[812]:",
            "inputname": "imuxsock",
            "fromhost": "relay",
            "fromhost-ip": "127.0.0.1",
            "pri": "38",
            "syslogfacility": "4",
            "syslogseverity": "6",
            "timegenerated": "2026-11-24T08:15:31+00:00",
            "programname": "sshd",
            "protocol-version": "0",
            "structured-data": "-",
            "app-name": "sshd",
            "procid": "812",
            "msgid": "-",
            "uuid": None,
        },
        {
            "host": "web-1",
            "log.level": "info",
            "message": "Failed password",
            "process.name": "sshd",
            "process.pid": 812,
            "log.syslog.facility.code": 4,
        },
    ),
    "filebeat": (
        {
            "@timestamp": WHEN,
            "@metadata": {"beat": "filebeat", "type": "_doc", "version": "8.15.0"},
            "log": {"offset": 123, "file": {"path": "/var/log/app.log"}},
            "message": "E1124 08:15:30.123456   12345 a.go:7] boom",
            "input": {"type": "filestream"},
            "ecs": {"version": "8.0.0"},
            "host": {"name": "web-2"},
            "agent": {"type": "filebeat", "name": "web-2b", "id": "c0ffee"},
        },
        {
            "host": "web-2",
            "log.level": "error",
            "message": "boom",
            "log.logger": "a.go:7",
            "log.offset": 123,
            "log.file.path": "/var/log/app.log",
        },
    ),
    "ECS, of a Java program": (
        {
            "@timestamp": WHEN,
            "log.level": "WARN",
            "message": "slow",
            "ecs.version": "1.2.0",
            "service.name": "shop",
            "process.thread.name": "main",
            "log.logger": "c.e.A",
            "host.name": "j-1",
        },
        {
            "host": "j-1",
            "log.level": "warning",
            "service.name": "shop",
            "log.logger": "c.e.A",
            "process.thread.name": "main",
        },
    ),
    "fluent bit": (
        {
            "@timestamp": 1795508130.123456,
            "log": "level=error msg=down",
            "stream": "stdout",
            "kubernetes": {"host": "node-1", "pod_name": "p"},
        },
        {
            "host": "node-1",
            "log.level": "error",
            "message": "level=error msg=down",
            "fields": {"stream": "stdout", "kubernetes.pod_name": "p"},
        },
    ),
    "GELF": (
        {
            "version": "1.1",
            "host": "web-3",
            "short_message": "no space",
            "timestamp": 1795508130.123,
            "level": 3,
            "_app": "x",
        },
        {"host": "web-3", "log.level": "error", "message": "no space", "fields": {"version": "1.1", "_app": "x"}},
    ),
    "logback's logstash encoder": (
        {
            "@timestamp": "2026-11-24T17:15:30.123+09:00",
            "@version": "1",
            "message": "m",
            "logger_name": "c.e.A",
            "level": "SEVERE",
            "hostname": "j-2",
        },
        {"host": "j-2", "log.level": "error", "log.logger": "c.e.A"},
    ),
    "journald": (
        {
            "MESSAGE": "oops",
            "PRIORITY": "2",
            "_HOSTNAME": "db",
            "__REALTIME_TIMESTAMP": "1795508130123456",
            "SYSLOG_IDENTIFIER": "x",
            "_PID": "9",
        },
        {"host": "db", "log.level": "critical", "message": "oops", "process.name": "x", "process.pid": 9},
    ),
    "zap": (
        {"level": "dpanic", "ts": 1795508130.1239, "caller": "a.go:7", "msg": "m"},
        {"host": "other", "log.level": "critical", "message": "m"},
    ),
    "python": (
        {"time": "1795508130123456789", "levelname": "CRITICAL", "message": "m", "name": "app.db", "host": "py"},
        {"host": "py", "log.level": "critical", "log.logger": "app.db"},
    ),
    "a web server's time": (
        {
            "time": "24/Nov/2026:17:15:30 +0900",
            "message": "GET /",
            "http.response.status_code": 200,
            "source.ip": "192.0.2.1",
            "host": "w",
        },
        {"@timestamp": "2026-11-24T08:15:30.000Z", "http.response.status_code": 200, "source.ip": "192.0.2.1"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_programs_write(name: str) -> None:
    value, expected = CASES[name]
    found = read(value)
    expected = {"@timestamp": WHEN, "event.dataset": "other", "event.created": "2026-11-24T08:15:31.000Z", **expected}
    assert {key: found.get(key) for key in expected} == expected


def test_klog_and_rfc3164_have_times_without_a_year() -> None:
    klog = read(b"W1124 08:15:30.123456   12345 reflector.go:561] watch failed")
    local = datetime(2026, 11, 24, 8, 15, 30, 123_000).astimezone(UTC)
    assert klog["@timestamp"] == local.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert (klog["log.level"], klog["message"], klog["log.logger"]) == ("warning", "watch failed", "reflector.go:561")
    old = read(b"<11>Nov 24 08:15:30 box prog[3]: hi")
    assert (old["host"], old["log.level"], old["process.pid"]) == ("box", "error", 3)
    assert old["@timestamp"][:19] == klog["@timestamp"][:19]


def test_settings_name_the_fields() -> None:
    value = {"when": WHEN, "where": {"node": "n1"}, "sev": "WARN", "what": "m", "message": "not this", "level": "debug"}
    found = read(value, host="where.node", time="when", level="sev", message="what")
    assert (found["host"], found["@timestamp"], found["log.level"], found["message"]) == ("n1", WHEN, "warning", "m")
    assert found["fields"] == {"message": "not this", "level": "debug"}


def test_what_is_not_said_is_not_guessed() -> None:
    found = read({"message": "hello", "timestamp": "the day after"})
    assert found["@timestamp"] == found["event.created"]
    assert found["fields"] == {"unread.timestamp": "the day after"}
    assert "log.level" not in found
    assert found["host"] == "other"


def test_nobody_speaks_for_a_host_of_ours() -> None:
    ours = "00000000-0000-4000-8000-00000000000a"
    found = read({"message": "m", "host": {"id": ours, "name": ours}, "agent": {"id": "x"}, "labels": {"site": "s"},
                  "event": {"ingested": WHEN, "sample_rate": 9, "edited_by": "me"}, "_doc_count": 99})  # fmt: skip
    assert found["host"] == ours
    assert host_id("other", ours) != ours
    assert not {"host.id", "agent.id", "labels", "event.ingested", "event.sample_rate", "_doc_count"} & set(found)
    assert host_id("other", "Web-1") == host_id("other", "web-1") != host_id("others", "web-1")


@pytest.mark.parametrize(
    ("value", "settings", "reason"),
    [
        (b"", {}, "bad_value"),
        (None, {}, "bad_value"),
        (b"  \n", {}, "bad_value"),
        (b"{half", {"format": "json"}, "bad_value"),
        (b"[1]", {"format": "json"}, "bad_value"),
        (b"x" * (513 << 10), {}, "too_large"),
        (b'{"host":"db-1","message":"m"}', {"hosts": ("web-*",)}, "host_not_allowed"),
    ],
)
def test_what_is_refused(value: bytes | None, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(WireError) as error:
        ForeignReader(Foreign("other", "other", **settings), NAMES).read(value, TAKEN, "p0", "0" * 16, 7)
    assert error.value.reason == reason


def test_numbers_and_nesting_beyond_all_measure_are_no_reason_to_stop() -> None:
    assert read({"message": "m", "pri": "1" * 5000, "syslogfacility": "1" * 5000, "pid": "1" * 5000})["message"] == "m"
    assert read(b'{"message":"m","a":' + b'{"a":' * 1000 + b"1" + b"}" * 1001)["message"] == "m"


def test_half_a_json_is_text_where_text_is_allowed() -> None:
    assert read(b"{half")["message"] == "{half"
    assert read(b'{"a":1}', format="text")["message"] == '{"a":1}'


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: isinstance(value, dict)))  # fmt: skip
def test_any_object_becomes_an_event(value: dict[str, Any]) -> None:
    read(value)


@given(st.binary(min_size=1).filter(lambda data: bool(data.strip())))
def test_any_bytes_become_an_event(data: bytes) -> None:
    read(data)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1795508130", 1795508130000), ("1795508130.5", 1795508130500), ("1795508130123", 1795508130123),
        ("1795508130123456", 1795508130123), ("1795508130123456789", 1795508130123), ("12", None), ("noon", None),
        ("2026-11-24T08:15:30,123Z", 1795508130123), ("1" * 30, None), ("24/Nov/2026:09:15:30 +0100", 1795508130000),
        ("32/Xyz/2026:25:00:00 +0000", None), ("01/Jan/0000:00:00:00 +0000", None), ("31/Dec/9999:23:59:59 -2359", None),
    ],
)  # fmt: skip
def test_times(text: str, ms: int | None) -> None:
    assert moment(text, Parser(syslog=True), TAKEN) == ms


def test_a_topic_made_anew_numbers_anew() -> None:
    assert numbering("a", 1) != numbering("b", 1)
    assert numbering("a", 1)[0] != numbering("a", 2)[0]

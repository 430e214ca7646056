"""The managed configuration: what is taken, and which layer holds."""

from __future__ import annotations

from typing import Any

import pytest

from ezadmin_wire import WireError, managed


def test_what_is_said_is_read() -> None:
    (one, two) = managed.check({
        "logs": [
            {"path": "/var/log/app.log", "min_level": "warning", "mask": [{"regex": r"pw=\S+", "with": "pw=***"}], "sample": 5},
            {"source": "journal", "exclude": ["CRON"]},
        ]
    })  # fmt: skip
    assert (str(one.path), one.rules.min_level, one.rules.mask, one.rules.sample) == (
        "/var/log/app.log", "warning", ((r"pw=\S+", "pw=***"),), 5,
    )  # fmt: skip
    assert (two.kind, two.dataset, two.rules.exclude) == ("journal", "system.syslog", ("CRON",))
    assert managed.check({"logs": [{"source": "system", "min_level": "error"}]})[0].rules.min_level == "error"
    assert managed.check({}) == managed.check({"logs": []}) == ()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"kafka": {}}, "kafka: only"),
        ({"logs": {}}, "write tables"),
        ({"logs": [{"path": "/a", "min_level": "loud"}]}, r"number 1 \(/a\): min_level: write one of"),
        ({"logs": [{"path": "/a"}, {"path": "a"}]}, r"number 2 \(a\): path: write the absolute"),
        ({"logs": [{"path": "/a", "colour": 1}]}, "colour: unknown key; there are path"),
        ({"logs": [{"path": "/a", "include": ["(a+)+b"]}]}, r"include: '\(a\+\)\+b' repeats a repeat"),
        ({"logs": [{"path": "/a", "sample": "3"}]}, "sample: write a whole number"),
        ({"logs": [{"path": "/a"}, {"path": "/a"}]}, "number 2: /a stands there twice"),
        ({"logs": [{}]}, "path: write the absolute path"),
        ({"logs": [{"path": f"/{n}"} for n in range(201)]}, "201 sources; at most 200"),
    ],
)
def test_what_is_wrong_is_named(config: dict[str, Any], text: str) -> None:
    with pytest.raises(WireError, match=text) as caught:
        managed.check(config)
    assert caught.value.reason == "bad_value"


def test_the_later_layer_holds_key_by_key() -> None:
    base = [{"path": "/a", "min_level": "info", "exclude": ["x"]}, {"source": "syslog", "listen": "udp://0.0.0.0:514"}]
    over = [{"path": "/b"}, {"path": "/a", "min_level": "error"}, {"source": "syslog", "listen": "tcp://0.0.0.0:514"}]
    assert managed.combined([base, over]) == [
        {"path": "/a", "min_level": "error", "exclude": ["x"]},
        {"source": "syslog", "listen": "udp://0.0.0.0:514"},
        {"path": "/b"},
        {"source": "syslog", "listen": "tcp://0.0.0.0:514"},
    ]
    assert base[0]["min_level"] == "info", "what goes in is not changed"

from __future__ import annotations

from ezadmin_cmdb.changes.services import differences


def test_only_what_changed_is_recorded() -> None:
    before = {"name": "a", "memory": 1, "labels": {"x": "1"}, "nic eth0": {"mtu": 1500}}
    after = {"name": "b", "memory": 1, "labels": {"x": "1"}, "nic eth1": {"mtu": 9000}}
    assert differences(before, after) == {
        "name": ["a", "b"],
        "nic eth0": [{"mtu": 1500}, None],
        "nic eth1": [None, {"mtu": 9000}],
    }
    assert differences(before, before) == {}

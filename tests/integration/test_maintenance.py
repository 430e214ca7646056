"""Maintenance windows as people make them: what is refused, what a window's page says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from ezadmin_testing.described import KIM, application, empty, make
from flask import Flask

from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.maintenance import services as maintenance
from ezadmin_cmdb.maintenance.times import FORM


@pytest.fixture(scope="module")
def app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        empty(app)
        yield app


def window(**more: Any) -> Any:
    """Make a window of values as a form sends them."""
    texts = {
        "name": "Patches", "reason": "monthly", "active": "true", "starts": f"{utc_now() - timedelta(minutes=5):{FORM}}",
        "minutes": "60", "timezone": "UTC", "repeats": "once", "hosts": "Host 1", **more,
    }  # fmt: skip
    d = find("maintenance_window")
    return services.create(KIM, d, services.values_of(KIM, d, texts))


def test_what_is_refused_and_what_a_window_does(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        host = make("host", 1)
        make("host", 2)
        for wrong, field in (
            ({"starts": "2026-02-30 10:00"}, "starts"), ({"starts": "tomorrow"}, "starts"),
            ({"timezone": "Mars/Base"}, "timezone"), ({"timezone": "../etc/passwd"}, "timezone"),
            ({"repeats": "daily"}, "last"), ({"repeats": "daily", "last": "2099-01-01"}, "last"),
            ({"repeats": "rule", "rule": "FREQ=SECONDLY", "last": "2026-12-31"}, "rule"),
            ({"hosts": ""}, "hosts"), ({"filter": "colour=red"}, "filter"), ({"minutes": "0"}, "minutes"),
        ):  # fmt: skip
            with pytest.raises(Invalid) as caught:
                window(**wrong)
            assert field in (caught.value.fields or {caught.value.field: ""}), (wrong, caught.value)
        made = window()
        assert (made.owner, made.filter) == ("kim", None)
        seen = maintenance.preview(KIM, made)
        assert (seen.count, seen.names, len(seen.times)) == (1, ["Host 1"], 1)
        assert maintenance.active(db.session, [host.id], utc_now()) == {host.id: made}
        assert maintenance.preview(KIM, window(name="All", hosts="", filter="state=new")).count == 2

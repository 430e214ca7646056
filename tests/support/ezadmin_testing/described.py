"""Samples of every described model, from which the inherited tests make objects, forms and bodies of requests.

A new model needs an entry in :data:`SAMPLES`; without, ``test_cmdb_described.py`` and ``test_cmdb_routes.py`` fail.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import ApiToken
from ezadmin_cmdb.actor import cli_actor
from ezadmin_cmdb.alerts import states as alert_states
from ezadmin_cmdb.alerts.models import Alert
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.audit.models import AuditEntry
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.commands.models import Run
from ezadmin_cmdb.database import Base, db, utc_now
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import Description, find
from ezadmin_cmdb.describe.fields import MultiSelect, Reference, References
from ezadmin_cmdb.enrolment.models import EnrolmentToken
from ezadmin_cmdb.hosts import reports
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.notifications.models import Notification
from ezadmin_cmdb.rights.models import Denial
from ezadmin_cmdb.settings import ElasticConnection, KafkaConnection, Settings
from ezadmin_cmdb.webhooks.models import Delivery
from ezadmin_testing.commands import queued
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.state import Inventory
from ezadmin_wire.times import format_time, now

NOWHERE = "127.0.0.1:1"
"""Where nothing listens."""
KIM = cli_actor("kim")
PASSWORD = "correct horse battery"
Texts = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """How objects of a model are made.

    ``form``: the texts of the form of number n. ``needs``: models of which number n must be there before. ``make``: for what
    no form makes. ``change``: texts to change one with.
    """

    form: Callable[[int], Texts] = field(default=lambda n: {})
    needs: tuple[str, ...] = ()
    make: Callable[[int], Any] | None = None
    change: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def application(
    database: str, folder: Path, *, kafka: str = NOWHERE, elasticsearch: str = f"http://{NOWHERE}", **more: Any
) -> Iterator[Flask]:
    """The web application on a database that is brought up to date; closed at the end. ``more``: other settings."""
    app = create_app(
        Settings(
            database=database,
            kafka=KafkaConnection(kafka),
            config_signing_key=Path("none"),
            elasticsearch=ElasticConnection((elasticsearch,)),
            secret_key_file=folder / "secret",
            **more,
        )
    )
    app.testing = True
    with app.app_context():
        migrate.upgrade(db.engine)
    try:
        yield app
    finally:
        for name in ("ezadmin_elastic", "ezadmin_kafka"):
            app.extensions[name].close()
        with app.app_context():
            db.engine.dispose()


def host_id(n: int) -> str:
    """The id of host number n."""
    return f"00000000-0000-4000-8000-{n:012d}"


def _host(n: int) -> Any:
    return hosts.add(KIM, host_id(n), f"Host {n}", SigningKey.generate().public.hex(), {"rack": f"r{n}"})


def _command(n: int) -> Any:
    command = queued(host_id(n))
    db.session.flush()
    return db.session.get_one(Run, command.run)


def _change(n: int) -> Any:
    made = Change(
        actor="kim", source="ui", action="update", object_type="site", object_id=str(n), object_name=f"Site {n}",
        fields={"name": ["a", "b"]},
    )  # fmt: skip
    return _added(made)


def _denial(n: int) -> Any:
    return _added(Denial(actor=f"user {n}", source="ui", permission="site.view", object_type="site", object_id=str(n)))


def _drift(n: int) -> Any:
    host = make("host", n)
    services.update(KIM, find("host"), host, {"serial": f"declared {n}"})
    report = Inventory(collected=now(), hostname=f"h{n}", serial=f"observed {n} {next(_serials)}")
    reports.store(host.id, report)
    db.session.flush()
    return host.drifts[0]


_serials = count()


def _enrolment_token(n: int) -> Any:
    made = EnrolmentToken(
        name=f"Enrolment {n}", secret_hash=secrets.token_hex(32), created_by="kim", site=make("site", n),
        group=make("host_group", n), expires=utc_now() + timedelta(hours=n),
    )  # fmt: skip
    return _added(made)


def _token(n: int) -> Any:
    owner = make("user", n)
    db.session.flush()
    made = ApiToken(
        user=owner, name=f"Token {n}", token_hash=secrets.token_hex(32), hint="ezt_abcd", scopes=["host.view"], networks=[],
        expires=utc_now() + timedelta(days=9),
    )  # fmt: skip
    return _added(made)


def _audit_entry(n: int) -> Any:
    make("contact", n)
    db.session.commit()
    return db.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc()).limit(1)).one()


def _delivery(n: int) -> Any:
    webhook = find("webhook").resolve(KIM, [f"Webhook {n}"])[f"Webhook {n}"]
    return _added(
        Delivery(webhook=webhook, event="webhook.created", body="{}", answer="<b>taken</b>", answer_status=200)
    )


def _notification(n: int) -> Any:
    rule = find("notification_rule").resolve(KIM, [f"Rule {n}"])[f"Rule {n}"]
    subject = f"<b>{n}</b> is full"
    return _added(
        Notification(channel=rule.channel, rule=rule, subject=subject, body="=1+1", answer="taken", answer_status=250)
    )


def _alert(n: int) -> Any:
    said = alert_states.Said(
        format_time(utc_now()), host_id(n), "alert.threshold", f"limit-{n}", f"/data{n}", "critical", "above",
        "system.filesystem.used.pct", f"<b>/data{n}</b> is full", 0.97, 0.95,
    )  # fmt: skip
    known = db.session.scalar(select(Alert).where(Alert.host_id == host_id(n)))
    return known or alert_states.take(said, None)


def _added(made: Any) -> Any:
    db.session.add(made)
    db.session.flush()
    return made


SAMPLES: dict[str, Sample] = {
    "host": Sample(make=_host, form=lambda n: {"name": f"Host {n}", "state": "active"}, change={"state": "quarantined"}),
    "drift": Sample(needs=("host",), make=_drift),
    "alert": Sample(needs=("host",), make=_alert),
    "maintenance_window": Sample(
        needs=("host", "host_group"),
        form=lambda n: {
            "name": f"Window {n}", "reason": "Patches", "active": "true", "starts": "2026-03-01 02:00", "minutes": "60",
            "timezone": "Asia/Seoul", "repeats": "weekly", "weekdays": ["su"], "last": "2027-03-01", "hosts": f"Host {n}",
            "group": f"Group {n}", "filter": "state=active",
        },
        change={"minutes": "90"},
    ),
    "threshold_template": Sample(
        needs=("host_group", "site"),
        form=lambda n: {
            "name": f"Template {n}",
            "limits": f'[{{"field": "system.filesystem.used.pct", "item": "/data{n}*", "warning_raise": 0.85}}]',
            "assignments": f'[{{"level": "group", "of": "Group {n}", "priority": {n % 1000 + 1}}}]',
        },
        change={"description": "for disks"},
    ),
    "agent": Sample(make=lambda n: make("host", n)),
    "command": Sample(needs=("host",), make=_command),
    "agent_config": Sample(
        needs=("host_group",),
        form=lambda n: {
            "name": f"Configuration {n}", "group": f"Group {n}", "priority": "5", "active": "true",
            "content": f'[[logs]]\npath = "/var/log/{n}.log"\nmin_level = "warning"',
        },
        change={"priority": "7"},
    ),
    "contact": Sample(
        form=lambda n: {
            "name": f"Contact {n}", "kind": "person", "email": f"c{n}@example.com", "phone": "+82 2 123-4567",
            "on_call": "true", "note": "=1+1",
        },
        change={"company": "Hanbit"},
    ),
    "customer": Sample(
        needs=("contact",),
        form=lambda n: {
            "name": f"Customer {n}", "code": f"C{n}", "status": "active", "contact": f"Contact {n}",
            "contract_begin": "2026-01-01", "contract_end": "2027-01-01", "url": "https://example.com/",
        },
        change={"contract": "K-1"},
    ),
    "site": Sample(
        needs=("contact",),
        form=lambda n: {
            "name": f"Site {n}", "code": f"S{n}", "status": "active", "primary_contact": f"Contact {n}",
            "address": "1 Road\nCity", "latitude": "37.5", "longitude": "-1.25", "opened": "2020-02-03",
        },
        change={"country": "Korea"},
    ),
    "room": Sample(
        needs=("site", "contact"),
        form=lambda n: {"name": f"Room {n}", "site": f"Site {n}", "floor": "2F", "contact": f"Contact {n}"},
        change={"floor": "3F"},
    ),
    "rack": Sample(
        needs=("room", "customer"),
        form=lambda n: {
            "name": f"Rack {n}", "room": f"Room {n}", "status": "active", "row": "A", "height": "42", "numbering": "bottom",
            "width": "19", "depth": "1200", "max_weight": "1000.5", "max_power": "6000", "customer": f"Customer {n}",
            "primary_manager": f"Contact {n}",
        },
        change={"status": "reserved"},
    ),
    "device_type": Sample(
        form=lambda n: {
            "name": f"Type {n}", "manufacturer": "Hanbit", "kind": "switch", "height": "1", "depth": "half",
            "weight": "4.5", "power": "150",
        },
        change={"manufacturer": "Other"},
    ),
    "device": Sample(
        needs=("rack", "device_type", "contract"),
        form=lambda n: {
            "name": f"Device {n}", "kind": "switch", "status": "active", "serial": f"D{n}", "address": "192.0.2.1",
            "site": f"Site {n}", "rack": f"Rack {n}", "rack_unit": "1", "rack_face": "rear", "rack_height": "2",
            "rack_depth": "half", "device_type": f"Type {n}", "customer": f"Customer {n}", "contract": f"Contract {n}",
            "primary_manager": f"Contact {n}", "warranty_end": "2028-05-06",
        },
        change={"rack_unit": "7"},
    ),
    "contract": Sample(
        needs=("customer",),
        form=lambda n: {
            "name": f"Contract {n}", "kind": "maintenance", "number": f"K-{n}", "customer": f"Customer {n}",
            "vendor": "Hanbit", "contact": f"Contact {n}", "begin": "2026-01-01", "end": "2027-01-01", "notice": "30",
            "url": "https://example.com/",
        },
        change={"notice": "60"},
    ),
    "user": Sample(
        make=lambda n: accounts.create_user(KIM, f"User {n}", PASSWORD, admin=False),
        form=lambda n: {"name": f"User {n}", "active": "true"},
        change={"language": "ko"},
    ),
    "role": Sample(form=lambda n: {"name": f"Role {n}", "permissions": []}, change={"description": "changed"}),
    "host_group": Sample(
        needs=("host",), form=lambda n: {"name": f"Group {n}", "hosts": f"Host {n}"}, change={"description": "changed"}
    ),
    "team": Sample(
        needs=("user",), form=lambda n: {"name": f"Team {n}", "members": f"User {n}"}, change={"description": "changed"}
    ),
    "grant": Sample(
        needs=("user", "role", "host_group"),
        form=lambda n: {"user": f"User {n}", "role": f"Role {n}", "group": f"Group {n}"},
        change={"group": ""},
    ),
    "tag": Sample(
        form=lambda n: {"name": f"Tag {n}", "color": "red", "description": "=1+1"}, change={"color": "blue"}
    ),
    "custom_field": Sample(
        form=lambda n: {
            "object_type": "site", "name": f"n{n}", "label_en": f"Number {n}", "label_ko": f"번호 {n}", "kind": "number",
            "least": "1", "most": "9", "digits": "0", "initial": "3", "position": "1",
        },
        change={"hint": "changed"},
    ),
    "change": Sample(make=_change),
    "denial": Sample(make=_denial),
    "webhook": Sample(
        form=lambda n: {
            "name": f"Webhook {n}", "url": f"https://hook{n}.invalid/in", "active": "true", "events": ["webhook.created"],
        },
        change={"url": "https://other.invalid/"},
    ),
    "delivery": Sample(needs=("webhook",), make=_delivery),
    "notification_channel": Sample(
        form=lambda n: {
            "name": f"Channel {n}", "kind": "mail", "active": "true", "language": "ko", "recipients": f"ops{n}@example.com",
            "sender": "ezadmin@example.com", "smtp_host": "mail.invalid", "smtp_port": "587", "smtp_security": "starttls",
        },
        change={"recipients": "other@example.com"},
    ),
    "notification_rule": Sample(
        needs=("notification_channel", "host_group", "site"),
        form=lambda n: {
            "name": f"Rule {n}", "active": "true", "channel": f"Channel {n}", "minimum": "warning", "group": f"Group {n}",
            "site": f"Site {n}", "filter": "state=active", "repeat_minutes": "60", "clears": "true", "collect_seconds": "30",
        },
        change={"minimum": "critical"},
    ),
    "notification": Sample(needs=("notification_rule",), make=_notification),
    "api_token": Sample(make=_token),
    "enrolment_token": Sample(needs=("site", "host_group"), make=_enrolment_token),
    "audit_entry": Sample(make=_audit_entry),
}  # fmt: skip


def make(name: str, n: int) -> Any:
    """Make object number n of a model, and what it needs, where that is not there yet."""
    sample, description = SAMPLES[name], find(name)
    prepare(name, n)
    known = description.resolve(KIM, [text]) if (text := str(sample.form(n).get("name", ""))) else {}
    if known:
        return known[text]
    if sample.make is not None:
        return sample.make(n)
    return services.create(KIM, description, services.values_of(KIM, description, sample.form(n)))


def prepare(name: str, n: int) -> None:
    """Make what object number n of a model needs."""
    for need in SAMPLES[name].needs:
        make(need, n)


def body(description: Description, texts: Texts) -> dict[str, Any]:
    """The JSON of the API for what a form holds."""
    found: dict[str, Any] = {}
    for name, value in services.values_of(KIM, description, texts, texts).items():
        one = description.field(name)
        if isinstance(one, Reference):
            found[name] = None if value is None else value.id
        elif isinstance(one, References):
            found[name] = [obj.id for obj in value]
        else:
            found[name] = value if isinstance(one, MultiSelect) else one.plain(value)
    return found


def empty(app: Flask) -> None:
    """Empty all tables; passwords are cheap from here on, for these tests sign in many users."""
    accounts._hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    with app.app_context(), db.engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())


def token(page: str) -> str:
    """The token against forged requests of a page."""
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found is not None
    return found[1]


def sign_in(app: Flask, name: str) -> FlaskClient:
    """A browser in which the user is signed in."""
    client = app.test_client()
    form = {"name": name, "password": PASSWORD, "csrf_token": token(client.get("/sign-in").text)}
    assert client.post("/sign-in", data=form).status_code == 302
    return client


def csrf(client: FlaskClient) -> str:
    """The token against forged requests of a signed-in browser."""
    return token(client.get("/account").text)

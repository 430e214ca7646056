"""Who gets what answer from each route: nobody, one without rights, one with all rights on another group, one with the right.

The routes come from the application itself. Those of described models are expected by their names; any other must stand in
``BY_HAND``, so that a new route without an entry fails.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from ezadmin_testing import log_events
from ezadmin_testing.commands import signer
from ezadmin_testing.described import (
    KIM,
    PASSWORD,
    SAMPLES,
    application,
    body,
    csrf,
    empty,
    host_id,
    make,
    prepare,
    sign_in,
)
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.commands.models import Command
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import Description, find, known
from ezadmin_cmdb.describe.restoring import restorable
from ezadmin_cmdb.errors import Forbidden
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.logsearch.models import LogAlert
from ezadmin_cmdb.rights import permissions
from ezadmin_cmdb.rights.models import Denial
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_cmdb.rules import services as rules
from ezadmin_cmdb.settings import Gateway
from ezadmin_cmdb.web.access import PUBLIC, SIGNED_IN, check_routes, need_of, needs, routes
from ezadmin_wire.config import Match, Rule
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

BY_HAND = {
    "static GET": PUBLIC,
    "status.healthz GET": PUBLIC,
    "status.home GET": SIGNED_IN,
    "status.hide_first_steps POST": SIGNED_IN,
    "status.status GET": "status.view",
    "status.local_metrics GET": PUBLIC,
    "status.api_metrics GET": "status.view",
    "accounts.sign_in_page GET": PUBLIC,
    "accounts.sign_in POST": PUBLIC,
    "accounts.set_language POST": PUBLIC,
    "accounts.sign_out POST": SIGNED_IN,
    "accounts.account GET": SIGNED_IN,
    "accounts.change_password POST": SIGNED_IN,
    "accounts.code_page GET": PUBLIC,
    "provider.ask GET": PUBLIC,
    "provider.answer GET": PUBLIC,
    "accounts.code POST": PUBLIC,
    "accounts.end_session POST": SIGNED_IN,
    "accounts.second_factor_page GET": SIGNED_IN,
    "accounts.begin_second_factor POST": SIGNED_IN,
    "accounts.confirm_second_factor POST": SIGNED_IN,
    "accounts.new_recovery_codes POST": SIGNED_IN,
    "accounts.switch_off_second_factor POST": SIGNED_IN,
    "accounts.own_tokens GET": SIGNED_IN,
    "accounts.create_token POST": SIGNED_IN,
    "accounts.revoke_token POST": SIGNED_IN,
    "api_account.own_tokens GET": SIGNED_IN,
    "api_account.create_token POST": SIGNED_IN,
    "api_account.revoke_token DELETE": SIGNED_IN,
    "users.unlock POST": "user.change",
    "users.reset_second_factor POST": "user.change",
    "users.end_sessions POST": "user.change",
    "users.new GET": "user.change",
    "users.create POST": "user.change",
    "users.reset_password POST": "user.change",
    "saved_filters.index GET": SIGNED_IN,
    "saved_filters.save POST": SIGNED_IN,
    "saved_filters.change POST": SIGNED_IN,
    "api_saved_filters.list GET": SIGNED_IN,
    "api_saved_filters.list POST": SIGNED_IN,
    "api_saved_filters.one GET": SIGNED_IN,
    "api_saved_filters.one PATCH": SIGNED_IN,
    "api_saved_filters.one DELETE": SIGNED_IN,
    "thresholds.add_starters POST": "threshold_template.change",
    "host_thresholds.show GET": "metrics.view",
    "api_threshold_actions.preview POST": "threshold_template.change",
    "api_threshold_actions.starters POST": "threshold_template.change",
    "api_threshold_actions.of_host GET": "metrics.view",
    "alerts.show GET": "alert.view",
    "alerts.count GET": "alert.view",
    "alerts.care POST": "alert.acknowledge",
    "api_alert_actions.history GET": "alert.view",
    "api_alert_actions.acknowledge POST": "alert.acknowledge",
    "api_alert_actions.reopen POST": "alert.acknowledge",
    "api_alert_actions.comment POST": "alert.acknowledge",
    "webhooks.test POST": "webhook.change",
    "webhooks.secret POST": "webhook.change",
    "deliveries.again POST": "webhook.change",
    "api_webhook_calls.test POST": "webhook.change",
    "api_webhook_calls.secret POST": "webhook.change",
    "api_webhook_calls.again POST": "webhook.change",
    "notification-channels.test POST": "notification_channel.change",
    "notification-channels.secret POST": "notification_channel.change",
    "notifications.again POST": "notification_channel.change",
    "api_notification_actions.test POST": "notification_channel.change",
    "api_notification_actions.secret PUT": "notification_channel.change",
    "api_notification_actions.again POST": "notification_channel.change",
    "enrolment-tokens.create POST": "enrolment_token.change",
    "enrolment-tokens.revoke POST": "enrolment_token.change",
    "quarantine.accept POST": "host.change",
    "quarantine.reject POST": "host.change",
    "quarantine.forget_twins POST": "host.change",
    "api_enrolment.create_token POST": "enrolment_token.change",
    "api_enrolment.revoke_token POST": "enrolment_token.change",
    "api_enrolment.accept_host POST": "host.change",
    "api_enrolment.reject_host POST": "host.change",
    "commands.confirm GET": "command.view",
    "commands.confirm POST": "command.view",
    "commands.send POST": "command.view",
    "commands.show GET": "command.view",
    "commands.matrix GET": "command.view",
    "commands.cancel POST": "command.view",
    "commands.again POST": "command.view",
    "commands.of_host GET": "command.view",
    "commands.configuration GET": "agent_config.view",
    "api_command_actions.api_send POST": "command.view",
    "api_command_actions.api_preview POST": "command.view",
    "api_command_actions.api_hosts GET": "command.view",
    "api_command_actions.api_cancel POST": "command.view",
    "api_command_actions.api_again POST": "command.view",
    "api_command_actions.api_of_host GET": "command.view",
    "api_command_actions.api_configuration GET": "agent_config.view",
    "search.page GET": SIGNED_IN,
    "search.suggest GET": SIGNED_IN,
    "api_search.search GET": SIGNED_IN,
    "host-groups.members GET": "host_group.view",
    "reminders.index GET": SIGNED_IN,
    "api_datacenter.reminders GET": SIGNED_IN,
    "racks.space GET": "rack.view",
    "racks.place GET": "rack.view",
    "api_datacenter.space GET": "rack.view",
    "api_datacenter.units GET": "rack.view",
    "fleet.show GET": "host.view",
    "fleet.rows GET": "host.view",
    "hosts.show GET": "host.view",
    "hosts.live GET": "host.view",
    "hosts.text GET": "metrics.view",
    "api.as_text GET": "metrics.view",
    "hosts.declare POST": "host.change",
    "hosts.policy_list GET": "host_policy.view",
    "hosts.change_policies POST": "host_policy.change",
    "drifts.decide POST": "host.change",
    "drifts.count GET": "drift.view",
    "hosts_values.host_values GET": "host.view",
    "hosts_values.declare_value PUT": "host.change",
    "hosts_values.policy_list GET": "host_policy.view",
    "hosts_values.change_policies PATCH": "host_policy.change",
    "hosts_values.decide POST": "host.change",
    "api-docs.openapi_json GET": SIGNED_IN,
    "api_reference.index GET": SIGNED_IN,
    "api_reference.section GET": SIGNED_IN,
    "api.status GET": "status.view",
    "api.latest GET": "metrics.view",
    "api.event_list GET": "events.view",
    **{
        f"logs.{name} GET": "events.view"
        for name in (
            "search",
            "results",
            "histogram",
            "fields",
            "top_values",
            "complete",
            "event",
            "context",
            "tail",
            "export",
        )
    },
    **{f"api_logs.{name} GET": "events.view" for name in ("search", "histogram", "values", "context", "export")},
    "graphs.show GET": "metrics.view",
    "graphs.history GET": "metrics.view",
    "graphs.faster_state GET": "command.sample",
    "graphs.measure_faster POST": "command.sample",
    "logs.cancel POST": "events.view",
    "logs.ignore_page GET": "rules.change",
    "logs.ignore POST": "rules.change",
    "logs.ignored GET": "rules.change",
    "logs.undo POST": "rules.change",
    "api_log_alerts.index GET": "log_alert.change",
    "api_log_alerts.create POST": "log_alert.change",
    "api_log_alerts.backtest POST": "log_alert.change",
    "api_log_alerts.change PUT": "log_alert.change",
    "api_log_alerts.delete DELETE": "log_alert.change",
    "log_alerts.index GET": "log_alert.change",
    "log_alerts.new GET": "log_alert.change",
    "log_alerts.create POST": "log_alert.change",
    "log_alerts.edit GET": "log_alert.change",
    "log_alerts.change POST": "log_alert.change",
    "log_alerts.delete POST": "log_alert.change",
    "api.arrival GET": PUBLIC,  # signed by a host's key: test_cmdb_arrivals.py
}
PAGE_ACTIONS = {
    "index": "view", "filter": "view", "export": "view", "options": "view", "show": "view", "history": "view", "new": "change",
    "edit": "change", "restore": "change", "delete": "delete", "bulk": "change", "bulk_delete": "delete",
    "import_file": "change", "job": "change", "job_errors": "change", "deletion": "delete",
}  # fmt: skip
API_METHODS = {"GET": "view", "POST": "change", "PATCH": "change", "DELETE": "delete"}
NOT_ABOUT_ONE = (
    "bulk", "bulk-delete", "import", "errors.csv", "options", "filter", "count", "decide", "decisions", "/commands",
    "/commands/export.csv", "/send", "/fleet/", "/logs/", "/logs/histogram", "/logs/fields", "/logs/complete", "/logs/cancel",
)  # fmt: skip
"""Endings of routes whose answer names no host."""
BODIES = {
    "hosts_values.declare_value": {"value": "S1"},
    "hosts_values.decide": {"decision": "accept", "ids": []},
    "hosts.declare": {"field": "serial", "action": "give_back"},
    "drifts.decide": {"decision": "accept"},
    "api_alert_actions.comment": {"text": "x"},
    "api_notification_actions.secret": {"secret": "x"},
    "api_log_alerts.create": {"name": "x", "q": "happened"},
    "api_log_alerts.change": {"name": "x", "q": "happened"},
    "api_log_alerts.backtest": {"q": "happened"},
    "api_enrolment.create_token": {"name": "x"},
    "api_threshold_actions.preview": {"name": "x", "limits": [{"field": "system.load.1", "warning_raise": 9}]},
}
"""What routes written by hand want to be sent."""
ALL_THAT_MATCH = {"kind": "inventory", "filter": "q=", "all": "true"}
"""A command to all hosts for which one may send it."""
MORE = {
    "alert.acknowledge": ["alert.view"],
    "notification_channel.change": ["alert.view"], "notification_rule.change": ["alert.view"],
    "log_alert.change": ["events.view"], "rules.change": ["events.view"],
    "command.view": ["command.inventory"], "command.sample": ["metrics.view"], "agent_config.view": ["host.view"],
}  # fmt: skip
"""What else a route needs: which kind of command it is stands in the request; whose configuration, in its address."""
OF_CHOSEN_HOSTS = ("graphs.history", "graphs.faster_state", "graphs.measure_faster")
"""They are asked for one host, which stands in the address."""
ONLY_ADMINISTRATORS = {
    "users.reset_password POST", "users.unlock POST", "users.reset_second_factor POST", "users.end_sessions POST",
}  # fmt: skip
"""Refused although the permission is there: tried with an administrator elsewhere."""


def expected(endpoint: str, method: str) -> str | None:
    """The need of a route, by its name."""
    by_path = {one.path: one for one in known()}
    blueprint, _, action = endpoint.partition(".")
    if f"{endpoint} {method}" in BY_HAND:
        return BY_HAND[f"{endpoint} {method}"]
    if blueprint in by_path and action in PAGE_ACTIONS:
        return f"{by_path[blueprint].name}.{PAGE_ACTIONS[action]}"
    path = blueprint.removeprefix("api_")
    if path in by_path and action in ("list", "one", "import_file", "changes", "bulk"):
        return f"{by_path[path].name}.{API_METHODS[method]}"
    return None


@pytest.fixture(scope="module")
def app(stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    names = module_names
    folder = tmp_path_factory.mktemp("web")
    with signer(folder) as commands:
        more = {"gateway": Gateway(url="https://gateway.example"), "commands": commands, "names": names}
        with application(database, folder, kafka=stack.kafka, elasticsearch=stack.elasticsearch, **more) as app:
            yield app


PEOPLE = ("nobody", "without", "elsewhere", "right")


class World:
    """Objects number 1 (host in group "Group 1"), a host in "Group 2", and people."""

    def __init__(self, app: Flask, elasticsearch: str) -> None:
        self.app = app
        events = [{"host.id": host_id(n), "host.name": f"Host {n}", "message": "it happened"} for n in (1, 2)]
        self.events = log_events.write(elasticsearch, app.extensions["ezadmin_settings"].names, events)
        """Where an event of each host is."""
        self._made: dict[tuple[str, int], Any] = {}
        self._guards: dict[int, str] = {}
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "without", PASSWORD, admin=False)
            self._person("elsewhere", [one.name for one in permissions.known()], 2)
        self.clients: dict[str, FlaskClient] = {
            "nobody": app.test_client(), "without": sign_in(app, "without"), "elsewhere": sign_in(app, "elsewhere"),
        }  # fmt: skip

    def _person(self, name: str, names: list[str], group: int | None) -> None:
        user = accounts.create_user(KIM, name, PASSWORD, admin=False)
        role = services.create(KIM, find("role"), {"name": f"of {name}", "permissions": names})
        where = None if group is None else make("host_group", group)
        services.create(KIM, find("grant"), {"user": user, "role": role, "group": where})

    def client(self, person: str, need: str, d: Description | None) -> FlaskClient:
        """The browser of a person; "right" has the permission, and may see what the form refers to."""
        if person != "right":
            return self.clients[person]
        name = f"right {need}"
        if name not in self.clients:
            with self.app.app_context(), unit_of_work():
                about_hosts = need not in (PUBLIC, SIGNED_IN) and permissions.find(need).hosts
                names = [] if need in (PUBLIC, SIGNED_IN) else [need, *(["host.view"] if about_hosts else [])]
                names += MORE.get(need, [])
                names += [find(one.to).view for one in d.references()] if d and not about_hosts else []
                self._person(name, names, 1 if about_hosts else None)
            self.clients[name] = sign_in(self.app, name)
        return self.clients[name]

    def fresh(self, d: Description, n: int) -> Any:
        """The id of object n of a model, made if it is not (or no longer) there."""
        if (d.name, n) not in self._made:
            self._made[d.name, n] = self._make(d, n)
        return self._made[d.name, n]

    def changed(self) -> None:
        """A request may have deleted what was made."""
        self._made.clear()

    def guard(self, client: FlaskClient) -> str:
        """What a form of this browser must carry."""
        if id(client) not in self._guards:
            signed_in = client.get("/account").status_code == 200
            page = None if signed_in else re.search(r'value="([^"]+)"', client.get("/sign-in").text)
            self._guards[id(client)] = page[1] if page else csrf(client)
        return self._guards[id(client)]

    def _make(self, d: Description, n: int) -> Any:
        with self.app.app_context(), unit_of_work():
            made = make(d.name, n)
            if d.name == "host" and n in (1, 2):  # one that was deleted and made anew is in its group again
                group = make("host_group", n)
                services.update(KIM, find("host_group"), group, {"hosts": [*{*group.hosts, made}]})
            return made.id


@pytest.fixture(scope="module")
def world(app: Flask, stack: Any) -> World:
    return World(app, stack.elasticsearch)


def test_every_route_is_expected(app: Flask) -> None:
    found = {f"{endpoint} {method}": need_of(app, endpoint, method) for endpoint, _rule, method in routes(app)}
    assert found == {route: expected(*route.rsplit(" ", 1)) for route in found}
    assert {route for route, need in BY_HAND.items() if route not in found} == set(), "entries of routes that are gone"


def test_the_application_does_not_start_with_a_route_that_says_nothing(app: Flask) -> None:
    other = Flask("other", static_folder=None)
    other.add_url_rule("/quiet", "quiet", lambda: "")
    with pytest.raises(RuntimeError, match=r"GET /quiet \(quiet\)"):
        check_routes(other)
    with pytest.raises(LookupError):
        needs("no.such.permission")


def model_of(endpoint: str) -> Description | None:
    by_path = {one.path: one for one in known()}
    blueprint = endpoint.partition(".")[0]
    if blueprint in ("api", "quarantine", "host_thresholds") or endpoint == "api_threshold_actions.of_host":
        return by_path["hosts"]
    if endpoint in ("commands.configuration", "api_command_actions.api_configuration"):
        return None
    if blueprint == "api_command_actions":
        return by_path["commands"]
    if endpoint == "api_enrolment.revoke_token":
        return by_path["enrolment-tokens"]
    if blueprint == "api_datacenter":
        return by_path["racks"]
    if blueprint == "api_alert_actions":
        return by_path["alerts"]
    if blueprint == "api_webhook_calls":
        return by_path["deliveries" if endpoint.endswith("again") else "webhooks"]
    if blueprint == "api_notification_actions":
        return by_path["notifications" if endpoint.endswith("again") else "notification-channels"]
    return by_path.get(blueprint.removeprefix("api_"))


def ask(world: World, client: FlaskClient, endpoint: str, rule: str, method: str, n: int) -> Any:
    """Make a request that succeeds for whoever has the right."""
    d, app = model_of(endpoint), world.app
    if d is not None and not d.about_hosts and (method != "GET" or "job_id" in rule):
        n = new_number()  # one of its own, that nothing else uses
    action = endpoint.partition(".")[2]
    path = rule.replace("<language>", "en").replace("<path:filename>", "app.css")
    path = path.replace("<event_id>", "x").replace("<field>", "serial")
    path = path.replace("<handle>", "x" * 16).replace("<int:token_id>", "0")
    path = path.replace("<int:alert_id>", log_alert(world) if "<int:alert_id>" in path else "")
    path = path.replace("<int:filter_id>", "1").replace("/api-docs/<name>", "/api-docs/api_sites")
    object_id = None
    if d is not None and "object_id" in rule:
        object_id = world.fresh(d, n)
    path = re.sub(r"<(\w+:)?object_id>", str(object_id), path).replace("<uuid:host_id>", host_id(n))
    if action in ("accept", "reject", "accept_host", "reject_host"):
        with app.app_context(), unit_of_work():
            hosts.set_state(KIM, make("host", n), "quarantined")
    elif "command" in endpoint and method == "POST":
        with app.app_context(), unit_of_work():
            hosts.set_state(KIM, make("host", n), "active")  # also one that was rejected before
    if "command" in endpoint:
        with app.app_context(), unit_of_work():
            for number in (1, 2):  # others before may have left them refused or in quarantine
                hosts.set_state(KIM, make("host", number), "active")
    if "command" in endpoint and action in ("again", "api_again", "send", "api_send"):
        with app.app_context(), unit_of_work():
            for number in (1, 2):  # earlier requests took them out of service
                hosts.set_state(KIM, make("host", number), "active")
            db.session.execute(update(Command).where(Command.run == str(object_id)).values(state="failed"))
    index, event = world.events[min(n, 2) - 1]
    if endpoint.startswith(("logs.", "api_logs.")) and method == "GET":
        about = {"index": index, "id": event, "field": "host.name"}
        return client.get(path.replace("<rule_id>", rule_of(world)), query_string=about)
    if endpoint in OF_CHOSEN_HOSTS:
        world.fresh(find("host"), n)
        with app.app_context(), unit_of_work():
            hosts.set_state(KIM, make("host", n), "active")  # also one that was rejected before
        headers = {"X-CSRFToken": world.guard(client)}
        return client.open(path, method=method, query_string={"host": host_id(n)}, headers=headers)
    if endpoint == "commands.confirm" and method == "GET":
        return client.get(path, query_string=ALL_THAT_MATCH)
    if endpoint == "log_alerts.edit":
        return client.get(path.replace("<int:alert_id>", log_alert(world)))
    if method == "GET" and "job_id" not in rule:
        return client.get(path, query_string={"units": 1} if endpoint == "api_datacenter.space" else None)
    guard = world.guard(client)
    if "job_id" in rule and d is not None:
        path = job_of(world, client, d, n, action, guard)
        form = {"csrf_token": guard, "do": "write"}
        return client.get(path) if method == "GET" else client.post(path, data=form)
    if action == "import_file" and d is not None:
        return import_of(world, client, d, n, path, guard)
    if action == "bulk" and d is not None and rule.startswith("/api/"):
        world.fresh(d, n)
        with app.app_context(), unit_of_work():
            prepare(d.name, n)
            asked: dict[str, Any] = {"items": [body(d, new_form(d, n))]} if method == "POST" else {"filter": ""}
            asked |= {"set": body(d, dict(SAMPLES[d.name].change))} if method == "PATCH" else {}
        return client.open(path, method=method, json={**asked, "dry_run": True}, headers={"X-CSRFToken": guard})
    if "command" in endpoint and action in ("confirm", "send", "api_send", "api_preview"):
        asked = {"kind": "inventory", "filter": "q="}
        meant = client.post("/api/v1/commands/preview", json=asked, headers={"X-CSRFToken": guard}).json
        count = {"expected": (meant or {}).get("count", 0)}
        if rule.startswith("/api/"):
            return client.post(path, json=asked | count, headers={"X-CSRFToken": guard})
        return client.post(path, data={"csrf_token": guard, **ALL_THAT_MATCH, **count})
    if rule.startswith("/api/"):
        given: dict[str, Any] = BODIES.get(endpoint, {})
        if d is not None and action == "changes" and method == "POST":
            return client.post(path, json={"change": change_of(world, d, object_id)}, headers={"X-CSRFToken": guard})
        if d is not None and method in ("POST", "PATCH") and d.name not in ("command", "alert", "notification"):
            with app.app_context(), unit_of_work():
                if method == "POST":
                    prepare(d.name, n)
                given = body(d, dict(SAMPLES[d.name].change) if method == "PATCH" else new_form(d, n))
        return client.open(path, method=method, json=given, headers={"X-CSRFToken": guard})
    if endpoint.startswith("logs."):
        form = {"csrf_token": guard, "index": index, "id": event, "days": "1", "run": "x"}
        return client.post(path.replace("<rule_id>", rule_of(world)), data=form)
    if endpoint.startswith("log_alerts."):
        form = {
            "csrf_token": guard,
            "name": "x",
            "q": "happened",
            "threshold": "9",
            "minutes": "5",
            "severity": "warning",
        }
        return client.post(path, data=form)
    form: dict[str, Any] = {"csrf_token": guard, "name": f"x{new_number()}", **BODIES.get(endpoint, {})}
    if d is not None and action in ("bulk", "bulk_delete"):
        form["id"] = str(world.fresh(d, n))
    if d is not None and action in ("new", "edit") and endpoint != "users.new":
        with app.app_context(), unit_of_work():
            prepare(d.name, n)
        form |= named_anew(d, n) if action == "new" else SAMPLES[d.name].form(n)
    return client.post(path, data=form)


def log_alert(world: World) -> str:
    """The id of an alert on a search."""
    with world.app.app_context(), unit_of_work():
        owner = db.session.scalars(select(User.id)).first()
        one = LogAlert(name="x", query="happened", threshold=9, minutes=5, severity="warning", owner_id=owner)
        db.session.add(one)
        db.session.flush()
        return str(one.id)


def rule_of(world: World) -> str:
    """The id of a rule by which events are ignored."""
    match = Match(contains="it happened")
    rule = Rule(f"ignored-{secrets.token_hex(4)}", "ignore", match, expires=format_time(utc_now() + timedelta(days=1)))
    with world.app.app_context(), unit_of_work():
        return str(rules.add(KIM, rule, "for the test").id)


def change_of(world: World, d: Description, object_id: Any) -> int:
    """The id of a change of an object that can be restored."""
    with world.app.app_context(), unit_of_work():
        mine = select(Change).where(Change.object_type == d.name, Change.object_id == str(object_id))
        found = db.session.scalar(mine.where(Change.action == "update").order_by(Change.id.desc()))
        if found is None or not restorable(d, found):
            obj = services.find(KIM, d, str(object_id))
            services.update(
                KIM, d, obj, services.values_of(KIM, d, dict(SAMPLES[d.name].change), SAMPLES[d.name].change)
            )
            found = db.session.scalars(mine.order_by(Change.id.desc())).first()
        assert found is not None
        return int(found.id)


def import_of(world: World, client: FlaskClient, d: Description, n: int, path: str, guard: str) -> Any:
    """Bring a file of CSV."""
    column = next(one.name for one in d.all_fields() if one.importable)
    csv = f"id,{column}\n{world.fresh(d, n)},x\n".encode()
    if path.startswith("/api/"):
        return client.post(f"{path}?dry_run=true", data=csv, headers={"X-CSRFToken": guard})
    sent = {"csrf_token": guard, "file": (io.BytesIO(csv), "x.csv")}
    return client.post(path, data=sent, content_type="multipart/form-data")


def job_of(world: World, client: FlaskClient, d: Description, n: int, action: str, guard: str) -> str:
    """The page of a new job of who asks; of none, if he may not begin one."""
    form: dict[str, Any] = {"csrf_token": guard, "id": str(world.fresh(d, n)), "step": "preview"}
    if d.about_hosts:  # those that he sees, also when the request before has deleted them
        form["all"] = "1"
        for number in (1, 2):
            world.fresh(d, number)
    if action == "deletion":
        made = client.post(f"/{d.path}/bulk-delete", data=form)
    elif action == "job_errors":
        made = import_of(world, client, d, n, f"/{d.path}/import", guard)
    else:
        change = SAMPLES[d.name].change
        form |= {**change, **{f"mode.{name}": "set" if text else "clear" for name, text in change.items()}}
        made = client.post(f"/{d.path}/bulk", data=form)
    found = re.search(r"/\d+$", made.headers.get("Location", ""))
    page = {"deletion": "deletions"}.get(action, "jobs")
    return f"/{d.path}/{page}{found[0] if found else '/1'}{'/errors.csv' if action == 'job_errors' else ''}"


_numbers = iter(range(1000, 1_000_000))


def new_number() -> int:
    return next(_numbers)


def new_form(d: Description, n: int) -> dict[str, Any]:
    """The form of what is not there yet."""
    return named_anew(d, n) if SAMPLES[d.name].needs else SAMPLES[d.name].form(new_number())


def named_anew(d: Description, n: int) -> dict[str, Any]:
    """The form of number n with names of its own."""
    form = dict(SAMPLES[d.name].form(n))
    for one in d.all_fields():
        if (one.unique or one.name == "name") and form.get(one.name):
            form[one.name] = f"n{new_number()}"
    return form


@pytest.mark.parametrize("person", PEOPLE)
def test_each_route_for(app: Flask, world: World, person: str) -> None:
    wrong = []
    for endpoint, rule, method in routes(app):
        need = str(expected(endpoint, method))
        if f"{endpoint} {method}" == "accounts.sign_out POST":
            continue  # would end the session of those who follow: test_cmdb_web.py
        d = model_of(endpoint)
        with app.app_context():
            about_hosts = need not in (PUBLIC, SIGNED_IN) and permissions.find(need).hosts
        for n in (1, 2) if about_hosts else (1,):
            if about_hosts:
                for number in (1, 2):
                    world.fresh(find("host_group"), number)
                    if d is not None and d.name != "host":
                        world.fresh(d, number)
            answer = ask(world, world.client(person, need, d), endpoint, rule, method, n)
            text = answer.text
            answer.close()
            if (method != "GET" and answer.status_code < 400) or "job_id" in rule:
                world.changed()
            api = rule.startswith("/api/")
            one = "object_id" in rule or "host_id" in rule or endpoint.endswith(("logs.event", "logs.context"))
            one = one or endpoint in OF_CHOSEN_HOSTS
            fine = range(200, 400)
            if need == PUBLIC:
                allowed: Any = range(200, 500)
            elif person == "nobody":
                allowed = (401,) if api else (302,)
            elif need == SIGNED_IN:
                # a password that is not the present one; no saved filter or token of this number; no code that is waited for
                numbered = any(name in rule for name in ("filter_id", "token_id", "/sessions/"))
                allowed = (
                    (*fine, 404, 422) if numbered else (*fine, 409, 422) if "second-factor" in rule else (*fine, 422)
                )
            elif (
                person == "without"
                or (person == "elsewhere" and not about_hosts)
                or f"{endpoint} {method}" in ONLY_ADMINISTRATORS
            ):
                allowed = (403,)
            else:
                mine = {"elsewhere": 2, "right": 1}[person] == n or not about_hosts
                allowed = fine if mine or not one else (404,)
            said = f"{person}: {method} {rule} ({n}): {answer.status_code}, not {allowed}"
            if answer.status_code not in allowed:
                wrong.append(f"{said}\n{text[:300] if api else re.sub('<[^>]+>', ' ', text)[-600:]}")
            if (
                person == "nobody"
                and need != PUBLIC
                and not api
                and "/sign-in" not in answer.headers.get("Location", "")
            ):
                wrong.append(f"{said}: not to the page to sign in")
            if (
                about_hosts
                and not one
                and person in ("elsewhere", "right")
                and (not rule.endswith(NOT_ABOUT_ONE) or (api and rule.endswith("/bulk")))
                and not ("job_id" in rule and method == "POST")
            ):
                other = {"elsewhere": "Host 1", "right": "Host 2"}[person]
                mine_name = {"elsewhere": "Host 2", "right": "Host 1"}[person]
                if re.search(rf"{other}\b", text) or not re.search(rf"{mine_name}\b", text):
                    wrong.append(f"{person}: {method} {rule} shows hosts that are out of scope, or not those in it")
    assert not wrong, "\n".join(wrong)


# -- what the matrix cannot say ---


def person(app: Flask, name: str, names: list[str], group: int | None = None) -> Actor:
    """An actor with a role of these permissions, for a group of hosts or everywhere."""
    user = accounts.create_user(KIM, name, PASSWORD, admin=False)
    role = services.create(KIM, find("role"), {"name": f"of {name}", "permissions": names})
    where = None if group is None else make("host_group", group)
    services.create(KIM, find("grant"), {"user": user, "role": role, "group": where})
    return Actor(name, "ui", rights_of(user), user_id=user.id)


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    empty(app)
    with app.app_context():
        yield
        db.session.rollback()


@pytest.mark.usefixtures("context")
def test_a_host_that_is_seen_but_not_to_be_changed_is_403(app: Flask) -> None:
    lee = person(app, "lee", ["host.view"])
    role = services.create(KIM, find("role"), {"name": "changes", "permissions": ["host.change"]})
    grant = {"user": db.session.get(User, lee.user_id), "role": role, "group": make("host_group", 1)}
    services.create(KIM, find("grant"), grant)
    make("host", 2)
    lee = Actor("lee", "ui", rights_of(db.session.get(User, lee.user_id)))  # type: ignore[arg-type]
    services.update(lee, find("host"), services.find(lee, find("host"), host_id(1)), {"name": "mine"})
    with pytest.raises(Forbidden):
        services.update(lee, find("host"), services.find(lee, find("host"), host_id(2)), {"name": "not mine"})
    with pytest.raises(Forbidden):
        hosts.set_state(lee, hosts.find(lee, host_id(2)), "retired")


@pytest.mark.usefixtures("context")
def test_rights_through_a_team_and_dynamic_groups(app: Flask) -> None:
    user = make("user", 1)
    team = services.create(KIM, find("team"), {"name": "t", "members": [user]})
    role = services.create(KIM, find("role"), {"name": "r", "permissions": ["host.change", "site.change"]})
    for n in (1, 2, 11):
        make("host", n)
    group = services.create(KIM, find("host_group"), {"name": "g", "filter": "name__contains=1"})
    services.create(KIM, find("grant"), {"team": team, "role": role, "group": group})
    actor = Actor(user.name, "ui", rights_of(user))
    assert [one.name for one in hosts.everything(actor)] == ["Host 1", "Host 11"]
    assert not actor.rights.scope("site.change"), "a grant for a group gives nothing about what is no host"
    services.update(KIM, find("user"), user, {"active": False})
    assert not rights_of(user).permissions


@pytest.mark.usefixtures("context")
def test_nobody_gives_more_than_he_has(app: Flask) -> None:
    boss = person(app, "boss", ["role.change", "grant.change", "team.change", "host_group.change", "user.change",
                                "user.view", "host.view", "grant.delete"])  # fmt: skip
    strong = services.create(KIM, find("role"), {"name": "strong", "permissions": ["site.delete"]})
    user, group, team = make("user", 1), make("host_group", 1), make("team", 2)
    strong_hosts = services.create(KIM, find("role"), {"name": "hosts", "permissions": ["host.change"]})
    given = services.create(KIM, find("grant"), {"team": team, "role": strong})
    services.create(KIM, find("grant"), {"team": make("team", 3), "role": strong_hosts, "group": group})
    admin = accounts.create_user(KIM, "root", PASSWORD, admin=True)
    for attempt in (
        lambda: services.create(boss, find("grant"), {"user": user, "role": strong}),
        lambda: services.create(boss, find("role"), {"name": "x", "permissions": ["site.delete"]}),
        lambda: services.update(boss, find("role"), strong, {"permissions": []}),
        lambda: services.update(boss, find("team"), team, {"members": [user]}),
        lambda: services.update(boss, find("host_group"), group, {"hosts": [make("host", 5)]}),
        lambda: services.delete(boss, find("grant"), given),
        lambda: services.update(boss, find("user"), user, {"admin": True}),
        lambda: services.update(boss, find("user"), admin, {"active": False}),
        lambda: accounts.create_user(boss, "y", PASSWORD, admin=True),
        lambda: accounts.reset_password(boss, user),
    ):
        savepoint = db.session.begin_nested()
        with pytest.raises(Forbidden):
            attempt()
        savepoint.rollback()
    weak = services.create(boss, find("role"), {"name": "weak", "permissions": ["host.view"]})
    services.create(boss, find("grant"), {"user": user, "role": weak})


def test_denials_are_kept_though_the_request_is_not(app: Flask) -> None:
    empty(app)
    with app.app_context(), unit_of_work():
        person(app, "lee", ["host.view"], 1)
        make("host", 2)
    client = sign_in(app, "lee")
    assert client.get("/sites/").status_code == 403
    assert client.get(f"/api/v1/hosts/{host_id(2)}").status_code == 404
    assert client.get(f"/hosts/{host_id(2)}").status_code == 404
    assert client.get(f"/hosts/{host_id(99)}").status_code == 404
    with app.app_context():
        found = db.session.scalars(select(Denial).order_by(Denial.id)).all()
        assert [(one.actor, one.source, one.permission, one.object_id) for one in found] == [
            ("lee", "ui", "site.view", None), ("lee", "api", "host.view", host_id(2)),
            ("lee", "ui", "host.view", host_id(2)),
        ]  # fmt: skip
        assert all(one.request_id and one.address for one in found)


def test_a_form_leaves_alone_what_its_user_may_not_see(app: Flask) -> None:
    empty(app)
    with app.app_context(), unit_of_work():
        person(app, "lee", ["site.change"])
        site_id = make("site", 1).id
    client = sign_in(app, "lee")
    page = client.get(f"/sites/{site_id}/edit").text
    assert 'name="primary_contact"' not in page
    form = {**SAMPLES["site"].form(1), "primary_contact": "", "country": "Korea", "csrf_token": csrf(client)}
    assert client.post(f"/sites/{site_id}/edit", data=form).status_code == 302
    with app.app_context():
        site = services.find(KIM, find("site"), site_id)
        assert (site.country, site.primary_contact.name) == ("Korea", "Contact 1")

"""Pages and API of commands: choosing, confirming, watching, cancelling."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from flask_smorest import Blueprint as ApiBlueprint
from marshmallow import RAISE, Schema, fields, validate
from sqlalchemy import select
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from ezadmin_cmdb.commands import services, states
from ezadmin_cmdb.commands.description import COMMAND
from ezadmin_cmdb.commands.kinds import COMMAND_VIEW, KINDS, Kind
from ezadmin_cmdb.commands.models import Run
from ezadmin_cmdb.commands.services import Choice
from ezadmin_cmdb.configs import services as configs
from ezadmin_cmdb.configs.description import CONFIG
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.enrolment.models import HostLine
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web import sockets
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("commands", __name__, url_prefix="/commands")
pages.add(bp, COMMAND, [action for action in pages.actions(COMMAND) if action != "show"])
SHOWN_HOSTS = 200
OF_A_HOST = 100
ON_ITS_PAGE = 5
WHOLE = ("interval", "seconds")


def _choice(form: MultiDict[str, str]) -> Choice:
    """Which hosts a form means: those that were ticked, or all that its filter matches."""
    return Choice(
        ids=() if form.get("all") else tuple(dict.fromkeys(form.getlist("id"))),
        filter=form.get("filter") if form.get("all") else None,
        listed="agent" if form.get("listed") == "agent" else "host",
        differing=bool(form.get("differing")),
    )


def _arguments(kind: Kind, form: MultiDict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, label, _default in kind.asked:
        text = form.get(name, "").strip()
        if name in WHOLE and not text.isdecimal():
            raise Invalid(_("%(label)s: write a whole number.", label=label), name)
        found[name] = int(text[:9]) if name in WHOLE else text
    return found


@bp.route("/confirm", methods=["GET", "POST"])
@needs(COMMAND_VIEW)
def confirm() -> str:
    """What would happen, and on which hosts."""
    return _confirm(request.values)


def _confirm(form: MultiDict[str, str], error: str | None = None) -> str:
    actor, kind, choice = current_actor(), services.kind_of(form.get("kind", "")), _choice(form)
    found = services.targets(actor, kind, choice)
    differences = []
    if kind.name == "configure":
        differences = _differences([host.id for host in found.hosts[:SHOWN_HOSTS]])
    return render_template(
        "commands/confirm.html", kind=kind, found=found, choice=choice, differences=differences, error=error, form=form,
        shown=SHOWN_HOSTS, hours=kind.waits.total_seconds() / 3600,
    )  # fmt: skip


def _differences(host_ids: list[str]) -> list[tuple[list[str], int]]:
    """What would change, and on how many hosts each."""
    wanted = configs.wanted(host_ids)
    query = select(HostLine.host_id, HostLine.config).where(HostLine.host_id.in_(host_ids))
    applied = {row.host_id: row.config for row in db.session.execute(query)}
    pairs: dict[tuple[int, int], int] = {}
    for host_id, one in wanted.items():
        key = (applied.get(host_id) or 0, one.version)
        pairs[key] = pairs.get(key, 0) + 1
    contents = {one.version: one.content for one in wanted.values()}
    found = []
    for (before, after), count in sorted(pairs.items(), key=lambda item: -item[1]):
        lines = configs.difference(configs.content_of(before) or {}, contents[after])
        if lines:
            found.append((lines, count))
    return found


@bp.post("/send")
@needs(COMMAND_VIEW)
def send() -> Response | tuple[str, int]:
    """Do what was confirmed."""
    form = request.form
    expected = form.get("expected", "")
    try:
        kind = services.kind_of(form.get("kind", ""))
        run = services.send(
            current_actor(),
            _choice(form),
            kind.name,
            _arguments(kind, form),
            expected=int(expected) if expected.isdecimal() else None,
        )
    except (services.SignerAway, services.Refused) as error:
        db.session.rollback()
        return _confirm(form, str(error)), error.status
    except Invalid as error:
        if error.field not in WHOLE and error.field != "arguments":
            raise
        db.session.rollback()
        return _confirm(form, str(error)), error.status
    flash(
        ngettext("The command is on its way to %(num)d host.", "The command is on its way to %(num)d hosts.", run.hosts)
    )
    return redirect(url_for(".show", object_id=run.id))


@bp.get("/<uuid:object_id>")
@needs(COMMAND_VIEW)
def show(object_id: object) -> str:
    """What became of a command on each of its hosts."""
    settings: Settings = current_app.extensions["ezadmin_settings"]
    socket = None if settings.gateway.url is None else sockets.url("ws")
    return render_template("commands/show.html", socket=socket, **_run(str(object_id)))


@bp.get("/<uuid:object_id>/states")
@needs(COMMAND_VIEW)
def matrix(object_id: object) -> str:
    """The part of that page that renews itself."""
    return render_template("commands/_matrix.html", **_run(str(object_id)))


def _run(run_id: str) -> dict[str, Any]:
    actor = current_actor()
    run = services.find_run(actor, run_id)
    commands = services.latest(actor, run)
    counts: dict[str, int] = {}
    for state in states.TITLES:
        if count := sum(one.state == state for one in commands):
            counts[state] = count
    return {
        "run": run, "kind": KINDS[run.kind], "commands": commands, "counts": counts, "titles": states.TITLES,
        "goes_on": any(one.state in (*states.WAITING, *states.UNDER_WAY) for one in commands),
        "queued": counts.get(states.QUEUED, 0),
        "failed": sum(one.state in services.ENDED_BADLY for one in commands),
        "may_send": rights.may(actor, KINDS[run.kind].permission),
    }  # fmt: skip


@bp.post("/<uuid:object_id>/cancel")
@needs(COMMAND_VIEW)
def cancel(object_id: object) -> Response:
    """Cancel what is still queued."""
    gone = services.cancel(current_actor(), services.find_run(current_actor(), str(object_id)))
    flash(ngettext("It is cancelled for %(num)d host.", "It is cancelled for %(num)d hosts.", gone))
    return redirect(url_for(".show", object_id=object_id))


@bp.post("/<uuid:object_id>/again")
@needs(COMMAND_VIEW)
def again(object_id: object) -> Response:
    """Send it again to the hosts where it ended badly."""
    expected = request.form.get("expected", "")
    try:
        sent = services.again(
            current_actor(),
            services.find_run(current_actor(), str(object_id)),
            int(expected) if expected.isdecimal() else None,
        )
    except (services.SignerAway, Conflict) as error:
        db.session.rollback()
        flash(str(error), "warning")
    else:
        flash(ngettext("It is sent again to %(num)d host.", "It is sent again to %(num)d hosts.", sent))
    return redirect(url_for(".show", object_id=object_id))


@bp.get("/of-host/<uuid:host_id>")
@needs(COMMAND_VIEW)
def of_host(host_id: object) -> str:
    """The commands of a host."""
    host = hosts.find(current_actor(), str(host_id), COMMAND_VIEW)
    found = services.of_host(current_actor(), host, OF_A_HOST)
    return render_template(
        "commands/of_host.html", host=host, commands=found, kinds=KINDS, titles=states.TITLES, most=OF_A_HOST
    )


@bp.get("/of-host/<uuid:host_id>/configuration")
@needs(CONFIG.view)
def configuration(host_id: object) -> str:
    """The managed configuration of a host, where each part comes from, and what its agent has."""
    host = hosts.find(current_actor(), str(host_id))
    return render_template("configs/host.html", host=host, **about_config(host))


def about_config(host: Host) -> dict[str, Any]:
    """The managed configuration of a host, and the one that its agent has."""
    effective = configs.effective(host)
    line = db.session.get(HostLine, host.id)
    applied = (line.config if line else None) or 0
    content = configs.content_of(applied)
    return {
        "effective": effective, "applied": applied, "value_text": configs.value_text,
        "difference": [] if content is None or applied == effective.version else configs.difference(content, effective.content),
    }  # fmt: skip


def on_a_hosts_page(host: Host) -> dict[str, Any]:
    """What the page of a host shows of commands."""
    actor = current_actor()
    return {
        "kinds": services.allowed(actor, host), "titles": states.TITLES, "all_kinds": KINDS,
        "commands": services.of_host(actor, host, ON_ITS_PAGE),
        "seen": rights.may(actor, COMMAND_VIEW) and hosts.may(actor, COMMAND_VIEW, host),
    }  # fmt: skip


def sendable() -> list[Kind]:
    """The kinds that the user may send somewhere."""
    return services.allowed(current_actor())


def differing() -> int:
    """How many hosts differ from their configuration, of those to which the user may send one."""
    return services.count_differing(current_actor())


# -- API ---

api = ApiBlueprint(
    "api_command_actions", __name__, url_prefix="/api/v1", description="Commands to agents: send, watch, cancel"
)


class NewCommandSchema(Schema):
    """A command, and the hosts it is for: those of ``ids``, or all that match ``filter``, or that differ."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    kind = fields.String(required=True, validate=validate.OneOf(list(KINDS)))
    ids = fields.List(fields.UUID(), load_default=list, validate=validate.Length(max=services.HOSTS_MAX))
    filter = fields.String(
        metadata={"description": "as the address of the list of hosts holds it: state=active&site=Seoul"}
    )
    differing = fields.Boolean(
        load_default=False, metadata={"description": "only hosts that are to have another configuration than they have"}
    )
    arguments = fields.Dict(
        keys=fields.String(), load_default=dict,
        metadata={"description": "sample: interval, seconds; stop, resume: reason; the others have none"},
    )  # fmt: skip
    expires = fields.Integer(
        strict=True,
        metadata={"description": "seconds within which a host must begin it; by default what fits the kind"},
    )
    expected = fields.Integer(
        strict=True, metadata={"description": "the number of hosts that is meant; needed with filter and differing"}
    )


class CommandTargetSchema(Schema):
    """A host."""

    id = fields.UUID()
    name = fields.String()


class CommandPreviewSchema(Schema):
    """The hosts that a command would be sent to; ``deaf`` are chosen too, but not listened to."""

    count = fields.Integer()
    hosts = fields.List(fields.Nested(CommandTargetSchema))
    deaf = fields.List(fields.Nested(CommandTargetSchema))


class SentCommandSchema(Schema):
    """What was sent."""

    id = fields.UUID()
    kind = fields.String()
    hosts = fields.Integer()
    not_after = fields.AwareDateTime(format="iso")


class HostCommandSchema(Schema):
    """A command of one host, and what became of it."""

    id = fields.UUID()
    run = fields.UUID()
    attempt = fields.Integer()
    host_id = fields.UUID()
    host_name = fields.String()
    kind = fields.String()
    actor_name = fields.String()
    state = fields.String(validate=validate.OneOf(list(states.TITLES)))
    source = fields.String(metadata={"description": "who said so: cmdb (which assumes it), gateway, agent"})
    reason = fields.String(allow_none=True)
    created = fields.AwareDateTime(format="iso")
    not_after = fields.AwareDateTime(format="iso")
    sent_at = fields.AwareDateTime(format="iso", allow_none=True)
    accepted_at = fields.AwareDateTime(format="iso", allow_none=True)
    ended_at = fields.AwareDateTime(format="iso", allow_none=True)


class SendAgainSchema(Schema):
    """How many hosts are meant."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    expected = fields.Integer(strict=True)


class CommandCountSchema(Schema):
    """How many hosts it was done for."""

    count = fields.Integer()


class ConfigurationPartSchema(Schema):
    """A key of a source, and the configuration that it comes from."""

    source = fields.String()
    key = fields.String()
    value = fields.Raw(allow_none=True)
    origin = fields.String()


class ConfigurationSchema(Schema):
    """What a host is to have and has; versions are numbers of contents, 0 for none."""

    wanted = fields.Integer()
    applied = fields.Integer()
    content = fields.Dict()
    parts = fields.List(fields.Nested(ConfigurationPartSchema))
    difference = fields.List(fields.String())


def _api_choice(given: Mapping[str, Any]) -> Choice:
    return Choice(tuple(map(str, given["ids"])), given.get("filter"), differing=given["differing"])


@api.route("/commands", methods=["POST"])
@api.arguments(NewCommandSchema)
@api.response(201, SentCommandSchema)
@needs(COMMAND_VIEW)
def api_send(given: dict[str, Any]) -> Run:
    """Have hosts do something. Each needs the right of the kind for it (command.stop …)."""
    expires = timedelta(seconds=given["expires"]) if "expires" in given else None
    run = services.send(
        current_actor(), _api_choice(given), given["kind"], given["arguments"], expires, given.get("expected")
    )
    db.session.flush()
    return run


@api.route("/commands/preview", methods=["POST"])
@api.arguments(NewCommandSchema)
@api.response(200, CommandPreviewSchema)
@needs(COMMAND_VIEW)
def api_preview(given: dict[str, Any]) -> dict[str, Any]:
    """The hosts that it would be sent to."""
    found = services.targets(current_actor(), services.kind_of(given["kind"]), _api_choice(given))
    return {"count": len(found.hosts), "hosts": found.hosts, "deaf": found.deaf}


@api.route("/commands/<uuid:object_id>/hosts")
@api.response(200, HostCommandSchema(many=True))
@needs(COMMAND_VIEW)
def api_hosts(object_id: object) -> Any:
    """What became of it on each host: its newest attempt."""
    return services.latest(current_actor(), services.find_run(current_actor(), str(object_id)))


@api.route("/commands/<uuid:object_id>/cancel", methods=["POST"])
@api.response(200, CommandCountSchema)
@needs(COMMAND_VIEW)
def api_cancel(object_id: object) -> dict[str, int]:
    """Cancel what no host was given yet."""
    return {"count": services.cancel(current_actor(), services.find_run(current_actor(), str(object_id)))}


@api.route("/commands/<uuid:object_id>/again", methods=["POST"])
@api.arguments(SendAgainSchema)
@api.response(200, CommandCountSchema)
@needs(COMMAND_VIEW)
def api_again(given: dict[str, Any], object_id: object) -> dict[str, int]:
    """Send it again to the hosts where it failed, was refused, expired or was lost."""
    run = services.find_run(current_actor(), str(object_id))
    return {"count": services.again(current_actor(), run, given.get("expected"))}


@api.route("/hosts/<uuid:host_id>/commands")
@api.response(200, HostCommandSchema(many=True))
@needs(COMMAND_VIEW)
def api_of_host(host_id: object) -> Any:
    """The newest commands of a host, a hundred at most."""
    host = hosts.find(current_actor(), str(host_id), COMMAND_VIEW)
    return services.of_host(current_actor(), host, OF_A_HOST)


@api.route("/hosts/<uuid:host_id>/configuration")
@api.response(200, ConfigurationSchema)
@needs(CONFIG.view)
def api_configuration(host_id: object) -> dict[str, Any]:
    """The managed configuration of a host, where each part comes from, and what its agent has."""
    about = about_config(hosts.find(current_actor(), str(host_id)))
    effective = about["effective"]
    parts = [
        {"source": name, "key": part.key, "value": part.value, "origin": part.origin.name}
        for name, found in effective.parts.items()
        for part in found
    ]
    return {
        "wanted": effective.version, "applied": about["applied"], "content": effective.content, "parts": parts,
        "difference": about["difference"],
    }  # fmt: skip

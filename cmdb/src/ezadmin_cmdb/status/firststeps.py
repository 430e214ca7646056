"""What is still to be done in a new installation. Whether it is done is seen in what is there, never remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask_babel import lazy_gettext as _l
from sqlalchemy import exists, func, or_, select

from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts import own_parts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.limits.models import LimitAssignment
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.thresholds.models import ThresholdTemplate


@dataclass(frozen=True)
class Step:
    """Something to do. ``endpoint``: the page where, or None for what is done on the server; ``needs``: who may do it."""

    name: str
    title: Any
    text: Any
    needs: str
    endpoint: str | None
    done: Callable[[Settings], bool]


def _has_hosts(settings: Settings) -> bool:
    return bool(db.session.scalar(select(exists().where(Host.id.not_in(own_parts.ids())))))


def _has_thresholds(settings: Settings) -> bool:
    return bool(
        db.session.scalar(select(or_(exists(select(LimitAssignment.id)), exists(select(ThresholdTemplate.id)))))
    )


def _has_users(settings: Settings) -> bool:
    return (db.session.scalar(select(func.count(User.id)).where(User.active)) or 0) > 1


STEPS = (
    Step(
        "host", _l("Add a host"), _l("Make an enrolment token, and install the agent with it on a machine."),
        "enrolment_token.change", "enrolment-tokens.index", _has_hosts,
    ),
    Step(
        "threshold", _l("Set a threshold"), _l("Begin with the starter templates: disks, memory, CPU, load, silence."),
        "threshold_template.change", "thresholds.index", _has_thresholds,
    ),
    Step(
        "user", _l("Invite a user"), _l("Give a colleague an account, and roles for the hosts that are his."),
        "user.change", "users.new", _has_users,
    ),
    Step(
        "grafana", _l("Connect Grafana"),
        _l("On the server: ezadmin-cmdb grafana push, then grafana_url in cmdb.toml (docs/grafana.md)."),
        "user.change", None, lambda settings: settings.grafana_url is not None,
    ),
)  # fmt: skip


def of(actor: Actor, settings: Settings) -> list[tuple[Step, bool]]:
    """The steps that the actor may take, each with whether it is done; empty when nothing is left to do for him."""
    found = [(step, step.done(settings)) for step in STEPS if rights.may(actor, step.needs)]
    return [] if all(done for _step, done in found) else found

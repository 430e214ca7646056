"""Judging what is alive, and what to do where something is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask_babel import gettext as _
from flask_babel import ngettext
from kafka.errors import KafkaError
from sqlalchemy import func, select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.elastic import Elastic, ElasticUnavailable
from ezadmin_cmdb.hosts import own_parts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.services import SILENT_AFTER, visible
from ezadmin_cmdb.hosts.states import REPORTED
from ezadmin_cmdb.status.kafka import GroupStatus, KafkaProbe
from ezadmin_cmdb.web import formats
from ezadmin_wire.names import Names
from ezadmin_wire.times import parse_time

LAG_WARNING = 5_000
"""Messages (batches of up to 500 lines) that the pipeline may be behind before it is worth a warning."""


@dataclass(frozen=True)
class Part:
    """A part that is judged. ``state``: ok, warning, down or unknown; ``advice``: what to do where it is not ok."""

    name: str
    title: str
    state: str
    text: str
    advice: str = ""
    details: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Agents:
    """How many hosts there are without the parts of ezadmin, and how many of the active ones report."""

    hosts: int
    reporting: int
    silent: int
    never: int
    inactive: int


@dataclass(frozen=True)
class Status:
    """All that is judged. ``newest``: the moment of the newest document of each kind."""

    parts: list[Part]
    agents: Agents
    newest: dict[str, datetime | None]
    newest_known: bool

    @property
    def state(self) -> str:
        """The worst state of a part."""
        order = ("ok", "unknown", "warning", "down")
        return max((part.state for part in self.parts), key=order.index)


def look(actor: Actor, names: Names, elastic: Elastic, kafka: KafkaProbe) -> Status:
    """Ask every part; those that do not answer cost a few seconds at most. Raises database errors."""
    pipeline, worker = names.consumer_group("pipeline"), names.consumer_group("cmdb-worker")
    with ThreadPoolExecutor(max_workers=3) as pool:
        asked = pool.submit(_outcome, lambda: kafka.groups([pipeline, worker]))
        health = pool.submit(_outcome, elastic.health)
        newest = pool.submit(_outcome, lambda: _newest(elastic, names))
        agents = _agents(actor)
        groups_known = asked.result()
        health_known, newest_known = health.result(), newest.result()
    parts = [
        _kafka(groups_known),
        _elasticsearch(health_known),
        Part("database", _("Database"), "ok", _("answers")),
        _pipeline(groups_known, names, pipeline),
        _worker(groups_known, worker),
        _agents_part(agents),
    ]
    moments = newest_known if isinstance(newest_known, dict) else {"metrics": None, "logs": None}
    return Status(parts, agents, moments, isinstance(newest_known, dict))


def _outcome(question: Any) -> Any:
    """The answer, or the error itself: one part that is away must not hide the others."""
    try:
        return question()
    except (KafkaError, ElasticUnavailable, OSError) as error:
        return error


def _newest(elastic: Elastic, names: Names) -> dict[str, datetime | None]:
    found: dict[str, datetime | None] = {}
    for kind in ("metrics", "logs"):
        body = {"size": 0, "track_total_hits": False, "aggs": {"newest": {"max": {"field": "@timestamp"}}}}
        answer = elastic.search(f"{names.prefix}-{kind}-*", body)
        value = answer.get("aggregations", {}).get("newest", {}).get("value_as_string")
        found[kind] = parse_time(value) if value else None
    return found


def _agents(actor: Actor) -> Agents:
    hosts = visible(actor).where(Host.id.not_in(own_parts.ids())).subquery()
    limit = utc_now() - SILENT_AFTER

    def count(*conditions: Any) -> int:
        return db.session.scalar(select(func.count()).select_from(hosts).where(*conditions)) or 0

    active = hosts.c.state.in_(REPORTED)
    return Agents(
        hosts=count(),
        reporting=count(active, hosts.c.agent_collected >= limit),
        silent=count(active, hosts.c.agent_collected < limit),
        never=count(active, hosts.c.agent_collected.is_(None)),
        inactive=count(hosts.c.state.not_in(REPORTED)),
    )


def _kafka(groups: dict[str, GroupStatus] | Exception) -> Part:
    if isinstance(groups, Exception):
        advice = _("Start Kafka, or mend its address in the settings. Agents keep what they collect until it is back.")
        return Part("kafka", "Kafka", "down", _("does not answer"), advice, [(_("Error"), str(groups) or repr(groups))])
    return Part("kafka", "Kafka", "ok", _("answers"))


def _elasticsearch(health: dict[str, Any] | Exception) -> Part:
    title = "Elasticsearch"
    if isinstance(health, Exception):
        advice = _(
            "Start Elasticsearch. Until then no figures and events are shown; Kafka keeps them, nothing is lost."
        )
        return Part("elasticsearch", title, "down", _("does not answer"), advice, [(_("Error"), str(health))])
    colour = health["status"]
    details = [(_("Nodes"), str(health["number_of_nodes"])), (_("Shards"), str(health["active_shards"]))]
    if colour == "red":
        advice = _("Some data cannot be read or written. Look at its log, and whether a disk is full.")
        return Part("elasticsearch", title, "down", _("is red"), advice, details)
    if colour == "yellow" and health["unassigned_shards"]:  # else an index is just being made
        advice = _("Data has no second copy: add a node, or wait until one is back.")
        return Part("elasticsearch", title, "warning", _("is yellow"), advice, details)
    return Part("elasticsearch", title, "ok", _("answers"), details=details)


def _pipeline(groups: dict[str, GroupStatus] | Exception, names: Names, group: str) -> Part:
    title = _("Pipeline")
    if isinstance(groups, Exception):
        return Part("pipeline", title, "unknown", _("cannot be judged without Kafka"))
    found = groups[group]
    lag = sum(found.lag.values())
    details = [
        (
            _("Behind in %(topic)s", topic=topic.removeprefix(f"{names.prefix}.")),
            ngettext("%(num)d message", "%(num)d messages", count),
        )
        for topic, count in sorted(found.lag.items())
    ]
    if lag and found.seconds is not None:
        details.append((_("Oldest that waits"), formats.duration(1000 * found.seconds)))
    if not found.members:
        advice = _("Start it: ezadmin-pipeline run. Until then nothing new is shown; Kafka keeps it.")
        return Part("pipeline", title, "down", _("does not run"), advice, details)
    if lag > LAG_WARNING:
        advice = _("Start more pipeline workers if it does not catch up by itself.")
        return Part(
            "pipeline",
            title,
            "warning",
            ngettext("is %(num)d message behind", "is %(num)d messages behind", lag),
            advice,
            details,
        )
    return Part(
        "pipeline",
        title,
        "ok",
        ngettext("runs with %(num)d worker", "runs with %(num)d workers", found.members),
        details=details,
    )


def _worker(groups: dict[str, GroupStatus] | Exception, group: str) -> Part:
    title = _("CMDB worker")
    if isinstance(groups, Exception):
        return Part("worker", title, "unknown", _("cannot be judged without Kafka"))
    if not groups[group].members:
        advice = _("Start it: ezadmin-cmdb worker. Until then inventory stays as it is and new hosts are not believed.")
        return Part("worker", title, "down", _("does not run"), advice)
    return Part("worker", title, "ok", _("runs"))


def _agents_part(agents: Agents) -> Part:
    title = _("Agents")
    if not agents.hosts:
        advice = _("Add the first host: run ezadmin-agent identity on it, and ezadmin-cmdb host add here.")
        return Part("agents", title, "unknown", _("no hosts yet"), advice)
    text = _("%(n)d of %(all)d report", n=agents.reporting, all=agents.reporting + agents.silent + agents.never)
    details = [
        (_("Silent"), str(agents.silent)),
        (_("Never reported"), str(agents.never)),
        (_("Not listened to"), str(agents.inactive)),
    ]
    if agents.silent or agents.never:
        advice = _("See which in the list of hosts, and look there with: ezadmin-agent status")
        state = "down" if not agents.reporting else "warning"
        return Part("agents", title, state, text, advice, details)
    return Part("agents", title, "ok", text, details=details)

"""The descriptions of what was sent to hosts, and of the agents that it is sent to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from flask_babel import lazy_gettext as _l
from marshmallow import fields as wire
from sqlalchemy import ColumnElement, Select, case, or_, select
from sqlalchemy.orm import column_property, undefer

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.commands import kinds, services, states
from ezadmin_cmdb.commands.models import Command, Run
from ezadmin_cmdb.configs import services as configs
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.enrolment.models import HostLine
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.states import STATES
from ezadmin_cmdb.search import words

NAMES = 3
"""Of hosts, in the list."""


@dataclass(frozen=True, kw_only=True)
class _OfCommands(fields.Text):
    """What a run is searched by though its commands have it: the hosts, the states."""

    operators: ClassVar[tuple[str, ...]] = (fields.EQUALS,)
    column_name: str

    def get(self, obj: Any) -> Any:
        """Not shown by itself."""
        return None

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """Runs with a command of one of these."""
        column = getattr(Command, self.column_name)
        wanted = column.in_(values)
        if self.column_name == "host_name":
            wanted = or_(wanted, Command.host_id.in_(values))
        return Run.id.in_(select(Command.run).where(wanted))


@dataclass(frozen=True, kw_only=True)
class _States(_OfCommands):
    """The states of its commands: one of those that there are."""

    kind: ClassVar[str] = "select"

    @property
    def choices(self) -> Mapping[str, object]:
        """All of them."""
        return states.TITLES


def _search(word: str) -> ColumnElement[bool]:
    of_hosts = select(Command.run).where(or_(words.contains(Command.host_name, word), Command.host_id == word))
    return or_(words.contains(Run.actor_name, word), Run.id == word, Run.id.in_(of_hosts))


def _beside(runs: Sequence[Any]) -> Mapping[str, Any]:
    from ezadmin_cmdb.web.signin import current_actor

    actor, ids = current_actor(), [run.id for run in runs]
    return {
        "counts": services.counts(actor, ids), "names": services.names(actor, ids, NAMES), "kinds": kinds.KINDS,
        "titles": states.TITLES,
    }  # fmt: skip


COMMAND = register(
    Description(
        name="command",
        path="commands",
        model=Run,
        title=_l("Command"),
        titles=_l("Commands"),
        icon="send",
        menu="agents",
        key="kind",
        order=("-created",),
        about_hosts=True,
        creatable=False,
        changeable=False,
        deletable=False,
        scope=services.visible_runs,
        search=_search,
        beside=_beside,
        template="commands/_cells.html",
        empty_hint=_l("Choose hosts in the list of agents, or open a host, and have them do something."),
        fields=[
            fields.Select(name="kind", label=_l("Command"), choices=kinds.TITLES, editable=False, cell="kind"),
            fields.Number(name="hosts", label=_l("Hosts"), editable=False, cell="hosts"),
            _States(
                name="state", label=_l("States"), column_name="state", editable=False, sortable=False, cell="states",
            ),
            fields.Text(name="actor_name", label=_l("Sent by"), editable=False, searched=True),
            fields.Moment(name="created", label=_l("Sent"), editable=False),
            fields.Moment(name="not_after", label=_l("To be begun until"), editable=False, listed=False),
            _OfCommands(
                name="host", label=_l("Host"), column_name="host_name", editable=False, sortable=False, listed=False,
                tabular=False,
            ),
            fields.Select(
                name="source", label=_l("Sent by way of"), editable=False, listed=False,
                choices={"ui": _l("Page"), "api": _l("API"), "cli": _l("Command line")},
            ),
            fields.Text(name="chosen", label=_l("Filter of hosts"), editable=False, listed=False),
            fields.Computed(
                name="arguments", label=_l("Arguments"), compute=lambda run: run.arguments, listed=False, tabular=False,
                form=lambda: wire.Dict(),
            ),
        ],
    )
)  # fmt: skip


# -- agents ---

SAME, DIFFERS = "same", "differs"
_POLLED = select(HostLine.seen).where(HostLine.host_id == Host.id).correlate(Host.__table__).scalar_subquery()
for _name, _expression in {
    "agent_config_applied": configs.applied(), "agent_config_state": case((configs.differs(), DIFFERS), else_=SAME),
    "agent_polled": _POLLED,
}.items():  # fmt: skip
    # what the gateway knows of a host beside its row, as if it stood there; read only where it is asked for
    setattr(Host, _name, column_property(_expression, deferred=True))
AGENT_VIEW = "agent.view"


def _agents(actor: Actor) -> Select[Any]:
    return hosts.visible(actor, AGENT_VIEW)


def _beside_agents(found: Sequence[Any]) -> Mapping[str, Any]:
    return {"liveness": hosts.liveness}


AGENT = register(
    Description(
        name="agent",
        path="agents",
        model=Host,
        title=_l("Agent"),
        titles=_l("Agents"),
        icon="broadcast",
        menu="agents",
        about_hosts=True,
        creatable=False,
        changeable=False,
        deletable=False,
        scope=_agents,
        beside=_beside_agents,
        template="commands/_agent_cells.html",
        above="commands/_send.html",
        loads=lambda: [
            undefer(getattr(Host, name)) for name in ("agent_config_applied", "agent_config_state", "agent_polled")
        ],
        empty_hint=_l("Install the agent on a machine, and it stands here."),
        fields=[
            fields.Text(name="name", label=_l("Host"), length=253, editable=False, searched=True, cell="name"),
            fields.Select(name="state", label=_l("State"), choices=STATES, editable=False, cell="state"),
            fields.Text(name="agent_version", label=_l("Version"), editable=False, searched=True),
            fields.Moment(name="agent_collected", label=_l("Last report"), editable=False),
            fields.Moment(name="agent_polled", label=_l("Asked for commands"), editable=False),
            fields.Number(name="agent_spool_lines", label=_l("Lines not sent yet"), editable=False),
            fields.Number(name="agent_spool_bytes", label=_l("Spool"), unit="byte", editable=False, listed=False),
            fields.Number(name="agent_lines_dropped", label=_l("Lines lost"), editable=False, listed=False),
            fields.Number(name="agent_cpu_pct", label="CPU", unit="ratio", digits=4, editable=False),
            fields.Number(name="agent_rss_bytes", label=_l("Memory"), unit="byte", editable=False),
            fields.Select(
                name="agent_config_state", label=_l("Configuration"), editable=False, cell="config",
                choices={SAME: _l("As wanted"), DIFFERS: _l("Differs")},
                help=_l("Whether the agent has applied the managed configuration that its host is to have."),
            ),
            fields.Number(name="agent_config_applied", label=_l("Applied version"), editable=False, listed=False),
            fields.Number(name="agent_config_wanted", label=_l("Wanted version"), editable=False, listed=False),
            fields.Select(
                name="agent_transport", label=_l("Way of its data"), editable=False,
                choices={"kafka": "Kafka", "https": "HTTPS"},
            ),
            fields.Moment(name="agent_started", label=_l("Running since"), editable=False, listed=False),
        ],
    )
)  # fmt: skip

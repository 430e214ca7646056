"""The description of managed configurations: their list, forms, history, CSV and API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask_babel import lazy_gettext as _l
from sqlalchemy import inspect

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.configs import services
from ezadmin_cmdb.configs.models import AgentConfig
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.errors import Invalid

_SEEN_BY_AGENTS = ("content", "group", "priority", "active")


def _check(actor: Actor, config: Any, new: bool) -> None:
    try:
        services.read(config.content or "")
    except Invalid as error:
        raise Invalid(str(error), "content") from error
    state = inspect(config)
    if new:
        config.revision = 1
    elif any(state.attrs[name].history.has_changes() for name in _SEEN_BY_AGENTS):
        config.revision = (config.revision or 0) + 1


def _beside(configs: Sequence[Any]) -> Mapping[str, Any]:
    return {"read": services.read}


CONFIG = register(
    Description(
        name="agent_config",
        path="agent-configs",
        model=AgentConfig,
        title=_l("Agent configuration"),
        titles=_l("Agent configurations"),
        icon="journal-text",
        menu="agents",
        order=("-priority", "name"),
        checks=[_check],
        beside=_beside,
        above="configs/_differing.html",
        panels=["configs/_panel.html"],
        form_note=_l("Agents get it when it is sent to them: nothing changes on a host before."),
        empty_hint=_l("What agents read and filter is then decided here, for a group of hosts or for all."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            fields.Reference(
                name="group", label=_l("Group of hosts"), to="host_group", help=_l("Without one: for all hosts."),
            ),
            fields.Number(
                name="priority", label=_l("Priority"), required=True, least=-1000, most=1000,
                help=_l("Where two say something about the same source, the higher one holds."),
            ),
            fields.Boolean(name="active", label=_l("Active")),
            fields.Number(
                name="revision", label=_l("Version"), editable=False, help=_l("Counts the changes of what agents see.")
            ),
            fields.Text(
                name="content", label=_l("Content"), length=services.MAX_BYTES, lines=True, required=True, sortable=False,
                listed=False, searched=True,
                help=_l("TOML as in the agent's own file: tables [[logs]] with path or source, then min_level, exclude, mask …"),
            ),
            fields.Text(name="note", label=_l("Note"), length=255, searched=True),
        ],
    )
)  # fmt: skip

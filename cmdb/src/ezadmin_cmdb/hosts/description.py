"""The description of hosts: their list, filters, history, CSV and API. The page with live figures is :mod:`.views`' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import current_app
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from marshmallow import fields as wire
from sqlalchemy import ColumnElement, false, or_, select
from sqlalchemy.orm import selectinload

from ezadmin_cmdb.database import db
from ezadmin_cmdb.datacenter.placed import PLACE_FIELDS, place_fields
from ezadmin_cmdb.datacenter.placement import check_place
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.describe.fields import AGENT, PERSON
from ezadmin_cmdb.elastic import ElasticUnavailable, elastic
from ezadmin_cmdb.hosts import many, own_parts, schemas, services, states, values
from ezadmin_cmdb.hosts.labels import effective
from ezadmin_cmdb.hosts.labels import loads as label_loads
from ezadmin_cmdb.hosts.models import Address, Host, HostLabel, Nic
from ezadmin_cmdb.hosts.states import STATES
from ezadmin_cmdb.metrics import services as metrics
from ezadmin_cmdb.rights import groups
from ezadmin_cmdb.rights.models import HostGroup
from ezadmin_cmdb.search import words

ENVIRONMENTS = {
    "production": _l("Production"), "standby": _l("Standby"), "staging": _l("Staging"), "test": _l("Test"),
    "development": _l("Development"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Groups(fields.References):
    """The groups that a host is listed in; its filter knows dynamic groups too."""

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """In one of the groups, by ids or names."""
        found = db.session.scalars(select(HostGroup).where(or_(HostGroup.id.in_(values), HostGroup.name.in_(values))))
        return groups.holds([groups.scope_of(group) for group in found])


def _search(word: str) -> ColumnElement[bool]:
    """A word in names, system, hardware, addresses or labels (``name=value``)."""
    searched = [one for one in HOST.all_fields() if one.searched]
    found = [one.search(Host, word) for one in searched]
    network, mac = words.network(word), words.mac(word)
    by_address = words.within(Address.number, network) if network else Address.address.startswith(word, autoescape=True)
    address = select(Nic.host_id).join(Address).where(by_address)
    interface = select(Nic.host_id).where(Nic.mac.startswith(mac, autoescape=True) if mac else false())
    name, sign, value = word.partition("=")
    label = select(HostLabel.host_id).where(HostLabel.name == name if sign else words.contains(HostLabel.value, word))
    if sign and value:
        label = label.where(HostLabel.value == value)
    return or_(Host.id == word, *found, *(Host.id.in_(ids) for ids in (address, interface, label)))


def _pulses(hosts: Sequence[Any]) -> Mapping[str, Any]:
    """The newest figures of the hosts of a page, or why there are none."""
    names = current_app.extensions["ezadmin_settings"].names
    shown = [host.id for host in hosts]
    more = {"liveness": services.liveness, "own": own_parts.ids(shown)}
    try:
        return {"pulses": metrics.pulses(elastic(), names, shown), "missing": None, **more}
    except ElasticUnavailable as error:
        return {"pulses": {}, "missing": str(error), **more}


def _instead(host: Host) -> tuple[str, Mapping[str, str], str] | None:
    """A host that goes out of service is retired."""
    if host.state == states.RETIRED:
        return None
    text = _(
        "A host that goes out of service is better retired: it is no longer listened to, and stands out of the way, but "
        "its values, place, labels and figures stay. To delete is for what was added by mistake."
    )
    return text, {"state": states.RETIRED}, _("Retire it instead")


def _addresses(host: Host) -> list[str]:
    return [address.address for nic in host.nics for address in nic.addresses]


def _labels(host: Host) -> dict[str, str]:
    return effective(host)


SYSTEM, MACHINE, AGENT_SECTION, OWNERS = _l("System"), _l("Machine"), _l("Agent"), _l("Owner and place")


@dataclass(frozen=True, kw_only=True)
class _State(fields.Select):
    """The state, of which a person chooses not all."""

    def set(self, obj: Any, value: Any) -> None:
        """As :mod:`.states` explains."""
        states.choose(obj, value)


@dataclass(frozen=True, kw_only=True)
class _Declared(fields.Field):
    """A field that agents observe: who sets it declares it, who empties it gives it back to the agent."""

    def set(self, obj: Any, value: Any) -> None:
        """What holds follows when the change ends (:func:`.services.changing`)."""
        if value is None:
            values.give_back(obj, self.name)
        else:
            values.declare(obj, self.name, value)


@dataclass(frozen=True, kw_only=True)
class _DeclaredText(_Declared, fields.Text):
    """Text that agents observe."""


@dataclass(frozen=True, kw_only=True)
class _DeclaredNumber(_Declared, fields.Number):
    """A number that agents observe."""

    least: float | None = 0


def _observed(kind: type[fields.Field], name: str, label: object, section: object, **more: Any) -> fields.Field:
    """A field whose value the agent reports; people may declare those of :data:`.values.DEFAULTS`."""
    if name in values.DEFAULTS:
        kind = {fields.Text: _DeclaredText, fields.Number: _DeclaredNumber}[kind]
    more = {"length": getattr(Host, name).type.length, **more} if kind is _DeclaredText else more
    given: dict[str, Any] = {
        "listed": False, "editable": name in values.DEFAULTS, "policy": values.DEFAULTS.get(name, AGENT), **more
    }  # fmt: skip
    return kind(name=name, label=label, section=section, **given)


HOST = register(
    Description(
        name="host",
        path="hosts",
        model=Host,
        title=_l("Host"),
        titles=_l("Hosts"),
        icon="hdd-stack",
        about_hosts=True,
        creatable=False,
        scope=services.visible,
        changing=services.changing,
        checks=[check_place],
        one_by_one=PLACE_FIELDS,
        many=many.MANY,
        natural=("serial", "hostname", "name"),
        search=_search,
        beside=_pulses,
        instead=_instead,
        template="hosts/_cells.html",
        loads=lambda: (
            selectinload(Host.nics).joinedload(Nic.addresses), selectinload(Host.labels), selectinload(Host.disks),
            *label_loads(),
        ),
        form_note=_l("What an agent observes and you change here is declared by you; emptied, it is the agent's again."),
        empty_hint=_l("Install the agent on a machine, then make it known here:"),
        fields=[
            fields.Text(
                name="name", label=_l("Name"), length=253, required=True, searched=True, policy=PERSON, cell="name"
            ),
            _State(
                name="state", label=_l("State"), required=True, choices=STATES, policy=PERSON, cell="state",
                help=_l("New, active and silent follow from reports; none of the others is listened to."),
            ),
            fields.Boolean(
                name="state_by_rule", label=_l("State by a rule"), editable=False, listed=False,
                help=_l("Retired by a rule: active again when its agent reports."),
            ),
            fields.Computed(
                name="liveness", label=_l("Agent reports"), compute=services.liveness, listed=False,
                section=AGENT_SECTION,
            ),
            fields.Computed(
                name="addresses", label=_l("Addresses"), compute=_addresses, cell="addresses",
                form=lambda: wire.List(wire.String()),
            ),
            fields.Computed(
                name="labels", label=_l("Labels"), compute=_labels, listed=False, cell="labels",
                form=lambda: wire.Dict(keys=wire.String(), values=wire.String()),
            ),
            fields.Reference(name="customer", label=_l("Customer"), to="customer", section=OWNERS),
            fields.Reference(name="site", label=_l("Site"), to="site", listed=False, section=OWNERS),
            fields.Reference(
                name="primary_manager", label=_l("Primary manager"), to="contact", listed=False, section=OWNERS,
                help=_l("Who is asked first about this server."),
            ),
            fields.Reference(
                name="secondary_manager", label=_l("Secondary manager"), to="contact", listed=False, section=OWNERS,
            ),
            fields.Text(
                name="note", label=_l("Note"), length=4000, lines=True, sortable=False, listed=False, searched=True,
                section=OWNERS,
            ),
            *place_fields(OWNERS),
            fields.Select(name="environment", label=_l("Environment"), choices=ENVIRONMENTS, section=OWNERS),
            fields.Reference(name="contract", label=_l("Contract"), to="contract", listed=False, section=OWNERS),
            fields.Day(name="warranty_end", label=_l("Warranty until"), listed=False, section=OWNERS),
            Groups(name="groups", label=_l("Groups of hosts"), to="host_group", editable=False),
            _observed(fields.Text, "hostname", _l("Host name"), SYSTEM, searched=True),
            _observed(fields.Text, "fqdn", _l("Full name"), SYSTEM, searched=True),
            _observed(fields.Text, "os_name", _l("Operating system"), SYSTEM, searched=True, listed=True, cell="system"),
            _observed(fields.Text, "os_version", _l("Version"), SYSTEM, searched=True),
            _observed(fields.Text, "os_family", _l("Family of systems"), SYSTEM),
            _observed(fields.Text, "kernel", _l("Kernel"), SYSTEM, searched=True),
            _observed(fields.Text, "architecture", _l("Architecture"), SYSTEM),
            _observed(fields.Text, "timezone", _l("Time zone"), SYSTEM),
            _observed(fields.Moment, "boot_time", _l("Started"), SYSTEM),
            _observed(fields.Text, "vendor", _l("Vendor"), MACHINE, searched=True),
            _observed(fields.Text, "model", _l("Model"), MACHINE, searched=True),
            _observed(fields.Text, "serial", _l("Serial number"), MACHINE, searched=True),
            _observed(fields.Text, "bios_version", _l("BIOS"), MACHINE),
            _observed(fields.Text, "virtualization", _l("Virtualization"), MACHINE),
            _observed(fields.Text, "cpu_model", _l("CPU"), MACHINE, searched=True),
            _observed(fields.Number, "cpu_sockets", _l("Sockets"), MACHINE),
            _observed(fields.Number, "cpu_physical", _l("Cores"), MACHINE),
            _observed(fields.Number, "cpu_logical", _l("Logical cores"), MACHINE, listed=True, cell="cpu"),
            _observed(fields.Number, "memory", _l("Memory"), MACHINE, unit="byte", listed=True, cell="memory"),
            _observed(fields.Number, "swap", _l("Swap"), MACHINE, unit="byte"),
            _observed(fields.Number, "disk_total", _l("Disks in total"), MACHINE, unit="byte", listed=True),
            _observed(fields.Text, "agent_version", _l("Version of the agent"), AGENT_SECTION),
            _observed(fields.Moment, "inventory_collected", _l("Inventory as of"), AGENT_SECTION, policy=None),
            _observed(
                fields.Moment, "agent_collected", _l("Last report"), AGENT_SECTION, policy=None, listed=True, cell="seen"
            ),
            fields.Computed(
                name="nics", label=_l("Network interfaces"), compute=lambda host: host.nics, tabular=False,
                form=lambda: wire.List(wire.Nested(schemas.NicSchema)),
            ),
            fields.Computed(
                name="disks", label=_l("Disks"), compute=lambda host: host.disks, tabular=False,
                form=lambda: wire.List(wire.Nested(schemas.DiskSchema)),
            ),
            fields.Moment(name="created", label=_l("Known since"), editable=False, listed=False, section=AGENT_SECTION),
        ],
    )
)  # fmt: skip

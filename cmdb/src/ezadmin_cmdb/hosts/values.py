"""What agents observe, what people declare, and which of both holds.

A field of :data:`DEFAULTS` has three values: *observed* (``Host.observed``), *declared* (a row of ``host_declarations``)
and the one that holds, in the column, so that lists, filters and labels know one value only. Its policy says which:

- ``agent``: what is observed; what is declared only while nothing is observed;
- ``person``: what is declared, else what is observed;
- ``review``: what held before, until a person decides; the first value is taken as it is.

What is expected (declared, or holding under review) and observed differently is a row of ``drifts``, for a person to
accept or reject. An agent that no longer sees a value says nothing about it: that is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.describe.fields import AGENT, PERSON, REVIEW
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts.models import Declaration, Drift, FieldPolicy, Host
from ezadmin_wire.times import format_time, parse_time

POLICIES = (AGENT, PERSON, REVIEW)
DEFAULTS: Mapping[str, str] = {
    "hostname": AGENT, "fqdn": AGENT, "os_name": AGENT, "os_version": AGENT, "os_family": AGENT, "kernel": AGENT,
    "architecture": AGENT, "timezone": AGENT,
    "vendor": REVIEW, "model": REVIEW, "serial": REVIEW,  # they change when it is no longer the same machine
    "bios_version": AGENT, "virtualization": AGENT, "cpu_model": AGENT, "cpu_sockets": AGENT, "cpu_physical": AGENT,
    "cpu_logical": AGENT, "memory": AGENT, "swap": AGENT, "disk_total": AGENT,
}  # fmt: skip
"""The fields that can be declared, each with the policy that it has unless another was chosen."""

OPEN, REJECTED = "open", "rejected"


@dataclass(frozen=True)
class Value:
    """Why a field has its value. ``holds``: ``agent`` or ``person``, or None if there is no value."""

    field: str
    policy: str
    effective: Any
    holds: str | None
    declared: Any = None
    declared_by: str | None = None
    declared_source: str | None = None
    declared_since: datetime | None = None
    observed: Any = None
    observed_since: datetime | None = None
    drift: Drift | None = None

    @property
    def plain(self) -> bool:
        """Whether there is nothing to tell: an agent observed it, and nobody says anything else."""
        return self.declared_since is None and self.drift is None


def policies() -> dict[str, str]:
    """The policy of each field."""
    chosen = {row.field: row.policy for row in db.session.scalars(select(FieldPolicy))}
    return {name: chosen.get(name, default) for name, default in DEFAULTS.items()}


def observe(host: Host, seen: Mapping[str, Any], collected: datetime) -> None:
    """Note what the agent reports. What holds follows with :func:`settle`."""
    known, when = host.observed or {}, format_time(collected)
    observed = {
        name: known[name] if name in known and known[name][0] == seen[name] else [seen[name], when] for name in DEFAULTS
    }
    if observed != known:
        host.observed = observed


def declare(host: Host, field: str, value: Any) -> None:
    """Note what a person says, None for nothing any more. What holds, and who said it, follows with :func:`settle`."""
    found = next((one for one in host.declarations if one.field == field), None)
    if value is None:
        if found is not None:
            host.declarations.remove(found)
    elif found is None:
        host.declarations.append(Declaration(field=field, value=value, since=utc_now()))
    elif found.value != value:
        found.value, found.since, found.by, found.source = value, utc_now(), None, None


def settle(host: Host, actor: Actor, policy: Mapping[str, str] | None = None) -> None:
    """Let what is observed and declared take effect, and keep the drifts; ``actor`` is who declared what is new."""
    with db.session.no_autoflush:
        policy = policies() if policy is None else policy
        declared = {one.field: one for one in host.declarations}
        for one in declared.values():
            if one.by is None:
                one.by, one.source = actor.name, actor.source
        drifts = {one.field: one for one in host.drifts}
        observed = host.observed or {}
        for name in DEFAULTS:
            if name in observed or name in declared:
                _settle_field(host, name, policy[name], observed.get(name), declared.get(name), drifts.get(name))


def _settle_field(
    host: Host, name: str, policy: str, seen: list[Any] | None, declaration: Declaration | None, drift: Drift | None
) -> None:
    held = getattr(host, name)
    observed = seen[0] if seen is not None else None
    declared = declaration.value if declaration is not None else None
    if policy == AGENT:
        holds = observed if observed is not None else declared
    elif policy == PERSON or declared is not None:
        holds = declared if declared is not None else observed
    else:
        holds = observed if held is None else held
    if holds != held:
        setattr(host, name, holds)
    expected = declared if declared is not None else holds if policy == REVIEW else None
    if observed is None or expected is None or observed == expected:
        if drift is not None:
            host.drifts.remove(drift)
        return
    if drift is not None and (drift.observed, drift.declared) == (observed, expected):
        return
    if drift is not None:  # another difference, which nobody has judged yet
        host.drifts.remove(drift)
    since = parse_time(seen[1]) if seen is not None else utc_now()
    if declaration is not None:
        since = max(since, declaration.since)
    host.drifts.append(Drift(field=name, declared=expected, observed=observed, since=since, status=OPEN))


def give_back(host: Host, field: str) -> None:
    """Drop what people said about a field: what the agent observes holds again, also where that was to be reviewed."""
    declare(host, field, None)
    observed = (host.observed or {}).get(field)
    setattr(host, field, observed[0] if observed is not None else None)


def explain(host: Host) -> dict[str, Value]:
    """All values of a host's fields, each with why it holds."""
    policy, observed = policies(), host.observed or {}
    declared = {one.field: one for one in host.declarations}
    drifts = {one.field: one for one in host.drifts}
    found = {}
    for name in DEFAULTS:
        effective, seen, said = getattr(host, name), observed.get(name, [None, None]), declared.get(name)
        of_person = said is not None and said.value == effective and (seen[0] != effective or policy[name] != AGENT)
        found[name] = Value(
            field=name,
            policy=policy[name],
            effective=effective,
            holds=None if effective is None else "person" if of_person else "agent",
            declared=said.value if said else None,
            declared_by=said.by if said else None,
            declared_source=said.source if said else None,
            declared_since=said.since if said else None,
            observed=seen[0],
            observed_since=parse_time(seen[1]) if seen[0] is not None else None,
            drift=drifts.get(name),
        )
    return found


def check_policies(wanted: Mapping[str, str]) -> None:
    """Raises Invalid for fields or policies that there are not."""
    wrong = {
        name: f"one of {', '.join(POLICIES)}" if name in DEFAULTS else "no field that agents observe and people declare"
        for name, policy in wanted.items()
        if name not in DEFAULTS or policy not in POLICIES
    }
    if wrong:
        raise Invalid("; ".join(f"{name}: {why}" for name, why in wrong.items()), fields=wrong)


def chunks(ids: Iterable[str], size: int = 200) -> Iterator[list[str]]:
    """The ids in portions, in an order that is the same for everybody who locks them."""
    ordered = sorted(set(ids))
    for begin in range(0, len(ordered), size):
        yield ordered[begin : begin + size]

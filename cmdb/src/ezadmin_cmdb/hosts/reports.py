"""Storing what agents report: inventory and status. Documents come twice and out of order; the newest one wins."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import undefer

from ezadmin_cmdb.actor import agent_actor
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.hosts import states, values
from ezadmin_cmdb.hosts.models import Address, Disk, Host, Nic
from ezadmin_cmdb.hosts.services import changing
from ezadmin_wire import WireError
from ezadmin_wire import state as wire
from ezadmin_wire.times import parse_time

CLOCK_SLACK = timedelta(minutes=10)

_OF_THE_AGENT = ("agent_version", "fingerprint")
"""Members of the document that are columns of the same name, and that nobody declares."""


def store(host_id: str, document: wire.StateDocument) -> bool:
    """Store a document of a host; returns False for one that is not newer than what is known.

    Raises WireError (``unknown_host``) if there is no such host, ``bad_time`` for a time that cannot be read.
    """
    host = db.session.get(Host, host_id, with_for_update=True, populate_existing=True, options=[undefer(Host.observed)])
    if host is None:
        raise WireError("unknown_host", f"there is no host {host_id}")
    if isinstance(document, wire.Inventory):
        return _store_inventory(host, document)
    return _store_status(host, document)


def _newer(collected: datetime, known: datetime | None) -> bool:
    """A time that lies ahead of our clock was a wrong clock's, and does not shut out what comes after it."""
    return known is None or collected > known or known > utc_now() + CLOCK_SLACK


def _store_inventory(host: Host, document: wire.Inventory) -> bool:
    collected = parse_time(document.collected)
    if not _newer(collected, host.inventory_collected):
        return False
    with changing(agent_actor(host.id), host):
        values.observe(host, {name: getattr(document, name) for name in values.DEFAULTS}, collected)
        for name in _OF_THE_AGENT:
            setattr(host, name, getattr(document, name))
        host.boot_time = parse_time(document.boot_time) if document.boot_time else None
        host.inventory_collected = collected
        _store_nics(host, document)
        _store_disks(host, document)
        if states.wakes(host, collected):
            states.wake(host)
    return True


def _store_nics(host: Host, document: wire.Inventory) -> None:
    known = {nic.name: nic for nic in host.nics}
    kept = []
    for reported in document.nics:
        nic = known.pop(reported.name, None) or Nic(name=reported.name)
        nic.mac, nic.mtu, nic.speed_mbps, nic.up = reported.mac, reported.mtu, reported.speed_mbps, reported.up
        addresses = {address.address: address for address in nic.addresses}
        nic.addresses = [
            _address(addresses.get(one.address), one)
            for one in {one.address: one for one in reported.addresses}.values()
        ]
        kept.append(nic)
    host.nics = list({nic.name: nic for nic in kept}.values())


def _address(known: Address | None, reported: wire.Address) -> Address:
    address = known or Address(address=reported.address)
    address.version = 6 if ":" in reported.address else 4
    address.prefix = reported.prefix
    return address


def _store_disks(host: Host, document: wire.Inventory) -> None:
    known = {disk.name: disk for disk in host.disks}
    kept = {}
    for reported in document.disks:
        disk = known.get(reported.name) or Disk(name=reported.name)
        disk.size, disk.model, disk.serial = reported.size, reported.model, reported.serial
        disk.rotational = reported.rotational
        kept[reported.name] = disk
    host.disks = list(kept.values())


def _store_status(host: Host, document: wire.AgentStatus) -> bool:
    collected = parse_time(document.collected)
    if not _newer(collected, host.agent_collected):
        return False
    host.agent_collected = collected
    host.agent_started = parse_time(document.started)
    host.agent_spool_bytes = document.spool_bytes
    host.agent_spool_lines = document.spool_lines
    host.agent_lines_sent = document.lines_sent
    host.agent_lines_dropped = document.lines_dropped
    host.agent_rss_bytes = document.rss_bytes
    host.agent_cpu_pct = document.cpu_pct
    host.agent_transport = document.transport
    if states.wakes(host, collected):
        with changing(agent_actor(host.id), host):
            states.wake(host)
    return True

"""Alerts: what changed its state (a limit of a host, a surge of events), as a document and as a message.

An alert is one flat document. It goes to ``<prefix>-alerts-YYYY.MM`` (month of its ``@timestamp``) under an ``_id`` made of
what it is about and when, so that it stands there once however often it is written; and to the topic ``<prefix>.alerts``
(key host.id, header ``id`` with the same id), where a reader may meet it more than once and knows it by that id.

=============== =======================================================================================================
@timestamp      time of the sample that made the change
event.kind      ``alert``
event.dataset   one of :data:`DATASETS`
host.id, host.name, labels   whose; name and labels as the cmdb said when it was decided
rule.id         id of the limit; of a surge: ``surge``
alert.item      which of several: mount point, NIC, device, core, process; of a surge: dataset and level. Else empty
alert.state     one of :data:`STATES`
alert.previous  the state before
alert.reason    a short stable word: why
alert.value     the figure that decided, left out where there is none
alert.limit     the value that it was compared with, left out where there is none
alert.field     name of the figure
event.start, event.end, surge.*   of a surge, see :meth:`ezadmin_pipeline.surges.Change.alert`
message         all of it as a sentence
=============== =======================================================================================================
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from ezadmin_pipeline.deadletters import DeadLetter
from ezadmin_pipeline.writer import Outgoing, SafeWriter

STATES = ("ok", "warning", "critical", "unknown")
THRESHOLD, SURGE, NO_DATA = DATASETS = ("alert.threshold", "alert.surge", "alert.no_data")
SURGE_RULE = "surge"


def alert(
    dataset: str,
    host: str,
    members: Mapping[str, Any],
    *,
    time: str,
    rule: str,
    item: str,
    state: str,
    previous: str,
    reason: str,
    field: str,
    message: str,
    value: float | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """An alert document; ``members`` are the host's name and labels (:attr:`ezadmin_pipeline.directory.Host.members`)."""
    document: dict[str, Any] = {
        "@timestamp": time,
        "event.kind": "alert",
        "event.dataset": dataset,
        "host.id": host,
        **members,
        "rule.id": rule,
        "alert.item": item,
        "alert.state": state,
        "alert.previous": previous,
        "alert.reason": reason,
        "alert.field": field,
        "message": message,
    }
    if value is not None:
        document["alert.value"] = value
    if limit is not None:
        document["alert.limit"] = limit
    return document


def surge_alert(
    host: str,
    members: Mapping[str, Any],
    *,
    time: str,
    item: str,
    state: str,
    previous: str,
    reason: str,
    message: str,
    value: float | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """The start (``warning``) or end (``ok``) of a surge of events; ``value`` and ``limit`` are events per minute."""
    return alert(
        SURGE,
        host,
        members,
        time=time,
        rule=SURGE_RULE,
        item=item,
        state=state,
        previous=previous,
        reason=reason,
        field="events.seen",
        message=message,
        value=value,
        limit=limit,
    )


def identity(document: Mapping[str, Any]) -> str:
    """The ``_id`` of an alert: a hash of host, rule, item and time, which is all that tells two alerts apart."""
    parts = (document["host.id"], document["rule.id"], document["alert.item"], document["@timestamp"])
    return base64.urlsafe_b64encode(hashlib.blake2b("\n".join(parts).encode(), digest_size=15).digest()).decode()


def message(document: Mapping[str, Any]) -> Outgoing:
    """The alert as a message of the topic."""
    headers = [("id", identity(document).encode())]
    return Outgoing(str(document["host.id"]).encode(), orjson.dumps(document), headers)


class AlertTopic(SafeWriter):
    """Writes alerts to their topic."""

    what = "alerts"


def letter(document: Mapping[str, Any], index: str, reason: str, error: str) -> DeadLetter:
    """The dead letter of an alert that its index does not take."""
    fields = [("id", identity(document)), ("kind", "alert"), ("reason", reason), ("error", error[:1000])]
    headers = [(name, text.encode("utf-8", "replace")) for name, text in [*fields, ("index", index)]]
    return DeadLetter(str(document["host.id"]).encode(), orjson.dumps(document), headers)

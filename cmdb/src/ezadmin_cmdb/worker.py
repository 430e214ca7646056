"""``ezadmin-cmdb worker``: publishes configuration, stores what agents report, works off jobs."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

from ezadmin_cmdb import own
from ezadmin_cmdb.alerts.consumer import AlertConsumer
from ezadmin_cmdb.alerts.keeper import AlertKeeper
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.audit.sender import AuditSender
from ezadmin_cmdb.commands.consumer import JobConsumer
from ezadmin_cmdb.commands.keeper import CommandKeeper
from ezadmin_cmdb.commands.sender import CommandSender
from ezadmin_cmdb.datacenter.reminding import Reminding
from ezadmin_cmdb.enrolment.keeper import KeyKeeper
from ezadmin_cmdb.hosts.consumer import StateConsumer
from ezadmin_cmdb.hosts.keeper import StateKeeper
from ezadmin_cmdb.jobs.runner import JobRunner
from ezadmin_cmdb.kafka_access.users import KafkaUserKeeper
from ezadmin_cmdb.logsearch.watcher import SearchWatcher
from ezadmin_cmdb.notifications.sender import NotificationSender
from ezadmin_cmdb.outbox.publisher import Publisher
from ezadmin_cmdb.rights.memberships import MembershipKeeper
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.threads import Part
from ezadmin_cmdb.webhooks.sender import WebhookSender

_log = logging.getLogger(__name__)
STOP_SECONDS = 8.0


def run(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT; returns the exit status, 1 if a part failed in a way that it cannot mend itself."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    app = create_core(settings)
    consumer = StateConsumer(app, settings, settings.names.state, stopping)
    parts: list[Part] = [
        Publisher(app, settings, settings.signing_key(), stopping),
        consumer,
        StateKeeper(app, consumer, stopping),
        MembershipKeeper(app, stopping),
        JobRunner(app, stopping),
        KeyKeeper(app, stopping),
        JobConsumer(app, settings, settings.names.jobs, stopping),
        AlertConsumer(app, settings, settings.names.alerts, stopping),
        AlertKeeper(app, stopping),
        CommandKeeper(app, settings.commands.keep, stopping),
        SearchWatcher(app, settings, stopping),
    ]
    if settings.gateway.agents_kafka_users:
        parts.append(KafkaUserKeeper(app, settings, stopping))
    if settings.secret_key_file is not None:  # it opens the secrets of webhooks and channels
        parts += [WebhookSender(app, stopping), NotificationSender(app, stopping)]
    if settings.own_key is not None:
        parts += [one(app, settings, stopping) for one in (AuditSender, CommandSender, Reminding)]
    own_producer = own.start(app, settings, "ezadmin-cmdb worker")
    for part in parts:
        part.start()
    _log.info("started", extra={"fields": {"prefix": settings.names.prefix}})
    while not stopping.wait(1):
        pass
    for part in parts:
        part.join(STOP_SECONDS / len(parts))
    if own_producer is not None:
        own_producer.stop(1.0)
    _log.info("ended")
    return 1 if any(part.failed for part in parts) else 0

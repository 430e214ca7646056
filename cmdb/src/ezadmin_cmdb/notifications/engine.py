"""Who is told of what: from alerts that changed to messages. What decides and the message are one transaction's.

The state of a rule and an alert is only changed by whoever holds the lock of the alert, so that two workers write each
message once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import joinedload

from ezadmin_cmdb.alerts.models import OK, SEVERITY, Alert
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.datacenter.sites import Site
from ezadmin_cmdb.describe import query as queries
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.notifications import messages
from ezadmin_cmdb.notifications.models import Channel, Notification, NotificationRule, NotificationState
from ezadmin_cmdb.rights import groups

AT_ONCE = 500
WHEN_HEARD_AGAIN = datetime(9999, 1, 1, tzinfo=UTC)
"""``repeat_at`` of what was told and is muted since: it is told again when that ends."""


def changed() -> list[int]:
    """The ids of alerts that changed and that rules have not seen since, some at once."""
    return list(db.session.scalars(select(Alert.id).where(Alert.unsettled).order_by(Alert.id).limit(AT_ONCE)))


def settle(alert_ids: Collection[int], now: datetime | None = None) -> int:
    """Let each rule see alerts that :func:`changed`; returns how many. Does not commit."""
    now = now or utc_now()
    wanted = select(Alert).where(Alert.id.in_(alert_ids), Alert.unsettled).order_by(Alert.id)
    alerts = db.session.scalars(
        wanted.with_for_update(skip_locked=True), execution_options={"populate_existing": True}
    ).all()
    if not alerts:
        return 0
    rules = db.session.scalars(
        select(NotificationRule).options(joinedload(NotificationRule.channel), joinedload(NotificationRule.group))
    ).all()
    stored = select(NotificationState).where(NotificationState.alert_id.in_([alert.id for alert in alerts]))
    known = {(one.rule_id, one.alert_id): one for one in db.session.scalars(stored.with_for_update())}
    host_ids = {alert.host_id for alert in alerts}
    for rule in rules:
        working = rule.active and rule.channel.active
        concerned = _hosts_of(rule, host_ids) if working else set()
        for alert in alerts:
            state = known.get((rule.id, alert.id))
            if not working:
                _forget(state)
            else:
                _settle(rule, alert, state, alert.host_id in concerned, now)
    for alert in alerts:
        alert.unsettled = False
    db.session.flush()
    return len(alerts)


def _hosts_of(rule: NotificationRule, host_ids: Collection[str]) -> set[str]:
    query = select(Host.id).where(Host.id.in_(host_ids))
    if rule.site_id is not None:
        query = query.where(Host.site_id == rule.site_id)
    if rule.group is not None:
        query = query.where(groups.holds([groups.scope_of(rule.group)]))
    if rule.filter:
        query = query.where(queries.matching(find("host"), rule.filter))
    return set(db.session.scalars(query))


def _concerns(rule: NotificationRule, alert: Alert) -> bool:
    return alert.state != OK and alert.severity >= SEVERITY[rule.minimum]


def _muted(alert: Alert) -> bool:
    return alert.suppressed or alert.window_id is not None or alert.acknowledged


def _forget(state: NotificationState | None) -> None:
    if state is not None:
        db.session.delete(state)


def _settle(
    rule: NotificationRule, alert: Alert, state: NotificationState | None, its_host: bool, now: datetime
) -> None:
    told = OK if state is None else state.told
    if not _concerns(rule, alert):
        if state is None or told == OK or not rule.clears:  # what nobody knows of needs no end
            _forget(state)
        else:
            state.pending_since, state.repeat_at = state.pending_since or now, None
        return
    if not its_host:
        _forget(state)
        return
    if _muted(alert):
        if state is None or told == OK:
            _forget(state)
        else:
            state.pending_since, state.repeat_at = None, WHEN_HEARD_AGAIN
        return
    if state is None:
        state = NotificationState(rule_id=rule.id, alert_id=alert.id, told=OK)
        db.session.add(state)
    if told != alert.state or state.repeat_at == WHEN_HEARD_AGAIN:
        state.pending_since = state.pending_since or now
        return
    state.pending_since = None  # it is again what was told
    if state.repeat_at is None:
        state.repeat_at = _next(rule, now)


def _next(rule: NotificationRule, now: datetime) -> datetime | None:
    return None if rule.repeat_minutes is None else now + timedelta(minutes=rule.repeat_minutes)


def write(now: datetime | None = None) -> int:
    """Write the messages that are due, one for each channel and site; returns how many. Does not commit."""
    now, made = now or utc_now(), 0
    for (channel_id, site_id), state_ids in _due(now).items():
        locked = (
            select(NotificationState, Alert)
            .join(Alert, NotificationState.alert_id == Alert.id)
            .where(NotificationState.id.in_(state_ids), Alert.unsettled.is_(False))
            .where(or_(NotificationState.pending_since.is_not(None), NotificationState.repeat_at <= now))
            .order_by(Alert.severity.desc(), Alert.since.desc(), Alert.id)
            .with_for_update(skip_locked=True)
        )
        found = db.session.execute(locked, execution_options={"populate_existing": True}).all()
        if found:
            _write(channel_id, site_id, [(state, alert) for state, alert in found], now)
            made += 1
    db.session.flush()
    return made


def _due(now: datetime) -> dict[tuple[int, int | None], list[int]]:
    """The states that go into one message, by channel and site: when one is due, all of which there is news go with it."""
    rows = db.session.execute(
        select(
            NotificationState.id, NotificationState.pending_since, NotificationState.repeat_at,
            NotificationRule.collect_seconds, NotificationRule.channel_id, Host.site_id,
        )
        .join(NotificationRule, NotificationState.rule_id == NotificationRule.id)
        .join(Channel, NotificationRule.channel_id == Channel.id)
        .join(Alert, NotificationState.alert_id == Alert.id)
        .join(Host, Alert.host_id == Host.id)
        .where(NotificationRule.active, Channel.active)
        .where(or_(NotificationState.pending_since.is_not(None), NotificationState.repeat_at <= now))
        .order_by(NotificationState.id)
    )  # fmt: skip
    together: dict[tuple[int, int | None], list[int]] = defaultdict(list)
    due: set[tuple[int, int | None]] = set()
    for state_id, pending_since, repeat_at, collect, channel_id, site_id in rows:
        key = (channel_id, site_id)
        together[key].append(state_id)
        collected = pending_since is not None and pending_since + timedelta(seconds=collect) <= now
        if collected or (repeat_at is not None and repeat_at <= now):
            due.add(key)
    return {key: ids for key, ids in together.items() if key in due}


def _write(
    channel_id: int, site_id: int | None, found: list[tuple[NotificationState, Alert]], now: datetime
) -> Notification:
    channel = db.session.get_one(Channel, channel_id)
    site = None if site_id is None else db.session.get_one(Site, site_id).name
    rules = {
        rule.id: rule
        for rule in db.session.scalars(
            select(NotificationRule).where(NotificationRule.id.in_({state.rule_id for state, _alert in found}))
        )
    }
    names = select(Host.id, Host.name).where(Host.id.in_({alert.host_id for _state, alert in found}))
    host_names = {row.id: row.name for row in db.session.execute(names)}
    news: dict[int, messages.News] = {}
    for state, alert in found:
        news.setdefault(alert.id, messages.News(alert, host_names[alert.host_id], state.told == alert.state))
        rule = rules[state.rule_id]
        if _concerns(rule, alert):
            state.told, state.pending_since, state.repeat_at = alert.state, None, _next(rule, now)
        else:
            db.session.delete(state)
    subject, body = messages.compose(channel, site, list(news.values()), now)
    made = Notification(
        channel_id=channel.id, rule_id=next(iter(rules)) if len(rules) == 1 else None, subject=subject, body=body,
        alerts=len(news), created=now, next_attempt=now,
    )  # fmt: skip
    db.session.add(made)
    return made

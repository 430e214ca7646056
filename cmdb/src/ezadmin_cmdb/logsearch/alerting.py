"""“Alert on this search”: so many events of a host within some minutes raise an alert of that host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import func, or_, select
from sqlalchemy.orm import joinedload

from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.alerts import states
from ezadmin_cmdb.alerts.models import CRITICAL, OK, WARNING, Alert
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.elastic import Elastic, ElasticUnavailable
from ezadmin_cmdb.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.logsearch import query as language
from ezadmin_cmdb.logsearch import services
from ezadmin_cmdb.logsearch.models import LogAlert
from ezadmin_cmdb.logsearch.services import Search
from ezadmin_cmdb.logsearch.times import Period
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import declare
from ezadmin_wire.names import Names

CHANGE = declare("log_alert.change", _l("Alerts on searches: add, change and delete"))
OBJECT_TYPE = "log_alert"
SEVERITIES = (WARNING, CRITICAL)
NAME_MAX, QUERY_MAX = 128, language.LENGTH_MAX
THRESHOLD_MAX, MINUTES_MAX = 1_000_000, 1440
ALERTS_MAX = 200
"""So many alerts on searches there may be: the worker asks Elasticsearch for each, each minute."""
EVERY = timedelta(minutes=1)
BACK = timedelta(days=7)
_HOSTS = 10_000
_WINDOWS, _PAGES = 10_000, 20
"""A test on the past reads so many windows with events at once, and so many times."""


@dataclass(frozen=True)
class Wanted:
    """What shall raise an alert, checked."""

    query: str
    threshold: int
    minutes: int
    severity: str


@dataclass(frozen=True)
class Raised:
    """A host that would have raised alerts: how many, the most events in one window, and when last."""

    host: str
    alerts: int
    most: int
    last: datetime


@dataclass(frozen=True)
class Backtest:
    """What the last week would have raised, counted in windows side by side. ``whole`` False: it was too much to read all."""

    hosts: list[Raised]
    whole: bool

    @property
    def alerts(self) -> int:
        """Alerts of all hosts."""
        return sum(one.alerts for one in self.hosts)


def wanted(query: str, threshold: str, minutes: str, severity: str) -> Wanted:
    """Check what is asked for. Raises QueryError, Invalid."""
    language.parse(query)
    if not query.strip():
        raise Invalid(_("An alert needs a query: all events are no reason for one."), "q")
    if severity not in SEVERITIES:
        raise Invalid(_("Severity: warning or critical."), "severity")
    return Wanted(
        query.strip(),
        _number(threshold, THRESHOLD_MAX, "threshold"),
        _number(minutes, MINUTES_MAX, "minutes"),
        severity,
    )


def _number(text: str, most: int, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= most):
        raise Invalid(_("Write a whole number, 1 to %(n)d.", n=most), name)
    return int(text)


def backtest(elastic: Elastic, names: Names, actor: Actor, one: Wanted, now: datetime | None = None) -> Backtest:
    """What would have been raised in the last week, of the hosts that ``actor`` sees. Raises Forbidden, ElasticUnavailable."""
    now = now or datetime.now(UTC)
    search = Search(services.scope_of(actor), language.parse(one.query), Period(now - BACK, now), now)
    step = timedelta(minutes=one.minutes)
    sources: list[dict[str, Any]] = [
        {"host": {"terms": {"field": "host.id"}}},
        {"at": {"date_histogram": {"field": "@timestamp", "fixed_interval": f"{one.minutes}m"}}},
    ]
    composite: dict[str, Any] = {"size": _WINDOWS, "sources": sources}
    over: dict[str, list[tuple[datetime, int]]] = {}
    whole = False
    for _page in range(_PAGES):
        found = _aggregated(elastic, names, search, {"windows": {"composite": composite}})["windows"]
        for bucket in found["buckets"]:
            if bucket["doc_count"] >= one.threshold:
                at = datetime.fromtimestamp(bucket["key"]["at"] / 1000, UTC)
                over.setdefault(bucket["key"]["host"], []).append((at, bucket["doc_count"]))
        if "after_key" not in found or len(found["buckets"]) < _WINDOWS:
            whole = True
            break
        composite["after"] = found["after_key"]
    known = {row.id: row.name for row in db.session.execute(select(Host.id, Host.name).where(Host.id.in_(over)))}
    hosts = [
        Raised(
            known[host],
            sum(at == 0 or windows[at - 1][0] + step != windows[at][0] for at in range(len(windows))),
            max(count for _at, count in windows),
            windows[-1][0],
        )
        for host, windows in over.items()
        if host in known  # of another no alert can be raised
    ]
    return Backtest(sorted(hosts, key=lambda host: (-host.alerts, host.host)), whole)


def _aggregated(elastic: Elastic, names: Names, search: Search, aggs: dict[str, Any]) -> dict[str, Any]:
    body = {
        "size": 0, "track_total_hits": False, "timeout": f"{services.SECONDS}s",
        "query": services.condition(elastic, names, search), "aggs": aggs,
    }  # fmt: skip
    answer = services.asked(elastic.client(services.SECONDS + 5), body, services.indices(names, search))
    health = services.health_of(answer)
    if not health.whole:
        raise ElasticUnavailable("; ".join(health.reasons) or "not all shards answered in time")
    empty: dict[str, Any] = {name: {"buckets": []} for name in aggs}  # no index of the time is there
    return dict(answer.get("aggregations", empty))


# -- kept ---


def everything(actor: Actor) -> Sequence[LogAlert]:
    """All alerts on searches, by name. Raises Forbidden."""
    rights.require(actor, CHANGE)
    return db.session.scalars(select(LogAlert).options(joinedload(LogAlert.owner)).order_by(LogAlert.name)).all()


def add(actor: Actor, name: str, one: Wanted) -> LogAlert:
    """Watch a search from now on, with the eyes of ``actor``. Raises Forbidden, Invalid, Conflict."""
    owner, name = _owner(actor), _name(name)
    if (db.session.scalar(select(func.count()).select_from(LogAlert)) or 0) >= ALERTS_MAX:
        raise Conflict(_("There are %(n)d alerts on searches already: delete some first.", n=ALERTS_MAX))
    made = LogAlert(
        name=name, query=one.query, threshold=one.threshold, minutes=one.minutes, severity=one.severity,
        owner_id=owner,
    )  # fmt: skip
    db.session.add(made)
    db.session.flush()
    changes.record(actor, OBJECT_TYPE, str(made.id), made.name, None, _snapshot(made))
    return made


def _owner(actor: Actor) -> int:
    rights.require(actor, CHANGE)
    rights.require(actor, services.VIEW)
    if actor.user_id is None:
        raise Forbidden(_("Only somebody with an account has alerts on searches."))
    return actor.user_id


def _name(text: str) -> str:
    name = text.strip()
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise Invalid(_("The name is 1 to %(n)d characters long.", n=NAME_MAX), "name")
    return name


def find(actor: Actor, alert_id: int) -> LogAlert:
    """One of them. Raises Forbidden, NotFound."""
    rights.require(actor, CHANGE)
    found = db.session.get(LogAlert, alert_id)
    if found is None:
        raise NotFound(_("There is no such alert on a search; perhaps it was deleted."))
    return found


def change(actor: Actor, alert_id: int, name: str, one: Wanted) -> LogAlert:
    """Watch another search, or with other limits. From now on it is seen with the eyes of ``actor``, who could otherwise have
    another person's rights search what he wrote. What it has raised stays until the next look, which is soon.

    Raises Forbidden, NotFound, Invalid.
    """
    found, owner, name = find(actor, alert_id), _owner(actor), _name(name)
    before = _snapshot(found)
    found.name, found.owner_id, found.checked = name, owner, None
    found.query, found.threshold, found.minutes, found.severity = one.query, one.threshold, one.minutes, one.severity
    db.session.flush()
    db.session.expire(found, ["owner"])
    changes.record(actor, OBJECT_TYPE, str(alert_id), name, before, _snapshot(found))
    return found


def delete(actor: Actor, alert_id: int) -> None:
    """Watch it no longer; what it has raised is over. Raises Forbidden, NotFound."""
    found = find(actor, alert_id)
    _clear(found, {}, "the alert on the search was deleted", reason="deleted")
    before, name = _snapshot(found), found.name
    db.session.delete(found)
    db.session.flush()
    changes.record(actor, OBJECT_TYPE, str(alert_id), name, before, None)


def _snapshot(one: LogAlert) -> dict[str, Any]:
    return {
        "name": one.name, "query": one.query, "threshold": one.threshold, "minutes": one.minutes,
        "severity": one.severity, "owner": one.owner.name,
    }  # fmt: skip


# -- watched ---


def claim(now: datetime | None = None) -> int | None:
    """The id of the one that was looked at longest ago, if that is a minute ago; others leave it alone for a minute."""
    now = now or utc_now()
    due = select(LogAlert).where(or_(LogAlert.checked.is_(None), LogAlert.checked <= now - EVERY))
    found = db.session.scalar(due.order_by(LogAlert.checked, LogAlert.id).limit(1).with_for_update(skip_locked=True))
    if found is None:
        return None
    found.checked = now
    db.session.flush()
    return found.id


def watch(elastic: Elastic, names: Names, alert_id: int, now: datetime | None = None) -> int:
    """Look once, raise and clear; returns how many alerts changed. What is wrong with it is noted in ``problem``.

    Without an answer of Elasticsearch all stays as it is; where the owner may search no longer, all is cleared.
    """
    one = db.session.get(LogAlert, alert_id)
    if one is None:
        return 0
    now = now or datetime.now(UTC)
    try:
        counts = _counts(elastic, names, one, now)
    except ElasticUnavailable as error:
        one.problem = str(error)
        return 0
    except DomainError as error:
        one.problem = str(error)
        return _clear(one, {}, f"{one.name}: it cannot be searched any more: {error}", reason="refused")
    one.problem = None
    done = 0
    for host, count in sorted(counts.items()):
        text = f"{one.name}: {count} events within {one.minutes} min, limit {one.threshold}: {one.query}"
        done += states.say(
            host, one.rule, one.severity, text, field=one.name, value=float(count), limit=float(one.threshold), at=now
        )
    return done + _clear(one, counts, f"{one.name}: fewer than {one.threshold} events within {one.minutes} min", now)


def _counts(elastic: Elastic, names: Names, one: LogAlert, now: datetime) -> dict[str, int]:
    """The hosts that have too many events, with their number."""
    user = db.session.get(User, one.owner_id)
    if user is None or not user.active:
        raise Forbidden("its owner is not active")
    owner = Actor(user.name, "ui", rights.rights_of(user), None, user.id)
    asked = Period(now - timedelta(minutes=one.minutes), now)
    search = Search(services.scope_of(owner), language.parse(one.query), asked, now)
    terms = {"field": "host.id", "size": _HOSTS, "min_doc_count": one.threshold}
    found = _aggregated(elastic, names, search, {"hosts": {"terms": terms}})
    return {bucket["key"]: bucket["doc_count"] for bucket in found["hosts"]["buckets"]}


def _clear(one: LogAlert, still: dict[str, int], text: str, at: datetime | None = None, reason: str = "rule") -> int:
    open_ones = db.session.scalars(select(Alert.host_id).where(Alert.rule == one.rule, Alert.state != OK)).all()
    return sum(
        states.say(host, one.rule, OK, text, field=one.name, at=at, reason=reason)
        for host in open_ones
        if host not in still
    )

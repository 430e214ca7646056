"""What alerts say, in the reader's language.

What raised an alert wrote an English sentence, which is stored for logs and the API. Pages and messages say it anew from the
columns; for the few facts that have no column (is it a rate, the query of a search) they look into the sentence.
"""

from __future__ import annotations

import re
from datetime import timedelta

from flask_babel import format_timedelta
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from ezadmin_cmdb.alerts.models import HOST_DOWN, MAINTENANCE, OK, SEARCH, SURGE, Alert, AlertEvent
from ezadmin_cmdb.thresholds.words import figure_text, unit_of
from ezadmin_cmdb.web.formats import figure, number
from ezadmin_wire.trend import NEVER

KINDS = {
    "state": _l("State"), "acknowledged": _l("Acknowledged"), "reopened": _l("No longer acknowledged"),
    "expired": _l("Acknowledgement is over"), "comment": _l("Comment"), MAINTENANCE: _l("Maintenance"),
    "resumed": _l("Maintenance is over"),
}  # fmt: skip
"""What happens to alerts."""
_LIMITS = ("alert.threshold", "alert.no_data")
_REASONS = {
    "data": _l("data comes again"), "gone": _l("the host no longer reports it"), "limit_changed": _l("the limit was changed"),
    "limit_removed": _l("the limit was removed or taken from the host"),
    "host_inactive": _l("the host is no longer listened to"),
}  # fmt: skip
_NO_DATA = re.compile(r": no data for (\d+) s: ")
_SEARCH = re.compile(r"within (\d+) min, limit \d+: (.*)", re.DOTALL)
_SURGE_OVER = re.compile(r" is over: (\d+) events, (\d+) of them withheld")
_MOST = "; most: "


def of_alert(alert: Alert) -> str:
    """What an alert says now."""
    return _sentence(alert, alert.state, alert.reason, alert.value, alert.limit_value, alert.message)


def of_event(alert: Alert, event: AlertEvent) -> str:
    """What something that happened to an alert says; of what people did, what they wrote."""
    said = event.text or ""
    if event.kind != "state" or event.state is None:
        return said
    return _sentence(alert, event.state, event.reason or "", event.value, event.limit_value, said)


def value_of(alert: Alert) -> str | None:
    """The figure that decided, with its unit."""
    return None if alert.value is None else _written(alert, alert.value, alert.message)


def limit_of(alert: Alert) -> str | None:
    """What that was compared with."""
    return None if alert.limit_value is None else _written(alert, alert.limit_value, alert.message)


def _written(alert: Alert, value: float, message: str) -> str:
    if not _is_trend(alert, message):
        return figure_text(value, unit_of(alert.field))
    return str(_("%(n)s h", n=f"{value:.4g}") if value < NEVER else _("does not fill"))


def _sentence(alert: Alert, state: str, reason: str, value: float | None, limit: float | None, message: str) -> str:
    if alert.rule == HOST_DOWN:
        return str(_("The host is no longer down") if state == OK else _("The host is down: its agent reports no more"))
    if alert.dataset == SEARCH:
        return _of_search(alert, reason, value, limit, message)
    if alert.rule == SURGE:
        return _of_surge(alert, state, value, limit, message)
    if alert.dataset in _LIMITS:
        return _of_limit(alert, reason, value, limit, message)
    return message


def _of_limit(alert: Alert, reason: str, value: float | None, limit: float | None, message: str) -> str:
    what = alert.field or alert.rule
    if alert.item:
        what = _("%(figure)s of %(item)s", figure=what, item=alert.item)
    lost = _NO_DATA.search(message)
    if value is None:
        time = lost and format_timedelta(timedelta(seconds=int(lost[1])), threshold=100)
        says = _("%(what)s: no data for %(time)s", what=what, time=time) if time else what
    elif _is_trend(alert, message):
        says = _("%(what)s does not fill", what=what)
        if value < NEVER:
            says = _("%(what)s is full in %(time)s", what=what, time=_written(alert, value, message))
    else:
        if _after_field(alert, message).startswith(" per second"):
            what = _("%(what)s per second", what=what)
        says = _("%(what)s is %(value)s", what=what, value=figure(value, unit_of(alert.field)))
    if limit is not None:
        says = _("%(says)s (limit %(limit)s)", says=says, limit=_written(alert, limit, message))
    return f"{says} – {_REASONS[reason]}" if reason in _REASONS else says


def _after_field(alert: Alert, message: str) -> str:
    return message.removeprefix(f"{alert.rule}: {alert.field}")


def _is_trend(alert: Alert, message: str) -> bool:
    """Whether the time until something is full was compared, which is in hours, whatever the figure's unit is."""
    if alert.dataset not in _LIMITS:
        return False
    rest = _after_field(alert, message).removeprefix(f" of {alert.item}")
    return rest.startswith((" is full in ", " does not fill"))


def _of_search(alert: Alert, reason: str, value: float | None, limit: float | None, message: str) -> str:
    name, found = alert.field, _SEARCH.search(message)
    if reason == "deleted":
        says = _("%(name)s: the alert on the search was deleted", name=name)
    elif reason == "refused":
        says = _("%(name)s: it cannot be searched any more", name=name)
    elif value is None or limit is None:
        says = _("%(name)s: fewer events than its limit", name=name)
    elif not found:
        says = message
    else:
        says = _(
            "%(name)s: %(count)s events within %(minutes)s min, limit %(limit)s: %(query)s",
            name=name, count=number(value), minutes=found[1], limit=number(limit), query=found[2],
        )  # fmt: skip
    return str(says)


def _of_surge(alert: Alert, state: str, value: float | None, limit: float | None, message: str) -> str:
    if state == OK:
        over = _SURGE_OVER.search(message)
        says = _("%(item)s: the surge is over", item=alert.item)
        if over:
            says = _(
                "%(item)s: the surge is over: %(seen)s events, %(withheld)s of them withheld",
                item=alert.item, seen=number(int(over[1])), withheld=number(int(over[2])),
            )  # fmt: skip
    else:
        says = _(
            "%(item)s: %(count)s events in a minute (budget %(limit)s): what is over the budget is sampled",
            item=alert.item, count=number(value), limit=number(limit),
        )  # fmt: skip
    _before, most, template = message.partition(_MOST)
    return str(says + (_("; most: %(template)s", template=template) if most else ""))

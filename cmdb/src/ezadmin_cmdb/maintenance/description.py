"""The description of maintenance windows: their list, forms, history, CSV and API."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.maintenance import services
from ezadmin_cmdb.maintenance.models import MaintenanceWindow
from ezadmin_cmdb.maintenance.times import (
    BY_RULE,
    EACH_DAY,
    EACH_MONTH,
    EACH_WEEK,
    FORM,
    MINUTES_MAX,
    ONCE,
    WEEKDAYS,
    YEARS_MAX,
    BadRule,
    check_rule,
)

REPEATS = {
    ONCE: _l("Once"), EACH_DAY: _l("Every day"), EACH_WEEK: _l("Every week"), EACH_MONTH: _l("Every month"),
    BY_RULE: _l("By a rule"),
}  # fmt: skip
DAYS = dict(
    zip(
        WEEKDAYS,
        (_l("Monday"), _l("Tuesday"), _l("Wednesday"), _l("Thursday"), _l("Friday"), _l("Saturday"), _l("Sunday")),
        strict=True,
    )
)
WHEN, WHICH = _l("When"), _l("Which hosts")


def _check(actor: Actor, window: Any, new: bool) -> None:
    if new:
        window.owner = actor.name
    try:
        starts = datetime.strptime(window.starts, FORM)  # noqa: DTZ007 - by the clock on the wall
    except ValueError:
        raise Invalid(_("There is no such date or time."), "starts") from None
    try:
        ZoneInfo(window.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(_("There is no such time zone; write one such as Asia/Seoul."), "timezone") from None
    if window.repeats != ONCE:
        if window.last is None:
            raise Invalid(_("Say on which day it is repeated last."), "last")
        if not 0 <= (window.last - starts.date()).days <= YEARS_MAX * 366:
            raise Invalid(_("It is repeated for at most %(n)d years.", n=YEARS_MAX), "last")
    if window.repeats == BY_RULE:
        try:
            window.rule = check_rule(window.rule or "")
        except BadRule as error:
            raise Invalid(_("The rule cannot be understood: %(error)s", error=error), "rule") from None
    window.filter = services.check_filter(window.filter)
    if not (window.hosts or window.group or window.filter):
        raise Invalid(_("Give hosts, a group or a filter."), "hosts")


WINDOW = register(
    Description(
        name="maintenance_window",
        path="maintenance-windows",
        model=MaintenanceWindow,
        title=_l("Maintenance window"),
        titles=_l("Maintenance windows"),
        icon="wrench-adjustable",
        menu="monitoring",
        checks=[_check],
        panels=["maintenance/_window.html"],
        empty_hint=_l("While a window lasts, alerts of its hosts are recorded and shown as maintenance."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            fields.Text(name="reason", label=_l("Reason"), length=500, required=True, searched=True, sortable=False),
            fields.Boolean(name="active", label=_l("Turned on"), ticked=True),
            fields.Text(name="owner", label=_l("Made by"), editable=False, listed=False),
            fields.Text(
                name="starts", label=_l("Starts"), length=16, required=True, section=WHEN,
                pattern=r"20\d\d-[01]\d-[0-3]\d [0-2]\d:[0-5]\d", pattern_help=_l("Write it as 2026-12-31 22:00."),
                help=_l("As 2026-12-31 22:00, by the clock of the time zone: 02:00 stays 02:00 when that clock is changed."),
            ),
            fields.Text(
                name="timezone", label=_l("Time zone"), length=64, required=True, section=WHEN, listed=False,
                help=_l("Such as Asia/Seoul or UTC."),
            ),
            fields.Number(
                name="minutes", label=_l("Minutes"), required=True, least=1, most=MINUTES_MAX, section=WHEN,
                help=_l("How long it lasts."),
            ),
            fields.Select(name="repeats", label=_l("Repeated"), required=True, choices=REPEATS, section=WHEN),
            fields.MultiSelect(
                name="weekdays", label=_l("Days of the week"), choices=DAYS, section=WHEN, listed=False,
                help=_l("Of a window of every week; without, the day on which it starts."),
            ),
            fields.Text(
                name="rule", label=_l("Rule"), length=255, section=WHEN, listed=False, sortable=False,
                help=_l("As iCalendar has it: FREQ=MONTHLY;BYDAY=2TU is the second Tuesday of each month."),
            ),
            fields.Day(name="last", label=_l("Repeated until"), section=WHEN),
            fields.References(name="hosts", label=_l("Hosts"), to="host", section=WHICH, help=_l("A name or id a line.")),
            fields.Reference(name="group", label=_l("Group of hosts"), to="host_group", section=WHICH),
            fields.Text(
                name="filter", label=_l("Filter"), length=2000, sortable=False, section=WHICH, listed=False,
                help=_l("As it stands in the address of the list of hosts: state=active&os_name=Debian."),
            ),
        ],
    )
)  # fmt: skip

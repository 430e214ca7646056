"""Variables and links that all dashboards share."""

from __future__ import annotations

import json
from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from builder.queries import METRICS, source
from ezadmin_cmdb.grafana.bundle import WEB_URL

TAG = "ezadmin"
SCOPED_TAG = "ezadmin-hosts"
"""Tag of the dashboards that have the variables of :func:`scope`."""
FLEET = "ezadmin-fleet"
HOST = "ezadmin-host"
DEFAULT_WEB_URL = "http://127.0.0.1:8080"
"""What links lead to until an installation puts its own address there."""
HOST_LIMIT = 5000


def web_url() -> dashboard.ConstantVariable:
    """Where the web application is."""
    return constant(WEB_URL, DEFAULT_WEB_URL)


def constant(name: str, value: str) -> dashboard.ConstantVariable:
    """A hidden variable of one value."""
    option = model.VariableOption(selected=True, text=value, value=value)
    made = dashboard.ConstantVariable(name).value(value)
    built = made.build()
    built.current, built.options, built.skip_url_sync = option, [option], True
    return made


def interval(
    choices: Sequence[str] = ("10s", "30s", "1m", "5m", "15m", "1h", "6h", "1d"), least: str = "10s"
) -> dashboard.IntervalVariable:
    """Width of the intervals that figures are averaged over, ``least`` at least."""
    auto = model.VariableOption(selected=True, text="auto", value="$__auto_interval_interval")
    options = [model.VariableOption(selected=False, text=choice, value=choice) for choice in choices]
    made = dashboard.IntervalVariable("interval").label("Interval").values(",".join(choices))
    return made.auto(True).step_count(240).min_interval(least).current(auto).options([auto, *options])


def host() -> dashboard.QueryVariable:
    """The host, by the name that people know."""
    made = _terms("host", "host.name", "event.dataset:system.host").label("Host")
    return made.multi(False).include_all(False).sort(model.VariableSort.ALPHABETICAL_ASC)


def host_id() -> dashboard.QueryVariable:
    """Hidden: every ``host.id`` that had the chosen name in the time range (or is the chosen value: a link may carry the
    id). Panels ask for these, so what a host sent under an earlier name is shown as well."""
    made = _terms("host_id", "host.id", "event.dataset:system.host AND (host.name:$host OR host.id:$host)")
    made.hide(model.VariableHide.HIDE_VARIABLE).multi(True).include_all(True).current(EVERY)
    made.build().skip_url_sync = True
    return made


EVERY = model.VariableOption(selected=True, text=["All"], value=["$__all"])
ANY = "* OR *:*"
"""Stands for "All" in ``(field:$variable)``: also what has no such field is found."""


def scope(uid: str = METRICS) -> list[dashboard.QueryVariable]:
    """Site, customer, group and host, each of them as many as one likes; :data:`builder.scope.SCOPE` is the query."""
    made = [
        _many(name, f"labels.{name}", "event.dataset:system.host", title, ANY, uid)
        for name, title in (("site", "Site"), ("customer", "Customer"), ("group", "Group"))
    ]
    divided = " AND ".join(f"(labels.{name}:${name})" for name in ("site", "customer", "group"))
    return [*made, _many("host", "host.name", f"event.dataset:system.host AND {divided}", "Host", "*", uid)]


def item(name: str, field: str, query: str, title: str, uid: str = METRICS) -> dashboard.QueryVariable:
    """Which of several: NIC, device, mount, core, process."""
    return _many(name, field, query, title, ANY, uid)


def _many(name: str, field: str, query: str, title: str, every: str, uid: str = METRICS) -> dashboard.QueryVariable:
    made = _terms(name, field, query, uid).label(title).multi(True).include_all(True).all_value(every).current(EVERY)
    return made.sort(model.VariableSort.ALPHABETICAL_ASC)


def other_dashboards() -> dashboard.DashboardLink:
    """The menu of all ezadmin dashboards, with the time range kept."""
    link = dashboard.DashboardLink("ezadmin").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).keep_time(True).include_vars(False).target_blank(False)


def same_hosts() -> dashboard.DashboardLink:
    """The menu of the dashboards of chosen hosts, with the choice and the time range kept."""
    link = dashboard.DashboardLink("Same hosts").type(model.DashboardLinkType.DASHBOARDS).tags([SCOPED_TAG])
    return link.as_dropdown(True).keep_time(True).include_vars(True).target_blank(False)


def link(title: str, url: str, tooltip: str) -> dashboard.DashboardLink:
    """A link above the dashboard."""
    made = dashboard.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url).tooltip(tooltip)
    return made.icon("external link").target_blank(True).keep_time(False).include_vars(False)


def _terms(name: str, field: str, query: str, uid: str = METRICS) -> dashboard.QueryVariable:
    text = json.dumps({"find": "terms", "field": field, "query": query, "size": HOST_LIMIT})
    made = dashboard.QueryVariable(name).query(text).datasource(source(uid))
    return made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)

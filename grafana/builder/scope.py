"""Dashboards of many hosts: the same head, and the query for the hosts that its variables choose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from builder import links, panels, variables
from builder.fields import unit_of
from builder.queries import METRICS, Figure, Terms, avg, over_time

SCOPE = "(labels.site:$site) AND (labels.customer:$customer) AND (labels.group:$group) AND (host.name:$host)"
TOP = 20
"""Lines of a graph: more cannot be told apart."""
HOSTS = Terms("host.name", TOP)
Made = panels.Graph | panels.Number | panels.Table | panels.EventList
Sections = Iterable[tuple[str, Sequence[Made]]]


def of(dataset: str, more: str = "") -> str:
    """The chosen hosts' documents of a dataset; ``more`` narrows them."""
    return f"event.dataset:{dataset} AND {SCOPE}" + (f" AND {more}" if more else "")


def build(
    uid: str,
    title: str,
    korean: str,
    english: str,
    sections: Sections,
    *,
    chosen: Iterable[Any] = (),
    source: str | None = METRICS,
    since: str = "now-1h",
    refresh: str = "30s",
    averaged: bool = True,
) -> dashboard.Dashboard:
    """A dashboard: its head, variables and panels under headings. ``source``: where its choice of hosts comes from, None for
    one without; ``chosen``: variables of its own, after these."""
    made = dashboard.Dashboard(title).uid(uid).description(f"{korean} {english}")
    made.tags([variables.TAG, variables.SCOPED_TAG] if source else [variables.TAG])
    made.time(since, "now").refresh(refresh).timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    made.link(variables.other_dashboards())
    if source:
        made.link(variables.same_hosts())
    made.link(variables.link("Hosts in ezadmin", "${ezadmin_url}/hosts/", "The host list of the web application"))
    times = f"${{ezadmin_url}}/logs/?{links.TIMES}"
    made.link(variables.link("Logs in ezadmin", times, "The log search of the web application, same time"))
    for variable in (*(variables.scope(source) if source else ()), *chosen):
        made.with_variable(variable)
    if averaged:
        made.with_variable(variables.interval())
    made.with_variable(variables.web_url())
    for heading, group in sections:
        if heading:
            made.with_row(panels.row(heading))
        for panel in group:
            made.with_panel(panel)
    return made


def by_host(
    title: str,
    korean: str,
    english: str,
    figure: Figure,
    dataset: str = "system.host",
    more: str = "",
    hosts: Terms = HOSTS,
    **how: Any,
) -> panels.Graph:
    """A line for each host, the largest first; a click on one leads to the host."""
    return panels.graph(
        title,
        korean,
        english,
        [over_time("A", METRICS, of(dataset, more), [figure], by=hosts, alias="{{host.name}}")],
        unit_of(figure.field),
        field=figure.field,
        overrides=[panels.linked(links.of_host())],
        **{"calcs": ("mean", "max"), "legend": panels.RIGHT, **how},
    ).fill_opacity(0)


def by_item(
    title: str,
    korean: str,
    english: str,
    figure: Figure,
    dataset: str,
    item: str,
    more: str = "",
    **how: Any,
) -> panels.Graph:
    """A line for each item of each host, the largest first."""
    both = [Terms("host.name", 10), Terms(item, 10)]
    query = over_time("A", METRICS, of(dataset, more), [figure], by=both, alias=f"{{{{host.name}}}} {{{{{item}}}}}")
    return panels.graph(
        title, korean, english, [query], unit_of(figure.field), field=figure.field, **{"calcs": ("mean", "max"), **how}
    ).fill_opacity(0)


def mixed(
    title: str,
    korean: str,
    english: str,
    fields: Sequence[str],
    dataset: str = "system.host",
    more: str = "",
    **how: Any,
) -> panels.Graph:
    """A line for each figure, the mean of the chosen hosts."""
    query = over_time("A", METRICS, of(dataset, more), [avg(name) for name in fields], alias="{{field}}")
    return panels.graph(
        title, korean, english, [query], unit_of(fields[0]), field=fields[0], **{"calcs": ("mean", "max"), **how}
    )

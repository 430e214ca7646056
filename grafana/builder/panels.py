"""Panels in the one style of all dashboards: units from the field list, thresholds drawn, gaps left as gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, elasticsearch, logs, stat, timeseries
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.models import common as style
from grafana_foundation_sdk.models import dashboard as model

from builder.fields import period_of
from builder.queries import source

LEVEL_COLOURS = {
    "emergency": "dark-purple",
    "alert": "purple",
    "critical": "dark-red",
    "error": "red",
    "warning": "orange",
    "notice": "yellow",
    "info": "green",
    "debug": "blue",
    "trace": "light-blue",
    "unknown": "#8e8e8e",
}
"""Levels of events, most severe first, and their colours on every panel."""

FULL = ((None, "green"), (0.8, "orange"), (0.9, "red"))
"""Thresholds of what can fill up: warning at 80 %, critical at 90 %."""
BUSY = ((None, "green"), (1.0, "orange"), (2.0, "red"))
"""Thresholds of load per core: as much work as cores, twice as much."""
LATE = ((None, "green"), (60, "orange"), (300, "red"))
"""Thresholds in seconds of what waits: a minute, five minutes."""
GREY = "#8e8e8e"
STATE_COLOURS = {"ok": "green", "warning": "orange", "critical": "red", "unknown": GREY}
"""States of alerts."""
RIGHT = style.LegendPlacement.RIGHT
BOTTOM = style.LegendPlacement.BOTTOM
"""Where a legend stands: below where names are long or the panel is narrow."""
PLAIN = ((None, "text"),)

MIXED = "-- Mixed --"

Graph = timeseries.Panel
Number = stat.Panel
Table = table_panel.Panel
EventList = logs.Panel
Steps = Sequence[tuple[float | None, str]]


def override(
    kind: str, options: object, **properties: object
) -> tuple[model.MatcherConfig, list[model.DynamicConfigValue]]:
    """Properties for the fields that a matcher finds; ``custom__x`` stands for ``custom.x``."""
    values = [model.DynamicConfigValue(name.replace("__", "."), value) for name, value in properties.items()]
    return model.MatcherConfig(id_val=kind, options=options), values


def by_name(name: str, **properties: object) -> tuple[model.MatcherConfig, list[model.DynamicConfigValue]]:
    """Properties for the column or series of this name."""
    return override("byName", name, **properties)


def by_query(ref: str, **properties: object) -> tuple[model.MatcherConfig, list[model.DynamicConfigValue]]:
    """Properties for all that a query brings."""
    return override("byFrameRefID", ref, **properties)


def level_overrides() -> list[tuple[model.MatcherConfig, list[model.DynamicConfigValue]]]:
    """One colour for each level of events."""
    return [by_name(level, color=fixed(colour)) for level, colour in LEVEL_COLOURS.items()]


def fixed(colour: str) -> dict[str, str]:
    """A colour that does not depend on the value."""
    return {"mode": "fixed", "fixedColor": colour}


def steps(thresholds: Steps) -> dict[str, Any]:
    """Thresholds as a property of an override."""
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for value, colour in thresholds]}


def state_overrides() -> list[tuple[model.MatcherConfig, list[model.DynamicConfigValue]]]:
    """One colour for each state of an alert."""
    return [by_name(state, color=fixed(colour)) for state, colour in STATE_COLOURS.items()]


def linked(links: Sequence[Mapping[str, object]]) -> tuple[model.MatcherConfig, list[model.DynamicConfigValue]]:
    """Where a click on any series leads."""
    return override("byRegexp", "/.*/", links=list(links))


def rename(pattern: str, to: str) -> model.DataTransformerConfig:
    """Rename series: what ``pattern`` matches becomes ``to`` (``$1`` is the first group)."""
    return model.DataTransformerConfig(id_val="renameByRegex", options={"regex": pattern, "renamePattern": to})


def graph(
    title: str,
    korean: str,
    english: str,
    queries: Sequence[elasticsearch.Dataquery],
    unit: str,
    *,
    field: str | None = None,
    thresholds: Steps | None = None,
    stacked: bool = False,
    full: bool = False,
    mirrored: str | None = None,
    legend: style.LegendPlacement = RIGHT,
    renames: Sequence[tuple[str, str]] = (),
    overrides: Sequence[tuple[model.MatcherConfig, list[model.DynamicConfigValue]]] = (),
    calcs: Sequence[str] = ("lastNotNull", "max"),
    span: int = 12,
    height: int = 8,
) -> Graph:
    """Lines over time. ``field`` is one of the fields shown: it says how far apart values are, so which hole is a gap.

    ``full`` fixes the scale at 0 to 1, for ratios that cannot be above. ``mirrored``: series whose names this pattern
    finds are drawn below zero.
    """
    panel = timeseries.Panel().title(title).description(f"{korean}\n\n{english}").unit(unit).span(span).height(height)
    panel.targets(list(queries)).datasource(_source_of(queries))
    if mirrored:
        panel.with_override(*override("byRegexp", mirrored, custom__transform="negative-Y"))
    else:
        panel.min(0)
    panel.line_width(1).fill_opacity(45 if stacked else 8).show_points(style.VisibilityMode.AUTO).point_size(4)
    panel.line_interpolation(style.LineInterpolation.LINEAR)
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC))
    # two and a half periods: one value may fall on either side of an interval's edge, two missing ones are a gap
    panel.span_nulls(period_of(field) * 2500 if field else False)
    if stacked:
        panel.stacking(common.StackingConfig().mode(style.StackingMode.NORMAL).group("A"))
    if full:
        panel.max(1).decimals(1)
    if thresholds:
        panel.thresholds(_thresholds(thresholds))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(style.GraphTresholdsStyleMode.DASHED))
    panel.tooltip(common.VizTooltipOptions().mode(style.TooltipDisplayMode.MULTI).sort(style.SortOrder.DESCENDING))
    panel.legend(_legend(calcs, legend))
    for pattern, to in renames:
        panel.with_transformation(rename(pattern, to))
    for matcher, properties in overrides:
        panel.with_override(matcher, properties)
    return panel


def bars(
    title: str,
    korean: str,
    english: str,
    query: elasticsearch.Dataquery,
    *,
    interval: str,
    renames: Sequence[tuple[str, str]] = (),
    overrides: Sequence[tuple[model.MatcherConfig, list[model.DynamicConfigValue]]] = (),
    span: int = 12,
    height: int = 8,
) -> Graph:
    """Counts over time as stacked bars; no bar is finer than ``interval``, which is the rollup's window."""
    panel = graph(
        title,
        korean,
        english,
        [query],
        "short",
        stacked=True,
        renames=renames,
        overrides=overrides,
        calcs=("sum",),
        span=span,
        height=height,
    )
    panel.draw_style(style.GraphDrawStyle.BARS).fill_opacity(80).line_width(0).bar_width_factor(0.9).decimals(0)
    return panel.interval(interval).show_points(style.VisibilityMode.NEVER)


def number(
    title: str,
    korean: str,
    english: str,
    query: elasticsearch.Dataquery,
    unit: str,
    *,
    thresholds: Steps = PLAIN,
    decimals: int | None = None,
    empty: str = "no data",
    span: int = 3,
    height: int = 4,
) -> Number:
    """One figure, coloured by its thresholds; ``empty`` is shown where nothing is found (for a count that is 0)."""
    panel = stat.Panel().title(title).description(f"{korean}\n\n{english}").unit(unit).span(span).height(height)
    panel.targets([query]).datasource(_source_of([query])).thresholds(_thresholds(thresholds)).no_value(empty)
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    panel.graph_mode(style.BigValueGraphMode.NONE).color_mode(style.BigValueColorMode.VALUE)
    # without a value it must not be green
    nothing = model.ValueMappingResult(text=empty, color=GREY)
    panel.mappings(
        [model.SpecialValueMap(model.DashboardSpecialValueMapOptions(model.SpecialValueMatch.NULL, nothing))]
    )
    panel.text_mode(style.BigValueTextMode.VALUE).justify_mode(style.BigValueJustifyMode.CENTER)
    return panel if decimals is None else panel.decimals(decimals)


def listing(
    title: str,
    korean: str,
    english: str,
    queries: Sequence[elasticsearch.Dataquery],
    columns: Mapping[str, str],
    *,
    sort_by: str,
    descending: bool = True,
    overrides: Sequence[tuple[model.MatcherConfig, list[model.DynamicConfigValue]]] = (),
    span: int = 24,
    height: int = 9,
) -> Table:
    """A table. ``columns``: Grafana's name of each column and the name shown, in order; the queries are joined on the
    columns that they have in common."""
    panel = table_panel.Panel().title(title).description(f"{korean}\n\n{english}").span(span).height(height)
    panel.targets(list(queries)).datasource(_source_of(queries)).thresholds(_thresholds(PLAIN))
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    arrange = {
        "excludeByName": {},
        "indexByName": {name: at for at, name in enumerate(columns)},
        "renameByName": dict(columns),
    }
    panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=arrange))
    panel.with_override(*override("byRegexp", "/.*/", custom__filterable=True))
    panel.sort_by([common.TableSortByFieldState().display_name(sort_by).desc(descending)])
    for matcher, properties in overrides:
        panel.with_override(matcher, properties)
    return panel


def bar(thresholds: Steps = FULL) -> dict[str, Any]:
    """A column of ratios as a small bar, coloured by its thresholds."""
    drawn = {"min": 0, "max": 1, "thresholds": steps(thresholds), "decimals": 1}
    return {**drawn, "custom__displayMode": "lcd-gauge"}


def event_list(title: str, korean: str, english: str, query: elasticsearch.Dataquery, *, height: int = 12) -> EventList:
    """Events, newest first."""
    panel = logs.Panel().title(title).description(f"{korean}\n\n{english}").span(24).height(height)
    panel.targets([query]).datasource(_source_of([query])).show_time(True).show_labels(False).show_common_labels(False)
    panel.wrap_log_message(True).prettify_log_message(False).enable_log_details(True)
    return panel.sort_order(style.LogsSortOrder.DESCENDING).dedup_strategy(style.LogsDedupStrategy.NONE)


def row(title: str) -> dashboard.Row:
    """A heading."""
    return dashboard.Row(title)


def _source_of(queries: Sequence[elasticsearch.Dataquery]) -> model.DataSourceRef:
    """The data source of a panel: that of its queries, or Grafana's "mixed" for queries to several."""
    uids = {str(found.uid) for query in queries if (found := query.build().datasource)}
    return source(uids.pop()) if len(uids) == 1 else model.DataSourceRef(type_val="datasource", uid=MIXED)


def _thresholds(given: Steps) -> dashboard.ThresholdsConfig:
    made = [model.Threshold(value=value, color=colour) for value, colour in given]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _legend(calcs: Sequence[str], placement: style.LegendPlacement) -> common.VizLegendOptions:
    legend = common.VizLegendOptions().placement(placement).show_legend(True)
    if not calcs:
        return legend.display_mode(style.LegendDisplayMode.LIST).calcs([])
    return legend.display_mode(style.LegendDisplayMode.TABLE).calcs(list(calcs))

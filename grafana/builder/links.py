"""Where a click leads: the host's dashboard, its page and its logs, each at the time shown."""

from __future__ import annotations

from builder import variables

Link = dict[str, object]
SERIES = "${__field.displayName:percentencode}"
"""The name of a series, where it is that of a host."""
TIMES = "from=${__from:date:iso}&to=${__to:date:iso}"
"""The dashboard's time range, as the log search takes it."""
MILLISECONDS = "from=${__from}&to=${__to}"
"""The same, as graphs and the page of a host take it."""


def column(name: str) -> str:
    """The value in another column of the row."""
    return f'${{__data.fields["{name}"]:percentencode}}'


def of_host(name: str = SERIES, page: str | None = None, query: str = "") -> list[Link]:
    """Links for the host of this name. ``page``: what its page is known by, its id where there is one; ``query``: for the
    log search, quoted as in an address."""
    return [
        link("Dashboard of the host", f"/d/{variables.HOST}?var-host={name}&${{__url_time_range}}"),
        link("Host page in ezadmin", f"${{ezadmin_url}}/hosts/{page or name}?{MILLISECONDS}", True),
        link("Logs in ezadmin", f"${{ezadmin_url}}/logs/?q={query}&{TIMES}&host={name}", True),
        link("Graphs in ezadmin", f"${{ezadmin_url}}/graphs/?host={name}&{MILLISECONDS}", True),
    ]


def logs(query: str) -> list[Link]:
    """The log search; ``query`` as it stands in an address."""
    return [link("Logs in ezadmin", f"${{ezadmin_url}}/logs/?q={query}&{TIMES}", True)]


def dashboard(title: str, uid: str, variable: str, value: str) -> Link:
    """Another dashboard, with a variable set and the time range kept."""
    return link(title, f"/d/{uid}?var-{variable}={value}&${{__url_time_range}}")


def link(title: str, url: str, blank: bool = False) -> Link:
    """A data link."""
    return {"title": title, "url": url, **({"targetBlank": True} if blank else {})}

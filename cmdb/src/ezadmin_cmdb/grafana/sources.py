"""The data sources: one per family of indices, so that a panel says what it counts and never reads more than it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ezadmin_wire.names import Names

TIME_FIELD = "@timestamp"
FOLDER_UID = "ezadmin"
FOLDER_TITLE = "ezadmin"


@dataclass(frozen=True)
class Source:
    """One Elasticsearch data source of Grafana."""

    uid: str
    """Fixed: dashboards and links name it, whatever the installation's prefix is."""
    title: str
    family: str
    """What stands between the prefix and the day in the names of its indices."""
    step: str
    """How far apart its documents are: Grafana draws no finer."""
    logs: bool = False
    """Whether it holds events with a message and a level."""
    level: str = "log.level"
    """Which field says the level, where it does."""

    def index(self, names: Names) -> str:
        """The pattern of its indices under the installation's prefix."""
        return f"{names.prefix}-{self.family}-*"


SOURCES = (
    Source("ezadmin-metrics", "ezadmin metrics", "metrics", "10s"),
    Source("ezadmin-metrics-1h", "ezadmin metrics by the hour", "rollup-metrics-1h", "1h"),
    Source("ezadmin-logs", "ezadmin logs", "logs", "1s", logs=True),
    Source("ezadmin-rollup-1m", "ezadmin events per minute and host", "rollup-logs-1m", "1m"),
    Source("ezadmin-rollup-fleet-1m", "ezadmin events per minute", "rollup-logs-fleet-1m", "1m"),
    Source("ezadmin-rollup-fleet-1h", "ezadmin events per hour", "rollup-logs-fleet-1h", "1h"),
    Source("ezadmin-alerts", "ezadmin alerts", "alerts", "1s", logs=True, level="alert.state"),
)


def payload(
    source: Source, url: str, names: Names, user: str | None = None, password: str | None = None, ca: str | None = None
) -> dict[str, Any]:
    """The data source as Grafana's API and its provisioning files take it.

    Grafana up to 9.4 reads the index from ``database``, 9.5 and later from ``jsonData.index``; 9.4 also wants the
    server's version, which later ones ignore. ``ca``: PEM of the authority that signed Elasticsearch's certificate, if it is
    one of your own.
    """
    index = source.index(names)
    details: dict[str, Any] = {
        "index": index,
        "timeField": TIME_FIELD,
        "esVersion": "8.0.0",
        "timeInterval": source.step,
        "maxConcurrentShardRequests": 5,
    }
    if source.logs:
        details |= {"logMessageField": "message", "logLevelField": source.level}
    made: dict[str, Any] = {
        "name": source.title,
        "uid": source.uid,
        "type": "elasticsearch",
        "access": "proxy",
        "url": url,
        "database": index,
        "isDefault": False,
        "jsonData": details,
    }
    if user is not None:
        made |= {"basicAuth": True, "basicAuthUser": user, "secureJsonData": {"basicAuthPassword": password or ""}}
    if ca is not None:
        details["tlsAuthWithCACert"] = True
        made["secureJsonData"] = made.get("secureJsonData", {}) | {"tlsCACert": ca}
    return made

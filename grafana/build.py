"""Make ``grafana/dashboards/*.json`` and ``grafana/provisioning/``; ``--check`` says whether they are what it would make.

    python grafana/build.py [--check]

Needs ``grafana-foundation-sdk`` (a development dependency: who only uses the dashboards does not build them).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from builder import alerts, compare, division, fleet, host, logs, marks, months, pipeline, topics, variables
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from ezadmin_cmdb.grafana import provisioning
from ezadmin_cmdb.grafana.bundle import BUILD
from ezadmin_wire.names import Names

HERE = Path(__file__).resolve().parent
SCHEMA = 37
"""Grafana 9.4's dashboard schema: later versions migrate from it, while 9.4 takes a later one as it is."""


def main() -> int:
    """Write the files, or compare them; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file is not up to date")
    check = parser.parse_args().check
    made = files()
    stale = [path for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
    stale += [path for path in (HERE / "dashboards").glob("*.json") if path not in made]
    for path in sorted(stale):
        name = path.relative_to(HERE.parent)
        if check:
            print(f"{name} is not what grafana/build.py makes: run python grafana/build.py", file=sys.stderr)
        elif path in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path], "utf-8")
            print(f"wrote {name}")
        else:
            path.unlink()
            print(f"removed {name}")
    return 1 if check and stale else 0


def files() -> dict[Path, str]:
    """Every file and its text."""
    made = {HERE / "provisioning" / name: text for name, text in provisioning.templates(Names()).items()}
    for builder in dashboards():
        finished = finish(builder)
        made[HERE / "dashboards" / f"{finished['uid']}.json"] = (
            json.dumps(finished, indent=1, ensure_ascii=False) + "\n"
        )
    return made


def dashboards() -> list[dashboard.Dashboard]:
    """Every dashboard."""
    single = [
        fleet.build(),
        host.build(),
        compare.build(),
        logs.build(),
        alerts.build(),
        pipeline.build(),
        months.build(),
    ]
    return [*single, *topics.built(), *division.built()]


def finish(builder: dashboard.Dashboard) -> dict[str, Any]:
    """The dashboard as JSON, with ids that stay the same and the fingerprint of its content."""
    plain: dict[str, Any] = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    plain |= {"schemaVersion": SCHEMA, "version": 1, "id": None}
    for number, panel in enumerate(plain["panels"], 1):
        panel["id"] = number
    known = plain["templating"]["list"]
    for variable in known:
        variable.pop("id", None)
    plain["annotations"] = {"list": marks.of(plain["uid"], {variable["name"] for variable in known})}
    content = json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()
    mark = variables.constant(BUILD, hashlib.sha256(content).hexdigest()[:12]).build()
    listed = json.loads(json.dumps(mark, cls=JSONEncoder))
    listed.pop("id", None)
    plain["templating"]["list"].append(listed)
    return plain


if __name__ == "__main__":
    sys.exit(main())

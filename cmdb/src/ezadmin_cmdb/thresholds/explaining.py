"""Limits in words: what they say, and where they come from."""

from __future__ import annotations

from flask_babel import gettext as _

from ezadmin_cmdb.metrics.fields import datasets
from ezadmin_cmdb.thresholds.inheritance import EffectiveLimit
from ezadmin_cmdb.web.formats import figure


def limit_text(limit: EffectiveLimit) -> str:
    """``warning ≥ 80.0%, critical ≥ 90.0% · cpu (all hosts)``."""
    known = datasets().get(limit.dataset, {}).get(limit.field)
    unit, sign = known.unit if known else "", "≥" if limit.comparison == "above" else "≤"
    levels = [(_("warning"), limit.warning_raise), (_("critical"), limit.critical_raise)]
    said = ", ".join(f"{word} {sign} {figure(value, unit)}" for word, value in levels if value is not None)
    return f"{said} · {limit.origin}"

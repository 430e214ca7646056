"""The description of alerts: their list, filters, CSV and API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from flask_babel import lazy_gettext as _l
from marshmallow import fields as wire
from sqlalchemy import ColumnElement, and_, case

from ezadmin_cmdb.alerts import services, texts
from ezadmin_cmdb.alerts.models import CRITICAL, ITEM_MAX, MAINTENANCE, OK, UNKNOWN, WARNING, Alert
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register

STATES = {
    CRITICAL: _l("Critical"), WARNING: _l("Warning"), UNKNOWN: _l("No data"), MAINTENANCE: _l("Maintenance"), OK: _l("OK"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _State(fields.Select):
    """One of the five states that people see."""

    operators: ClassVar[tuple[str, ...]] = (fields.EQUALS, fields.NOT)

    def get(self, obj: Any) -> Any:
        """With maintenance."""
        return obj.shown_state

    def column(self, model: Any) -> Any:
        """With maintenance."""
        return case((and_(model.state != OK, model.window_id.is_not(None)), MAINTENANCE), else_=model.state)


@dataclass(frozen=True, kw_only=True)
class _Acknowledged(fields.Boolean):
    """Whether somebody cares for it."""

    def column(self, model: Any) -> Any:
        """As the model's property."""
        return model.acknowledged_until.is_not(None)

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """Yes or no."""
        return super().condition(model, operator, values)


def _beside(found: Sequence[Any]) -> Mapping[str, Any]:
    return {"value_of": texts.value_of, "text_of": texts.of_alert}


ALERT = register(
    Description(
        name="alert",
        path="alerts",
        model=Alert,
        title=_l("Alert"),
        titles=_l("Alerts"),
        icon="bell",
        key="id",
        order=("-severity", "-since"),
        about_hosts=True,
        creatable=False,
        changeable=False,
        deletable=False,
        scope=services.visible,
        beside=_beside,
        template="alerts/_cells.html",
        above="alerts/_above.html",
        empty_hint=_l("A figure that passes its threshold, a host that is down: what is raised stands here."),
        fields=[
            _State(name="state", label=_l("State"), choices=STATES, required=True, editable=False, cell="state"),
            fields.Reference(name="host", label=_l("Host"), to="host", required=True, editable=False),
            fields.Text(name="field", label=_l("Figure"), required=True, editable=False, searched=True, cell="figure"),
            fields.Text(name="item", label=_l("Item"), length=ITEM_MAX, editable=False, searched=True),
            fields.Number(
                name="value", label=_l("Value"), digits=6, editable=False, sortable=False, cell="value"
            ),
            fields.Moment(name="since", label=_l("Since"), required=True, editable=False, cell="since"),
            fields.Text(
                name="message", label=_l("Message"), length=65_535, editable=False, searched=True, sortable=False, lines=True,
                cell="message",
            ),
            _Acknowledged(name="acknowledged", label=_l("Acknowledged"), required=True, editable=False, cell="acknowledged"),
            fields.Moment(name="acknowledged_until", label=_l("Acknowledged until"), editable=False, listed=False),
            fields.Text(name="acknowledged_by", label=_l("Acknowledged by"), editable=False, listed=False),
            fields.Boolean(
                name="suppressed", label=_l("Suppressed"), editable=False, listed=False,
                help=_l("Its host is down, which another alert says: nobody is notified."),
            ),
            fields.Moment(name="opened", label=_l("Raised"), editable=False, listed=False),
            fields.Number(name="severity", label=_l("Severity"), required=True, editable=False, listed=False),
            fields.Text(name="reason", label=_l("Reason"), required=True, editable=False, listed=False),
            fields.Number(name="limit_value", label=_l("Compared with"), digits=6, editable=False, listed=False, sortable=False),
            fields.Text(name="rule", label=_l("Rule"), required=True, editable=False, listed=False),
            fields.Computed(
                name="raised", label=_l("State of the figure"), compute=lambda alert: alert.state, listed=False,
                form=lambda: wire.String(), help=_l("Without regard to maintenance."),
            ),
        ],
    )
)  # fmt: skip

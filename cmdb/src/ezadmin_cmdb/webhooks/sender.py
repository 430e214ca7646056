"""The part of the worker that sends deliveries of webhooks."""

from __future__ import annotations

import logging

from ezadmin_cmdb.delivering import DeliverySender
from ezadmin_cmdb.webhooks import services
from ezadmin_cmdb.webhooks.models import Delivery

_log = logging.getLogger(__name__)


class WebhookSender(DeliverySender):
    """Its receivers are webhooks."""

    what = "webhooks"

    def due(self) -> list[int]:
        """Webhooks."""
        return services.due()

    def claim(self, receiver_id: int) -> bool:
        """A webhook."""
        return services.claim(receiver_id)

    def next_due(self, receiver_id: int) -> Delivery | None:
        """Of a webhook that was not turned off meanwhile."""
        found = services.next_due(receiver_id)
        return found if found is not None and found.webhook.active else None

    def send(self, delivery: Delivery) -> tuple[bool, str | None]:
        """A webhook without success for long is turned off, which the log tells too."""
        going_on, webhook = services.send(delivery), delivery.webhook
        if not webhook.active:
            _log.error("webhook %s is %s", webhook.name, webhook.notice)
        why = delivery.error or f"it answers {delivery.answer_status}"
        return going_on, f"{webhook.name}: delivery {delivery.id} is not taken: {why}"

    def release(self, receiver_id: int) -> None:
        """A webhook."""
        services.release(receiver_id)

    def forget_old(self) -> None:
        """Deliveries."""
        services.forget_old()

"""The part of the worker that sends notifications."""

from __future__ import annotations

from ezadmin_cmdb.delivering import DeliverySender
from ezadmin_cmdb.notifications import services
from ezadmin_cmdb.notifications.models import Notification


class NotificationSender(DeliverySender):
    """Its receivers are channels."""

    what = "notifications"

    def due(self) -> list[int]:
        """Channels."""
        return services.due()

    def claim(self, receiver_id: int) -> bool:
        """A channel."""
        return services.claim(receiver_id)

    def next_due(self, receiver_id: int) -> Notification | None:
        """Of a channel that was not turned off meanwhile."""
        found = services.next_due(receiver_id)
        return found if found is not None and found.channel.active else None

    def send(self, delivery: Notification) -> tuple[bool, str | None]:
        """One message."""
        going_on = services.send(delivery)
        why = delivery.error or f"it answers {delivery.answer_status}"
        return going_on, f"{delivery.channel.name}: message {delivery.id} is not taken: {why}"

    def release(self, receiver_id: int) -> None:
        """A channel."""
        services.release(receiver_id)

    def forget_old(self) -> None:
        """Messages."""
        services.forget_old()

"""What a message of a topic holds that workers have read before, for the commands that read it once more."""

from __future__ import annotations

from typing import Any

from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.foreign import LABEL, ForeignReader, numbering
from ezadmin_pipeline.settings import Settings
from ezadmin_pipeline.worker import TopicIds
from ezadmin_wire import batch as wire


class Reading:
    """Decodes messages of agents' and of foreign topics as the engine does, under the same ids."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        self._directory = directory
        self._find_key = None if settings.signatures == "off" else directory.find_key
        self._foreign = {foreign.topic: ForeignReader(foreign, settings.names) for foreign in settings.foreign}
        self._kafka = settings.kafka
        self._ids: dict[str, str] | None = None

    @property
    def foreign(self) -> list[str]:
        """The foreign topics of the settings that there are. Raises KafkaError, KafkaRefused."""
        if self._ids is None:
            ids = TopicIds(self._kafka)
            try:
                self._ids = ids.read(list(self._foreign)) if self._foreign else {}
            finally:
                ids.close()
        return list(self._ids)

    def batch(self, message: Any) -> wire.Batch:
        """The batch in a message of kafka-python's. Raises WireError as :func:`ezadmin_wire.batch.decode` does."""
        foreign = self._foreign.get(message.topic)
        if foreign is None:
            return wire.decode(message.topic, message.key, message.headers, message.value, self._find_key)
        if self._ids is None or message.topic not in self._ids:
            raise LookupError(f"topic {message.topic} is not among those asked for")
        stream, epoch = numbering(self._ids[message.topic], message.partition)
        batch = foreign.read(message.value, message.timestamp, stream, epoch, message.offset)
        self._directory.meet(batch.host, batch.kid, (LABEL, message.topic))
        return batch

"""The agent's own log on stderr: one JSON object or one readable line per message."""

from __future__ import annotations

import json
import logging
import sys
import time

from ezadmin_wire.times import format_epoch_ms


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "@timestamp": format_epoch_ms(int(record.created * 1000)),
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["error.stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def setup(form: str, level: str) -> None:
    """Log to stderr as ``json`` or ``console``, from ``level`` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Json() if form == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # the sender says itself, once, what the client says at every attempt
    if level.lower() != "debug":
        logging.getLogger("kafka").setLevel(logging.CRITICAL)


class Repeated:
    """Warnings about a state that lasts: told when new or changed, and then once a minute while it goes on."""

    def __init__(self, logger: logging.Logger, level: int = logging.WARNING, seconds: float = 60.0) -> None:
        self._logger = logger
        self._level = level
        self._seconds = seconds
        self._told: dict[str, tuple[str, float]] = {}

    def tell(self, about: str, text: str, kind: str = "") -> None:
        """Say ``text`` about ``about``; ``kind`` is what makes it the same as before, where the text holds more."""
        now = time.monotonic()
        before = self._told.get(about)
        if before is None or before[0] != (kind or text) or now - before[1] >= self._seconds:
            self._told[about] = (kind or text, now)
            self._logger.log(self._level, "%s", text)

    def over(self, about: str) -> bool:
        """It is over; whether it was told about."""
        return self._told.pop(about, None) is not None

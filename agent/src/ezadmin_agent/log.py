"""The agent's own log on stderr: one JSON object or one readable line per message."""

from __future__ import annotations

import json
import logging
import sys

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

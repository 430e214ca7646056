"""Structured log on standard error: JSON lines with ECS names, or plain lines for a console."""

from __future__ import annotations

import json
import logging
import sys

from ezadmin_wire.times import format_epoch_ms

# the clients tell every reconnect as an error; what matters of it is told by our own messages
NOISY = ("kafka", "elastic_transport", "elasticsearch", "alembic")


class JsonFormatter(logging.Formatter):
    """One JSON object a record; members given as ``extra={"fields": {…}}`` stand beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "@timestamp": format_epoch_ms(int(record.created * 1000)),
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error.stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str, style: str) -> None:
    """Set up the root logger: ``level`` debug…error, ``style`` json or console."""
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    if level != "debug":
        # each failed connection, each look for a missing topic is told here, some ten times a second or with a traceback;
        # our own messages say what was wrong
        for told in ("kafka.net", "kafka.cluster", "elastic_transport.node_pool"):
            logging.getLogger(told).setLevel(logging.CRITICAL)

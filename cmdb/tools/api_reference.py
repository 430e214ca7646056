"""Write docs/api-reference.md of the OpenAPI description; ``--check``: only say whether it would be another one."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web import reference
from ezadmin_wire.kafka import KafkaConnection

FILE = Path(__file__).resolve().parents[2] / "docs" / "api-reference.md"


def description() -> dict[str, Any]:
    """The OpenAPI description; nothing is connected to."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(
            Settings(
                database="mysql+pymysql://nobody@localhost/none",
                kafka=KafkaConnection("localhost:9092"),
                config_signing_key=Path("none"),
                secret_key_file=Path(folder) / "secret",
            )
        )
    found: dict[str, Any] = app.extensions["flask-smorest"]["apis"][""]["ext_obj"].spec.to_dict()
    for name in ("ezadmin_elastic", "ezadmin_kafka"):
        app.extensions[name].close()
    return found


def main() -> int:
    """The exit status."""
    text = reference.markdown(description())
    if "--check" in sys.argv[1:]:
        if FILE.read_text() == text:
            return 0
        print(f"{FILE} is not what the API is: run python cmdb/tools/api_reference.py", file=sys.stderr)
        return 1
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

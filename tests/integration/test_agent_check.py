"""``ezadmin-agent check`` against the real Kafka: what it writes is a batch that the pipeline takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from ezadmin_wire import batch, state
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey, VerifyKey

COMMAND = [sys.executable, "-m", "ezadmin_agent", "check", "--json", "--config"]


def test_every_step_and_what_arrives(stack: Any, names: Names, tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'prefix = "{names.prefix}"\nstate_dir = "{tmp_path}"\n[kafka]\nbootstrap = "{stack.kafka}"\n')
    done = subprocess.run([*COMMAND, str(config)], capture_output=True, text=True, timeout=60)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr
    assert [step["ok"] for step in steps if step["name"].startswith("topic")] == [True, True]
    key = SigningKey.load(tmp_path / "host.key")
    host = (tmp_path / "host.id").read_text().strip()

    def find_key(asked: str, kid: str) -> VerifyKey | None:
        return VerifyKey(key.public) if (asked, kid) == (host, key.kid) else None

    consumer = KafkaConsumer(bootstrap_servers=stack.kafka, auto_offset_reset="earliest", enable_auto_commit=False)
    topics = (names.state, names.logs)
    consumer.assign([TopicPartition(topic, p) for topic in topics for p in consumer.partitions_for_topic(topic)])
    found = {}
    while len(found) < 2:
        for messages in consumer.poll(timeout_ms=1000).values():
            for message in messages:
                taken = batch.decode(message.topic, message.key, message.headers, message.value, find_key)
                found[message.topic] = taken
    consumer.close()
    assert isinstance(state.decode(found[names.state].lines()[0]), state.AgentStatus)
    event = json.loads(found[names.logs].lines()[0])
    assert event["message"].startswith("communication test of")
    assert found[names.logs].levels == {"info": 1}

    config.write_text(config.read_text().replace(names.prefix, f"{names.prefix}-other"))
    done = subprocess.run([*COMMAND, str(config)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ezadmin-pipeline setup" in done.stdout

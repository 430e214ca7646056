"""Kafka away, as a web page that asks again and again meets it."""

from __future__ import annotations

import gc
import warnings

import pytest
from kafka.errors import KafkaError

from ezadmin_cmdb.status.kafka import KafkaProbe
from ezadmin_wire.kafka import KafkaConnection


def test_kafka_away_is_told_with_the_reason_and_leaves_no_socket() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = KafkaProbe(KafkaConnection("127.0.0.1:1"))
        for _ in range(3):
            with pytest.raises(KafkaError, match=r"127\.0\.0\.1:1: .*refused"):
                probe.groups(["group"])
        probe.close()
        gc.collect()

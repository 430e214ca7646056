"""What a worker changes in Kafka's client."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from isal import igzip
from kafka.record import default_records
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from ezadmin_pipeline.worker import tune_client


def read(monkeypatch: pytest.MonkeyPatch, data: bytes) -> list[Any]:
    monkeypatch.setattr(default_records, "gzip_decode", default_records.gzip_decode)  # put back at the end
    tune_client()
    batch = MemoryRecords(data).next_batch()
    assert batch.validate_crc()
    return list(batch)


def test_the_client_unpacks_by_the_fast_library(monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[int] = []
    fast = igzip.decompress

    def decompress(data: Any) -> bytes:
        unpacked.append(len(data))
        return fast(data)

    monkeypatch.setattr(igzip, "decompress", decompress)
    builder = MemoryRecordsBuilder(magic=2, compression_type=1, batch_size=1 << 20)
    values = [b"a line %d\n" % number * 1000 for number in range(3)]
    for value in values:
        builder.append(timestamp=1, key=b"k", value=value, headers=[("n", b"1")])
    builder.close()
    records = read(monkeypatch, bytes(builder.buffer()))
    assert [record.value for record in records] == values
    assert [record.headers for record in records] == [[("n", b"1")]] * 3
    assert len(unpacked) == 1


def test_it_takes_several_members_as_the_standard_library_does() -> None:
    data = gzip.compress(b"one") + gzip.compress(b"two")
    assert igzip.decompress(memoryview(data)) == gzip.decompress(data) == b"onetwo"

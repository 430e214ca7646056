"""Batches on their way through the gateway, for hosts that do not reach Kafka: several in one body of a request.

Each is its Kafka headers and its value, exactly as they would be sent to Kafka, with their lengths before them (big-endian):
number of headers (1 byte), per header the length of its name (1) and value (2) and both; length of the value (4) and it.
The topic stands among the headers, and the message's key is the host that signed the request.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ezadmin_wire.errors import WireError

CONTENT_TYPE = "application/x-ezadmin-batches"
MAX_BODY = 4 << 20
"""Bytes of a body, after decompression."""
MAX_BATCHES = 64


def encode(batches: Iterable[tuple[list[tuple[str, bytes]], bytes]]) -> bytes:
    """The body for ``batches`` of (headers, value)."""
    out: list[bytes] = []
    for headers, value in batches:
        out.append(struct.pack(">B", len(headers)))
        for name, data in headers:
            out.append(struct.pack(">BH", len(name.encode()), len(data)))
            out.append(name.encode())
            out.append(data)
        out.append(struct.pack(">I", len(value)))
        out.append(value)
    return b"".join(out)


def decode(body: bytes) -> list[tuple[list[tuple[str, bytes]], bytes]]:
    """The batches of a body. Raises WireError (``bad_upload``) for one that is torn, too large or none at all."""
    if len(body) > MAX_BODY:
        raise WireError("bad_upload", f"a body of {len(body)} bytes; at most {MAX_BODY} are taken")
    batches: list[tuple[list[tuple[str, bytes]], bytes]] = []
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        if at + count > len(body):
            raise WireError("bad_upload", f"the body ends in the middle of batch {len(batches)}")
        at += count
        return body[at - count : at]

    while at < len(body):
        if len(batches) == MAX_BATCHES:
            raise WireError("bad_upload", f"more than {MAX_BATCHES} batches")
        headers = []
        for _ in range(take(1)[0]):
            name_length, data_length = struct.unpack(">BH", take(3))
            try:
                name = take(name_length).decode()
            except UnicodeDecodeError as error:
                raise WireError("bad_upload", f"batch {len(batches)}: the name of a header is not UTF-8") from error
            headers.append((name, take(data_length)))
        (size,) = struct.unpack(">I", take(4))
        batches.append((headers, take(size)))
    if not batches:
        raise WireError("bad_upload", "no batch")
    return batches

"""Bodies of requests: bounded as they come, and when they are unpacked."""

from __future__ import annotations

import asyncio
import zlib

from starlette.requests import ClientDisconnect, Request

from ezadmin_cmdb.gateway.problems import Problem

SECONDS = 30.0
"""In which a body must have come."""


def announced(request: Request, most: int) -> int:
    """How many bytes the request says it brings, ``most`` if it does not. Raises Problem (``too_large``)."""
    text = request.headers.get("content-length")
    size = int(text) if text is not None and text.isascii() and text.isdecimal() else most
    if size > most:
        raise Problem(413, "too_large", f"a body of {size} bytes; at most {most} are taken")
    return size


async def read(request: Request, most: int) -> bytes:
    """The body as it was sent. Raises Problem (``too_large``, ``too_slow``)."""
    announced(request, most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Problem(413, "too_large", f"a body of more than {most} bytes")
                parts.append(part)
    except TimeoutError as error:
        raise Problem(408, "too_slow", f"the body did not come within {SECONDS:.0f} s") from error
    except ClientDisconnect as error:
        raise Problem(400, "cut_off", "the body was cut off") from error
    return b"".join(parts)


def unpacked(request: Request, body: bytes, most: int) -> bytes:
    """The body, gzip undone. Raises Problem (``bad_encoding``; ``too_large``, before more than ``most`` bytes are made)."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise Problem(415, "bad_encoding", f"Content-Encoding {encoding!r}: gzip or none is taken")
    unpacker = zlib.decompressobj(31)
    try:
        plain = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise Problem(400, "bad_encoding", f"the body is no gzip: {error}") from error
    if len(plain) > most:
        raise Problem(413, "too_large", f"a body of more than {most} bytes when it is unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise Problem(400, "bad_encoding", "the gzip body is cut off, or has something behind its end")
    return plain

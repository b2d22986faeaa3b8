"""The bytes of a request's body: bounded in size and time, and unpacked where the client packed them."""

from __future__ import annotations

import asyncio
import zlib

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

CLIENT_GONE = 499  # nginx' code; nobody receives it, logs and metrics show it
# zlib's mark for "gzip or zlib, whichever the header says".
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_PACKED = ("gzip", "x-gzip", "deflate")


async def read_body(request: Request, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body, given up as soon as it is too long or too slow; gzip and deflate are unpacked.

    Raises:
        HTTPException: 408 too slow, 413 too long (packed or unpacked), 415 packed otherwise, 400 damaged.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", *_PACKED):
        raise HTTPException(
            415,
            f"content-encoding: {encoding!r} is not one of gzip, deflate, identity; send the body plain",
            {"accept-encoding": "gzip, deflate", "connection": "close"},
        )
    try:
        async with asyncio.timeout(seconds):
            body = await _read_body(request, max_bytes)
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not come within {seconds:g} s", {"connection": "close"}) from error
    except ClientDisconnect as error:
        raise HTTPException(CLIENT_GONE, "the client has gone") from error
    return _unpacked(body, encoding, max_bytes) if encoding in _PACKED else body


async def _read_body(request: Request, max_bytes: int) -> bytes:
    blocks, num_bytes = [], 0
    async for block in request.stream():
        num_bytes += len(block)
        if num_bytes > max_bytes:
            # Closing spares us reading the rest.
            raise _too_long(max_bytes)
        blocks.append(block)
    return b"".join(blocks)


def _unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes:
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        content = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise HTTPException(400, f"the body is not {encoding}, as content-encoding says: {error}") from error
    if len(content) > max_bytes:
        raise _too_long(max_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise HTTPException(400, f"the body is not one whole {encoding} stream; send all of it and nothing behind it")
    return content


def _too_long(max_bytes: int) -> HTTPException:
    return HTTPException(
        413, f"the body is longer than {max_bytes} bytes; send fewer texts a request", {"connection": "close"}
    )

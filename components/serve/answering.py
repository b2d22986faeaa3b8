"""From the texts of a request to their vectors: the steps that every protocol shares, and the limits they keep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from components.serve.batching import QueueFullError, SessionDiedError
from components.serve.protocols.bodies import InputType
from components.serve.protocols.reading import CLIENT_GONE, read_body
from components.serve.release import NotFiniteScoreError, Release
from components.serve.service import Service
from components.shared.contract.ending import TransientError
from components.shared.encoding.encoder import NotFiniteError
from components.shared.tracing.spans import span

Result = TypeVar("Result")


async def body_of(service: Service, request: Request) -> bytes:
    """The request's body, unpacked."""
    return await read_body(request, max_bytes=service.config.max_body_bytes, seconds=service.config.body_seconds)


async def tokenized(
    service: Service,
    request: Request,
    release: Release,
    texts: Sequence[str],
    input_type: InputType,
    *,
    truncate: bool,
) -> list[list[int]]:
    """Token ids of the texts, none longer than the encoder takes; what was cut is counted and shown.

    Raises:
        HTTPException: 413 where a text is too long and may not be cut, or all together are more than the queue takes.
    """
    with span("tokenize", texts=len(texts)):
        token_ids = await release.tokenize(texts, input_type)
    max_tokens = release.max_tokens(input_type)
    too_long = [position for position, ids in enumerate(token_ids) if len(ids) > max_tokens]
    if too_long and not truncate:
        check_lengths(token_ids, max_tokens, f'of a {input_type}; shorten it, or send "truncate": true to have it cut')
    if too_long:
        cut = await release.tokenize([texts[position] for position in too_long], input_type, truncate=True)
        for position, ids in zip(too_long, cut, strict=True):
            token_ids[position] = ids
        request.state.facts["truncated"] = len(too_long)
    service.metrics.count_texts(input_type, texts=len(texts), truncated=len(too_long))
    check_size(service, request, release, token_ids)
    return token_ids


def check_lengths(token_ids: Sequence[Sequence[int]], max_tokens: int, remedy: str) -> None:
    """Refuses a text that is longer than the encoder takes."""
    for position, ids in enumerate(token_ids):
        if len(ids) > max_tokens:
            raise HTTPException(
                413, f"text {position} has {len(ids)} tokens or more, the encoder takes {max_tokens} {remedy}"
            )


def check_size(service: Service, request: Request, release: Release, token_ids: Sequence[Sequence[int]]) -> None:
    """Notes the request's size for the log, and refuses more tokens than the queue ever takes."""
    num_tokens = sum(map(len, token_ids))
    request.state.facts.update(texts=len(token_ids), tokens=num_tokens, version=release.version)
    if num_tokens > service.config.max_queued_tokens:
        raise HTTPException(
            413,
            f"{num_tokens} tokens, this server takes {service.config.max_queued_tokens} a request; send fewer texts",
        )


def answer_headers(request: Request, release: Release) -> dict[str, str]:
    """The release that answered and, where texts were cut, how many."""
    headers = {"retriever-version": release.version}
    if "truncated" in request.state.facts:
        headers["retriever-truncated-texts"] = str(request.state.facts["truncated"])
    return headers


async def limited(service: Service, request: Request, work: Awaitable[Result]) -> Result:
    """The result of the work; when the time is up or the client has gone, the work is cancelled and leaves the queue.

    Raises:
        HTTPException: 429 where the queue is full, 503 where the time is up or the session died, 500 where a vector is
            not finite.
    """
    # After the body the next message can only be the disconnect. The work itself needs no task: its time is ended
    # instead.
    gone = asyncio.ensure_future(request.receive())
    limit = asyncio.timeout(service.config.request_seconds)
    is_over = False

    def end_work(_: object) -> None:
        if not (is_over or limit.expired()):
            limit.reschedule(0)

    try:
        async with limit:
            gone.add_done_callback(end_work)
            return await work
    except QueueFullError as error:
        raise HTTPException(429, str(error), {"retry-after": str(error.retry_seconds)}) from error
    except SessionDiedError as error:
        raise HTTPException(503, str(error), {"retry-after": "1"}) from error
    except TransientError as error:
        # The engine that holds the index is away.
        raise HTTPException(503, str(error), {"retry-after": "1"}) from error
    except (NotFiniteError, NotFiniteScoreError) as error:
        raise HTTPException(500, str(error)) from error
    except TimeoutError as error:
        if gone.done():
            raise HTTPException(CLIENT_GONE, "the client has gone") from error
        problem = f"not answered within {service.config.request_seconds:g} s; the server is overloaded"
        raise HTTPException(503, problem, {"retry-after": "1"}) from error
    finally:
        is_over = True
        gone.cancel()

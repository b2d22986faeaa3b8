"""Bodies of requests -> checked values; whatever is wrong is named with its field and answered 400 or 413.

By hand and not by a schema library: three fields do not need one, and it costs more time than the encoder's share of a short query.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

CLIENT_GONE = 499  # nginx' code; nobody receives it, logs and metrics show it

EncodingFormat = Literal["float", "base64"]
InputType = Literal["query", "passage"]


@dataclass(frozen=True)
class SearchRequest:
    """What /search asks for."""

    queries: list[str]
    depth: int


@dataclass(frozen=True)
class EmbeddingsRequest:
    """What /v1/embeddings asks for; `model` is echoed and chooses nothing."""

    texts: list[str]
    model: str
    encoding_format: EncodingFormat
    input_type: InputType


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The whole body, given up as soon as it is too long."""
    blocks, num_bytes = [], 0
    try:
        async for block in request.stream():
            num_bytes += len(block)
            if num_bytes > max_bytes:
                # Closing spares us reading the rest.
                raise HTTPException(413, f"the body is longer than {max_bytes} bytes; send fewer texts a request", {"connection": "close"})
            blocks.append(block)
    except ClientDisconnect as error:
        raise HTTPException(CLIENT_GONE, "the client has gone") from error
    return b"".join(blocks)


def parse_search(body: bytes, *, max_texts: int, max_depth: int) -> SearchRequest:
    """Reads {"query": "..."} or {"queries": ["...", ...]}, and "depth" (default 10)."""
    values = _object(body)
    if unknown := sorted(set(values) - {"query", "queries", "depth"}):
        raise HTTPException(400, f"unknown fields {unknown}; known are query, queries, depth")
    if ("query" in values) == ("queries" in values):
        raise HTTPException(400, 'give either "query" (a text) or "queries" (a list of texts)')
    queries = [_text(values["query"], "query")] if "query" in values else _texts(values["queries"], "queries", max_texts)
    depth = values.get("depth", 10)
    if not isinstance(depth, int) or isinstance(depth, bool) or not 1 <= depth <= max_depth:
        raise HTTPException(400, f"depth: {_shown(depth)} is not an integer from 1 to {max_depth}")
    return SearchRequest(queries, depth)


def parse_embeddings(body: bytes, *, max_texts: int, dimension: int) -> EmbeddingsRequest:
    """Reads the body of OpenAI's embeddings call; fields that clients of OpenAI send beside ours are ignored."""
    values = _object(body)
    if "input" not in values:
        raise HTTPException(400, "input: missing; give a text or a list of texts")
    given = values["input"]
    texts = [_text(given, "input")] if isinstance(given, str) else _texts(given, "input", max_texts)
    model = values.get("model", "")
    if not isinstance(model, str):
        raise HTTPException(400, f"model: {_shown(model)} is not a text")
    if values.get("dimensions") not in (None, dimension):
        raise HTTPException(400, f"dimensions: this encoder has {dimension}; leave the field out")
    encoding_format = _choice(values.get("encoding_format", "float"), "encoding_format", ("float", "base64"))
    input_type = _choice(values.get("input_type", "query"), "input_type", ("query", "passage"))
    return EmbeddingsRequest(texts, model, cast(EncodingFormat, encoding_format), cast(InputType, input_type))


def _object(body: bytes) -> dict[str, Any]:
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise HTTPException(400, f"the body is not a JSON object but {_shown(values)}")
    return values


def _texts(value: object, field: str, max_texts: int) -> list[str]:
    if not isinstance(value, list) or not value:
        raise HTTPException(400, f"{field}: {_shown(value)} is not a list of texts with at least one text")
    if len(value) > max_texts:
        raise HTTPException(413, f"{field}: {len(value)} texts, this server takes {max_texts} a request; send several requests")
    return [_text(text, f"{field}[{position}]") for position, text in enumerate(value)]


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise HTTPException(400, f"{field}: {_shown(value)} is not a text")
    if not value.strip():
        raise HTTPException(400, f"{field}: the text is empty")
    return value


def _choice(value: object, field: str, choices: Collection[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise HTTPException(400, f"{field}: {_shown(value)} is not one of {', '.join(choices)}")
    return value


def _shown(value: object) -> str:
    shown = orjson.dumps(value).decode()
    return shown if len(shown) <= 60 else f"{shown[:57]}..."

"""Bodies of requests -> checked values; whatever is wrong is named with its field and answered 400 or 413.

By hand and not by a schema library: a few fields do not need one, and it costs more time than the encoder's share of a
short query.
"""

from __future__ import annotations

import asyncio
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
class Limits:
    """What a request may ask for."""

    max_texts: int
    max_depth: int
    max_filter_ids: int


@dataclass(frozen=True)
class SearchRequest:
    """What /search and /search/batch ask for; no `passage_ids` are all passages."""

    queries: list[str]
    depth: int = 10
    include_text: bool = True
    truncate: bool = False
    passage_ids: tuple[str, ...] = ()
    exclude_passage_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmbeddingsRequest:
    """What /v1/embeddings asks for; `model` is echoed and chooses nothing."""

    texts: list[str]
    model: str
    encoding_format: EncodingFormat
    input_type: InputType
    truncate: bool


@dataclass(frozen=True)
class InferRequest:
    """What /v2/models/{model}/infer asks for; `request_id` is given back where there is one."""

    texts: list[str]
    request_id: str
    input_type: InputType
    truncate: bool


async def read_body(request: Request, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body, given up as soon as it is too long or too slow."""
    try:
        async with asyncio.timeout(seconds):
            return await _read_body(request, max_bytes)
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not come within {seconds:g} s", {"connection": "close"}) from error
    except ClientDisconnect as error:
        raise HTTPException(CLIENT_GONE, "the client has gone") from error


async def _read_body(request: Request, max_bytes: int) -> bytes:
    blocks, num_bytes = [], 0
    async for block in request.stream():
        num_bytes += len(block)
        if num_bytes > max_bytes:
            # Closing spares us reading the rest.
            raise HTTPException(
                413, f"the body is longer than {max_bytes} bytes; send fewer texts a request", {"connection": "close"}
            )
        blocks.append(block)
    return b"".join(blocks)


_SEARCH_FIELDS = ("depth", "include_text", "truncate", "passage_ids", "exclude_passage_ids")


def parse_search(body: bytes, limits: Limits) -> SearchRequest:
    """Reads {"query": "..."} and the fields of a search."""
    values = _object(body, ("query", *_SEARCH_FIELDS))
    return _search(values, [_text(_required(values, "query"), "query")], limits)


def parse_search_batch(body: bytes, limits: Limits) -> SearchRequest:
    """Reads {"queries": ["...", ...]} and the fields of a search, which hold for all of them."""
    values = _object(body, ("queries", *_SEARCH_FIELDS))
    return _search(values, _texts(_required(values, "queries"), "queries", limits.max_texts), limits)


def _search(values: dict[str, Any], queries: list[str], limits: Limits) -> SearchRequest:
    depth = values.get("depth", 10)
    if not isinstance(depth, int) or isinstance(depth, bool) or not 1 <= depth <= limits.max_depth:
        raise HTTPException(400, f"depth: {_shown(depth)} is not an integer from 1 to {limits.max_depth}")
    return SearchRequest(
        queries,
        depth,
        include_text=_flag(values, "include_text", default=True),
        truncate=_flag(values, "truncate", default=False),
        passage_ids=_passage_ids(values, "passage_ids", limits),
        exclude_passage_ids=_passage_ids(values, "exclude_passage_ids", limits),
    )


def _passage_ids(values: dict[str, Any], field: str, limits: Limits) -> tuple[str, ...]:
    if field not in values:
        return ()
    given = values[field]
    if not isinstance(given, list) or not given or not all(isinstance(each, str) for each in given):
        raise HTTPException(400, f"{field}: {_shown(given)} is not a list of passage ids; leave the field out for all")
    if len(given) > limits.max_filter_ids:
        raise HTTPException(413, f"{field}: {len(given)} passage ids, this server takes {limits.max_filter_ids}")
    return tuple(given)


def parse_embeddings(body: bytes, limits: Limits, *, dimension: int) -> EmbeddingsRequest:
    """Reads the body of OpenAI's embeddings call; fields that clients of OpenAI send beside ours are ignored."""
    values = _object(body)
    given = _required(values, "input")
    texts = [_text(given, "input")] if isinstance(given, str) else _texts(given, "input", limits.max_texts)
    model = values.get("model", "")
    if not isinstance(model, str):
        raise HTTPException(400, f"model: {_shown(model)} is not a text")
    if values.get("dimensions") is not None and (
        values["dimensions"] != dimension or isinstance(values["dimensions"], bool)
    ):
        raise HTTPException(400, f"dimensions: this encoder has {dimension}; leave the field out")
    encoding_format = _choice(values.get("encoding_format", "float"), "encoding_format", ("float", "base64"))
    return EmbeddingsRequest(
        texts,
        model,
        cast(EncodingFormat, encoding_format),
        _input_type(values),
        truncate=_flag(values, "truncate", default=False),
    )


def parse_infer(body: bytes, limits: Limits) -> InferRequest:
    """Reads the JSON body of an Open Inference Protocol request: one BYTES input `text`; "parameters" holds input_type and truncate.

    Source: Open Inference Protocol version 2, REST.
    """
    values = _object(body)
    inputs = _required(values, "inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise HTTPException(400, f'inputs: {_shown(inputs)} is not a list of one tensor named "text"')
    tensor = inputs[0]
    if (tensor.get("name"), tensor.get("datatype")) != ("text", "BYTES"):
        raise HTTPException(400, 'inputs[0]: not a tensor with name "text" and datatype "BYTES"')
    texts = _texts(tensor.get("data"), "inputs[0].data", limits.max_texts)
    if tensor.get("shape") not in ([len(texts)], [len(texts), 1]):
        raise HTTPException(
            400, f"inputs[0].shape: {_shown(tensor.get('shape'))} is not [{len(texts)}], the number of texts"
        )
    _wanted_outputs(values.get("outputs"))
    parameters = values.get("parameters", {})
    if not isinstance(parameters, dict):
        raise HTTPException(400, f"parameters: {_shown(parameters)} is not an object")
    request_id = values.get("id", "")
    if not isinstance(request_id, str):
        raise HTTPException(400, f"id: {_shown(request_id)} is not a text")
    return InferRequest(
        texts, request_id, _input_type(parameters), truncate=_flag(parameters, "truncate", default=False)
    )


def _wanted_outputs(outputs: object) -> None:
    if outputs is not None and not (
        isinstance(outputs, list)
        and all(isinstance(each, dict) and each.get("name") == "embedding" for each in outputs)
    ):
        raise HTTPException(400, f'outputs: {_shown(outputs)} asks for more than the tensor "embedding"')


def _required(values: dict[str, Any], field: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    if field not in values:
        raise HTTPException(400, f"{field}: missing")
    return values[field]


def _input_type(values: dict[str, Any]) -> InputType:
    return cast(InputType, _choice(values.get("input_type", "query"), "input_type", ("query", "passage")))


def _flag(values: dict[str, Any], field: str, *, default: bool) -> bool:
    value = values.get(field, default)
    if not isinstance(value, bool):
        raise HTTPException(400, f"{field}: {_shown(value)} is neither true nor false")
    return value


def _object(body: bytes, known: Collection[str] = ()) -> dict[str, Any]:
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise HTTPException(400, f"the body is not a JSON object but {_shown(values)}")
    if known and (unknown := sorted(set(values) - set(known))):
        raise HTTPException(400, f"unknown fields {unknown}; known are {', '.join(known)}")
    return values


def _texts(value: object, field: str, max_texts: int) -> list[str]:
    if not isinstance(value, list) or not value:
        raise HTTPException(400, f"{field}: {_shown(value)} is not a list of texts with at least one text")
    if len(value) > max_texts:
        raise HTTPException(
            413, f"{field}: {len(value)} texts, this server takes {max_texts} a request; send several requests"
        )
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

"""The OpenAPI document of the server: what a client may send and what it gets, with the limits of this very server."""

from __future__ import annotations

from typing import Any

from components.serve.config import ServeConfig

VERSION = "1.0"
Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1, "pattern": r"\S"}
_INPUT_TYPE: Schema = {
    "type": "string",
    "enum": ["query", "passage"],
    "default": "query",
    "description": "Which prefix and length.",
}
_TRUNCATE: Schema = {
    "type": "boolean",
    "default": False,
    "description": "Cut texts that are too long, instead of refusing them with 413.",
}
_FLOATS: Schema = {"type": "array", "items": {"type": "number"}}
_PROBLEMS = {
    400: "The request is wrong; the message names the field.",
    401: "No valid API key.",
    408: "The body did not come in time.",
    413: "Too long, too many or too large; the message names the limit.",
    429: "The queue is full; retry-after says when to come back.",
    503: "Overloaded or not ready.",
}


def document(config: ServeConfig) -> Schema:
    """The document of a server with these settings."""
    paths = {**_search_paths(config), **_openai_paths(config), **_inference_paths(config), **_probe_paths()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Retriever",
            "version": VERSION,
            "description": "Dense retrieval. An answer comes from one release of encoder and index, named in the header retriever-version.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": _schemas(),
        },
        "security": [{"bearer": []}, {"header": []}] if config.api_keys_path else [],
    }


def _search_paths(config: ServeConfig) -> Schema:
    passage_ids = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": config.max_filter_ids}
    fields: Schema = {
        "depth": {"type": "integer", "minimum": 1, "maximum": config.max_depth, "default": 10},
        "include_text": {
            "type": "boolean",
            "default": True,
            "description": "Title and text of each hit, where a dataset is served.",
        },
        "truncate": _TRUNCATE,
        "passage_ids": {**passage_ids, "description": "Only these; each is scored, whatever the index skips."},
        "exclude_passage_ids": {**passage_ids, "description": "All but these."},
    }
    queries = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": config.max_texts}
    return {
        "/search": {
            "post": _post(
                "search", "The best passages of a query", _body({"query": _TEXT, **fields}, "query"), "Ranking"
            )
        },
        "/search/batch": {
            "post": _post(
                "searchBatch",
                "The best passages of each query",
                _body({"queries": queries, **fields}, "queries"),
                "Rankings",
            )
        },
    }


def _openai_paths(config: ServeConfig) -> Schema:
    texts = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": config.max_texts}
    fields: Schema = {
        "input": {"oneOf": [_TEXT, texts]},
        "model": {"type": "string", "description": "Echoed; there is one encoder."},
        "encoding_format": {"type": "string", "enum": ["float", "base64"], "default": "float"},
        "input_type": _INPUT_TYPE,
        "truncate": _TRUNCATE,
    }
    # Clients of OpenAI send more fields; they are ignored.
    body = {**_body(fields, "input"), "additionalProperties": True}
    return {
        "/v1/embeddings": {"post": _post("embeddings", "Vectors of texts, as of OpenAI", body, "Embeddings")},
        "/v1/models": {"get": _get("models", "The encoder, as of OpenAI", "Models", problems=(401,))},
    }


def _inference_paths(config: ServeConfig) -> Schema:
    tensor = _body(
        {
            "name": {"const": "text"},
            "datatype": {"const": "BYTES"},
            "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
            "data": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": config.max_texts},
        },
        "name",
        "datatype",
        "shape",
        "data",
    )
    fields: Schema = {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
        "outputs": {"type": "array", "items": _body({"name": {"const": "embedding"}}, "name")},
        "parameters": {**_body({"input_type": _INPUT_TYPE, "truncate": _TRUNCATE}), "additionalProperties": True},
    }
    body = {**_body(fields, "inputs"), "additionalProperties": True}
    model = [
        {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "enum": [config.model_name]}}
    ]
    found = {
        "/v2/models/{model}": {
            "get": _get("modelMetadata", "Tensors of the encoder", "ModelMetadata", problems=(401, 404))
        },
        "/v2/models/{model}/ready": {
            "get": _get("modelReady", "Whether it may be asked", "ModelReady", problems=(401, 404))
        },
        "/v2/models/{model}/infer": {
            "post": _post("infer", "Vectors of texts", body, "Inference", extra_problems=(404,))
        },
    }
    for path in found.values():
        for operation in path.values():
            operation["parameters"] = model
    return {
        "/v2": {"get": _get("serverMetadata", "Open Inference Protocol, version 2", "ServerMetadata")},
        "/v2/health/live": {"get": _get("live", "Whether the process is well", "Live")},
        "/v2/health/ready": {"get": _get("ready", "Whether it may be asked", "Ready")},
        **found,
    }


def _probe_paths() -> Schema:
    metrics = {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."}
    return {
        "/healthz": {"get": _get("healthz", "Whether the process is well", "Health")},
        "/readyz": {"get": _get("readyz", "Whether it may be asked, and what it serves", "Readiness")},
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Prometheus metrics",
                "security": [],
                "responses": {"200": metrics},
            }
        },
    }


def _post(name: str, summary: str, body: Schema, answer: str, *, extra_problems: tuple[int, ...] = ()) -> Schema:
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": _responses(answer, (*_PROBLEMS, *extra_problems)),
    }


def _get(name: str, summary: str, answer: str, *, problems: tuple[int, ...] = ()) -> Schema:
    operation: Schema = {"operationId": name, "summary": summary, "responses": _responses(answer, problems)}
    # Of a probe, 503 has the same shape as 200.
    operation["responses"]["503"] = operation["responses"]["200"]
    return operation if 401 in problems else {**operation, "security": []}


def _responses(answer: str, problems: tuple[int, ...]) -> Schema:
    responses: Schema = {"200": {"description": "Done.", "content": _json(answer)}}
    for status in problems:
        responses[str(status)] = {"description": _PROBLEMS.get(status, "No such model."), "content": _json("Error")}
    return responses


def _json(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _body(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _record(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _schemas() -> Schema:
    text: Schema = {"type": "string"}
    integer: Schema = {"type": "integer"}
    boolean: Schema = {"type": "boolean"}
    hit = {**_record(passage_id=text, score={"type": "number"})}
    hit["properties"].update(title=text, text=text)
    ranking = _record(query=text, hits=_list(hit))
    embedding = _record(object={"const": "embedding"}, index=integer, embedding={"oneOf": [_FLOATS, text]})
    tensor = _record(name=text, datatype=text, shape=_list(integer))
    return {
        "Ranking": ranking,
        "Rankings": _record(results=_list(ranking)),
        "Embeddings": _record(
            object={"const": "list"},
            data=_list(embedding),
            model=text,
            usage=_record(prompt_tokens=integer, total_tokens=integer),
        ),
        "Models": _record(
            object={"const": "list"}, data=_list(_record(id=text, object={"const": "model"}, owned_by=text))
        ),
        "ServerMetadata": _record(name=text, version=text, extensions=_list(text)),
        "Live": _record(live=boolean),
        "Ready": _record(ready=boolean),
        "ModelReady": _record(name=text, ready=boolean),
        "ModelMetadata": _record(
            name=text, versions=_list(text), platform=text, inputs=_list(tensor), outputs=_list(tensor)
        ),
        "Inference": _record(
            model_name=text,
            model_version=text,
            outputs=_list(_record(name=text, datatype=text, shape=_list(integer), data=_FLOATS)),
        ),
        "Health": _record(alive=boolean, problem=text),
        "Readiness": _record(
            ready=boolean, problem=text, version=text, encoder=text, passages=integer, dimension=integer
        ),
        "Error": _record(error={"oneOf": [text, _record(message=text, type=text, code=integer)]}),
    }

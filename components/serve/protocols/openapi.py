"""The OpenAPI document of the server, made from the table of operations and the structures that check and answer."""

from __future__ import annotations

import re
from typing import Any

from components.serve.config import ServeConfig
from components.serve.protocols.answers import ErrorAnswer
from components.serve.protocols.bodies import Body, Limits
from components.serve.protocols.decoding import Schema, schemas_of
from components.serve.protocols.models import model_names
from components.serve.protocols.operations import OPERATIONS, Operation

DOCUMENT_VERSION = "1.2"

_PROBLEMS = {
    400: "The request is wrong; the message names the field.",
    401: "No valid API key.",
    404: "No such model or version.",
    408: "The body did not come in time.",
    413: "Too long, too many or too large; the message names the limit.",
    415: "The body's content encoding is none that this server reads.",
    429: "The queue is full; retry-after says when to come back.",
    500: "The server failed, or the encoder gave a vector with numbers that are not finite.",
    503: "Overloaded or not ready.",
}


def document(config: ServeConfig, limits: Limits) -> Schema:
    """The document of a server with these settings."""
    paths: Schema = {}
    for operation in OPERATIONS:
        paths[operation.path] = {operation.method.lower(): _operation(operation, config.model_name)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Retriever",
            "version": DOCUMENT_VERSION,
            "description": "Dense, lexical and hybrid retrieval. An answer comes from one release of encoder and "
            "index, named in the header retriever-version; retriever-truncated-texts says how many texts were cut.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": _schemas(limits),
        },
        "security": [{"bearer": []}, {"header": []}] if config.api_keys_path else [],
    }


def _schemas(limits: Limits) -> Schema:
    bodies = [operation.body for operation in OPERATIONS if operation.body]
    answers = [operation.answer for operation in OPERATIONS if operation.answer is not str]
    return {
        **schemas_of([*answers, ErrorAnswer], limits),
        **{name: _with_nulls(schema) for name, schema in schemas_of(bodies, limits).items()},
    }


def _with_nulls(schema: Schema) -> Schema:
    """Lets every optional field of a request be null, which is the same as leaving it out."""
    required = schema.get("required", ())
    properties = {
        name: part if name in required or _takes_null(part) else {"anyOf": [part, {"type": "null"}]}
        for name, part in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _takes_null(schema: Schema) -> bool:
    return {"type": "null"} in schema.get("anyOf", ()) or None in schema.get("enum", ())


def _operation(operation: Operation, model_name: str) -> Schema:
    described: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    names = re.findall(r"\{(\w+)\}", operation.path)
    if names:
        described["parameters"] = [_path_parameter(name, model_name) for name in names]
    if operation.body:
        content = {"application/json": {"schema": _reference(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.is_open:
        described["security"] = []
    return described


def _path_parameter(name: str, model_name: str) -> Schema:
    schema: Schema = {"type": "string"}
    if name == "model":
        schema["enum"] = list(model_names(model_name))
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _responses(operation: Operation) -> Schema:
    if operation.answer is str:
        return {"200": {"description": "Done.", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    done = {"description": "Done.", "content": {"application/json": {"schema": _reference(operation.answer)}}}
    statuses = [] if operation.is_open else [401]
    if operation.body:
        statuses = [status for status in _PROBLEMS if status != 404]
    if "{model}" in operation.path:
        statuses.append(404)
    error = {"application/json": {"schema": _reference(ErrorAnswer)}}
    responses = {str(status): {"description": _PROBLEMS[status], "content": error} for status in sorted(statuses)}
    return {"200": done, **responses, **({"503": done} if operation.is_probe else {})}


def _reference(described: type[Body] | Any) -> Schema:  # noqa: ANN401 - a TypedDict has no common type
    return {"$ref": f"#/components/schemas/{described.__name__}"}

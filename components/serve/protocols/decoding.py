"""Bytes of a body -> the structure it must be; whatever is wrong is named with its field, its value and what would do.

A field that is null is the same as a field that was left out: many clients send every field they know. What a message
says would do is read from the schema of that very field, so that message and OpenAPI document cannot disagree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Generic, NoReturn, TypeVar

import msgspec
from starlette.exceptions import HTTPException

from components.serve.protocols.bodies import Limits

Schema = dict[str, Any]
Path = tuple[str | int, ...]
BodyType = TypeVar("BodyType", bound=msgspec.Struct)

_SHOWN_CHARACTERS = 60
_TEMPLATE = "#/components/schemas/{name}"
_NOUNS = {
    "boolean": ("true or false", "true or false"),
    "integer": ("an integer", "integers"),
    "string": ("a text", "texts"),
    "object": ("an object", "objects"),
}
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def schemas_of(types: Sequence[Any], limits: Limits) -> dict[str, Schema]:
    """The JSON schemas of structures by name, with the server's own limits."""
    _, schemas = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
    numbers = asdict(limits)
    return {name: _with_limits(schema, numbers) for name, schema in schemas.items()}


def _with_limits(schema: Any, numbers: Mapping[str, int]) -> Any:  # noqa: ANN401 - any part of a schema
    if isinstance(schema, list):
        return [_with_limits(part, numbers) for part in schema]
    if not isinstance(schema, dict):
        return schema
    bounds = {key: numbers[schema[key]] for key in ("maxItems", "maximum") if schema.get(key) in numbers}
    kept = {key: part for key, part in schema.items() if key != "title" or not isinstance(part, str)}
    if "description" in kept and isinstance(kept["description"], str):
        kept["description"] = kept["description"].partition("\n")[0]  # of a docstring the sentence
    return {key: _with_limits(part, numbers) for key, part in kept.items()} | bounds


class Decoder(Generic[BodyType]):
    """Decodes and checks one kind of body."""

    def __init__(self, body_type: type[BodyType], limits: Limits) -> None:
        self._type, self._decoder = body_type, msgspec.json.Decoder(body_type)
        self._schemas = schemas_of([body_type], limits)

    def decode(self, body: bytes) -> BodyType:
        """The checked structure of a body.

        Raises:
            HTTPException: 400 that names the field, or 413 where a list is longer than the server takes.
        """
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError:
            return self._without_nulls(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(error) from error

    def _without_nulls(self, body: bytes) -> BodyType:
        """Tries again with null fields left out: to look for them beforehand would cost more than the decoding."""
        try:
            values = _without_nulls(msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(error) from error
        try:
            return msgspec.convert(values, self._type)
        except msgspec.ValidationError as error:
            self._explain(error, values)

    def check_most(self, path: Path, number: int, most: int, what: str) -> None:
        """Refuses more values in a list than the server takes of them."""
        if number > most:
            raise HTTPException(
                413, f"{_shown_path(path)}: {number} {what}, this server takes {most} a request; send several requests"
            )

    def refuse(self, path: Path, value: object) -> NoReturn:
        """Refuses a field's value, saying what would do."""
        schema = self._schema_at(path)
        remedy = f". {schema['description']}" if "description" in schema else ""
        where = _shown_path(path)
        raise HTTPException(400, f"{where}: {shown(value)} is not {self._expected(schema)}{remedy}")

    def _explain(self, error: msgspec.ValidationError, values: object) -> NoReturn:
        message, _, dotted = str(error).partition(" - at `$")
        path: Path = tuple(name or int(number) for name, number in _STEP.findall(dotted))
        named = re.search(r"(missing required|contains unknown) field `(.*)`", message)
        if not path and not named:
            raise HTTPException(400, f"the body is not a JSON object but {shown(values)}") from error
        if named is None:
            self.refuse(path, _value_at(values, path))
        schema = self._schema_at(path)
        if named[1] == "contains unknown":
            known = ", ".join(schema["properties"])
            raise HTTPException(400, f"unknown field {named[2]!r}; known are {known}") from error
        path = (*path, named[2])
        raise HTTPException(
            400, f"{_shown_path(path)}: missing; send {self._expected(self._schema_at(path))}"
        ) from error

    def _schema_at(self, path: Path) -> Schema:
        schema = self._resolved(self._schemas[self._type.__name__])
        for step in path:
            options = [self._resolved(option) for option in schema.get("anyOf", [schema])]
            schema = next(
                self._resolved(option["items"] if isinstance(step, int) else option["properties"][step])
                for option in options
                if ("items" if isinstance(step, int) else "properties") in option
            )
        return schema

    def _resolved(self, schema: Schema) -> Schema:
        if "allOf" in schema:  # msgspec's way to put a default or description beside a reference
            (schema,) = schema["allOf"]
        return self._schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema

    def _expected(self, schema: Schema, *, plural: bool = False) -> str:
        schema = self._resolved(schema)
        if "anyOf" in schema:
            options = [option for option in schema["anyOf"] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(self._expected(option, plural=plural) for option in options))
        choices = [choice for choice in schema.get("enum", ()) if choice is not None]
        if choices:
            return f"one of {', '.join(choices)}" if len(choices) > 1 else f'"{choices[0]}"'
        if schema["type"] != "array":
            return _expected_scalar(schema, plural)
        if schema.get("minItems") == schema.get("maxItems") == 1:
            return f"a list of one: {self._expected(schema['items'])}"
        not_empty = " that is not empty" if schema.get("minItems") and not plural else ""
        return f"{'lists' if plural else 'a list'} of {self._expected(schema['items'], plural=True)}{not_empty}"


def _expected_scalar(schema: Schema, plural: bool) -> str:
    bounds = ""
    if "maximum" in schema:
        bounds = f" from {schema['minimum']} to {schema['maximum']}"
    elif "minimum" in schema:
        bounds = f" of at least {schema['minimum']}"
    one, many = _NOUNS[schema["type"]]
    return (many if plural else one) + bounds


def check_texts(field: str, texts: Sequence[str]) -> None:
    """Refuses a text that is empty or white space alone; `field` is that of the list."""
    for position, text in enumerate(texts):
        if not text or text.isspace():
            raise HTTPException(400, f"{field}[{position}]: the text is empty")


def check_text(field: str, text: str) -> None:
    """Refuses a text that is empty or white space alone."""
    if not text or text.isspace():
        raise HTTPException(400, f"{field}: the text is empty")


def _not_json(error: Exception) -> HTTPException:
    return HTTPException(400, f"the body is not JSON: {error}")


def shown(value: object) -> str:
    """A value as JSON, as much of it as a message bears."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))  # orjson knows no integer beyond 64 bits
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _shown_path(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _value_at(values: Any, path: Path) -> object:  # noqa: ANN401 - whatever JSON holds
    for step in path:
        values = values[step]
    return values


def _without_nulls(values: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(values, dict):
        return {name: _without_nulls(value) for name, value in values.items() if value is not None}
    return [_without_nulls(value) for value in values] if isinstance(values, list) else values

"""What the server answers: typed dictionaries, which are the OpenAPI document too, written as JSON by orjson."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import orjson
from msgspec import Meta
from starlette.responses import Response

from components.serve.protocols.bodies import InputType
from components.shared.fusion.tuned import Mode

# In the document a vector is a list of numbers; the server hands a numpy array over, which orjson writes as one.
Floats = Annotated[Any, Meta(extra_json_schema={"type": "array", "items": {"type": "number"}})]
FloatsOrBase64 = Annotated[
    Any, Meta(extra_json_schema={"oneOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]})
]


class ProvenanceAnswer(TypedDict):
    """Where a passage was cut from; characters are counted from 0 in the decoded file.

    `record` names the record of a file that holds many, whose text is then what is counted in; `page` is that of a PDF,
    and there the text of all pages with a form feed between two is counted in.
    """

    file: str
    headings: list[str]
    start: int
    end: int
    record: NotRequired[str]
    page: NotRequired[int]


class HitAnswer(TypedDict):
    """One passage that was found; its provenance is there where it was cut from a document."""

    passage_id: str
    score: float
    title: NotRequired[str]
    text: NotRequired[str]
    provenance: NotRequired[ProvenanceAnswer]


class RankingAnswer(TypedDict):
    """The hits of one query, best first."""

    query: str
    mode: Mode
    hits: list[HitAnswer]


class RankingsAnswer(TypedDict):
    """The rankings of several queries, in their order."""

    results: list[RankingAnswer]


class EmbeddingAnswer(TypedDict):
    """The vector of one text."""

    object: Literal["embedding"]
    index: int
    embedding: FloatsOrBase64


class UsageAnswer(TypedDict):
    """Tokens that were encoded, special tokens and prefixes included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(TypedDict):
    """The vectors of all texts; `model` is the name that was used, so it ends in -query or -passage."""

    object: Literal["list"]
    data: list[EmbeddingAnswer]
    model: str
    usage: UsageAnswer


class ModelAnswer(TypedDict):
    """One name of the encoder, and what a text that is sent to this name is taken for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    input_type: InputType
    max_tokens: int
    dimension: int
    dimensions: list[int]
    encoder: str
    description: str


class ModelsAnswer(TypedDict):
    """All names of the encoder."""

    object: Literal["list"]
    data: list[ModelAnswer]


class ServerMetadataAnswer(TypedDict):
    """The Open Inference Protocol's description of the server."""

    name: str
    version: str
    extensions: list[str]


class LiveAnswer(TypedDict):
    """Whether the process is well."""

    live: bool


class ReadyAnswer(TypedDict):
    """Whether requests should be sent here."""

    ready: bool


class ModelReadyAnswer(TypedDict):
    """Whether a model can be asked."""

    name: str
    ready: bool


class TensorMetadata(TypedDict):
    """One tensor of a model; -1 in the shape is any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadataAnswer(TypedDict):
    """The Open Inference Protocol's description of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfiguredTensor(TypedDict):
    """One tensor in Triton's model configuration."""

    name: str
    data_type: str
    dims: list[int]


class ModelParameter(TypedDict):
    """A fact of a model as Triton writes it."""

    string_value: str


class ModelConfigAnswer(TypedDict):
    """The part of Triton's model configuration that its clients read."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]
    parameters: dict[str, ModelParameter]


class OutputTensor(TypedDict):
    """The vectors as a tensor; of a binary answer `data` follows the JSON and the parameters say how long it is."""

    name: str
    datatype: str
    shape: list[int]
    data: NotRequired[Floats]
    parameters: NotRequired[dict[str, int]]


class InferAnswer(TypedDict):
    """The answer to an inference request; `model_name` ends in -query or -passage."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    outputs: list[OutputTensor]


class HealthAnswer(TypedDict):
    """What /healthz says; `problem` is empty where there is none."""

    alive: bool
    problem: str


class FusionAnswer(TypedDict):
    """How hybrid search fuses: BM25's weight from 0 to 1, and what says so."""

    method: str
    weight: float
    depth: int
    reason: str


class ReadinessAnswer(TypedDict):
    """What /readyz says, and what is served; `synthetic` where an LLM wrote queries of its dataset."""

    ready: bool
    problem: str
    version: str
    encoder: str
    passages: int
    dimension: int
    modes: list[Mode]
    default_mode: Mode
    fusion: FusionAnswer
    synthetic: bool


class ProblemAnswer(TypedDict):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    code: int


class ErrorAnswer(TypedDict):
    """A refusal or a fault; below /v2 the error is its message alone, as the Open Inference Protocol says."""

    error: ProblemAnswer | str


class JSONResponse(Response):
    """JSON by orjson, which writes numpy arrays without a detour through lists."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Bytes of the body."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def error_response(path: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An ErrorAnswer in the shape of the protocol to which the path belongs."""
    kind = "server_error" if status >= 500 else _KINDS.get(status, "invalid_request_error")
    problem: ProblemAnswer = {"message": message, "type": kind, "code": status}
    answer: ErrorAnswer = {"error": message if path.startswith("/v2") else problem}
    return JSONResponse(answer, status, headers)


_KINDS = {401: "authentication_error", 429: "rate_limit_error"}

"""The bodies of requests: a field's type, default and description stand here and nowhere else.

They make the check, the message of a refusal, and the OpenAPI document.

msgspec decodes and checks a body in one pass. Against checks by hand after orjson, a /search body takes 0.6 instead of
8 microseconds, and 32 passages of 450 characters for /v1/embeddings take 28 instead of 39 (`bench_bodies.py`).

A bound that is a setting of the server stands in `extra_json_schema` by the name of its field in `Limits`: the document
shows the number, and `decoding` refuses what lies beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from components.shared.fusion.tuned import Mode

InputType = Literal["query", "passage"]
EncodingFormat = Literal["float", "base64"]

# The pattern is of the document only, `decoding.check_texts` keeps it: msgspec would run a regular expression for each
# text, and 32 passages would take 100 microseconds instead of 22.
Text = Annotated[
    str, Meta(description="A text; white space alone is none.", extra_json_schema={"minLength": 1, "pattern": r"\S"})
]
Texts = Annotated[list[Text], Meta(min_length=1, extra_json_schema={"maxItems": "max_texts"})]
TokenId = Annotated[int, Meta(ge=0)]
PassageIds = Annotated[tuple[str, ...], Meta(min_length=1, extra_json_schema={"maxItems": "max_filter_ids"})]
Truncate = Annotated[
    bool,
    Meta(
        description="Cut texts that are too long instead of refusing them with 413; the response header "
        "retriever-truncated-texts says how many were cut."
    ),
]
WantedInputType = Annotated[
    InputType | None,
    Meta(description="Which prefix and length the texts get. Left out: what the model's name says, else query."),
]


@dataclass(frozen=True)
class Limits:
    """What a request may ask for; a field's name is what `extra_json_schema` refers to."""

    max_texts: int
    max_depth: int
    max_filter_ids: int


class SearchFields(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What every search may say beside its queries."""

    depth: Annotated[int, Meta(ge=1, description="Hits of each query.", extra_json_schema={"maximum": "max_depth"})] = (
        10
    )
    mode: Annotated[
        Mode | None,
        Meta(
            description="dense ranks by the encoder's vectors, bm25 by shared words, hybrid by both; left out: the "
            "default_mode of /readyz. A score is an inner product, BM25's sum, or the fused score (of minmax 0 to 1, "
            "where the best of this query lie): only scores of one query and one mode compare. bm25 and hybrid need a "
            "server with a dataset."
        ),
    ] = None
    include_text: Annotated[
        bool,
        Meta(description="Title and text of each hit, where a dataset is served, and its provenance where it has one."),
    ] = True
    truncate: Truncate = False
    passage_ids: Annotated[
        PassageIds | None,
        Meta(description="Only these passages, each scored, whatever the index skips; left out: all passages."),
    ] = None
    exclude_passage_ids: Annotated[
        PassageIds | None, Meta(description="All passages but these; left out: none is excluded.")
    ] = None


class SearchBody(SearchFields, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The body of /search."""

    query: Text


class SearchBatchBody(SearchFields, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The body of /search/batch; the other fields hold for all queries."""

    queries: Texts


class EmbeddingsBody(Struct, kw_only=True, frozen=True):
    """The body of /v1/embeddings; further fields that clients of OpenAI send, such as `user`, are ignored."""

    input: Annotated[
        Text
        | Annotated[
            list[Text | TokenId | Annotated[list[TokenId], Meta(min_length=1)]],
            Meta(min_length=1, extra_json_schema={"maxItems": "max_texts"}),
        ],
        Meta(description="A text or a list of texts; with tokens_of the token ids of a text, or a list of such lists."),
    ]
    model: Annotated[
        str,
        Meta(description="A name of /v1/models. The bare name means queries; the answer's model says which was used."),
    ] = ""
    encoding_format: EncodingFormat = "float"
    dimensions: Annotated[
        int | None,
        Meta(
            description="Length of the vectors: the encoder's own dimension, or one of the smaller ones that it "
            "declares (`dimensions` of /v1/models); cut vectors are scaled again where the encoder scales."
        ),
    ] = None
    input_type: WantedInputType = None
    truncate: Truncate = False
    tokens_of: Annotated[
        str,
        Meta(
            description="Whose token ids input holds: the encoder's digest or the release's version, both in /readyz. "
            "Ids are encoded as they are, so prefix and special tokens must be among them."
        ),
    ] = ""


class TensorParameters(Struct, kw_only=True, frozen=True):
    """The parameters of an input tensor; others, such as MLServer's content_type, are ignored."""

    binary_data_size: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Bytes of this tensor behind the JSON; then `data` is left out."),
    ] = None
    shared_memory_region: Annotated[
        str | None, Meta(description="Refused: this server reads tensors from the request only.")
    ] = None


class InputTensor(Struct, kw_only=True, frozen=True):
    """The one input tensor: texts, flat or nested as its shape says."""

    name: Literal["text"]
    datatype: Literal["BYTES"]
    shape: Annotated[list[int], Meta(min_length=1, max_length=2, description="[n] or [n, 1] for n texts.")]
    data: (
        Annotated[
            list[Text | Annotated[list[Text], Meta(min_length=1, max_length=1)]],
            Meta(min_length=1, extra_json_schema={"maxItems": "max_texts"}),
        ]
        | None
    ) = None
    parameters: TensorParameters = TensorParameters()


class OutputParameters(Struct, kw_only=True, frozen=True):
    """The parameters of a requested output."""

    binary_data: Annotated[bool | None, Meta(description="Whether its bytes follow the JSON.")] = None
    classification: Annotated[int | None, Meta(description="Refused: vectors have no classes.")] = None
    shared_memory_region: Annotated[
        str | None, Meta(description="Refused: this server sends tensors in the answer only.")
    ] = None


class WantedOutput(Struct, kw_only=True, frozen=True):
    """An output that the client asks for; there is one."""

    name: Literal["embedding"]
    parameters: OutputParameters = OutputParameters()


class InferParameters(Struct, kw_only=True, frozen=True):
    """The parameters of an inference request; others, such as priority, are ignored."""

    input_type: WantedInputType = None
    truncate: Truncate = False
    binary_data_output: Annotated[bool, Meta(description="Whether the bytes of outputs follow the JSON.")] = False


class InferBody(Struct, kw_only=True, frozen=True):
    """The body of /v2/models/{model}/infer.

    Source: Open Inference Protocol version 2, REST, and Triton's extension for binary tensor data.
    """

    inputs: Annotated[list[InputTensor], Meta(min_length=1, max_length=1)]
    id: Annotated[str, Meta(description="Given back in the answer.")] = ""
    outputs: list[WantedOutput] = []
    parameters: InferParameters = InferParameters()


Body = SearchBody | SearchBatchBody | EmbeddingsBody | InferBody

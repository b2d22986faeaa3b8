"""OpenAI's embeddings and models, for clients that were written for them."""

from __future__ import annotations

import base64

import numpy as np
from jaxtyping import Float32
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from components.serve import answering
from components.serve.protocols.answers import (
    EmbeddingAnswer,
    EmbeddingsAnswer,
    JSONResponse,
    ModelAnswer,
    ModelsAnswer,
)
from components.serve.protocols.bodies import EmbeddingsBody, InputType
from components.serve.protocols.decoding import Decoder, check_text, check_texts
from components.serve.protocols.models import check_model, chosen_input_type, model_names
from components.serve.release import Release, Vectors
from components.serve.service import Service

_TOKENS_OF_WHOM = (
    "input: token ids mean nothing without their vocabulary, and that of OpenAI's models is not this encoder's; send "
    "text. langchain_openai does with OpenAIEmbeddings(check_embedding_ctx_length=False), other clients by their "
    'option not to tokenise. Ids of this encoder\'s own tokenizer are taken with "tokens_of": "{digest}"'
)


class OpenAIProtocol:
    """Answers /v1/embeddings and /v1/models."""

    def __init__(self, service: Service) -> None:
        self._service, self._limits = service, service.limits
        self._decoder = Decoder(EmbeddingsBody, self._limits)

    async def embeddings(self, request: Request) -> Response:
        """The vectors of all texts, and the model's name that says whether they were taken for queries or passages."""
        wanted = self._decoder.decode(await answering.body_of(self._service, request))
        name = self._service.config.model_name
        input_type = chosen_input_type(name, wanted.model or name, wanted.input_type)
        with self._service.release.used() as release:
            _check_dimensions(wanted.dimensions, release)
            token_ids = await self._token_ids(request, release, wanted, input_type)
            vectors = await answering.limited(self._service, request, release.encode(token_ids))
            if wanted.dimensions:
                vectors = release.cut(vectors, wanted.dimensions)
            num_tokens = sum(map(len, token_ids))
            answer: EmbeddingsAnswer = {
                "object": "list",
                "data": _data(vectors, wanted.encoding_format == "base64"),
                "model": f"{name}-{input_type}",
                "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
            }
            return JSONResponse(answer, headers=answering.answer_headers(request, release))

    async def _token_ids(
        self, request: Request, release: Release, wanted: EmbeddingsBody, input_type: InputType
    ) -> list[list[int]]:
        given = wanted.input
        if isinstance(given, str):
            check_text("input", given)
        values = [given] if isinstance(given, str) else given
        texts = [value for value in values if isinstance(value, str)]
        if not texts:
            return self._given_token_ids(request, release, wanted, input_type)
        if len(texts) < len(values):
            raise HTTPException(400, "input: texts and token ids are mixed; send texts")
        if wanted.tokens_of:
            raise HTTPException(400, "tokens_of: input holds text; leave the field out, or send token ids")
        self._decoder.check_most(("input",), len(texts), self._limits.max_texts, "texts")
        check_texts("input", texts)
        return await answering.tokenized(self._service, request, release, texts, input_type, truncate=wanted.truncate)

    def _given_token_ids(
        self, request: Request, release: Release, wanted: EmbeddingsBody, input_type: InputType
    ) -> list[list[int]]:
        digest = release.encoder.digest
        if not wanted.tokens_of:
            raise HTTPException(400, _TOKENS_OF_WHOM.format(digest=digest))
        if wanted.tokens_of not in (digest, release.version):
            raise HTTPException(
                400, f"tokens_of: {wanted.tokens_of!r} is neither this encoder {digest} nor release {release.version}"
            )
        token_ids = [value for value in wanted.input if isinstance(value, list)]
        if not token_ids:
            token_ids = [[value for value in wanted.input if isinstance(value, int)]]
        elif len(token_ids) < len(wanted.input):
            raise HTTPException(400, "input: token ids and lists of them are mixed; send a list for each text")
        self._decoder.check_most(("input",), len(token_ids), self._limits.max_texts, "texts")
        _check_vocabulary(token_ids, release.encoder.num_token_ids)
        remedy = f"of a {input_type}; cut it before its last special token: the server cuts texts only"
        answering.check_lengths(token_ids, release.max_tokens(input_type), remedy)
        self._service.metrics.count_texts(input_type, texts=len(token_ids), truncated=0)
        answering.check_size(self._service, request, release, token_ids)
        return token_ids

    async def models(self, _: Request) -> Response:
        """All names of the encoder."""
        names = model_names(self._service.config.model_name)
        answer: ModelsAnswer = {"object": "list", "data": [self._model(name) for name in names]}
        return JSONResponse(answer)

    async def model(self, request: Request) -> Response:
        """One name of the encoder."""
        check_model(self._service.config.model_name, request.path_params["model"])
        return JSONResponse(self._model(request.path_params["model"]))

    def _model(self, name: str) -> ModelAnswer:
        release, bare = self._service.release, self._service.config.model_name
        input_type = model_names(bare)[name]
        prefix = release.prefix(input_type)
        same = f"; the same as {name}-query, unless input_type says passage" if name == bare else ""
        return {
            "id": name,
            "object": "model",
            "created": self._service.started,
            "owned_by": "retriever",
            "input_type": input_type,
            "max_tokens": release.max_tokens(input_type),
            "dimension": release.encoder.dimension,
            "dimensions": list(release.dimensions),
            "encoder": release.encoder.digest,
            "description": f"Texts are taken for a {input_type}, with the prefix {prefix!r}{same}.",
        }


def _check_dimensions(dimensions: int | None, release: Release) -> None:
    """Vectors are cut where the encoder declares it: others would be found nowhere near what they mean."""
    offered = release.dimensions
    if dimensions is None or dimensions in offered:
        return
    remedy = (
        "ask for one of these"
        if len(offered) > 1
        else "leave the field out, or train an encoder that may be cut (encoder.matryoshka)"
    )
    raise HTTPException(400, f"dimensions: {dimensions}, but this encoder has {', '.join(map(str, offered))}; {remedy}")


def _data(vectors: Vectors, as_base64: bool) -> list[EmbeddingAnswer]:
    embeddings = map(_base64, vectors) if as_base64 else vectors
    return [
        {"object": "embedding", "index": index, "embedding": embedding} for index, embedding in enumerate(embeddings)
    ]


def _base64(vector: Float32[np.ndarray, " dimension"]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _check_vocabulary(token_ids: list[list[int]], num_token_ids: int) -> None:
    for position, ids in enumerate(token_ids):
        if max(ids) >= num_token_ids:
            raise HTTPException(
                400,
                f"input[{position}]: token id {max(ids)} is none of this encoder's, which end at {num_token_ids - 1}",
            )

"""The Open Inference Protocol, version 2, over REST, with what Triton's clients ask for beyond it."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from components.serve import answering
from components.serve.protocols import tensors
from components.serve.protocols.answers import (
    InferAnswer,
    JSONResponse,
    LiveAnswer,
    ModelConfigAnswer,
    ModelMetadataAnswer,
    ModelReadyAnswer,
    ReadyAnswer,
    ServerMetadataAnswer,
)
from components.serve.protocols.bodies import InferBody
from components.serve.protocols.decoding import Decoder
from components.serve.protocols.models import check_model, chosen_input_type
from components.serve.protocols.openapi import DOCUMENT_VERSION
from components.serve.release import Release, Vectors
from components.serve.service import Service


class InferenceProtocol:
    """Answers what lies below /v2."""

    def __init__(self, service: Service) -> None:
        self._service, self._limits = service, service.limits
        self._decoder = Decoder(InferBody, self._limits)

    async def infer(self, request: Request) -> Response:
        """The vectors of the texts in the one input tensor."""
        self._check_path(request)
        body = await answering.body_of(self._service, request)
        head, behind = tensors.split_body(body, request.headers.get(tensors.JSON_LENGTH_HEADER))
        wanted = self._decoder.decode(head)
        (tensor,) = wanted.inputs
        texts, binary = tensors.texts_of(tensor, behind), tensors.wants_binary(wanted)
        self._decoder.check_most(("inputs", 0, "data"), len(texts), self._limits.max_texts, "texts")
        name, parameters = self._service.config.model_name, wanted.parameters
        input_type = chosen_input_type(name, request.path_params["model"], parameters.input_type)
        with self._service.release.used() as release:
            token_ids = await answering.tokenized(
                self._service, request, release, texts, input_type, truncate=parameters.truncate
            )
            vectors = await answering.limited(self._service, request, release.encode(token_ids))
            answer = _infer_answer(f"{name}-{input_type}", release, wanted.id, vectors)
            return tensors.infer_response(answer, binary=binary, headers=answering.answer_headers(request, release))

    async def server_metadata(self, _: Request) -> Response:
        """Name, version and extensions of the server."""
        answer: ServerMetadataAnswer = {
            "name": "retriever",
            "version": DOCUMENT_VERSION,
            "extensions": ["binary_tensor_data", "model_configuration"],
        }
        return JSONResponse(answer)

    async def live(self, _: Request) -> Response:
        """Whether the process is well."""
        problem = self._service.not_alive()
        answer: LiveAnswer = {"live": not problem}
        return JSONResponse(answer, 503 if problem else 200)

    async def ready(self, _: Request) -> Response:
        """Whether requests may be sent."""
        problem = self._service.not_ready()
        answer: ReadyAnswer = {"ready": not problem}
        return JSONResponse(answer, 503 if problem else 200)

    async def model_metadata(self, request: Request) -> Response:
        """Names, types and shapes of the tensors."""
        self._check_path(request)
        release = self._service.release
        answer: ModelMetadataAnswer = {
            "name": request.path_params["model"],
            "versions": [release.version],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, release.encoder.dimension]}],
        }
        return JSONResponse(answer)

    async def model_ready(self, request: Request) -> Response:
        """Whether the encoder may be asked."""
        self._check_path(request)
        problem = self._service.not_ready()
        answer: ModelReadyAnswer = {"name": request.path_params["model"], "ready": not problem}
        return JSONResponse(answer, 503 if problem else 200)

    async def model_config(self, request: Request) -> Response:
        """The part of Triton's model configuration that says what the tensors are; no batch dimension is added."""
        self._check_path(request)
        ranker = self._service.release.ranker
        answer: ModelConfigAnswer = {
            "name": request.path_params["model"],
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "max_batch_size": 0,
            "input": [{"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}],
            "output": [
                {
                    "name": "embedding",
                    "data_type": "TYPE_FP32",
                    "dims": [-1, self._service.release.encoder.dimension],
                }
            ],
            "parameters": {
                "default_search_mode": {"string_value": ranker.default_mode},
                "search_modes": {"string_value": " ".join(ranker.modes)},
                "bm25_weight": {"string_value": f"{ranker.fusion.weight:g}"},
            },
        }
        return JSONResponse(answer)

    def _check_path(self, request: Request) -> None:
        check_model(self._service.config.model_name, request.path_params["model"])
        version, served = request.path_params.get("version"), self._service.release.version
        if version not in (None, served):
            raise HTTPException(
                404, f"no such version: {version!r}; version {served} is served, leave it out of the path"
            )


def _infer_answer(model_name: str, release: Release, request_id: str, vectors: Vectors) -> InferAnswer:
    answer: InferAnswer = {"model_name": model_name, "model_version": release.version, "outputs": []}
    if request_id:
        answer["id"] = request_id
    answer["outputs"].append(
        {"name": "embedding", "datatype": "FP32", "shape": list(vectors.shape), "data": vectors.reshape(-1)}
    )
    return answer

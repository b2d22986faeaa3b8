"""The one table of what can be asked: the routes, the labels of the metrics and the OpenAPI document come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.serve.protocols import answers, bodies

MODEL = "/v2/models/{model}"
VERSION = f"{MODEL}/versions/{{version}}"


@dataclass(frozen=True)
class Operation:
    """One path; `is_open` needs no API key, `is_probe` answers 503 in the shape of its 200."""

    name: str
    path: str
    summary: str
    answer: Any
    body: type[bodies.Body] | None = None
    is_open: bool = False
    is_probe: bool = False

    @property
    def method(self) -> str:
        """POST where there is a body."""
        return "POST" if self.body else "GET"


def _of_model(name: str, verb: str, summary: str, answer: object, **settings: Any) -> list[Operation]:  # noqa: ANN401
    """The same operation for a model and for a version of it."""
    return [
        Operation(name, f"{MODEL}{verb}", summary, answer, **settings),
        Operation(f"{name}OfVersion", f"{VERSION}{verb}", f"{summary} (one release)", answer, **settings),
    ]


OPERATIONS = (
    Operation("search", "/search", "The best passages of a query", answers.RankingAnswer, bodies.SearchBody),
    Operation(
        "searchBatch",
        "/search/batch",
        "The best passages of each query",
        answers.RankingsAnswer,
        bodies.SearchBatchBody,
    ),
    Operation(
        "embeddings",
        "/v1/embeddings",
        "Vectors of texts, as of OpenAI",
        answers.EmbeddingsAnswer,
        bodies.EmbeddingsBody,
    ),
    Operation("models", "/v1/models", "The names of the encoder, as of OpenAI", answers.ModelsAnswer),
    Operation("model", "/v1/models/{model}", "One name of the encoder, as of OpenAI", answers.ModelAnswer),
    *_of_model(
        "infer",
        "/infer",
        "Vectors of texts, as of the Open Inference Protocol; tensors may also follow the JSON as bytes, whose length "
        "the header Inference-Header-Content-Length gives",
        answers.InferAnswer,
        body=bodies.InferBody,
    ),
    *_of_model("modelMetadata", "", "Tensors of the encoder", answers.ModelMetadataAnswer),
    *_of_model("modelReady", "/ready", "Whether the encoder may be asked", answers.ModelReadyAnswer, is_probe=True),
    *_of_model("modelConfig", "/config", "Configuration of the encoder, as of Triton", answers.ModelConfigAnswer),
    Operation(
        "serverMetadata",
        "/v2",
        "The server, as of the Open Inference Protocol",
        answers.ServerMetadataAnswer,
        is_open=True,
    ),
    Operation(
        "live", "/v2/health/live", "Whether the process is well", answers.LiveAnswer, is_open=True, is_probe=True
    ),
    Operation(
        "ready", "/v2/health/ready", "Whether requests may be sent", answers.ReadyAnswer, is_open=True, is_probe=True
    ),
    Operation("healthz", "/healthz", "Whether the process is well", answers.HealthAnswer, is_open=True, is_probe=True),
    Operation(
        "readyz",
        "/readyz",
        "Whether requests may be sent, and what is served",
        answers.ReadinessAnswer,
        is_open=True,
        is_probe=True,
    ),
    Operation("metrics", "/metrics", "Metrics in Prometheus' text format", str, is_open=True),
)

"""Settings of flows that are compiled for Kubeflow, and the compiler with a deployment that a cluster asks for."""

from pathlib import Path
from typing import Any

from pipelines import kubeflow
from pipelines.cluster.deployment import Deployment
from pipelines.resources import LOCAL_PROFILES
from pipelines.settings import complete

GIVEN: dict[str, dict[str, Any]] = {
    "prepare": {"collection_uri": "s3://bucket/collection"},
    "encoder": {"checkpoint_uri": "base"},
    "annotate": {"llm_uri": "llm", "num_shards": 3, "engine": "endpoint", "endpoint_uri": "http://vllm.llm:8000/v1"},
}
DEPLOYMENT = Deployment(
    name="squad",
    state_uri="s3://bucket/squad/state",
    env=("AWS_ENDPOINT_URL=http://s3.storage:9000", "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"),
    secrets=("s3:AWS_ACCESS_KEY_ID=accesskey,AWS_SECRET_ACCESS_KEY=secretkey",),
    volumes=("corpus:/corpus",),
    queue="retriever",
)
FLOWS: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "sharded": {"annotate": {"llm_uri": "llm", "num_shards": 3}, "index": {"num_shards": 2}},
    "miner": {"miner": {"checkpoint_uri": "retriever"}},
    "asked": {"ask": {"llm_uri": "llm", "num_queries": 50}},
    "answered": {"annotate": {"llm_uri": "llm", "num_shards": 3}, "answer": {"llm_uri": "llm", "num_queries": 50}},
    "collected": {"collect": {"num_queries": 30}, "judge": {"llm_uri": "judge", "num_shards": 2}},
    "promoted": {"promote": {"store": "s3://bucket/releases"}},
}
# Flows that a cluster alone can run.
CONTINUED: dict[str, dict[str, Any]] = {
    "promote": {"store": "s3://bucket/releases"},
    "start": {"pointer_uri": "s3://bucket/releases/pointer.json"},
}


def compile_to(path: Path, values: dict[str, dict[str, Any]], profile: str) -> None:
    kubeflow.compile_to(path, complete(values), profile, Deployment() if profile in LOCAL_PROFILES else DEPLOYMENT)

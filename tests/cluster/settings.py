"""The tiny corpus's run: settings under which it takes minutes on two cores, and can be killed in the middle."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import write_collection
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.tiny_encoder import words_of

_STAGE = {
    "name": "llm",
    "labels": "llm",
    "loss": "disj_infonce",
    "positives": "all",
    "epochs": 40,
    "learning_rate": 1e-3,
}


def values(base_uri: str, endpoint_uri: str) -> dict[str, object]:
    """Setting -> value, for a base model in a bucket and an LLM behind an address of the cluster."""
    return {
        "encoder.checkpoint_uri": base_uri,
        "encoder.query_tokens": 16,
        "encoder.passage_tokens": 48,
        "mine.num_bm25": 2,
        "mine.num_dense": 1,
        "mine.depth": 10,
        # A base that has learnt nothing scores everything alike, which the audit would refuse.
        "mine.max_suspected_share": 1.0,
        "annotate.engine": "endpoint",
        "annotate.endpoint_uri": endpoint_uri,
        "annotate.llm_uri": "llm",
        "annotate.method": "utility_selection",
        # One call after another: then it is known what was lost with the pod.
        "annotate.num_in_flight": 1,
        "train.curriculum": json.dumps([_STAGE]),
        "train.batch_queries": 3,
        "train.group_size": 3,
        "train.dev_queries": 6,
        "train.dev_passages": 30,
        "train.checkpoint_steps": 2,
        "index.min_recall": 1.0,
        "evaluate.depth": 10,
        "evaluate.measures": "nDCG@10 RR@10",
        "evaluate.num_resamples": 100,
    }


def write_corpus(folder: Path) -> Path:
    return write_collection(folder)


def write_base(folder: Path, corpus: Path) -> Path:
    """A base model that knows the corpus's words, and a Hugging Face folder like any other."""
    files = [(corpus / f"{name}.jsonl").read_text() for name in ("corpus", "queries")]
    texts = [json.loads(line) for content in files for line in content.splitlines()]
    words = words_of([f"{text.get('title', '')} {text['text']}" for text in texts])
    return write_tiny_checkpoint(folder, [*words, "query", ":"])

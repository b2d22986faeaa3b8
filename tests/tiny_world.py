"""All that a run of the flow reads, small: a collection, a base model and an LLM that know its words."""

import json
from pathlib import Path

from tests.conftest import write_collection
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.tiny_encoder import words_of
from tests.tiny_llm import write_tiny_llm


def write_tiny_world(folder: Path) -> Path:
    """Writes collection/, base/ and llm/; the collection."""
    collection = write_collection(folder / "collection")
    rows = [
        json.loads(line)
        for name in ("corpus.jsonl", "queries.jsonl")
        for line in (collection / name).read_text().splitlines()
    ]
    words = words_of([f"{row.get('title', '')} {row['text']}" for row in rows] + ["query: Question:"])
    write_tiny_checkpoint(folder / "base", words, num_layers=0)
    write_tiny_llm(folder / "llm", words)
    return collection

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


def grow_collection(collection: Path) -> None:
    """One passage is new, one has another text, one is gone, and one train query is new."""
    corpus = [json.loads(line) for line in (collection / "corpus.jsonl").read_text().splitlines()]
    rows = "".join(path.read_text() for path in (collection / "qrels").glob("*.tsv"))
    judged = {line.split("\t")[1] for line in rows.splitlines()}
    loose = [row for row in corpus if row["_id"] not in judged]
    corpus.remove(loose[0])
    loose[1]["text"] += " It was written once more."
    corpus.append({"_id": "new", "title": "volcano season", "text": "This page is about the season of a volcano."})
    (collection / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    with (collection / "queries.jsonl").open("a") as queries, (collection / "qrels" / "train.tsv").open("a") as qrels:
        queries.write(json.dumps({"_id": "q-new", "text": "what is known about the season of a volcano"}) + "\n")
        qrels.write("q-new\tnew\t1\n")

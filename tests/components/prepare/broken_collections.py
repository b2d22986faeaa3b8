"""A good collection, what it takes to break it, and the message of a collection that is refused."""

import re
from pathlib import Path

import pytest

from components.prepare.config import PrepareConfig
from components.prepare.job import prepare

HEADER = b"query-id\tcorpus-id\tscore\n"
GOOD = {
    "corpus.jsonl": (
        b'{"_id": "p1", "title": "", "text": "lava"}\n'
        b'{"_id": "p2", "title": "ice", "text": ""}\n'
        b'{"_id": 3, "text": "bread"}\n'
    ),
    "queries.jsonl": (
        b'{"_id": "q1", "text": "what burns"}\n'
        b'{"_id": "q2", "text": "what is cold"}\n'
        b'{"_id": "q3", "text": "what rises"}\n'
    ),
    "qrels/train.tsv": HEADER + b"q1\tp1\t1\n",
    "qrels/dev.tsv": HEADER + b"q2\tp2\t1\n",
    "qrels/test.tsv": HEADER + b"q3\t3\t2\n",
}
MENDING = "mend the lines, or leave them out (--on-problem skip)"
CORPUS, QUERIES, TRAIN = "corpus.jsonl", "queries.jsonl", "qrels/train.tsv"


def write_files(folder: Path, changes: dict[str, bytes | None]) -> Path:
    for name, content in {**GOOD, **changes}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content)
    return folder


def refusal(tmp_path: Path, collection: Path, **settings: object) -> str:
    """The message of a refused collection, of which nothing was written."""
    with pytest.raises(ValueError, match=re.escape(str(collection))) as refused:
        prepare(PrepareConfig(collection_uri=str(collection), output_uri=str(tmp_path / "out" / "dataset"), **settings))
    assert not (tmp_path / "out").exists()
    return str(refused.value)

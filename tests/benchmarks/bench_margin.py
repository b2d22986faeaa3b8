"""What the relative margin removes: planted false negatives on real data, and what it costs in true negatives.

    python tests/benchmarks/bench_margin.py                     # RETRIEVER_DATA or ../shared/data

For each train query of climate-fever-sent with several useful passages one stays known. Two kinds of false negatives
are then planted among the candidates: an edited copy of the known positive (every seventh word dropped), and the other
useful passages, whose labels are hidden. True negatives are those that people judged not enough. Candidates are the
first 100 by BM25 and by the packaged encoder.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RETRIEVER_LOG", "json")

from components.mine.config import MineConfig  # noqa: E402
from components.mine.pools import make_pool  # noqa: E402
from components.shared import checkpoint  # noqa: E402
from components.shared.bm25 import BM25  # noqa: E402
from components.shared.dataset import Dataset, DatasetWriter  # noqa: E402
from components.shared.encoding.batches import length_sorted_batches  # noqa: E402
from components.shared.records import Hit, Passage  # noqa: E402
from pipelines.packaged import find_encoder  # noqa: E402

DEPTH = 100
MARGINS = (0.8, 0.85, 0.9, 0.95, 1.0)
Grades = dict[str, dict[str, int]]


def read_grades(path: Path) -> Grades:
    grades: Grades = {}
    for line in path.read_text().splitlines()[1:]:
        query_id, passage_id, grade = line.split("\t")
        grades.setdefault(query_id, {})[passage_id] = int(grade)
    return grades


def edited(text: str) -> str:
    return " ".join(word for place, word in enumerate(text.split(), start=1) if place % 7)


@torch.inference_mode()
def encoded(model: checkpoint.DualEncoder, token_ids: list[list[int]]) -> np.ndarray:
    vectors = torch.empty(len(token_ids), model.dimension)
    for rows in length_sorted_batches([len(ids) for ids in token_ids], batch_tokens=512):
        vectors[rows] = model(*model.pad([token_ids[row] for row in rows]))
    return vectors.numpy()


def main(data: Path, num_queries: int) -> None:
    folder = data / "climate-fever-sent"
    several = {
        q: its
        for q, its in read_grades(folder / "qrels" / "train.tsv").items()
        if sum(grade > 0 for grade in its.values()) > 1
    }
    chosen = sorted(random.Random(5).sample(sorted(several), min(num_queries, len(several))))
    grades = {query_id: several[query_id] for query_id in chosen}
    corpus = {
        row["_id"]: Passage(row["_id"], row["title"], row["text"])
        for row in map(json.loads, (folder / "corpus.jsonl").open())
    }
    asked = {row["_id"]: row["text"] for row in map(json.loads, (folder / "queries.jsonl").open())}
    known = {query_id: next(p for p, grade in its.items() if grade > 0) for query_id, its in grades.items()}
    judged = {p for its in grades.values() for p in its}
    others = random.Random(6).sample(sorted(set(corpus) - judged), 600)
    copies = [Passage(f"copy-{q}", corpus[p].title, edited(corpus[p].text)) for q, p in known.items()]
    passages = [*(corpus[p] for p in sorted(judged) + others), *copies]

    with tempfile.TemporaryDirectory() as name:
        writer = DatasetWriter(Path(name))
        for passage in passages:
            writer.add_passage(passage)
        writer.finish([], [])
        lexical = BM25(Dataset(Path(name))).search([asked[query_id] for query_id in chosen], DEPTH)
    model = checkpoint.load(str(find_encoder()), query_tokens=64, passage_tokens=96).eval()
    queries = encoded(model, model.tokenize_queries([asked[query_id] for query_id in chosen]))
    vectors = encoded(model, model.tokenize_passages([passage.full_text for passage in passages]))

    print(f"{len(chosen)} queries, {len(passages)} passages")
    print(
        "| margin | edited copies removed | hidden useful passages removed | judged not useful lost | all others "
        "lost | negatives left |"
    )
    print("|---|---|---|---|---|---|")
    for margin in MARGINS:
        print(row_of(margin, chosen, grades, known, passages, lexical, queries @ vectors.T), flush=True)


def row_of(
    margin: float,
    chosen: list[str],
    grades: Grades,
    known: dict[str, str],
    passages: list[Passage],
    lexical: list[list[Hit]],
    scores: np.ndarray,
) -> str:
    uris = {"dataset_uri": "", "encoder_uri": "", "index_uri": "", "output_uri": ""}
    config = MineConfig(**uris, num_bm25=DEPTH, num_dense=DEPTH, depth=DEPTH, relative_margin=margin)
    found: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    left = 0
    for query_id, its_lexical, its_scores in zip(chosen, lexical, scores, strict=True):
        by_id = {passage.passage_id: float(score) for passage, score in zip(passages, its_scores, strict=True)}
        dense = [Hit(p, by_id[p]) for p in sorted(by_id, key=lambda p: -by_id[p])[:DEPTH]]
        mined = make_pool(
            query_id, bm25=its_lexical, dense=dense, positives=[known[query_id]], config=config, scores=by_id
        )
        candidates = {hit.passage_id for hit in (*its_lexical, *dense)} - {known[query_id]}
        kept = set(mined.pool.passage_ids)
        left += len(kept & candidates)
        for passage_id in candidates:
            grade = grades[query_id].get(passage_id)
            kind = (
                "copy"
                if passage_id == f"copy-{query_id}"
                else "other"
                if grade is None
                else "hidden"
                if grade > 0
                else "judged"
            )
            found[kind] += 1
            lost[kind] += passage_id not in kept
    shares = [
        f"{lost[kind] / max(1, found[kind]):.3f} of {found[kind]}" for kind in ("copy", "hidden", "judged", "other")
    ]
    return f"| {margin:g} | {' | '.join(shares)} | {left / len(chosen):.1f} a query |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("RETRIEVER_DATA", ROOT.parent / "shared" / "data"))
    )
    parser.add_argument("--queries", type=int, default=150)
    given = parser.parse_args()
    main(given.data, given.queries)

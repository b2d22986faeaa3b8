"""What every cell starts from: small collections of real data, the packaged encoder, and mined pools.

A collection is drawn once; dataset, encoder, index and pools come from the real jobs, each skipped where it is
unchanged. Of the useful passages of a train query one is labelled, as in MS MARCO, and the others are unlabelled:
`USEFUL_NAME` keeps them for counting alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
from torch import nn

from components.export.config import ExportConfig
from components.index.config import IndexConfig
from components.mine.config import MineConfig
from components.prepare.config import PrepareConfig
from components.shared import checkpoint
from components.shared.checkpoint import DualEncoder
from components.shared.durable import storage
from components.shared.records import Passage
from pipelines.local import LocalStep, run_steps
from pipelines.packaged import find_encoder
from pipelines.study.config import StudyConfig

Grades = dict[str, dict[str, int]]

BACKBONE_NAME, USEFUL_NAME = "backbone", "useful.tsv"


def make_materials(config: StudyConfig) -> None:
    """The encoder, and a folder of each collection's name with its dataset and pools, in the work folder."""
    config.workdir.mkdir(parents=True, exist_ok=True)
    for name in config.collections:
        draw_collection(config.data / name, config.workdir / name / "collection", config)
    prune_encoder(config.workdir / BACKBONE_NAME, config)
    encoder = str(config.workdir / "base-encoder")
    export = ExportConfig(checkpoint_uri=str(config.workdir / BACKBONE_NAME), output_uri=encoder)
    steps = [LocalStep("export", "components.export", export)]
    for name in config.collections:
        steps += _steps_of(config.workdir / name, encoder, config)
    run_steps(steps)


def _steps_of(folder: Path, encoder: str, config: StudyConfig) -> list[LocalStep]:
    dataset, index, half = str(folder / "dataset"), str(folder / "base-index"), config.pool_negatives // 2
    mine = MineConfig(
        dataset_uri=dataset,
        encoder_uri=encoder,
        index_uri=index,
        output_uri=str(folder / "pools"),
        num_bm25=half,
        num_dense=half,
        num_evaluation_queries=0,
        # Unlabelled useful passages belong into the pools: on climate-fever-sent .54 of the negatives are suspected.
        max_suspected_share=1.0,
    )
    prepare = PrepareConfig(collection_uri=str(folder / "collection"), output_uri=dataset)
    return [
        LocalStep(f"prepare ({folder.name})", "components.prepare", prepare),
        LocalStep(
            f"index ({folder.name})",
            "components.index",
            IndexConfig(dataset_uri=dataset, encoder_uri=encoder, output_uri=index),
        ),
        LocalStep(f"mine ({folder.name})", "components.mine", mine),
    ]


def draw_collection(source: Path, target: Path, config: StudyConfig) -> None:
    """A smaller collection: some train and test queries, their judged passages and a draw of the others.

    Raises:
        FileNotFoundError: Where the source is not a collection in BEIR layout.
    """
    if target.is_dir():
        return
    draw = random.Random(config.data_seed)
    sizes = {"train": config.num_train_queries, "test": config.num_test_queries}
    judged = {split: _drawn(read_grades(source / "qrels" / f"{split}.tsv"), sizes[split], draw) for split in sizes}
    useful = {query_id: [p for p, grade in grades.items() if grade > 0] for query_id, grades in judged["train"].items()}
    labelled = {query_id: {draw.choice(sorted(passages)): 1} for query_id, passages in useful.items()}
    lines = {str(orjson.loads(line)["_id"]): line for line in (source / "corpus.jsonl").read_bytes().splitlines()}
    known = {p for grades in judged.values() for of_query in grades.values() for p in of_query}
    others = sorted(set(lines) - known)
    kept = known | set(draw.sample(others, max(0, min(config.num_passages - len(known), len(others)))))
    asked = {query_id for grades in judged.values() for query_id in grades}
    queries = [
        line for line in (source / "queries.jsonl").read_bytes().splitlines() if str(orjson.loads(line)["_id"]) in asked
    ]
    partial = target.with_name(f"{target.name}.partial")
    (partial / "qrels").mkdir(parents=True, exist_ok=True)
    (partial / "corpus.jsonl").write_bytes(b"".join(line + b"\n" for p, line in lines.items() if p in kept))
    (partial / "queries.jsonl").write_bytes(b"".join(line + b"\n" for line in queries))
    _write_grades(partial / "qrels" / "train.tsv", labelled)
    _write_grades(partial / "qrels" / "test.tsv", judged["test"])
    _write_grades(partial / USEFUL_NAME, {query_id: dict.fromkeys(p, 1) for query_id, p in useful.items()})
    partial.rename(target)


def _drawn(grades: Grades, count: int, draw: random.Random) -> Grades:
    """Grades of a seeded draw of the queries that have a useful passage."""
    able = sorted(query_id for query_id, judged in grades.items() if any(grade > 0 for grade in judged.values()))
    chosen = set(draw.sample(able, min(count, len(able))))
    return {query_id: judged for query_id, judged in grades.items() if query_id in chosen}


def prune_encoder(target: Path, config: StudyConfig) -> None:
    """The packaged encoder, all its layers, with the word pieces that the collections use, as a checkpoint.

    Every text keeps its vector. Half of the parameters are embeddings, most of them of words that never occur: the
    optimiser would spend a part of each step on them, and they learn nothing.
    """
    if target.is_dir():
        return
    model = checkpoint.load(str(find_encoder()), query_tokens=config.query_tokens, passage_tokens=config.passage_tokens)
    texts = [text for name in config.collections for text in _texts(config.workdir / name / "collection")]
    kept = _keep_word_pieces(model, {piece for ids in model.tokenize_passages(texts, max_tokens=512) for piece in ids})
    partial = target.with_name(f"{target.name}.partial")
    partial.mkdir(exist_ok=True)
    model.save(partial)
    tokenizer = orjson.loads((partial / "tokenizer.json").read_bytes())
    new_ids = {old: new for new, old in enumerate(kept)}
    tokenizer["model"]["vocab"] = {
        word: new_ids[old] for word, old in tokenizer["model"]["vocab"].items() if old in new_ids
    }
    (partial / "tokenizer.json").write_bytes(orjson.dumps(tokenizer))
    partial.rename(target)


def _keep_word_pieces(model: DualEncoder, used: set[int]) -> list[int]:
    """Cuts the embeddings down to the used word pieces; returns the old id of each new one."""
    # The special tokens keep their ids, because other files name them.
    kept = sorted(used | set(range(max(model.tokenizer.all_special_ids) + 1)))
    words = model.transformer.embeddings.word_embeddings
    words.weight = nn.Parameter(words.weight.detach()[kept].clone())
    words.num_embeddings = model.transformer.config.vocab_size = len(kept)
    return kept


def _texts(folder: Path) -> Iterator[str]:
    """What is ever encoded of a collection: passages as they are read, and queries."""
    for line in (folder / "corpus.jsonl").read_bytes().splitlines():
        row = orjson.loads(line)
        yield Passage("", str(row.get("title") or ""), str(row["text"])).full_text
    for line in (folder / "queries.jsonl").read_bytes().splitlines():
        yield str(orjson.loads(line)["text"])


def read_grades(path: Path) -> Grades:
    """Grades of a qrels file in BEIR layout."""
    grades: Grades = {}
    for line in path.read_text().splitlines()[1:]:
        query_id, passage_id, grade = line.split("\t")
        grades.setdefault(query_id, {})[passage_id] = int(grade)
    return grades


def _write_grades(path: Path, grades: Mapping[str, Mapping[str, int]]) -> None:
    rows = "".join(f"{query_id}\t{p}\t{grade}\n" for query_id, judged in grades.items() for p, grade in judged.items())
    storage.write_bytes(str(path), f"query-id\tcorpus-id\tscore\n{rows}".encode())

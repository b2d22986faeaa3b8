"""What every cell starts from: a small collection of real data, a cut of the packaged encoder, and mined pools.

The collection is drawn once; dataset, encoder, index, pools and the packaged LLM's annotations come from the real jobs,
each skipped where it is unchanged.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import orjson
from torch import nn

from components.annotate.config import AnnotateConfig
from components.export.config import ExportConfig
from components.index.config import IndexConfig
from components.mine.config import MineConfig
from components.prepare.config import PrepareConfig
from components.shared import checkpoint
from components.shared.checkpoint import DualEncoder
from components.shared.durable import storage
from components.shared.records import Passage
from pipelines.local import LocalStep, run_steps
from pipelines.packaged import find_encoder, find_llm
from pipelines.study.config import StudyConfig

Grades = dict[str, dict[str, int]]

# Passages that the packaged LLM reads a query beside the human positives, and words of each: a call takes half a second
# on one core.
_FEW_NEGATIVES, _LLM_WORDS = 4, 40
_KEPT_SPLITS = ("train", "test")


def make_materials(config: StudyConfig) -> None:
    """Everything but the packaged LLM's annotations, in folders of the work folder."""
    config.workdir.mkdir(parents=True, exist_ok=True)
    draw_collection(config.data / config.collection, config.workdir / "collection", config)
    cut_encoder(config.workdir / "backbone", config)

    def at(name: str) -> str:
        return str(config.workdir / name)

    index = IndexConfig(dataset_uri=at("dataset"), encoder_uri=at("base-encoder"), output_uri=at("base-index"))
    half, few = config.pool_negatives // 2, _FEW_NEGATIVES // 2
    pools = MineConfig(
        dataset_uri=at("dataset"),
        encoder_uri=at("base-encoder"),
        index_uri=at("base-index"),
        output_uri=at("pools"),
        num_bm25=half,
        num_dense=half,
        num_evaluation_queries=0,
        # The cut encoder scores nearly everything alike; the study's labels do not come from its scores.
        max_suspected_share=1.0,
    )
    pools_few = replace(
        pools, output_uri=at("pools-few"), num_bm25=few, num_dense=few, num_queries=config.num_few_queries
    )
    other = str(config.data / config.other_collection)
    steps = [
        LocalStep(
            "prepare", "components.prepare", PrepareConfig(collection_uri=at("collection"), output_uri=at("dataset"))
        ),
        LocalStep(
            "prepare (other)", "components.prepare", PrepareConfig(collection_uri=other, output_uri=at("other-dataset"))
        ),
        LocalStep(
            "export", "components.export", ExportConfig(checkpoint_uri=at("backbone"), output_uri=at("base-encoder"))
        ),
        LocalStep("index", "components.index", index),
        LocalStep("mine", "components.mine", pools),
        LocalStep("mine (few)", "components.mine", pools_few),
    ]
    run_steps(steps)


def annotate_few(config: StudyConfig) -> Path:
    """The packaged LLM's annotations of the few queries, by log P(query | passage)."""
    output = config.workdir / "annotations-llm"
    annotate = AnnotateConfig(
        dataset_uri=str(config.workdir / "dataset"),
        pools_uri=str(config.workdir / "pools-few"),
        output_uri=str(output),
        journal_uri=str(config.workdir / "journal"),
        llm_uri=str(find_llm()),
        engine="transformers",
        method="query_likelihood",
        passage_words=_LLM_WORDS,
    )
    run_steps([LocalStep("annotate (few)", "components.annotate", annotate)])
    return output


def draw_collection(source: Path, target: Path, config: StudyConfig) -> None:
    """A smaller collection: some train queries, all test queries, their judged passages and a draw of the others.

    Raises:
        FileNotFoundError: Where the source is not a collection in BEIR layout.
    """
    if target.is_dir():
        return
    draw = random.Random(config.data_seed)
    grades = {split: read_grades(source / "qrels" / f"{split}.tsv") for split in _KEPT_SPLITS}
    useful = sorted(
        query_id for query_id, judged in grades["train"].items() if any(grade > 0 for grade in judged.values())
    )
    chosen = set(draw.sample(useful, min(config.num_train_queries, len(useful))))
    grades["train"] = {query_id: judged for query_id, judged in grades["train"].items() if query_id in chosen}
    lines = {str(orjson.loads(line)["_id"]): line for line in (source / "corpus.jsonl").read_bytes().splitlines()}
    judged = {passage_id for split in _KEPT_SPLITS for judged in grades[split].values() for passage_id in judged}
    others = sorted(set(lines) - judged)
    kept = judged | set(draw.sample(others, max(0, min(config.num_passages - len(judged), len(others)))))
    asked = {query_id for split in _KEPT_SPLITS for query_id in grades[split]}
    queries = [
        line for line in (source / "queries.jsonl").read_bytes().splitlines() if str(orjson.loads(line)["_id"]) in asked
    ]
    partial = target.with_name(f"{target.name}.partial")
    (partial / "qrels").mkdir(parents=True, exist_ok=True)
    (partial / "corpus.jsonl").write_bytes(
        b"".join(line + b"\n" for passage_id, line in lines.items() if passage_id in kept)
    )
    (partial / "queries.jsonl").write_bytes(b"".join(line + b"\n" for line in queries))
    for split in _KEPT_SPLITS:
        _write_grades(partial / "qrels" / f"{split}.tsv", grades[split])
    partial.rename(target)


def cut_encoder(target: Path, config: StudyConfig) -> None:
    """The packaged encoder's first layers, with the word pieces that the two collections use, as a checkpoint.

    Four fifths of the parameters are embeddings, most of them of words that never occur: they cost half of a step and
    learn nothing.
    """
    if target.is_dir():
        return
    model = checkpoint.load(str(find_encoder()), query_tokens=config.query_tokens, passage_tokens=config.passage_tokens)
    model.transformer.encoder.layer = nn.ModuleList(list(model.transformer.encoder.layer)[: config.num_layers])
    model.transformer.config.num_hidden_layers = config.num_layers
    collections = (config.workdir / "collection", config.data / config.other_collection)
    texts = [text for folder in collections for text in _texts(folder)]
    kept = _keep_word_pieces(model, {piece for ids in model.tokenize_passages(texts) for piece in ids})
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

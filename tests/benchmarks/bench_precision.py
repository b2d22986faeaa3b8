"""bf16 against fp32, like for like: what training in it costs and what it makes; what an LLM says in it.

    python tests/benchmarks/bench_precision.py train [--collection scifact-mini] [--seeds 3] [--passage-tokens 96]
    python tests/benchmarks/bench_precision.py llm [--pools 24] [--rounds 2]

train: the packaged encoder, trained on all human labels of a collection once in each precision with each seed (same
order, same negatives), and nDCG@10 of the test queries by the weights that were saved, encoded in fp32; the difference
with its 95 % bootstrap interval over queries, of the mean over the seeds. Each training is kept, so a run that is ended
goes on. llm: annotate's own prompts (query_likelihood) over pools of a collection, by the packaged LLM in each
precision in turns: tokens a second, differences of log-likelihoods, and the labels that the default margins make of
them. Seconds are the processor's, because other work on the machine changes all others.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.annotate.config import AnnotateConfig
from components.annotate.judging.judge import judge
from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared import checkpoint
from components.shared.bm25 import BM25
from components.shared.calls.precision import differences
from components.shared.dataset import Dataset
from components.shared.encoding.engines import processor
from components.shared.engines.engine import Likelihood, Request
from components.shared.engines.transformers import TransformersEngine
from components.shared.manifest import read_manifest
from components.train.config import TrainConfig
from components.train.job import train
from components.train.labels.dev import ndcg
from pipelines.packaged import find_encoder, find_llm

_PRECISIONS = ("fp32", "bf16")
_CURRICULUM = "[{name: human, labels: human, human_share: 1.0, positives: one, epochs: 1, learning_rate: 3.0e-5}]"
_POOL = 8


def prepared(collection: str, folder: Path) -> Dataset:
    """The dataset of a collection of RETRIEVER_DATA, made once."""
    if not (folder / "dataset").exists():
        source = Path(os.environ["RETRIEVER_DATA"]) / collection
        prepare(PrepareConfig(collection_uri=str(source), output_uri=str(folder / "dataset")))
    return Dataset(folder / "dataset")


def compare_training(collection: str, *, seeds: int, lengths: dict[str, int], folder: Path) -> None:
    """Prints seconds of a step and nDCG@10 by precision, and the difference with its interval."""
    dataset = prepared(collection, folder)
    found: dict[str, list[np.ndarray]] = {name: [] for name in _PRECISIONS}
    untrained = per_query(checkpoint.load(str(find_encoder()), **lengths), dataset)
    print(f"{collection}, processor: {processor.described()}; untrained nDCG@10 {untrained.mean():.4f}", flush=True)
    for seed in range(seeds):
        for name in _PRECISIONS:
            start = time.process_time()
            output = trained(dataset, name, seed, lengths, folder)
            seconds = time.process_time() - start
            values = per_query(checkpoint.load(str(output)), dataset)
            found[name].append(values)
            steps = read_manifest(str(output)).metrics["num_steps"]
            print(
                f"  seed {seed} {name}: {steps} steps in {seconds:.0f} CPU s, nDCG@10 {values.mean():.4f}", flush=True
            )
    ours, theirs = (np.mean(found[name], axis=0) for name in reversed(_PRECISIONS))
    low, high = interval(ours - theirs)
    print(f"bf16 minus fp32: {np.mean(ours - theirs):+.4f} ({low:+.4f} to {high:+.4f}), {len(ours)} queries")


def trained(dataset: Dataset, precision: str, seed: int, lengths: dict[str, int], folder: Path) -> Path:
    """The checkpoint of one training; its last weights, so that no label of dev chooses."""
    output = folder / f"{precision}-{seed}"
    settings: dict[str, Any] = {
        "dataset_uri": str(dataset.folder),
        "checkpoint_uri": str(find_encoder()),
        "output_uri": str(output),
        "curriculum": _CURRICULUM,
        "batch_queries": 16,
        "group_size": 2,
        "loss_temperature": 0.05,
        "dev_queries": 0,
        "seed": seed,
        "precision": precision,
    }
    if not output.exists():
        train(TrainConfig(**settings, **lengths))
    return output


@torch.inference_mode()
def per_query(model: checkpoint.DualEncoder, dataset: Dataset) -> np.ndarray:
    """nDCG@10 of every test query over the whole corpus, in fp32."""
    model.eval()
    judged = dataset.qrels("test")
    queries = [query for query in dataset.queries("test") if query.query_id in judged]
    ids = [dataset.passage_id_at(row) for row in range(dataset.num_passages)]
    texts = [dataset.passage(passage_id).full_text for passage_id in ids]
    asked = encoded(model, model.tokenize_queries([query.text for query in queries]))
    best = (asked @ encoded(model, model.tokenize_passages(texts)).T).topk(10).indices.tolist()
    ranked = zip(queries, best, strict=True)
    return np.array([ndcg([ids[row] for row in rows], judged[query.query_id]) for query, rows in ranked])


def encoded(model: checkpoint.DualEncoder, token_ids: Sequence[list[int]]) -> torch.Tensor:
    """Vectors in batches of eight of similar length."""
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    vectors = torch.empty(len(order), model.dimension)
    for start in range(0, len(order), 8):
        rows = order[start : start + 8]
        vectors[rows] = model(*model.pad([token_ids[row] for row in rows]))
    return vectors


def interval(values: np.ndarray) -> tuple[float, float]:
    """Of the mean: 95 %, bootstrap over queries."""
    drawn = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def compare_llm(collection: str, *, pools: int, rounds: int, folder: Path) -> None:
    """Prints tokens a second, differences of log-likelihoods and the share of equal labels."""
    dataset = prepared(collection, folder)
    bm25 = BM25(dataset)
    queries = dataset.queries("train")[:pools]
    shown = [[hit.passage_id for hit in hits] for hits in bm25.search([query.text for query in queries], _POOL)]
    config = AnnotateConfig(
        dataset_uri="", pools_uri="", output_uri="", llm_uri="", engine="transformers", method="query_likelihood"
    )
    texts = [[" ".join(dataset.passage(p).full_text.split()[:60]) for p in passage_ids] for passage_ids in shown]
    engines = {
        name: TransformersEngine(str(find_llm()), batch_tokens=1024, precision=name)  # type: ignore[arg-type]
        for name in _PRECISIONS
    }
    rows: dict[str, list[Likelihood]] = {}
    labels: dict[str, list[str]] = {}
    rates: dict[str, list[float]] = {name: [] for name in _PRECISIONS}
    for number in range(rounds + 1):
        for name, engine in engines.items():
            start, rows[name], labels[name] = time.process_time(), [], []
            for query, passages in zip(queries, texts, strict=True):
                asking = judge(query, passages, config, can_constrain=True)
                (ask,) = next(asking)
                weighed = answered(engine, ask.requests)
                try:
                    asking.send([list(weighed)])
                except StopIteration as ended:
                    labels[name] += ended.value.labels
                rows[name] += weighed
            # The first round warms up.
            if number:
                rates[name].append(sum(row.prompt_tokens for row in rows[name]) / (time.process_time() - start))
    print(
        f"{collection}, {pools} pools of {_POOL}, processor: {processor.described()}, {torch.get_num_threads()} threads"
    )
    for name, of_rounds in rates.items():
        print(f"  {name}: {np.median(of_rounds):.0f} tokens of prompts a CPU second (rounds {np.round(of_rounds)})")
    token_nats, mean_nats = differences(*([row.logprobs for row in rows[name]] for name in _PRECISIONS))
    equal = np.mean([one == other for one, other in zip(labels["fp32"], labels["bf16"], strict=True)])
    positives = {name: {n for n, label in enumerate(of) if label == "positive"} for name, of in labels.items()}
    same = len(positives["fp32"] & positives["bf16"]) / len(positives["fp32"])
    print(f"  log-likelihoods differ by at most {token_nats:.3f} nats a token, {mean_nats:.4f} in a mean")
    print(f"  equal labels {equal:.1%} of {len(labels['fp32'])}; of the positives {same:.1%}")


def answered(engine: TransformersEngine, requests: Sequence[Request]) -> list[Likelihood]:
    """The likelihoods of requests, in their order."""
    for number, request in enumerate(requests):
        engine.submit(replace(request, key=str(number)))
    results: dict[str, Likelihood] = {}
    while batch := engine.collect():
        results |= {result.key: result for result in batch if isinstance(result, Likelihood)}
    return [results[str(number)] for number in range(len(requests))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("train", "llm"), nargs="?", default="llm")
    parser.add_argument("--collection", default="scifact-mini")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passage-tokens", type=int, default=96)
    parser.add_argument("--pools", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = flags.folder or Path(scratch)
        if flags.what == "train":
            lengths = {"query_tokens": 32, "passage_tokens": flags.passage_tokens}
            compare_training(flags.collection, seeds=flags.seeds, lengths=lengths, folder=place)
        else:
            compare_llm(flags.collection, pools=flags.pools, rounds=flags.rounds, folder=place)

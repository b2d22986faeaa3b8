"""Clicks and an LLM's labels on a real log: alone, mixed, one after the other, and weighed by frequency."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from components.shared import checkpoint
from components.shared.bm25 import BM25
from components.shared.clicks import read_clicks
from components.shared.dataset import Dataset
from components.train.config import TrainConfig
from components.train.labels.clicks import need_of
from components.train.labels.dev import DevSet, dev_set, measure_dev
from pipelines.study.measuring import TestSet
from pipelines.study.sources.config import SourcesConfig
from pipelines.study.sources.labelling import Pools, by_simulated_llm
from pipelines.study.sources.training import (
    BACKBONE,
    UNTRAINED,
    Cell,
    fit,
    make_backbone,
    make_dataset,
    stage,
)

RAW, WEIGHED, LLM = "clicks, raw", "clicks, propensities", "LLM"
MIXED, CLICKS_FIRST, LLM_FIRST, BY_FREQUENCY = "interleaved", "clicks, then LLM", "LLM, then clicks", "by frequency"
BM25_NAME = "BM25"
# Better, worse, as the issue expects them; the first two say what a source does at all.
CLAIMS = (
    (LLM, UNTRAINED),
    (WEIGHED, UNTRAINED),
    (WEIGHED, RAW),
    (LLM, WEIGHED),
    (MIXED, LLM),
    (CLICKS_FIRST, LLM),
    (LLM_FIRST, LLM),
    (BY_FREQUENCY, LLM),
    (BY_FREQUENCY, MIXED),
)
# Multiples of a session: the topics of the log have one to five.
_KAPPAS = (0.5, 2.0, 8.0)
TERCILES = ("rare", "middle", "frequent")


class ClicksStudy:
    """The materials of the study, and its cells."""

    def __init__(self, config: SourcesConfig) -> None:
        """Makes the dataset, the base encoder and the pools."""
        self._config = config
        collection = with_sessions(config.data / config.clicks_collection, config.folder / config.clicks_collection)
        self.dataset = make_dataset(config, collection)
        self._backbone = make_backbone(config)
        self._pools = shown_pools(self.dataset, num_hits=config.pool_passages)
        self.tests = TestSet(self.dataset, config.num_test_passages)

    def cells(self) -> list[Cell]:
        """Baselines, then seed after seed all arms."""
        name = self._config.clicks_collection
        planned = [Cell(BM25_NAME, name, 0, lambda: self._said(self.tests.measure_bm25()))]
        planned.append(Cell(UNTRAINED, name, 0, lambda: self._measured(checkpoint.load(str(self._backbone)), {})))
        for seed in range(1, self._config.num_seeds + 1):
            arms = arms_of(self._config)
            planned += [Cell(arm, name, seed, partial(self._train, stages, seed)) for arm, stages in arms.items()]
            planned.append(Cell(BY_FREQUENCY, name, seed, partial(self._by_frequency, seed)))
        return planned

    def _train(self, stages: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
        return self._measured(*self._fit(stages, seed))

    def _fit(self, stages: Sequence[Mapping[str, Any]], seed: int) -> tuple[checkpoint.DualEncoder, dict[str, Any]]:
        config, grades = self._config, self.dataset.qrels("train")
        labels = by_simulated_llm(self._pools, grades, precision=config.precision, recall=config.recall, seed=seed)
        return fit(config, self.dataset, labels, stages, seed=seed)

    def _by_frequency(self, seed: int) -> dict[str, Any]:
        """The kappa that is best on the dev topics, by the last weights of a training each."""
        dev, tried = self._dev_set(seed), {}
        for kappa in _KAPPAS:
            stages = [stage(self._config, "clicks_and_llm", blend="frequency", kappa=kappa)]
            model, metrics = self._fit(stages, seed)
            tried[kappa] = (measure_dev(model, dev), model, metrics)
        best = max(tried, key=lambda kappa: tried[kappa][0])
        _, model, metrics = tried[best]
        chosen = {"kappa": best, "dev_ndcg_10": {str(kappa): value for kappa, (value, _, _) in tried.items()}}
        return self._measured(model, metrics) | chosen

    def _dev_set(self, seed: int) -> DevSet:
        config = TrainConfig(
            dataset_uri="",
            annotations_uri="",
            output_uri="",
            checkpoint_uri=BACKBONE,
            dev_passages=self._config.num_test_passages,
            seed=seed,
        )
        return dev_set(self.dataset, {}, config)

    def _measured(self, model: checkpoint.DualEncoder, metrics: Mapping[str, Any]) -> dict[str, Any]:
        clicks = metrics.get("clicks") or {}
        said = {"propensities": clicks.get("propensities", [])[:10], "num_steps": metrics.get("num_steps", 0)}
        return self._said(self.tests.measure(model)) | said

    def _said(self, values: Mapping[str, float]) -> dict[str, Any]:
        return {"values": {self._config.clicks_collection: dict(values)}}


def arms_of(config: SourcesConfig) -> dict[str, list[dict[str, Any]]]:
    """The curricula; kappa's is made by trying."""
    clicks, llm = stage(config, "clicks"), stage(config, "llm")
    once = {"epochs": max(1, config.epochs // 2)}
    return {
        RAW: [{**clicks, "propensities": "none"}],
        WEIGHED: [clicks],
        LLM: [llm],
        MIXED: [stage(config, "clicks_and_llm", **once)],
        CLICKS_FIRST: [clicks | once, llm | once],
        LLM_FIRST: [llm | once, clicks | once],
    }


def with_sessions(source: Path, target: Path) -> Path:
    """The collection with the session of each query in its click log, where queries.jsonl says it."""
    if target.is_dir():
        return target
    partial_folder = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_dir():
            shutil.copytree(path, partial_folder / path.name, copy_function=shutil.copyfile)
        elif path.name != "clicks.tsv":
            shutil.copyfile(path, partial_folder / path.name)
    queries = [orjson.loads(line) for line in (source / "queries.jsonl").read_bytes().splitlines()]
    sessions = {str(query["_id"]): str(query.get("session", query["_id"])) for query in queries}
    header, *rows = (source / "clicks.tsv").read_text("utf-8").splitlines()
    lines = [f"session\t{header}", *(f"{sessions.get(row.split(chr(9))[0], '-')}\t{row}" for row in rows)]
    (partial_folder / "clicks.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    partial_folder.rename(target)
    return target


def shown_pools(dataset: Dataset, *, num_hits: int) -> Pools:
    """What the LLM judges: BM25's first hits of each train query, and what people were shown for it."""
    log = read_clicks(dataset.folder)
    assert log is not None, "the study is of a collection with clicks"
    shown: dict[str, list[str]] = {}
    for query, passage in zip(log.queries.tolist(), log.passages.tolist(), strict=True):
        shown.setdefault(log.query_ids[query], []).append(log.passage_ids[passage])
    judged = dataset.qrels("train")
    queries = [query for query in dataset.queries("train") if query.query_id in judged]
    hits = BM25(dataset).search([query.text for query in queries], num_hits)
    return {
        query.query_id: tuple(dict.fromkeys([*shown.get(query.query_id, ()), *(hit.passage_id for hit in of_query)]))
        for query, of_query in zip(queries, hits, strict=True)
    }


def frequency_of(dataset: Dataset) -> dict[str, int]:
    """Sessions of each query's topic in the whole log: what test queries are sorted by, and nothing is learnt from."""
    log = read_clicks(dataset.folder)
    assert log is not None, "the study is of a collection with clicks"
    needs = {query.query_id: need_of(query) for query in dataset.queries()}
    sessions: dict[str, set[int]] = {}
    for query, session in zip(log.queries.tolist(), log.sessions.tolist(), strict=True):
        sessions.setdefault(needs[log.query_ids[query]], set()).add(session)
    return {query_id: len(sessions.get(need, ())) for query_id, need in needs.items()}

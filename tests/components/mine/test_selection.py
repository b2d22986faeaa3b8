"""Which queries a budget is spent on: invariances of the scores, nested budgets, and the audit of a selection."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.mine.config import MineConfig
from components.mine.job import mine
from components.mine.selection import (
    SELECTORS,
    Candidate,
    Disagreement,
    deviation_of,
    in_order,
    uncertainty_of,
    z_scored,
)
from components.prepare.config import PrepareConfig
from components.shared.bm25 import BM25_NAME, build_bm25
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.manifest import artifact_writer, read_manifest
from components.shared.records import Passage, Pool, Query, read_records
from tests.tiny_encoder import words_of, write_tiny_encoder, write_tiny_index

scores = st.lists(st.integers(-1000, 1000), min_size=3, max_size=12, unique=True).map(
    lambda values: np.array(values, dtype=np.float64)
)


def test_the_deviation_by_hand() -> None:
    # z scores of (0, 0, 3) are -1/sqrt 2, -1/sqrt 2, sqrt 2; of (3, 0, 0) the same turned round: the differences are
    # 3/sqrt 2, 0, 3/sqrt 2.
    base, finetuned = np.array([0.0, 0.0, 3.0]), np.array([3.0, 0.0, 0.0])
    assert deviation_of(base, finetuned, 2) == pytest.approx(3 / math.sqrt(2))
    assert deviation_of(base, finetuned, 20) == pytest.approx(2 / math.sqrt(2))


def test_the_uncertainty_by_hand() -> None:
    z = z_scored(np.array([1.0, 2.0]))
    high = math.exp(z[1]) / (math.exp(z[0]) + math.exp(z[1]))
    entropy = -(high * math.log(high) + (1 - high) * math.log(1 - high))
    assert uncertainty_of(np.array([1.0, 2.0])) == pytest.approx(entropy / math.log(2))
    assert uncertainty_of(np.array([5.0, 5.0, 5.0])) == pytest.approx(1.0)


@given(scores, st.floats(0.01, 100), st.floats(-100, 100), st.floats(0.01, 100), st.floats(-100, 100))
def test_no_scale_and_no_offset_of_an_encoder_matters(
    base: np.ndarray, scale: float, offset: float, other_scale: float, other_offset: float
) -> None:
    finetuned = base[::-1] ** 3
    moved = deviation_of(scale * base + offset, other_scale * finetuned + other_offset, 2)
    assert moved == pytest.approx(deviation_of(base, finetuned, 2), abs=1e-7)
    assert uncertainty_of(other_scale * finetuned + other_offset) == pytest.approx(uncertainty_of(finetuned), abs=1e-7)


QUERIES = [Query(f"q{number}", f"about {'xyz'[number % 3]}{number} {chr(97 + number) * 5}") for number in range(12)]


def order(select: str, deviations: list[float], **settings: Any) -> list[Candidate]:
    said = {query.query_id: Disagreement(value, 1.0) for query, value in zip(QUERIES, deviations, strict=True)}
    chosen = {"num_warmup": 0, "near_duplicate": 1.0, "seed": 3, **settings}
    return list(in_order(QUERIES, SELECTORS[select], said, **chosen))


def test_the_highest_deviation_comes_first_behind_the_warm_up() -> None:
    found = order("deviation", [float(number) for number in range(12)], num_warmup=2)
    assert [candidate.outcome for candidate in found] == ["warm-up"] * 2 + ["selected"] * 10
    numbers = [int(candidate.query_id[1:]) for candidate in found[2:]]
    assert numbers == sorted(numbers, reverse=True)
    assert [c.query_id for c in found[:2]] == [c.query_id for c in order("random", [0.0] * 12)[:2]]


def test_encoders_that_agree_give_the_seeded_random_order() -> None:
    random = [candidate.query_id for candidate in order("random", [0.0] * 12)]
    assert [candidate.query_id for candidate in order("deviation", [0.0] * 12)] == random
    assert [candidate.query_id for candidate in order("random", [0.0] * 12, seed=4)] != random


def test_a_near_duplicate_is_left_out_and_says_of_what() -> None:
    queries = [
        Query("a", "Why is the sky blue today?"),
        Query("b", "why is  the sky blue today ?"),
        Query("c", "天空为什么是蓝色的"),
        Query("d", "天空为什么是蓝色的?"),
        Query("e", "Why is the sea blue tonight?"),
    ]
    found = list(in_order(queries, SELECTORS["random"], {}, num_warmup=0, near_duplicate=0.7, seed=1))
    by_id = {candidate.query_id: candidate for candidate in found}
    left_out = {candidate.query_id: candidate.similar_to for candidate in found if candidate.similar_to}
    assert [sorted((query_id, other)) for query_id, other in sorted(left_out.items())] in (
        [["a", "b"], ["c", "d"]],
        [["c", "d"], ["a", "b"]],
    )
    assert by_id["e"].outcome == "selected"


NOUNS = ("cat", "dog", "owl", "fox", "bee", "ant", "cow", "pig")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 passages, 32 train queries in their words, two encoders with their indexes."""
    folder = tmp_path_factory.mktemp("selection")
    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(folder / "dataset"))) as artifact:
        writer = DatasetWriter(artifact.path, language="en")
        texts = [f"{noun} eats {food} daily" for noun in NOUNS for food in ("fish", "mice", "corn", "hay")]
        for number, text in enumerate(texts):
            writer.add_passage(Passage(f"p{number}", "", text))
        # Two queries that differ in a mark only.
        asked = [*(f"{text} number {number}" for number, text in enumerate(texts)), f"{texts[3]} number 3?"]
        writer.finish([(Query(f"q{number}", text), "train") for number, text in enumerate(asked)], [])
        build_bm25(Dataset(artifact.path), artifact.path / BM25_NAME, scratch=artifact.scratch / BM25_NAME)
    for name, seed in (("encoder", 1), ("tuned", 2)):
        encoder = write_tiny_encoder(folder / name, seed, words_of(texts))
        write_tiny_index(folder / f"{name}-index", dataset=folder / "dataset", encoder=encoder)
    return folder


def selected(inputs: Path, name: str, **settings: Any) -> list[str]:
    """Query ids of the pools, in order."""
    chosen = {
        "dataset_uri": str(inputs / "dataset"),
        "encoder_uri": str(inputs / "encoder"),
        "index_uri": str(inputs / "encoder-index"),
        "finetuned_encoder_uri": str(inputs / "tuned"),
        "finetuned_index_uri": str(inputs / "tuned-index"),
        "output_uri": str(inputs / name),
        "num_bm25": 2,
        "num_dense": 2,
        "selection_depth": 4,
        "max_suspected_share": 1.0,
        **settings,
    }
    mine(MineConfig(**chosen))
    return [pool.query_id for pool in read_records(inputs / name / "pools.jsonl", Pool)]


def test_a_larger_budget_contains_the_smaller_and_every_candidate_is_accounted_for(inputs: Path) -> None:
    large = selected(inputs, "large", select="deviation", budget_queries=12, warmup_queries=3)
    assert selected(inputs, "small", select="deviation", budget_queries=6, warmup_queries=3) == large[:6]
    lines = [orjson.loads(line) for line in (inputs / "large" / "selection.jsonl").read_bytes().splitlines()]
    assert len(lines) == 33
    assert [line["query_id"] for line in lines if line["tokens"] is not None] == large
    taken = [line["deviation"] for line in lines if line["outcome"] == "selected"]
    beyond = [line["deviation"] for line in lines if line["outcome"] == "beyond_budget"]
    assert min(taken) >= max(beyond)
    metrics = read_manifest(str(inputs / "large")).metrics
    assert (metrics["selection"]["num_candidates"], metrics["selection"]["num_selected"]) == (33, 12)
    assert metrics["num_queries_left_out"] == 21


def test_equal_encoders_select_as_chance_does(inputs: Path) -> None:
    same = {"finetuned_encoder_uri": str(inputs / "encoder"), "finetuned_index_uri": str(inputs / "encoder-index")}
    by_chance = selected(inputs, "chance", select="random", budget_queries=8)
    assert selected(inputs, "same", select="deviation", budget_queries=8, **same) == by_chance
    assert selected(inputs, "other", select="deviation", budget_queries=8) != by_chance


def test_a_budget_of_tokens_ends_the_selection_before_it_is_exceeded(inputs: Path) -> None:
    whole = selected(inputs, "whole", select="random", budget_queries=33)
    lines = (orjson.loads(line) for line in (inputs / "whole" / "selection.jsonl").read_bytes().splitlines())
    tokens = {line["query_id"]: line["tokens"] for line in lines}
    budget = sum(tokens[query_id] for query_id in whole[:5])
    assert selected(inputs, "exact", select="random", budget_tokens=budget) == whole[:5]
    assert selected(inputs, "short", select="random", budget_tokens=budget - 1) == whole[:4]
    # One of the two queries that differ in a mark is left out, whatever the budget.
    assert len(whole) == 32


def test_the_warm_up_round_is_the_beginning_of_every_selection(inputs: Path) -> None:
    first = selected(inputs, "first", select="deviation", budget_queries=9, warmup_queries=3, round="warm-up")
    later = selected(inputs, "later", select="uncertainty", budget_queries=9, warmup_queries=3)
    assert later[:3] == first
    assert len(later) == 9
    assert read_manifest(str(inputs / "first")).metrics["selection"]["num_selected"] == 3


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"select": "random"}, "select random: selects within a budget"),
        ({"select": "all", "budget_queries": 3}, "select all: has no budget"),
        ({"select": "random", "budget_queries": 3, "warmup_queries": 4}, "warmup_queries 4: is above budget_queries 3"),
        ({"select": "deviation", "budget_queries": 3}, "select deviation: compares with a fine-tuned encoder"),
    ],
)
def test_a_selection_that_cannot_work_is_refused(settings: dict[str, Any], problem: str) -> None:
    places = {f"{name}_uri": name for name in ("dataset", "encoder", "index", "output")}
    with pytest.raises(ValueError, match=problem):
        MineConfig(**places, **settings)

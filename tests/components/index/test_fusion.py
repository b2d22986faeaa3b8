"""BM25's weight in hybrid search: chosen on judged dev queries where there are any, and said where it comes from."""

from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import nDCG

from components.index.config import IndexConfig
from components.index.fusion import WEIGHTS, best_weight, choose, dev_grades, ndcg
from components.index.job import build_index
from components.prepare.config import PrepareConfig
from components.shared.bm25 import build_bm25
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.fusion.tuned import DEFAULT_WEIGHT, Fusion, read_fusion
from components.shared.manifest import artifact_writer, read_manifest
from components.shared.records import Hit, Passage, Qrel, Query
from tests.tiny_encoder import write_tiny_encoder

NAMES = [f"name{number}" for number in range(24)]
TOPICS = ["volcano", "glacier", "violin", "bakery"]


def write_world(folder: Path, *, encoder_knows: list[str], queries: dict[str, str], relevant: dict[str, str]) -> Path:
    """Twenty-four passages, each with a name and a topic of its own; the encoder reads some of the words only."""
    with artifact_writer("prepare", PrepareConfig(collection_uri="c", output_uri=str(folder / "dataset"))) as artifact:
        writer = DatasetWriter(artifact.path, language="en")
        for number, name in enumerate(NAMES):
            writer.add_passage(Passage(name, "", f"{name} {TOPICS[number % 4]}"))
        rows = [(Qrel(query_id, passage_id, 1), "dev") for query_id, passage_id in relevant.items()]
        writer.finish([(Query(query_id, text), "dev") for query_id, text in queries.items()], rows)
        build_bm25(Dataset(artifact.path), artifact.path / "bm25", scratch=artifact.scratch / "bm25")
    write_tiny_encoder(folder / "encoder", 0, encoder_knows)
    return folder


def config_of(world: Path, name: str = "index", **settings: Any) -> IndexConfig:
    uris = {"dataset_uri": world / "dataset", "encoder_uri": world / "encoder", "output_uri": world / name}
    return IndexConfig(**{key: str(uri) for key, uri in uris.items()}, **settings)


def tuned(world: Path, name: str = "index", **settings: Any) -> Fusion:
    build_index(config_of(world, name, **settings))
    return read_fusion(world / name)


@pytest.fixture
def names_world(tmp_path: Path) -> Path:
    """Queries ask for names, which the encoder cannot read: only words find them."""
    return write_world(
        tmp_path,
        encoder_knows=TOPICS,
        queries={f"q{name}": f"who is {name}" for name in NAMES},
        relevant={f"q{name}": name for name in NAMES},
    )


def test_where_only_words_find_anything_bm25_weighs_and_hybrid_is_the_default(names_world: Path) -> None:
    fusion = tuned(names_world)
    # The named passage has all of BM25's share and at least nothing of the other: above a half that is the most.
    assert fusion.curve[0]["ndcg_10"] < 0.6
    assert fusion.curve[11:] == [{"weight": weight, "ndcg_10": 1.0} for weight in WEIGHTS[11:]]
    assert fusion.weight > 0.5
    assert (fusion.default_mode, fusion.num_queries, fusion.num_human_labels) == ("hybrid", 24, 24)
    assert fusion.gain > fusion.gain_low > 0.3
    assert "more than chance, so a server searches hybrid" in fusion.reason
    metrics = read_manifest(str(names_world / "index")).metrics
    assert (metrics["hybrid_weight"], metrics["default_mode"], metrics["num_human_labels"]) == (
        fusion.weight,
        "hybrid",
        24,
    )


def test_where_words_mislead_bm25_weighs_nothing_and_dense_is_the_default(tmp_path: Path) -> None:
    # A query holds one passage's name, which no encoder reads, and another one's topic, which it does.
    queries = {f"q{number}": f"{NAMES[number]} {TOPICS[(number + 1) % 4]}" for number in range(24)}
    relevant = {f"q{number}": NAMES[(number + 1) % 4 + 4] for number in range(24)}
    world = write_world(tmp_path, encoder_knows=TOPICS, queries=queries, relevant=relevant)
    fusion = tuned(world)
    assert fusion.curve[0]["ndcg_10"] > fusion.curve[20]["ndcg_10"]
    assert fusion.weight < 0.5
    assert fusion.default_mode == "dense"


def test_without_human_dev_labels_the_weight_is_a_default_and_the_file_says_so(tmp_path: Path) -> None:
    world = write_world(tmp_path, encoder_knows=TOPICS, queries={"q": "name1"}, relevant={})
    fusion = tuned(world)
    assert (fusion.weight, fusion.default_mode, fusion.tuned_on, fusion.curve) == (DEFAULT_WEIGHT, "dense", "", [])
    assert fusion.reason.startswith("no dev query was judged by people")
    assert read_manifest(str(world / "index")).metrics["num_human_labels"] == 0


def test_no_more_labels_are_used_than_allowed_and_smaller_shares_are_parts_of_larger_ones(names_world: Path) -> None:
    dataset = Dataset(names_world / "dataset")
    chosen = {
        share: list(dev_grades(dataset, config_of(names_world, dev_human_share=share)))
        for share in (1.0, 0.5, 0.1, 0.0)
    }
    assert {share: len(queries) for share, queries in chosen.items()} == {1: 24, 0.5: 12, 0.1: 2, 0: 0}
    assert chosen[0.1] == chosen[0.5][:2] == chosen[1][:2]
    assert list(dev_grades(dataset, config_of(names_world, hybrid_queries=5))) == chosen[1][:5]
    assert tuned(names_world, dev_human_share=0.1).num_human_labels == 2
    assert tuned(names_world, "none", dev_human_share=0.0).tuned_on == ""


def test_other_labels_are_another_tuning_and_the_same_are_the_same(names_world: Path) -> None:
    first, again = tuned(names_world), tuned(names_world, "again")
    assert first == again
    assert tuned(names_world, "fewer", hybrid_queries=12).tuned_on != first.tuned_on


def test_a_query_that_is_a_passage_is_not_tuned_on_finding_itself(tmp_path: Path) -> None:
    # The query is the passage of its name; relevant is the next one of its topic, which only the encoder finds.
    queries = {f"q{number}": f"{NAMES[number]} {TOPICS[number % 4]}" for number in range(24)}
    relevant = {f"q{number}": NAMES[(number + 4) % 24] for number in range(24)}
    fusion = tuned(write_world(tmp_path, encoder_knows=TOPICS, queries=queries, relevant=relevant))
    # Six passages share a topic, and the five that are left are equal to both retrievers: by id, whatever the weight.
    values = [point["ndcg_10"] for point in fusion.curve]
    assert values == [values[0]] * len(WEIGHTS)
    assert values[0] > 0.5


def peak(weight: float, *, num_queries: int = 40, height: float = 0.2, noise: float = 0.0, seed: int = 7) -> np.ndarray:
    """Values of queries that are best at one weight and fall off to both sides."""
    shape = height * (1 - np.abs(np.array(WEIGHTS) - weight))
    jitter = np.random.default_rng(seed).normal(0, noise, (len(WEIGHTS), num_queries))
    return shape[:, None] + 0.5 + jitter


@pytest.mark.parametrize("weight", [0.1, 0.35, 0.9])
def test_the_best_weight_of_a_curve_is_taken(weight: float) -> None:
    assert choose(peak(weight), Fusion()).weight == weight


def test_of_a_plateau_the_middle_is_taken_and_not_a_tooth() -> None:
    values = np.full((len(WEIGHTS), 4), 0.5)
    values[4:9] = 0.7
    values[15] = 0.72
    assert WEIGHTS[best_weight(values)] in (0.25, 0.3, 0.35)


def test_a_gain_within_chance_leaves_dense_the_default() -> None:
    modes = [choose(peak(0.3, height=0.0, noise=0.1, seed=seed), Fusion()).default_mode for seed in range(200)]
    # One in twenty passes the bound by chance; 22 would be more than four standard errors above that.
    assert modes.count("hybrid") < 22
    assert choose(peak(0.3, height=0.5, noise=0.1), Fusion()).default_mode == "hybrid"
    # One query proves nothing.
    assert choose(peak(0.3, num_queries=1), Fusion()).default_mode == "dense"


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=15).filter(any),
    st.permutations(range(15)),
    st.integers(0, 15),
)
def test_ndcg_is_that_of_trec_eval(grades: list[int], order: list[int], num_hits: int) -> None:
    judged = {f"p{number}": grade for number, grade in enumerate(grades)}
    hits = [Hit(f"p{number}", 1 / rank) for rank, number in enumerate(order[:num_hits], start=1)]
    run = {"q": {hit.passage_id: hit.score for hit in hits}}
    expected = ir_measures.calc_aggregate([nDCG @ 10], {"q": judged}, run)[nDCG @ 10] if hits else 0.0
    assert ndcg(hits, judged) == pytest.approx(expected)

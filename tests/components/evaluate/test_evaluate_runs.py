from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytrec_eval import RelevanceEvaluator, parse_qrel, parse_run

from components.evaluate.measures import parse_measures
from components.evaluate.runs import RunWriter, Search, strictly_decreasing, trec_id, write_qrels
from components.shared.dataset import Dataset
from components.shared.records import Hit, Passage, Query

MEASURES = parse_measures("RR@10 nDCG@10 R@10", min_grade=1)
MakeDataset = Callable[..., Dataset]


def hits_of(*pairs: tuple[str, float]) -> list[Hit]:
    return [Hit(passage_id, score) for passage_id, score in pairs]


def always(*pairs: tuple[str, float]) -> Search:
    """A search that answers every query with the same hits."""
    return lambda texts, depth, _: [hits_of(*pairs)[:depth] for _ in texts]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60))
def test_scores_fall_strictly_in_32_bits_and_keep_the_order(scores: list[float]) -> None:
    hits = hits_of(*((f"p{number}", score) for number, score in enumerate(sorted(scores, reverse=True))))
    run = strictly_decreasing(hits)
    assert list(run) == [hit.passage_id for hit in hits]
    written = np.array([float(f"{score:.9g}") for score in run.values()], dtype=np.float32)
    assert np.all(written[1:] < written[:-1])
    assert written.astype(float).tolist() == list(run.values())


def test_scores_that_differ_in_32_bits_are_left_alone() -> None:
    assert strictly_decreasing(hits_of(("a", 0.75), ("b", 0.5))) == {"a": 0.75, "b": 0.5}


def test_scores_that_differ_only_in_64_bits_are_taken_apart() -> None:
    run = strictly_decreasing(hits_of(("a", 0.5 + 1e-12), ("b", 0.5)))
    assert np.float32(run["a"]) > np.float32(run["b"])


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "b", "a")])
def test_equal_scores_measure_the_same_in_both_orders_of_ids(
    make_dataset: MakeDataset, tmp_path: Path, names: tuple[str, str, str]
) -> None:
    # trec_eval would put the descending id first, others the ascending one; the run as we rank it has the relevant
    # passage second.
    dataset = make_dataset([Passage(name, "", name) for name in names], {"test": [Query("q", "x")]}, {})
    grades = {"q": {names[1]: 1}}
    writer = RunWriter(dataset, dataset.queries("test"), grades, MEASURES, depth=10, min_grade=1)
    run = writer.run("tied", always(*((name, 0.5) for name in names)), tmp_path / "tied.trec")
    assert run.values[0, 0] == 0.5
    assert run.first_relevant == {"q": 2}
    written = parse_run((tmp_path / "tied.trec").read_text().splitlines())
    assert RelevanceEvaluator(grades, {"recip_rank"}).evaluate(written)["q"]["recip_rank"] == 0.5


def test_the_file_measures_the_same_as_we_do(make_dataset: MakeDataset, tmp_path: Path) -> None:
    passages = [Passage(f"p{number}", "", "text") for number in range(30)]
    queries = [Query(f"q{number}", f"text {number}") for number in range(300)]
    dataset = make_dataset(passages, {"test": queries}, {})
    generator = np.random.default_rng(3)
    grades = {
        q.query_id: {f"p{int(n)}": int(generator.integers(0, 3)) for n in generator.integers(0, 30, 4)} for q in queries
    }

    def search(texts: list[str], depth: int, own: list[set[str]]) -> list[list[Hit]]:
        # Scores of one decimal place: most hits are tied.
        scores = [
            sorted(zip(generator.integers(0, 8, 30) / 10, passages, strict=True), key=lambda pair: -pair[0])
            for _ in texts
        ]
        return [[Hit(passage.passage_id, float(score)) for score, passage in its][:depth] for its in scores]

    writer = RunWriter(dataset, queries, grades, MEASURES, depth=20, min_grade=1)
    run = writer.run("random", search, tmp_path / "random.trec")
    write_qrels(tmp_path / "qrels.trec", grades)
    with (tmp_path / "random.trec").open() as run_file, (tmp_path / "qrels.trec").open() as qrels_file:
        reference = RelevanceEvaluator(parse_qrel(qrels_file), {"ndcg_cut.10", "recall.10"}).evaluate(
            parse_run(run_file)
        )
    expected = [[reference[query_id]["ndcg_cut_10"], reference[query_id]["recall_10"]] for query_id in run.query_ids]
    assert run.values[:, 1:] == pytest.approx(np.array(expected), abs=1e-12)
    assert len(run.query_ids) == 300


def test_a_run_line_holds_query_passage_rank_score_and_system(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset([Passage("a", "", "x"), Passage("b", "", "y")], {"test": [Query("q", "x")]}, {})
    writer = RunWriter(dataset, dataset.queries(), {"q": {"a": 1}}, MEASURES, depth=1, min_grade=1)
    writer.run("bm25", always(("a", 2.0), ("b", 1.5)), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "q Q0 a 1 2 bm25\n"


def test_white_space_in_an_id_does_not_break_a_line() -> None:
    assert trec_id("a b\tc") == "a%20b%09c"
    assert trec_id("https://x.org/100%25") == "https://x.org/100%25"


def test_unjudged_queries_are_in_the_run_and_in_no_mean(make_dataset: MakeDataset, tmp_path: Path) -> None:
    queries = [Query("judged", "x"), Query("unjudged", "y")]
    dataset = make_dataset([Passage("a", "", "x")], {"test": queries}, {})
    writer = RunWriter(dataset, queries, {"judged": {"a": 1}}, MEASURES, depth=10, min_grade=1)
    run = writer.run("bm25", always(("a", 1.0)), tmp_path / "run")
    assert run.query_ids == ("judged",)
    assert "unjudged Q0 a" in (tmp_path / "run").read_text()


search_in_order = always(("same", 0.9), ("other", 0.5))


def test_a_query_that_is_a_passage_does_not_find_itself(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset(
        [Passage("same", "", "Should  we ban cars?"), Passage("other", "", "No")],
        {"test": [Query("same", "Should we ban cars?")]},
        {},
    )
    writer = RunWriter(dataset, dataset.queries(), {"same": {"other": 1}}, MEASURES, depth=1, min_grade=1)
    run = writer.run("bm25", search_in_order, tmp_path / "run")
    assert run.top == {"same": ("other",)}
    assert run.num_self_matches == 1


def test_an_id_that_only_happens_to_be_equal_is_no_self_match(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset(
        [Passage("same", "", "something else"), Passage("other", "", "No")], {"test": [Query("same", "why?")]}, {}
    )
    writer = RunWriter(dataset, dataset.queries(), {"same": {"other": 1}}, MEASURES, depth=2, min_grade=1)
    assert writer.run("bm25", search_in_order, tmp_path / "run").top == {"same": ("same", "other")}


def test_a_self_match_that_was_judged_relevant_stays(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset(
        [Passage("same", "", "why?"), Passage("other", "", "No")], {"test": [Query("same", "why?")]}, {}
    )
    writer = RunWriter(dataset, dataset.queries(), {"same": {"same": 2}}, MEASURES, depth=2, min_grade=1)
    run = writer.run("bm25", search_in_order, tmp_path / "run")
    assert run.num_self_matches == 0
    assert run.values[0, 0] == 1.0

"""The label-quality report: every figure from a case small enough to count by hand; the page shows it, escaped."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.annotate.quality.gold import Gold, qrels_gold, read_utility_labels
from components.annotate.quality.page import estimate, write_page
from components.annotate.quality.summary import OUTCOMES, Annotator, quality
from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared.dataset import Dataset, DatasetWriter, write_queries
from components.shared.records import Annotation, Exchange, Label, Passage, Qrel, Quarantined, Query, RecordError

POOL = ("a", "b", "c", "d")


ALL = (0, 1, 2, 3)


def exchange(
    template: str,
    chosen: tuple[int, ...],
    *,
    outcome: str = "ok",
    rung: str = "first",
    positions: tuple[int, ...] = ALL,
) -> Exchange:
    return Exchange(template, "paper.1@0", rung, outcome, positions, chosen, ("key",))


def annotation(
    query_id: str, labels: str, *exchanges: Exchange, passage_ids: tuple[str, ...] = POOL, ranks: bool = False
) -> Annotation:
    """`labels` by their first letters."""
    names: dict[str, Label] = {"p": "positive", "i": "ignore", "n": "negative"}
    method = "utility_ranking" if ranks else "utility_selection"
    return Annotation(
        query_id, passage_ids, tuple(names[letter] for letter in labels), method, "model@1", "ok", exchanges=exchanges
    )


def selection(query_id: str, labels: str, *, relevant: tuple[int, ...], useful: tuple[int, ...]) -> Annotation:
    first, answer = exchange("relevance_selection", relevant), exchange("answer", (), positions=relevant)
    return annotation(query_id, labels, first, answer, exchange("utility_selection", useful, positions=relevant))


TWO = [
    # People find a and d useful.
    selection("q1", "piin", relevant=(0, 1, 2), useful=(0,)),
    # People find b useful, and c not.
    selection("q2", "npnn", relevant=(1,), useful=(1,)),
]
GOLD = Gold("people", {"q1": {"a": True, "d": True}, "q2": {"b": True, "c": False}, "elsewhere": {"a": True}})


def measured(*annotators: Annotator, golds: tuple[Gold, ...] = (GOLD,), **settings: Any) -> list[dict[str, Any]]:
    report = quality(annotators, golds, **settings)
    # What is written must be what is read back.
    assert json.loads(json.dumps(report)) == json.loads(json.dumps(report, allow_nan=False))
    return report["annotators"]


def test_precision_recall_and_average_number_of_both_levels_by_hand() -> None:
    (its,) = measured(Annotator("x", TWO))
    relevant, useful = (its["levels"][level] for level in ("relevant", "useful"))
    # Relevant: a b c + b = 4 selected, of them useful a and b; of three useful ones d is missing.
    assert relevant["against"]["people"]["precision"]["value"] == pytest.approx(2 / 4)
    assert relevant["against"]["people"]["recall"]["value"] == pytest.approx(2 / 3)
    assert relevant["num_selected"]["value"] == 2.0
    assert useful["against"]["people"]["precision"]["value"] == 1.0
    assert useful["against"]["people"]["recall"]["value"] == pytest.approx(2 / 3)
    assert (useful["histogram"], relevant["histogram"]) == ([0, 2], [0, 1, 0, 1])
    # 8 pairs: 2 both, 0 selected only, 1 useful only, 5 neither: observed 7/8, by chance (2*3 + 6*5)/64 = 36/64.
    assert useful["against"]["people"]["kappa"]["value"] == pytest.approx((7 / 8 - 36 / 64) / (1 - 36 / 64))


def test_judged_passages_alone_are_measured_where_people_judged_both_ways() -> None:
    (its,) = measured(Annotator("x", TWO))
    against = its["levels"]["relevant"]["against"]["people"]
    # Judged: a, d of q1 (a selected), b, c of q2 (b selected).
    assert (against["num_judged"], against["precision_judged"]["value"]) == (4, 1.0)
    only_positives = Gold("qrels", {"q1": {"a": True}})
    (its,) = measured(Annotator("x", TWO), golds=(only_positives,))
    against = its["levels"]["useful"]["against"]["qrels"]
    assert (against["num_queries"], against["kappa_judged"]) == (1, None)


def test_outcomes_of_every_template_add_up_and_quarantined_queries_are_in_them() -> None:
    rungs = (
        exchange("relevance_selection", (), outcome="truncated"),
        exchange("relevance_selection", (), outcome="unparseable", rung="new_seed"),
    )
    failed = Quarantined(
        "q3", POOL, "utility_selection", "model@1", "unparseable", "no list", "I like passages.", exchanges=rungs
    )
    (its,) = measured(Annotator("x", TWO, quarantined=[failed]))
    table = its["outcomes"]
    asked = {template: row["num_exchanges"] for template, row in table.items()}
    assert asked == {"relevance_selection": 4, "answer": 2, "utility_selection": 2}
    for row in table.values():
        assert tuple(row["counts"]) == OUTCOMES
        assert sum(row["shares"].values()) == pytest.approx(1.0)
        assert sum(sum(rung.values()) for rung in row["rungs"].values()) == row["num_exchanges"]
    assert table["relevance_selection"]["counts"]["truncated"] == 1
    assert table["relevance_selection"]["rungs"]["new_seed"]["unparseable"] == 1
    assert (its["num_queries"], its["num_quarantined"], its["quarantine_share"]) == (3, 1, pytest.approx(1 / 3))


def test_places_are_those_in_the_prompt_not_in_the_pool() -> None:
    (its,) = measured(Annotator("x", TWO))
    assert its["positions"]["relevance_selection"]["rates"] == pytest.approx((0.5, 1.0, 0.5, 0.0))
    # The second prompt showed one passage only: place 1 of the pool is its first place.
    assert its["positions"]["utility_selection"]["rates"] == pytest.approx((1.0, 0.0, 0.0))
    assert "answer" not in its["positions"]


def test_a_ranking_counts_by_what_its_method_keeps() -> None:
    ranked = annotation("q", "ipii", exchange("utility_ranking", (1, 0, 3, 2)), ranks=True)
    (its,) = measured(Annotator("x", [ranked]))
    assert its["positions"]["utility_ranking"]["rates"] == (0.0, 1.0, 0.0, 0.0)


def test_judged_again_in_another_order_is_compared_passage_by_passage() -> None:
    again = annotation("q1", "npii", passage_ids=("d", "a", "c", "b"))
    (its,) = measured(Annotator("x", TWO, rechecked=[again]))
    assert its["self_agreement"]["num_queries"] == 1
    assert its["self_agreement"]["same_label"]["value"] == 1.0
    assert its["self_agreement"]["kappa"]["value"] == 1.0
    otherwise = annotation("q1", "pnii", passage_ids=("d", "a", "c", "b"))
    (its,) = measured(Annotator("x", TWO, rechecked=[otherwise]))
    assert (its["self_agreement"]["same_label"]["value"], its["self_agreement"]["jaccard"]["value"]) == (0.5, 0.0)
    assert measured(Annotator("x", TWO))[0]["self_agreement"] is None


def test_drift_is_seen_and_no_drift_is_none() -> None:
    generator = random.Random(0)
    before = [annotation(f"q{number}", "".join(generator.choices("pn", [1, 3], k=4))) for number in range(200)]
    same = measured(Annotator("x", before, previous=before))[0]["drift"]
    assert (same["num_selected_p_value"], same["kappa"]["value"]) == (1.0, 1.0)
    after = [replace(its, labels=("positive", *its.labels[1:])) for its in before]
    drift = measured(Annotator("x", after, previous=before))[0]["drift"]
    assert drift["num_selected_p_value"] < 1e-6
    assert drift["num_selected_after"]["value"] > drift["num_selected_before"]["value"]


def test_people_seen_for_a_few_queries_and_an_llm_for_all_give_the_truth_of_all() -> None:
    generator, annotations, judgements = random.Random(1), [], {}
    for number in range(1000):
        useful = [generator.random() < 0.4 for _ in POOL]
        # The LLM selects what is useful nine times of ten, and something useless every fifth time.
        selected = ["p" if (generator.random() < 0.9 if its else generator.random() < 0.2) else "n" for its in useful]
        annotations.append(annotation(f"q{number}", "".join(selected)))
        judgements[f"q{number}"] = dict(zip(POOL, useful, strict=True))
    truth = sum(sum(its.values()) for its in judgements.values()) / 1000
    (its,) = measured(Annotator("x", annotations), golds=(Gold("people", judgements),), gold_queries=100)
    (found,) = its["prediction_powered"]
    assert (found["num_gold_queries"], found["num_other_queries"]) == (100, 900)
    powered, people, llm = found["prediction_powered"], found["people"], found["llm"]
    assert powered["low"] <= truth <= powered["high"]
    assert not llm["low"] <= truth <= llm["high"]
    assert powered["high"] - powered["low"] < 0.8 * (people["high"] - people["low"])


def test_the_gold_set_is_drawn_at_random_from_what_was_annotated_whatever_its_order() -> None:
    # People find as many passages useful as the query's number says, modulo 5: a draw of the first or last ones would
    # show.
    annotations = [annotation(f"q{number}", "pnnn") for number in range(400)]
    judgements = {
        f"q{number}": {each: place < number // 80 for place, each in enumerate(POOL)} for number in range(1000)
    }
    (its,) = measured(Annotator("x", annotations), golds=(Gold("people", judgements),), gold_queries=100)
    (reverse,) = measured(Annotator("x", annotations[::-1]), golds=(Gold("people", judgements),), gold_queries=100)
    found = its["prediction_powered"][0]
    assert (found["num_gold_queries"], found["num_other_queries"]) == (100, 300)
    # 0, 1, 2, 3, 4 useful passages in equal parts: mean 2, standard error 0.14.
    assert found["people"]["value"] == pytest.approx(2.0, abs=0.5)
    assert found["people"] == pytest.approx(reverse["prediction_powered"][0]["people"])


def test_utility_labels_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text("query-id\tcorpus-id\tuseful\nq1\ta\t1\nq1\tb\t0\n")
    assert read_utility_labels(str(path)).judgements == {"q1": {"a": True, "b": False}}
    path.write_text("query-id\tcorpus-id\tuseful\nq1\ta\t1\nq1\tb\tyes\n")
    with pytest.raises(RecordError, match=r"labels.tsv:3: .* is no utility label"):
        read_utility_labels(str(path))


def test_qrels_of_all_splits_are_human_labels(tiny_collection: Path, tmp_path: Path) -> None:
    prepare(PrepareConfig(collection_uri=str(tiny_collection), output_uri=str(tmp_path / "dataset")))
    gold = qrels_gold(Dataset(tmp_path / "dataset"))
    assert gold.summary() == {"num_queries": 24, "num_judgements": 24, "num_useful": 24}
    assert gold.judgements["q-volcano-history"] == {"volcano-history": True}


def test_nothing_annotated_is_a_report_too(tmp_path: Path) -> None:
    report = quality([Annotator("x", [])], [GOLD])
    write_page(tmp_path / "quality.html", report, title="x")
    assert report["annotators"][0]["num_queries"] == 0


def test_the_page_shows_every_annotator_and_escapes_what_it_shows(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    annotators = [Annotator(evil, TWO, rechecked=TWO, previous=TWO), Annotator("second", TWO)]
    report = quality(annotators, [GOLD])
    write_page(tmp_path / "quality.html", report, title="both & more")
    page = (tmp_path / "quality.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "both &amp; more" in page
    # Precision of the relevant level with its interval stands in the table of both.
    its = report["annotators"][0]["levels"]["relevant"]["against"]["people"]["precision"]
    assert estimate(its).startswith("0.500 (")
    assert page.count(f"0.500<small>{its['low']:.3f} to {its['high']:.3f}</small>") == 2
    assert "src=" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_planted_bias_and_much_quarantine_are_said_on_top(tmp_path: Path) -> None:
    first_only = [annotation(f"q{n}", "pnnn", exchange("relevance_selection", (0,))) for n in range(40)]
    failed = [Quarantined(f"f{n}", POOL, "utility_selection", "m", "unparseable", "", "") for n in range(10)]
    write_page(tmp_path / "quality.html", quality([Annotator("x", first_only, quarantined=failed)], []), title="x")
    page = (tmp_path / "quality.html").read_text()
    assert "relevance_selection depends on the position in the prompt (some positions are preferred" in page
    assert "10 of 50 queries (20%) have no labels" in page


def test_asked_queries_have_no_human_labels_and_the_page_says_that_they_are_synthetic(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    writer.add_passage(Passage("a", "", "text"))
    writer.finish([], [])
    queries, qrels = [(Query("q1", "one"), "train"), (Query("q2", "two"), "train")], [(Qrel("q1", "a", 1), "train")]
    write_queries(tmp_path, queries, [*qrels, (Qrel("q2", "a", 1), "train")], asked={"q2"})
    assert qrels_gold(Dataset(tmp_path)).judgements == {"q1": {"a": 1}}
    report = quality([Annotator("x", TWO)], [GOLD])
    write_page(tmp_path / "quality.html", report | {"num_asked": 2}, title="x")
    assert "2 of these queries are synthetic" in (tmp_path / "quality.html").read_text()
    write_page(tmp_path / "quality.html", report, title="x")
    assert "synthetic" not in (tmp_path / "quality.html").read_text()

from typing import Any

import pytest

from components.evaluate.summary import claims, evidence, flat, measure_key, notes, p_text, summary_table, verdict


def comparison(
    against: str, difference: float, low: float, high: float, p_holm: float, *, system: str = "trained"
) -> dict[str, Any]:
    return {
        "system": system,
        "against": against,
        "measure": "nDCG@10",
        "difference": difference,
        "low": low,
        "high": high,
        "p_value": p_holm / 2,
        "p_holm": p_holm,
        "num_queries": 225,
    }


BETTER = (0.043, 0.021, 0.066, 0.002)
WORSE = (-0.043, -0.066, -0.021, 0.002)
UNCLEAR = (0.008, -0.01, 0.03, 0.4)


def metrics_of(
    base: tuple[float, ...] = BETTER, bm25: tuple[float, ...] = UNCLEAR, **changes: object
) -> dict[str, Any]:
    means = {"bm25": 0.598, "base": 0.612, "trained": 0.612 + base[0]}
    metrics: dict[str, Any] = {
        "split": "test",
        "judge": {"kind": "human"},
        "num_queries": 225,
        "num_judgements": 300,
        "num_without_relevant": 0,
        "num_unjudged": 0,
        "num_dropped": 0,
        "num_self_matches": 0,
        "measures": ["nDCG@10"],
        "headline_measure": "nDCG@10",
        "confidence": 0.95,
        "systems": {
            name: {"nDCG@10": {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}} for name, mean in means.items()
        },
        "comparisons": [comparison("base", *base), comparison("bm25", *bm25)],
        "judged_at_10": {"bm25": 0.1, "base": 0.1, "trained": 0.1},
        **changes,
    }
    return metrics | {"headline": claims(metrics), "notes": notes(metrics)}


@pytest.mark.parametrize(
    ("base", "claim"),
    [
        (BETTER, "Training helped: nDCG@10 rose from 0.612 to 0.655. "),
        (WORSE, "Training hurt: nDCG@10 fell from 0.612 to 0.569. "),
        (UNCLEAR, "Training made no reliable difference: nDCG@10 was 0.612 before and is 0.620 after. "),
    ],
)
def test_the_headline_says_what_happened_also_where_training_did_not_help(base: tuple[float, ...], claim: str) -> None:
    assert claims(metrics_of(base)).startswith(claim)


@pytest.mark.parametrize(
    ("bm25", "claim"),
    [
        (BETTER, "The trained encoder beats BM25 (0.598)."),
        (WORSE, "BM25 is still better (0.598)."),
        (UNCLEAR, "Against BM25 (0.598) there is no reliable difference."),
    ],
)
def test_the_headline_says_how_it_stands_to_bm25(bm25: tuple[float, ...], claim: str) -> None:
    assert claims(metrics_of(bm25=bm25)).endswith(claim)


def with_hybrids(fused: tuple[float, ...], alone: tuple[float, ...] = UNCLEAR) -> dict[str, Any]:
    """The same with both hybrids: .700 before training."""
    metrics = metrics_of()
    for name, mean in (("hybrid_base", 0.7), ("hybrid_trained", 0.7 + fused[0])):
        metrics["systems"][name] = {"nDCG@10": {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}}
    metrics["comparisons"] += [
        comparison("hybrid_base", *fused, system="hybrid_trained"),
        comparison("bm25", *BETTER, system="hybrid_trained"),
        comparison("hybrid_base", *alone),
    ]
    fusion = {"weight": 0.3, "method": "minmax", "tuned_on": "digest", "num_queries": 100, "num_human_labels": 1200}
    return metrics | {"fusion": {"base": fusion, "trained": fusion | {"weight": 0.1}}}


@pytest.mark.parametrize(
    ("fused", "alone", "claim"),
    [
        (BETTER, UNCLEAR, "Fused with BM25 training still helps, from 0.700 to 0.743."),
        (WORSE, UNCLEAR, "Fused with BM25 training hurts, from 0.700 to 0.657."),
        (UNCLEAR, UNCLEAR, "Fused with BM25 training makes no reliable difference, 0.700 before and 0.708 after."),
        (BETTER, BETTER, "to 0.743; alone the trained encoder beats even the untrained fusion."),
        (BETTER, WORSE, "to 0.743; alone the trained encoder is worse than the untrained fusion."),
    ],
)
def test_the_headline_says_what_training_is_worth_beside_the_fusion_that_needs_none(
    fused: tuple[float, ...], alone: tuple[float, ...], claim: str
) -> None:
    assert claims(with_hybrids(fused, alone)).endswith(claim)


def test_the_table_shows_both_hybrids_with_their_weights_and_where_these_come_from() -> None:
    lines = summary_table(with_hybrids(BETTER)).splitlines()
    assert lines[4:6] == ["hybrid(base)        0.7000", "hybrid(trained)     0.7430"]
    assert lines[9] == (
        "hybrid(base) gives BM25 0.30 (minmax; tuned on 100 dev queries with 1,200 human labels); hybrid(trained) "
        "gives BM25 0.10 (minmax; tuned on 100 dev queries with 1,200 human labels)."
    )
    assert "hybrid(trained) minus hybrid(base) +0.043" in lines[8]


def test_a_weight_that_was_not_tuned_is_noted() -> None:
    metrics = with_hybrids(BETTER)
    assert notes(metrics) == []
    metrics["fusion"]["base"] = metrics["fusion"]["base"] | {"tuned_on": ""}
    (note,) = notes(metrics)
    assert note.startswith("BM25's weight in hybrid(base) is a default and was not tuned")
    assert "hybrid(base) gives BM25 0.30 (minmax; not tuned)" in summary_table(metrics)


def test_the_metrics_of_a_store_compare_the_hybrids_too() -> None:
    numbers = flat(with_hybrids(BETTER))
    assert numbers["hybrid_trained_minus_hybrid_base_ndcg_10"] == 0.043
    assert numbers["trained_minus_hybrid_base_ndcg_10"] == 0.008


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (BETTER, "better"),
        (WORSE, "worse"),
        # Each alone is not enough: an interval that includes 0, or a corrected p value above the level.
        ((0.02, 0.0, 0.04, 0.01), "unclear"),
        ((0.02, 0.01, 0.04, 0.06), "unclear"),
        ((0.0, 0.0, 0.0, 1.0), "unclear"),
    ],
)
def test_a_verdict_needs_the_interval_and_the_p_value(values: tuple[float, ...], expected: str) -> None:
    assert verdict(comparison("base", *values), confidence=0.95) == expected


def test_the_evidence_names_interval_p_value_number_of_queries_and_judge() -> None:
    assert evidence(metrics_of()) == (
        "nDCG@10, trained minus base +0.043 (95 % interval +0.021 to +0.066, p = 0.002); trained minus BM25 +0.008 "
        "(95 % interval -0.010 to +0.030 and so includes 0, p = 0.400); n = 225 queries of split test, judged by "
        "people; p values after Holm's correction."
    )


def test_an_llm_judge_is_in_the_headline_the_evidence_and_the_first_note() -> None:
    metrics = metrics_of(judge={"kind": "llm", "model": "judge-1b", "taught": True})
    assert metrics["headline"].startswith("By the labels of an LLM and not of people: Training helped")
    assert "judged by the LLM judge-1b, not people" in evidence(metrics)
    assert metrics["notes"][0].startswith("The judge is the LLM judge-1b and not people: nobody judged split 'test'.")
    assert "every other hit counts as not relevant" in metrics["notes"][0]
    assert "graded by its teacher" in metrics["notes"][1]


def test_synthetic_queries_are_in_the_headline_the_evidence_the_first_note_and_the_metrics() -> None:
    metrics = metrics_of(judge={"kind": "asked"})
    assert metrics["headline"].startswith("On synthetic queries, which an LLM wrote for passages and nobody judged: ")
    assert "judged by nobody: relevant is the passage that a query was written for" in evidence(metrics)
    assert metrics["notes"][0].startswith("Queries and judgements are synthetic")
    assert "the untrained fusion of BM25 and the base encoder is the safe choice" in metrics["notes"][0]
    assert (flat(metrics)["synthetic"], flat(metrics)["judged_by_llm"]) == (1, 0)
    assert flat(metrics_of())["synthetic"] == 0


def test_nothing_to_warn_of_gives_no_notes() -> None:
    assert metrics_of()["notes"] == []


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"num_queries": 6}, "Only 6 judged queries"),
        ({"split": "train"}, "what encoders are trained on"),
        ({"num_without_relevant": 3}, "Judged queries without a relevant passage: 3."),
        ({"num_unjudged": 4}, "Queries of the split that nobody judged: 4."),
        ({"num_dropped": 2}, "Queries whose set of judgements was empty: 2."),
        ({"num_self_matches": 9}, "Hits that are the query itself: 9."),
        (
            {"judged_at_10": {"bm25": 0.9, "base": 0.5, "trained": 0.6}},
            "BM25 90%, base encoder 50%, trained encoder 60%",
        ),
    ],
)
def test_what_a_reader_must_know_is_noted(change: dict[str, Any], note: str) -> None:
    (found,) = metrics_of(**change)["notes"]
    assert note in found


def test_the_table_for_a_terminal() -> None:
    lines = summary_table(metrics_of(num_unjudged=4)).splitlines()
    assert lines[:5] == [
        "                   nDCG@10",
        "BM25                0.5980",
        "base encoder        0.6120",
        "trained encoder     0.6550",
        "",
    ]
    assert lines[5].startswith("Training helped: nDCG@10 rose from 0.612 to 0.655.")
    assert "95 % interval +0.021 to +0.066, p = 0.002" in lines[6]
    assert lines[7] == "! Queries of the split that nobody judged: 4. They are in the runs and in no mean."


def test_p_values_are_never_printed_as_zero() -> None:
    assert (p_text(0.0), p_text(0.00099), p_text(0.0123), p_text(1.0)) == (
        "p < 0.001",
        "p < 0.001",
        "p = 0.012",
        "p = 1.000",
    )


def test_flat_names_are_those_of_a_metric_store() -> None:
    assert [measure_key(name) for name in ("nDCG@10", "RR(rel=2)@10", "AP")] == ["ndcg_10", "rr_rel_2_10", "ap"]
    found = flat(metrics_of())
    assert found["trained_ndcg_10"] == 0.655
    assert (found["trained_minus_bm25_ndcg_10"], found["trained_minus_bm25_ndcg_10_p_holm"]) == (0.008, 0.4)


def test_where_the_base_encoder_was_kept_the_first_sentence_says_so() -> None:
    training = {"kept": "base", "kept_reason": "no measured step raised dev", "trained_share": 0.0}
    metrics = metrics_of(base=(0.0, 0.0, 0.0, 1.0), training=training)
    assert metrics["headline"].startswith(
        "Training did not help on dev, so the base encoder was kept: nDCG@10 is 0.612"
    )
    assert "which train kept: no measured step raised dev." in metrics["notes"][0]


def test_a_mixture_of_weights_is_said_to_be_one() -> None:
    training = {"kept": "mixed", "kept_reason": "more on dev", "trained_share": 0.5}
    assert "is 50 % trained and the rest the base encoder: more on dev." in metrics_of(training=training)["notes"][0]

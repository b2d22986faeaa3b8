from typing import Any

import pytest

from components.evaluate.suites.wording import evidence, headline, markdown

LABELS = {"new": "new encoder", "old": "old encoder"}


def figures_of(*outcomes: str, average: bool = False) -> dict[str, Any]:
    """Figures of as many collections as there are outcomes of new against old."""
    rows = {
        "better": (0.05, 0.01, 0.09, 0.001),
        "worse": (-0.05, -0.09, -0.01, 0.001),
        "unclear": (0.0, -0.1, 0.1, 0.9),
    }
    collections = {}
    for number, outcome in enumerate(outcomes):
        difference, low, high, p_holm = rows[outcome]
        row = {
            "system": "new",
            "against": "old",
            "measure": "nDCG@10",
            "difference": difference,
            "low": low,
            "high": high,
            "p_value": p_holm,
            "p_holm": p_holm,
            "effect_size": None,
            "wins": 3,
            "ties": 2,
            "losses": 1,
            "power": {"smallest": 0.04, "queries_for_half": 1200},
        }
        interval = {"mean": 0.5, "low": 0.4, "high": 0.6}
        collections[f"c{number}"] = {
            "num_queries": 100,
            "comparisons": [row, {**row, "measure": "RR@10", "p_holm": None}],
            "systems": {"new": {"nDCG@10": interval}, "old": {"nDCG@10": interval}},
            "signatures": {"nDCG@10": "measure:nDCG@10"},
        }
    means = {"new": {"mean": 0.55, "low": 0.5, "high": 0.6}, "old": {"mean": 0.5, "low": 0.45, "high": 0.55}}
    figures = {
        "title": "Retrieval",
        "primary_measure": "nDCG@10",
        "labels": LABELS,
        "claims": [["new", "old"]],
        "confidence": 0.95,
        "num_claims": len(outcomes),
        "collections": collections,
        "notes": ["c0: a note."],
        "averages": {"all": {"systems": means}} if average else {},
    }
    return figures | {"headline": headline(figures), "evidence": evidence(figures)}


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        (["better"], "new encoder beats old encoder in nDCG@10 on c0."),
        (["better", "better"], "new encoder beats old encoder in nDCG@10 on all 2 collections."),
        (
            ["better", "unclear", "unclear"],
            "new encoder beats old encoder in nDCG@10 on 1 of 3 collections; on c1 and c2 there is no reliable "
            "difference.",
        ),
        (["worse", "better"], "new encoder beats old encoder in nDCG@10 on c1 and is worse on c0."),
        (
            ["worse", "better", "unclear"],
            "new encoder beats old encoder in nDCG@10 on c1 and is worse on c0; on c2 there is no reliable difference.",
        ),
        (["worse", "worse"], "new encoder is worse than old encoder in nDCG@10 on all 2 collections."),
        (
            ["unclear", "unclear"],
            "new encoder and old encoder show no reliable difference in nDCG@10 on all 2 collections.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(outcomes: list[str], sentence: str) -> None:
    assert headline(figures_of(*outcomes)) == sentence


def test_the_verdict_names_the_average_where_there_is_one() -> None:
    assert headline(figures_of("better", "better", average=True)).endswith("; on average 0.550 against 0.500.")


def test_the_evidence_says_what_was_declared_and_what_is_corrected() -> None:
    said = evidence(figures_of("better", "unclear"))
    assert "1 comparison on 2 collections, 200 judged queries" in said
    assert "over 2 claims, so that the chance of even one false claim is at most 5 %" in said


def test_markdown_holds_verdict_table_claims_gate_and_signatures() -> None:
    figures = figures_of("better", average=True)
    figures["gate"] = {"verdict": "fail", "reasons": ["c0: too slow"]}
    text = markdown(figures)
    assert "| nDCG@10 | c0 (100) | average, all collections |" in text
    assert (
        "| new encoder minus old encoder | c0 | +0.0500 | +0.010 to +0.090 | 0.001 | - | 3 / 2 / 1 | better |" in text
    )
    assert "half of it would take 1,200 queries" in text
    assert "## Gate: fail\n\n- c0: too slow\n" in text
    assert "- c0: `measure:nDCG@10`" in text
    assert "> c0: a note." in text

"""The study's numbers on examples that are computed by hand."""

import math

import pytest

from components.shared.measuring.statistics import holm
from pipelines.study.conditions import BM25_NAME, CLAIMS, IN_DOMAIN, OUT_OF_DOMAIN, UNTRAINED_NAME, Claim, blocks
from pipelines.study.config import StudyConfig
from pipelines.study.table import EVERY, Finished, Part, Step, judge_claims, summarise, to_markdown, views, what_ran

BOTH = ("here", "there")


def cell(name: str, seed: int, *values: float, collection: str = "here") -> Finished:
    by_query = {f"q{number}": value for number, value in enumerate(values)}
    return Finished(
        name,
        collection,
        seed,
        {"here": by_query, "there": by_query},
        seconds=60.0,
        cpu_seconds=30.0,
        label_precision=0.3,
        label_recall=0.8,
        useful_precision=0.4,
    )


# Two seeds, four queries. good: means over seeds .6 .6 .6 .8; bad: .5 .4 .6 .5; differences .1 .2 0 .3, their mean .15.
CELLS = [
    cell("good", 1, 0.5, 0.6, 0.7, 0.8),
    cell("good", 2, 0.7, 0.6, 0.5, 0.8),
    cell("bad", 1, 0.5, 0.4, 0.5, 0.5),
    cell("bad", 2, 0.5, 0.4, 0.7, 0.5),
]


def test_means_and_deviations_are_over_seeds() -> None:
    good, bad = summarise(CELLS, BOTH, num_resamples=200)
    assert (good.name, good.num_seeds, bad.name) == ("good", {"here": 2}, "bad")
    # Nothing was trained there, so nothing is in domain there.
    assert list(good.means) == ["here", "here -> there"]
    assert good.means["here"].mean == pytest.approx(0.65)
    assert bad.means["here"].mean == pytest.approx(0.5)
    # Seed means of bad: (.5 + .4 + .5 + .5) / 4 = .475 and (.5 + .4 + .7 + .5) / 4 = .525; sample deviation .05 /
    # sqrt(2).
    assert bad.deviation_of_seeds["here"] == pytest.approx(0.05 / math.sqrt(2))
    assert good.means["here"].low <= 0.65 <= good.means["here"].high


def test_a_claim_is_tested_over_queries_of_the_mean_over_seeds() -> None:
    claims = [
        Claim("good", "bad", IN_DOMAIN, (35.3, 33.5)),
        Claim("bad", "good", OUT_OF_DOMAIN),
        Claim("good", "unfinished", IN_DOMAIN),
    ]
    holds, reverse = judge_claims(claims, CELLS, BOTH, num_resamples=200)
    # t = .15 / (s / sqrt(4)) with s^2 = (.05^2 + .05^2 + .15^2 + .15^2) / 3 = .05 / 3, so t = 2.3238; P(|T_3| > 2.3238)
    # = 0.10275.
    assert holds.p_value == pytest.approx(0.10275, abs=1e-4)
    assert [holds.difference.mean, reverse.difference.mean] == pytest.approx([0.15, -0.15])
    # Two tests of equal p: Holm doubles the first, and the second cannot be smaller.
    assert [holds.p_holm, reverse.p_holm] == pytest.approx(holm([holds.p_value, reverse.p_value]))
    assert holds.p_holm == pytest.approx(2 * holds.p_value)
    assert (holds.verdict, reverse.verdict) == ("not shown (same sign)", "not shown (other sign)")


def test_a_claim_is_tested_over_the_queries_of_both_collections() -> None:
    there = [cell("good", 1, 0.9, 0.9, collection="there"), cell("bad", 1, 0.5, 0.7, collection="there")]
    for one in there:
        # Two queries there, whoever is measured.
        assert len(one.values["there"]) == 2
    (only,) = judge_claims([Claim("good", "bad", IN_DOMAIN)], [*CELLS, *there], BOTH, num_resamples=100)
    # Seed 1 alone is finished on both: here 0 .2 .2 .3, there .4 .2, of six queries the mean is 1.3 / 6.
    assert (only.num_seeds, only.num_queries) == (1, 6)
    assert only.difference.mean == pytest.approx(1.3 / 6)
    assert {title: view.mean for title, view in only.by_view.items()} == {
        "here": pytest.approx(0.7 / 4),
        "there": pytest.approx(0.3),
    }


def test_a_difference_beyond_chance_has_a_verdict() -> None:
    values = [0.01 * number for number in range(30)]
    cells = [
        cell("high", 1, *(value + 0.2 + 0.001 * (n % 3) for n, value in enumerate(values))),
        cell("low", 1, *values),
    ]
    right, wrong = judge_claims(
        [Claim("high", "low", IN_DOMAIN), Claim("low", "high", IN_DOMAIN)], cells, BOTH, num_resamples=100
    )
    assert (right.verdict, wrong.verdict) == ("holds", "reversed")


def test_a_system_without_seeds_is_compared_with_each_seed() -> None:
    claims = [Claim("good", "BM25", IN_DOMAIN), Claim("later", "BM25", IN_DOMAIN)]
    baseline = cell("BM25", 0, 0.6, 0.6, 0.6, 0.4, collection=EVERY)
    (only,) = judge_claims(claims, [*CELLS, baseline], BOTH, num_resamples=100)
    # Differences of the means over seeds: 0, 0, 0, .4.
    assert only.difference.mean == pytest.approx(0.1)
    assert only.num_seeds == 2


def test_conditions_are_compared_on_the_seeds_that_both_have() -> None:
    cells = [*CELLS, cell("good", 3, 0.9, 0.9, 0.9, 0.9), cell("late", 3, 0.5, 0.5, 0.5, 0.5)]
    both, late = judge_claims(
        [Claim("good", "bad", IN_DOMAIN), Claim("good", "late", IN_DOMAIN)], cells, BOTH, num_resamples=100
    )
    assert both.difference.mean == pytest.approx(0.15)
    assert late.difference.mean == pytest.approx(0.4)
    assert judge_claims([Claim("bad", "late", IN_DOMAIN)], cells, BOTH, num_resamples=100) == []


def test_the_table_shows_the_published_figures_beside_ours() -> None:
    outcomes = judge_claims([Claim("good", "bad", IN_DOMAIN, (35.3, 33.5), "labels")], CELLS, BOTH, num_resamples=100)
    text = to_markdown(summarise(CELLS, BOTH, num_resamples=100), outcomes, BOTH, ran=["Ran: all."])
    assert text.startswith("Ran: all.\n")
    assert "| good | 2 | 0.30 / 0.80 / 0.40 | 65.0 [" in text
    # Out of domain from there, the last column, nothing ran.
    assert next(line for line in text.splitlines() if line.startswith("| good | 2")).endswith("|  |")
    assert "| good > bad | labels | in domain | 35.3 > 33.5 | 2 | 15.0 [" in text


def test_the_table_says_which_part_of_the_plan_ran() -> None:
    planned = [Step(Part("losses", seed), name, "here") for seed in (1, 2) for name in ("good", "bad")]
    planned.append(Step(Part("people", 1), "human", "here"))
    assert what_ran(CELLS[:3], planned) == [
        "Ran: 3 of 5 cells, 3 minutes (2 of CPU).",
        "losses: seeds 1; 1/2 of seed 2.",
        "people: did not run.",
    ]


def test_in_domain_is_where_a_retriever_was_trained() -> None:
    assert [view.title for view in views(BOTH)] == ["here", "there", "here -> there", "there -> here"]
    assert [view.title for view in views(BOTH, OUT_OF_DOMAIN)] == ["here -> there", "there -> here"]


def test_every_claim_is_about_conditions_that_are_trained() -> None:
    names = [condition.name for block in blocks(StudyConfig()) for condition in block.conditions]
    assert len(set(names)) == len(names)
    assert {name for claim in CLAIMS for name in (claim.better, claim.worse)} <= {*names, BM25_NAME, UNTRAINED_NAME}
    assert {claim.domain for claim in CLAIMS} == {IN_DOMAIN, OUT_OF_DOMAIN}


def test_a_difference_that_another_seed_may_undo_is_not_shown() -> None:
    queries = range(30)
    # The same for every query, so beyond chance over queries: +.3 with one seed, -.1 with the other.
    cells = [
        cell("bold", seed, *(0.5 + shift + 0.001 * (n % 3) for n in queries)) for seed, shift in ((1, 0.3), (2, -0.1))
    ]
    (only,) = judge_claims(
        [Claim("bold", "low", IN_DOMAIN)],
        [*cells, *(cell("low", s, *(0.5 for _ in queries)) for s in (1, 2))],
        BOTH,
        num_resamples=200,
    )
    assert only.p_holm < 0.001
    assert only.difference.low < 0 < only.difference.high
    assert only.verdict == "not shown (same sign)"

"""The study's numbers on examples that are computed by hand."""

import math

import pytest

from components.shared.measuring.statistics import holm
from pipelines.study.conditions import CLAIMS, DOMAINS, IN_DOMAIN, OUT_OF_DOMAIN, Claim, conditions
from pipelines.study.config import StudyConfig
from pipelines.study.table import Finished, judge_claims, summarise, to_markdown


def cell(name: str, seed: int, *values: float) -> Finished:
    its = {f"q{number}": value for number, value in enumerate(values)}
    return Finished(
        name, seed, {IN_DOMAIN: its, OUT_OF_DOMAIN: its}, seconds=60.0, label_precision=0.3, label_recall=0.8
    )


# Two seeds, four queries. good: means over seeds .6 .6 .6 .8; bad: .5 .4 .6 .5; differences .1 .2 0 .3, their mean .15.
CELLS = [
    cell("good", 1, 0.5, 0.6, 0.7, 0.8),
    cell("good", 2, 0.7, 0.6, 0.5, 0.8),
    cell("bad", 1, 0.5, 0.4, 0.5, 0.5),
    cell("bad", 2, 0.5, 0.4, 0.7, 0.5),
]


def test_means_and_deviations_are_over_seeds() -> None:
    good, bad = summarise(CELLS, num_resamples=200)
    assert (good.name, good.num_seeds, bad.name) == ("good", 2, "bad")
    assert good.means[IN_DOMAIN].mean == pytest.approx(0.65)
    assert bad.means[IN_DOMAIN].mean == pytest.approx(0.5)
    # Seed means of bad: (.5 + .4 + .5 + .5) / 4 = .475 and (.5 + .4 + .7 + .5) / 4 = .525; sample deviation .05 /
    # sqrt(2).
    assert bad.deviation_of_seeds[IN_DOMAIN] == pytest.approx(0.05 / math.sqrt(2))
    assert good.means[IN_DOMAIN].low <= 0.65 <= good.means[IN_DOMAIN].high


def test_a_claim_is_tested_over_queries_of_the_mean_over_seeds() -> None:
    claims = [
        Claim("good", "bad", IN_DOMAIN, (35.3, 33.5)),
        Claim("bad", "good", OUT_OF_DOMAIN),
        Claim("good", "unfinished", IN_DOMAIN),
    ]
    holds, reverse = judge_claims(claims, CELLS, num_resamples=200)
    # t = .15 / (s / sqrt(4)) with s^2 = (.05^2 + .05^2 + .15^2 + .15^2) / 3 = .05 / 3, so t = 2.3238; P(|T_3| > 2.3238)
    # = 0.10275.
    assert holds.p_value == pytest.approx(0.10275, abs=1e-4)
    assert (holds.difference.mean, reverse.difference.mean) == (pytest.approx(0.15), pytest.approx(-0.15))
    # Two tests of equal p: Holm doubles the first, and the second cannot be smaller.
    assert [holds.p_holm, reverse.p_holm] == pytest.approx(holm([holds.p_value, reverse.p_value]))
    assert holds.p_holm == pytest.approx(2 * holds.p_value)
    assert (holds.verdict, reverse.verdict) == ("not shown (same sign)", "not shown (other sign)")


def test_a_difference_beyond_chance_has_a_verdict() -> None:
    values = [0.01 * number for number in range(30)]
    cells = [
        cell("high", 1, *(value + 0.2 + 0.001 * (n % 3) for n, value in enumerate(values))),
        cell("low", 1, *values),
    ]
    right, wrong = judge_claims(
        [Claim("high", "low", IN_DOMAIN), Claim("low", "high", IN_DOMAIN)], cells, num_resamples=100
    )
    assert (right.verdict, wrong.verdict) == ("holds", "reversed")


def test_a_system_without_seeds_is_compared_with_each_seed() -> None:
    (only,) = judge_claims(
        [Claim("good", "BM25", IN_DOMAIN)], [*CELLS, cell("BM25", 0, 0.6, 0.6, 0.6, 0.4)], num_resamples=100
    )
    # Differences of the means over seeds: 0, 0, 0, .4.
    assert only.difference.mean == pytest.approx(0.1)


def test_conditions_are_compared_on_the_seeds_that_both_have() -> None:
    cells = [*CELLS, cell("good", 3, 0.9, 0.9, 0.9, 0.9), cell("late", 3, 0.5, 0.5, 0.5, 0.5)]
    both, late = judge_claims(
        [Claim("good", "bad", IN_DOMAIN), Claim("good", "late", IN_DOMAIN)], cells, num_resamples=100
    )
    assert both.difference.mean == pytest.approx(0.15)
    assert late.difference.mean == pytest.approx(0.4)
    assert judge_claims([Claim("bad", "late", IN_DOMAIN)], cells, num_resamples=100) == []


def test_the_table_shows_the_published_figures_beside_ours() -> None:
    outcomes = judge_claims([Claim("good", "bad", IN_DOMAIN, (35.3, 33.5), "labels")], CELLS, num_resamples=100)
    text = to_markdown(summarise(CELLS, num_resamples=100), outcomes, seconds=240.0)
    assert "4 minutes of cells" in text
    assert "| good | 2 | 0.30 / 0.80 | 65.0 [" in text
    assert "| good > bad | labels | in domain | 35.3 > 33.5 | 15.0 [" in text


def test_every_claim_is_about_conditions_that_are_trained() -> None:
    names = {each.name for each in conditions(StudyConfig())} | {"BM25", "untrained"}
    assert {name for claim in CLAIMS for name in (claim.better, claim.worse)} <= names
    assert {claim.domain for claim in CLAIMS} == set(DOMAINS)


def test_a_difference_that_another_seed_may_undo_is_not_shown() -> None:
    queries = range(30)
    # The same for every query, so beyond chance over queries: +.3 with one seed, -.1 with the other.
    cells = [
        cell("bold", seed, *(0.5 + shift + 0.001 * (n % 3) for n in queries)) for seed, shift in ((1, 0.3), (2, -0.1))
    ]
    (only,) = judge_claims(
        [Claim("bold", "low", IN_DOMAIN)],
        [*cells, *(cell("low", s, *(0.5 for _ in queries)) for s in (1, 2))],
        num_resamples=200,
    )
    assert only.p_holm < 0.001
    assert only.difference.low < 0 < only.difference.high
    assert only.verdict == "not shown (same sign)"

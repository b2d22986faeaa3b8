import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from scipy import stats

from components.answer.scoring.overlap import bleu_counts
from components.answer.scoring.table import Scores, Table, paired_bootstrap_test

_WORDS = [f"w{number}" for number in range(12)]


def texts(seed: int, *, share_right: float, num: int = 60) -> tuple[list[str], list[str]]:
    """Answers of which a share of the words is right, and their references."""
    drawn, wrong = random.Random(99), random.Random(seed)
    references = [[drawn.choice(_WORDS) for _ in range(8)] for _ in range(num)]
    answers = [[word if wrong.random() < share_right else "x" for word in words] for words in references]
    return [" ".join(words) for words in answers], [" ".join(words) for words in references]


def scores(answers: list[str], references: list[str]) -> Scores:
    right = [float(answer == reference) for answer, reference in zip(answers, references, strict=True)]
    share = [answer.split().count("x") / 8 for answer in answers]
    counts = bleu_counts(answers, [[reference] for reference in references])
    return Scores(100 * np.array([right, [1 - part for part in share]]).T, counts)


@pytest.fixture(scope="module")
def table() -> Table:
    systems = {
        name: scores(*texts(seed, share_right=share))
        for name, seed, share in (("one", 1, 0.8), ("other", 2, 0.6), ("twin", 1, 0.8))
    }
    return Table(systems, measures=("EM", "F1"), num_resamples=2000, confidence=0.95, seed=0)


def test_means_lie_in_their_intervals_and_bleu_is_that_of_the_corpus(table: Table) -> None:
    answers, references = texts(1, share_right=0.8)
    expected = BLEU().corpus_score(answers, [references]).score
    for row in table.systems().values():
        assert all(interval.low <= interval.mean <= interval.high for interval in row.values())
    assert table.systems()["one"]["BLEU"].mean == pytest.approx(expected, abs=1e-9)


def test_a_system_against_its_twin_is_no_difference_with_p_1(table: Table) -> None:
    rows = [row for row in table.comparisons("one", primary="F1") if row.against == "twin"]
    assert [(row.difference, row.low, row.high, row.p_value) for row in rows] == [(0.0, 0.0, 0.0, 1.0)] * 3


def test_holm_corrects_the_primary_measure_alone(table: Table) -> None:
    rows = table.comparisons("one", primary="BLEU")
    assert {row.measure for row in rows if row.p_holm is not None} == {"BLEU"}
    of_other, of_twin = (row for row in rows if row.measure == "BLEU")
    assert of_other.p_holm == pytest.approx(2 * of_other.p_value)
    assert of_twin.p_holm == 1.0


def test_p_values_of_bleu_are_uniform_where_the_systems_are_alike() -> None:
    drawn = random.Random(3)
    one, references = texts(1, share_right=0.75)
    other, _ = texts(2, share_right=0.75)
    p_values = []
    for _ in range(80):
        # Whose answer is whose is thrown anew for every query.
        swapped = [drawn.random() < 0.5 for _ in one]
        first = [b if swap else a for a, b, swap in zip(one, other, swapped, strict=True)]
        second = [a if swap else b for a, b, swap in zip(one, other, swapped, strict=True)]
        systems = {"first": scores(first, references), "second": scores(second, references)}
        table = Table(systems, measures=("EM", "F1"), num_resamples=200, confidence=0.95, seed=drawn.randrange(10**6))
        (row,) = (row for row in table.comparisons("first", primary="BLEU") if row.measure == "BLEU")
        p_values.append(row.p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_a_difference_of_bleu_is_that_of_the_corpora_and_a_large_one_is_seen() -> None:
    first, references = texts(1, share_right=0.8)
    second, _ = texts(5, share_right=0.6)
    systems = {"first": scores(first, references), "second": scores(second, references)}
    table = Table(systems, measures=("EM", "F1"), num_resamples=1000, confidence=0.95, seed=7)
    (row,) = (row for row in table.comparisons("first", primary="BLEU") if row.measure == "BLEU")
    metric = BLEU()
    expected = metric.corpus_score(first, [references]).score - metric.corpus_score(second, [references]).score
    assert row.difference == pytest.approx(expected)
    assert row.low < row.difference < row.high
    assert row.p_value < 0.01


def test_the_paired_bootstrap_by_hand() -> None:
    # Moved to mean zero: -2, -1, 0, 1, 2. Two of five are as large as 2, with the add-one estimate 3 / 6.
    assert paired_bootstrap_test(2.0, np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(3 / 6)
    assert paired_bootstrap_test(0.0, np.zeros(9)) == 1.0

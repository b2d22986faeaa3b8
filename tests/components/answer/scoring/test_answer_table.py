import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from components.answer.scoring.overlap import bleu, bleu_counts
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


@pytest.mark.parametrize("share_right", [0.79, 0.76, 0.73, 0.7])
def test_the_paired_bootstrap_of_bleu_agrees_with_sacrebleus(
    share_right: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    first, references = texts(1, share_right=0.8)
    second, _ = texts(5, share_right=share_right)
    theirs = PairedTest(
        [("first", first), ("second", second)], {"BLEU": BLEU()}, [references], test_type="bs", n_samples=4000
    )()[1]["BLEU"][1].p_value
    systems = {"first": scores(first, references), "second": scores(second, references)}
    made = Table(systems, measures=("EM", "F1"), num_resamples=4000, confidence=0.95, seed=7)
    (row,) = (row for row in made.comparisons("first", primary="BLEU") if row.measure == "BLEU")
    # Two draws of 4,000: three standard errors of a share are at most 0.024.
    assert row.p_value == pytest.approx(theirs, abs=0.03)
    assert row.difference == pytest.approx(
        bleu(systems["first"].counts.sum(axis=0)) - bleu(systems["second"].counts.sum(axis=0))
    )


def test_the_paired_bootstrap_by_hand() -> None:
    # Moved to mean zero: -2, -1, 0, 1, 2. Two of five are as large as 2, with the add-one estimate 3 / 6.
    assert paired_bootstrap_test(2.0, np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(3 / 6)
    assert paired_bootstrap_test(0.0, np.zeros(9)) == 1.0

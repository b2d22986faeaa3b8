"""Whose positives, whose negatives, what is neither; human shares."""

import itertools
import math
from collections.abc import Sequence

import pytest

from components.shared.records import Annotation
from components.train.curriculum import Stage
from components.train.labels.groups import TrainingGroup, human_groups, share_of, stage_groups, utilities_of

LLM = Stage("llm", "llm")
HUMAN = Stage("human", "human")


def annotation(query_id: str, *, scores: tuple[float, ...] = (), **labels: str) -> Annotation:
    return Annotation(query_id, tuple(labels), tuple(labels.values()), "m", "llm", "ok", scores=scores)  # type: ignore[arg-type]


def test_a_query_without_positives_teaches_nothing() -> None:
    its = {
        "q0": annotation("q0", p0="positive", p1="ignore", p2="negative"),
        "q1": annotation("q1", p0="negative", p1="ignore"),
    }
    assert stage_groups(LLM, {}, its, seed=0) == [TrainingGroup("q0", ("p0",), ("p2",), frozenset({"p1"}))]


def test_relevant_but_not_useful_is_a_negative_where_the_stage_says_so() -> None:
    its = {"q0": annotation("q0", p0="positive", p1="ignore", p2="negative")}
    (group,) = stage_groups(Stage("llm", "llm", ignore="negative"), {}, its, seed=0)
    assert group == TrainingGroup("q0", ("p0",), ("p1", "p2"))


@pytest.mark.parametrize("ignore", ["mask", "negative"])
def test_what_a_person_found_relevant_is_no_negative_of_an_llm_group(ignore: str) -> None:
    its = {"q0": annotation("q0", p0="positive", p1="negative", p2="negative")}
    stage = Stage("llm", "llm", ignore=ignore)  # type: ignore[arg-type]
    (group,) = stage_groups(stage, {"q0": ["p1", "p7"]}, its, seed=0)
    assert group == TrainingGroup("q0", ("p0",), ("p2",), frozenset({"p1", "p7"}))


@pytest.mark.parametrize("ignore", ["mask", "negative"])
def test_what_the_llm_found_useful_is_no_negative_of_a_human_group(ignore: str) -> None:
    its = {"q0": annotation("q0", p0="negative", p1="positive", p2="ignore", p3="negative")}
    stage = Stage("human", "human", ignore=ignore)  # type: ignore[arg-type]
    (group,) = stage_groups(stage, {"q0": ["p0"]}, its, seed=0)
    expected = (("p3",), {"p1", "p2"}) if ignore == "mask" else (("p2", "p3"), {"p1"})
    assert (group.positives, group.hard_negatives, set(group.ignored)) == (("p0",), *expected)


def test_with_own_labels_only_neither_source_knows_the_others() -> None:
    its = {"q0": annotation("q0", p0="positive", p1="negative", p2="ignore")}
    (of_llm,) = stage_groups(LLM, {"q0": ["p1"]}, its, seed=0, own_labels_only=True)
    assert of_llm == TrainingGroup("q0", ("p0",), ("p1",), frozenset({"p2"}))
    (of_human,) = stage_groups(HUMAN, {"q0": ["p1"]}, its, seed=0, own_labels_only=True)
    assert of_human == TrainingGroup("q0", ("p1",), ("p0", "p2"))


def test_a_human_labelled_query_that_no_llm_judged_has_its_pool_for_hard_negatives() -> None:
    judged = {"q0": annotation("q0", p0="positive", p1="ignore", p2="negative")}
    pools = {"q0": ("p0", "p1", "p2"), "q1": ("p3", "p4", "p5")}
    groups = stage_groups(HUMAN, {"q0": ["p0"], "q1": ["p4"]}, judged, seed=0, pools=pools)
    by_query = {group.query_id: group for group in groups}
    assert by_query["q0"].hard_negatives == ("p2",)
    assert by_query["q1"] == TrainingGroup("q1", ("p4",), ("p3", "p5"))


def test_human_shares_are_nested() -> None:
    positives = {f"q{number}": ["p0"] for number in range(100)}
    stages = [Stage("human", "human", human_share=share) for share in (0.05, 0.1, 0.2, 0.5, 1.0)]
    chosen = [{group.query_id for group in human_groups(stage, positives, {}, {}, seed=3)} for stage in stages]
    assert [len(its) for its in chosen] == [5, 10, 20, 50, 100]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(chosen))
    assert {group.query_id for group in human_groups(stages[2], positives, {}, {}, seed=4)} != chosen[2]


def test_a_mixed_stage_has_the_groups_of_both() -> None:
    its = {f"q{number}": annotation(f"q{number}", p0="positive", p1="negative") for number in range(3)}
    groups = stage_groups(Stage("interleave", "mixed", human_share=0.5), {"q0": ["p5"], "q9": ["p6"]}, its, seed=0)
    assert [group.positives for group in groups[:3]] == [("p0",)] * 3
    assert len(groups) == 4
    assert groups[3].positives in (("p5",), ("p6",))


def test_utilities_come_with_the_pool_and_their_absence_is_named() -> None:
    stage = Stage("replug", "llm", loss="kl_replug")
    scored = {"q0": annotation("q0", scores=(-1.0, -2.0), p0="negative", p1="negative")}
    assert stage_groups(stage, {}, scored, seed=0) == [
        TrainingGroup("q0", (), ("p0", "p1"), frozenset(), {"p0": -1.0, "p1": -2.0})
    ]
    with pytest.raises(ValueError, match=r"stage 'replug': .* needs the LLM's scores.*answer_likelihood.*lsepair"):
        stage_groups(stage, {}, {"q0": annotation("q0", p0="positive")}, seed=0)


def softmax(scores: Sequence[float]) -> tuple[float, ...]:
    total = math.fsum(math.exp(score - max(scores)) for score in scores)
    return tuple(round(math.exp(score - max(scores)) / total, 6) for score in scores)


# Sums and means a token of three passages' answers of 10 tokens: the sums are so far apart that the shares of two
# passages are both 0.000000, and their logarithm the same.
SUMS, MEANS = (-10.0, -40.0, -70.0), (-1.0, -4.0, -7.0)


@pytest.mark.parametrize(
    ("score_sums", "scores", "distribution", "utilities"),
    [
        (SUMS, MEANS, softmax(SUMS), SUMS),
        (SUMS, MEANS, softmax(MEANS), MEANS),
        (SUMS, MEANS, (), SUMS),
        ((), MEANS, (), MEANS),
        ((), MEANS, softmax(MEANS), MEANS),
        ((-900.0, -1000.0, -1100.0), (-9.0, -10.0, -11.0), (1.0, 0.0, 0.0), (-900.0, -1000.0, -1100.0)),
        ((-3.0, -3.0, -3.0), (-3.0, -3.0, -3.0), (0.333333, 0.333333, 0.333333), (-3.0, -3.0, -3.0)),
    ],
)
def test_a_distribution_is_learnt_from_log_likelihoods_and_not_from_rounded_shares(
    score_sums: tuple[float, ...], scores: tuple[float, ...], distribution: tuple[float, ...], utilities: object
) -> None:
    its = Annotation(
        "q", ("a", "b", "c"), ("negative",) * 3, "replug", "llm", "ok",
        scores=scores, score_sums=score_sums, distribution=distribution,
    )  # fmt: skip
    assert utilities_of(its) == utilities


def test_a_run_with_a_fifth_of_the_human_labels_masks_with_these_only() -> None:
    positives = {f"q{number}": ["p1"] for number in range(10)}
    its = {query_id: annotation(query_id, p0="positive", p1="negative") for query_id in positives}
    for share, count in ((0.0, 0), (0.2, 2), (1.0, 10)):
        groups = stage_groups(LLM, positives, its, seed=3, known_share=share)
        masked = {group.query_id for group in groups if "p1" in group.ignored}
        assert masked == set(share_of(positives, share, seed=3))
        assert sum(group.num_human_masks for group in groups) == len(masked) == count
        # What is not known to be a positive is a hard negative, as the LLM said.
        assert all(group.hard_negatives == ("p1",) for group in groups if group.query_id not in masked)


@pytest.mark.parametrize(
    ("labels", "own_labels_only", "num_positives", "num_masks"),
    [
        ("llm", False, 0, 3),
        ("llm", True, 0, 0),
        ("human", False, 4, 0),
        ("human", True, 4, 0),
        ("mixed", False, 4, 3),
        ("mixed", True, 4, 3),
    ],
)
def test_human_labels_are_counted_by_what_they_are_used_for(
    labels: str, own_labels_only: bool, num_positives: int, num_masks: int
) -> None:
    # p1 and p2 of q0 and p5 of q3 are masks; of q1 the LLM finds the same positive; q2 has no human label.
    positives = {"q0": ["p1", "p2"], "q1": ["p0"], "q3": ["p5"]}
    its = {
        "q0": annotation("q0", p0="positive", p1="negative", p2="ignore"),
        "q1": annotation("q1", p0="positive", p1="negative"),
        "q2": annotation("q2", p0="positive"),
        "q3": annotation("q3", p0="positive"),
    }
    stage = Stage("a", labels)  # type: ignore[arg-type]
    groups = stage_groups(stage, positives, its, seed=0, own_labels_only=own_labels_only)
    assert sum(group.num_human_positives for group in groups) == num_positives
    assert sum(group.num_human_masks for group in groups) == num_masks


def test_no_share_is_no_label_and_any_share_is_at_least_one() -> None:
    positives = {"q0": ["p"], "q1": ["p"]}
    assert share_of(positives, 0.0, seed=0) == {}
    assert len(share_of(positives, 0.01, seed=0)) == 1
    assert share_of({}, 1.0, seed=0) == {}

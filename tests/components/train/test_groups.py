"""Whose positives, whose negatives, what is neither; human shares."""

import dataclasses
import itertools
import math

import pytest

from components.shared.records import Annotation
from components.train.curriculum import Stage
from components.train.groups import TrainingGroup, human_groups, stage_groups

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


def test_human_shares_are_nested() -> None:
    positives = {f"q{number}": ["p0"] for number in range(100)}
    stages = [Stage("human", "human", human_share=share) for share in (0.05, 0.1, 0.2, 0.5, 1.0)]
    chosen = [{group.query_id for group in human_groups(stage, positives, {}, seed=3)} for stage in stages]
    assert [len(its) for its in chosen] == [5, 10, 20, 50, 100]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(chosen))
    assert {group.query_id for group in human_groups(stages[2], positives, {}, seed=4)} != chosen[2]


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
    told = dataclasses.replace(scored["q0"], distribution=(0.75, 0.25))
    (group,) = stage_groups(stage, {}, {"q0": told}, seed=0)
    assert group.utilities == {"p0": pytest.approx(math.log(0.75)), "p1": pytest.approx(math.log(0.25))}
    with pytest.raises(ValueError, match=r"stage 'replug': .* needs the LLM's scores.*answer_likelihood"):
        stage_groups(stage, {}, {"q0": annotation("q0", p0="positive")}, seed=0)

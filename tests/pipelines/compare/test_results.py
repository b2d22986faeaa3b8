"""Differences are paired by query over the mean of the seeds; dev chooses, and the page says what test says of it."""

import re
from pathlib import Path

import pytest

from pipelines.compare.arms import Arm, chosen_arms
from pipelines.compare.built_in import BUILT_IN
from pipelines.compare.content import _notes, content_of
from pipelines.compare.costs import Cost
from pipelines.compare.planning import Given
from pipelines.compare.results import BASE, BM25, HYBRID, choose, compared, ingredients, read_rows
from pipelines.compare.run import READS_NAME, read_versions
from tests.pipelines.compare.inputs import split_of

UNTRAINED = {"bm25": [0.1] * 60, "base": [0.2, 0.6] * 30, "hybrid_base": [0.4, 0.6] * 30}


def trained(gain: float, fused: float = 0.0) -> dict[str, list[float]]:
    return {"trained": [0.2 + gain, 0.6 + gain] * 30, "hybrid_trained": [0.4 + fused, 0.6 + fused] * 30}


def asked(folder: Path, arms: str) -> Given:
    return Given(folder, folder / "params.yaml", folder, chosen_arms(arms, BUILT_IN), 2)


def test_a_row_is_the_mean_of_its_seeds_and_says_how_far_they_lie_apart(tmp_path: Path) -> None:
    split = split_of(tmp_path / "dev", UNTRAINED, {("human", 1): trained(0.1), ("human", 2): trained(0.3)})
    rows = read_rows(split.reference, split.cells).rows
    assert list(rows) == [BM25, BASE, HYBRID, "human", "hybrid(human)"]
    # Means .5 and .7 of the seeds: .6, and a deviation of .2 / sqrt(2).
    assert rows["human"].mean == pytest.approx(0.6)
    assert rows["human"].deviation == pytest.approx(0.1414, abs=1e-4)
    assert rows[BASE].deviation is None


def test_a_difference_is_paired_by_query(tmp_path: Path) -> None:
    split = split_of(tmp_path / "dev", UNTRAINED, {("human", 1): trained(0.1), ("human", 2): trained(0.3)})
    measured = split.measured()
    (to_base, to_hybrid) = compared(measured, [("human", BASE), ("human", HYBRID)])
    # .2 on every query, so that the interval has no width; against the fusion 0 and .2 in turns.
    assert (to_base["difference"], to_base["low"], to_base["high"]) == pytest.approx((0.2, 0.2, 0.2))
    assert to_base["verdict"] == "better"
    assert to_hybrid["difference"] == pytest.approx(0.1)
    assert 0 < to_hybrid["low"] < 0.1 < to_hybrid["high"] < 0.2


def test_evaluations_of_other_queries_are_refused(tmp_path: Path) -> None:
    values = {name: row[:-1] for name, row in trained(0.1).items()}
    split = split_of(tmp_path / "dev", UNTRAINED, {("human", 1): values})
    with pytest.raises(ValueError, match="arms are compared on the same queries only"):
        split.measured()


def test_of_equal_rows_dev_chooses_the_one_that_takes_no_training(tmp_path: Path) -> None:
    equal = {"trained": UNTRAINED["base"], "hybrid_trained": UNTRAINED["hybrid_base"]}
    assert choose(split_of(tmp_path / "dev", UNTRAINED, {("human", 1): equal}).measured()).name == HYBRID


def test_an_ingredient_is_measured_alone_and_fused_where_both_arms_are_there() -> None:
    arms = [Arm(name="a", sentence=""), Arm(name="b", sentence="", adds={"a": "salt", "absent": "pepper"})]
    assert ingredients(arms) == [("salt", "b", "a"), ("salt", "hybrid(b)", "hybrid(a)")]
    assert ingredients(chosen_arms("base,hybrid", BUILT_IN)) == [
        ("BM25 beside the untrained encoder", "hybrid(base)", "base")
    ]


def test_the_first_sentence_is_of_the_row_that_dev_chose_and_of_what_test_says(tmp_path: Path) -> None:
    cells = {("human", 1): trained(0.1, 0.05), ("llm", 1): trained(0.0, 0.0)}
    worse = {("human", 1): trained(0.1, -0.1), ("llm", 1): trained(0.4, 0.4)}
    splits = {
        "dev": split_of(tmp_path / "dev", UNTRAINED, cells),
        "test": split_of(tmp_path / "test", UNTRAINED, worse),
    }
    content = _content(tmp_path, splits)
    assert content["chosen"] == "hybrid(human)"
    # Against base +.1 and -.1 in turns, against hybrid(base) -.1 on every query.
    said = (
        r"Chosen on dev: hybrid\(human\) \(nDCG@10 0\.550\)\. On test it has 0\.400: no reliable difference "
        r"against base \(.0\.000, -0\.02\d to \+0\.02\d\); worse against hybrid\(base\) "
        r"\(-0\.100, -0\.100 to -0\.100\)\."
    )
    assert re.fullmatch(said, str(content["lead"]))


def test_where_dev_chooses_nothing_trained_it_says_so(tmp_path: Path) -> None:
    splits = {"dev": split_of(tmp_path / "dev", UNTRAINED, {("human", 1): trained(-0.1, -0.1)})}
    lead = _content(tmp_path, splits)["lead"]
    assert lead.startswith("On dev no trained arm is better than hybrid(base) (nDCG@10 0.500)")
    assert lead.endswith("Test has not been read for it.")


def test_where_dev_chooses_bm25_test_is_read_for_it_too(tmp_path: Path) -> None:
    values = UNTRAINED | {"bm25": [0.9] * 60}
    splits = {name: split_of(tmp_path / name, values, {("human", 1): trained(0.1)}) for name in ("dev", "test")}
    lead = _content(tmp_path, splits)["lead"]
    assert lead.startswith("On dev no trained arm is better than BM25 (nDCG@10 0.900)")
    assert "On test it has 0.900: better against base" in str(lead)


@pytest.mark.parametrize(
    ("judge", "note"),
    [
        ({"kind": "asked"}, "The queries and judgements of dev are synthetic"),
        ({"kind": "llm", "model": "tiny"}, "The judge of dev is the LLM tiny and not people."),
    ],
)
def test_whose_judgements_are_no_person_s_is_said(tmp_path: Path, judge: dict[str, str], note: str) -> None:
    splits = {"dev": split_of(tmp_path / "dev", UNTRAINED, {}, judge=judge)}
    assert any(line.startswith(note) for line in _content(tmp_path, splits)["notes"])


def test_an_arm_that_was_changed_after_test_was_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / READS_NAME
    reads = ('"human","seed":1,"encoder":"a"', '"human","seed":2,"encoder":"b"', '"human","seed":1,"encoder":"c"')
    path.write_text("".join(f'{{"arm":{read}}}\n' for read in reads))
    assert read_versions(path) == {"human": 2}
    splits = {"dev": split_of(tmp_path / "dev", UNTRAINED, {})}
    content = content_of(asked(tmp_path, "base"), splits, reads=read_versions(path))
    assert any(note.startswith("Test was read with 2 versions of human") for note in content["notes"])


def _content(folder: Path, splits: dict[str, object]) -> dict[str, object]:
    return content_of(asked(folder, "human,llm"), splits, reads={})  # type: ignore[arg-type]


def test_arms_that_were_trained_in_two_precisions_are_named() -> None:
    content = {"splits": {}, "reads": {}}
    one, other = Cost(precisions=["fp32"]), Cost(precisions=["bf16", "fp32"])
    assert list(_notes(content, {"a": one, "b": one})) == []
    (note,) = _notes(content, {"a": one, "b": other})
    assert note.startswith("Trainings ran in bf16 and fp32, because train.precision is auto")

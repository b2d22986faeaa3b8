"""What does not differ between two arms is one step; what differs is another; and an evaluation belongs to no arm."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipelines.compare.arms import chosen_arms
from pipelines.compare.built_in import BUILT_IN
from pipelines.compare.planning import Given, Planner, in_order, plain_name
from pipelines.settings import SettingsError


def given(folder: Path, arms: str, *, own: Path | None = None, **changes: object) -> Given:
    values = {"encoder": {"checkpoint_uri": "b"}, "annotate": {"llm_uri": "l", "method": "query_likelihood"}}
    folder.mkdir(exist_ok=True)
    (folder / "queries.jsonl").touch()
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    workdir = Path(str(changes.pop("workdir", folder / "work")))
    chosen = chosen_arms(arms, BUILT_IN, own)
    return Given(folder, folder / "params.yaml", workdir, chosen, 2, ("train.loss_temperature=0.05",))


def steps_of(asked: Given, split: str = "dev") -> Counter[str]:
    planner = Planner(asked)
    cells = [planner.cell(arm, seed, split) for seed in planner.seeds() for arm in asked.arms if arm.trains]
    return Counter(step.name for step in in_order(cells))


def test_only_what_an_arm_changes_runs_for_it(tmp_path: Path) -> None:
    counts = steps_of(given(tmp_path, "human,llm,both,teacher"))
    once = ("prepare", "export (base)", "index (base)", "mine", "annotate")
    assert {name: counts[name] for name in once} == dict.fromkeys(once, 1)
    # Four arms with two seeds.
    assert {counts[name] for name in ("train", "export", "index", "evaluate")} == {8}


def test_an_arm_without_the_llm_needs_no_annotations(tmp_path: Path) -> None:
    assert steps_of(given(tmp_path, "human,teacher"))["annotate"] == 0


def test_an_arm_that_mines_otherwise_has_pools_and_labels_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        yaml.safe_dump([{"name": "deep", "sentence": "Deep.", "extends": "llm", "settings": {"mine": {"depth": 500}}}])
    )
    counts = steps_of(given(tmp_path, "llm,deep", own=tmp_path / "own.yaml"))
    assert (counts["export (base)"], counts["mine"], counts["annotate"]) == (1, 2, 2)


def test_two_rounds_mine_with_what_the_first_round_trained_seed_by_seed(tmp_path: Path) -> None:
    asked = given(tmp_path, "two-rounds")
    planner, (both, two_rounds) = Planner(asked), asked.arms
    for seed in planner.seeds():
        first, second = (planner.cell(arm, seed, "dev") for arm in (both, two_rounds))
        miner = next(step for step in second.steps if step.name == "export (miner)")
        trained = next(step for step in first.steps if step.name == "train")
        assert miner.config.checkpoint_uri == trained.config.output_uri
        names = [step.name for step in second.steps]
        assert names.index("train") < names.index("export (miner)") < len(names) - 1 - names[::-1].index("annotate")
    assert steps_of(asked)["annotate"] == 3


def test_no_evaluation_reads_an_arm_s_own_annotations(tmp_path: Path) -> None:
    asked = given(tmp_path, "llm")
    planner = Planner(asked)
    assert planner.cell(asked.arms[0], 1, "dev").evaluation.config.annotations_uri == ""
    judged = planner.cell(asked.arms[0], 1, "dev", judged_by="somebody").evaluation.config
    assert judged.annotations_uri == "somebody"
    assert judged.output_uri != planner.cell(asked.arms[0], 1, "dev").evaluation.config.output_uri


def test_dev_and_test_share_all_but_the_evaluation(tmp_path: Path) -> None:
    asked = given(tmp_path, "human")
    planner = Planner(asked)
    dev, test = (planner.cell(asked.arms[0], 1, split).steps for split in ("dev", "test"))
    assert [step.config.output_uri for step in dev[:-1]] == [step.config.output_uri for step in test[:-1]]
    assert (dev[-1].config.split, test[-1].config.split) == ("dev", "test")
    assert dev[-1].config.output_uri != test[-1].config.output_uri


def test_the_untrained_encoder_is_measured_against_itself_without_training(tmp_path: Path) -> None:
    asked = given(tmp_path, "base,hybrid")
    base, hybrid = (Planner(asked).cell(arm, 0, "test") for arm in asked.arms)
    assert [step.name for step in base.steps] == ["prepare", "export (base)", "index (base)", "evaluate (base)"]
    assert base.evaluation.config.encoder_uri == base.evaluation.config.base_encoder_uri
    assert base.evaluation.config == hybrid.evaluation.config


def test_a_work_folder_that_was_moved_goes_on(tmp_path: Path) -> None:
    names = []
    for workdir in (tmp_path / "here", tmp_path / "there"):
        asked = given(tmp_path, "two-rounds", workdir=workdir)
        cell = Planner(asked).cell(asked.arms[1], 1, "dev")
        names.append([Path(step.config.output_uri).name for step in cell.steps])
    assert names[0] == names[1]


def test_arms_that_need_no_llm_want_none_named(tmp_path: Path) -> None:
    asked = given(tmp_path, "base,human")
    asked.params.write_text(yaml.safe_dump({"encoder": {"checkpoint_uri": "b"}}))
    planner = Planner(asked)
    assert "annotate" not in [step.name for step in planner.cell(asked.arms[1], 1, "test").steps]
    # But nobody else can judge a split that people have not judged.
    with pytest.raises(SettingsError, match=r"annotate\.llm_uri is not set"):
        planner.judging_steps()


def test_every_problem_is_named_with_its_arm_before_anything_runs(tmp_path: Path) -> None:
    own = [{"name": "typo", "sentence": "A typo.", "extends": "llm", "settings": {"mine": {"dpth": 5}}}]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    with pytest.raises(SettingsError, match=r"arm typo: .*unknown setting in section mine: dpth; did you mean depth"):
        Planner(given(tmp_path, "llm,typo", own=tmp_path / "own.yaml"))


def test_a_problem_that_all_arms_share_is_named_once(tmp_path: Path) -> None:
    asked = given(tmp_path, "human,teacher")
    with pytest.raises(SettingsError) as refused:
        Planner(replace(asked, assignments=["train.batch_querys=3"]))
    assert len(refused.value.problems) == 1
    assert "did you mean batch_queries?" in refused.value.problems[0]


def test_a_corpus_without_queries_is_asked_about_for_all_arms_alike(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = given(tmp_path, "human,teacher")
    (tmp_path / "queries.jsonl").unlink()
    asked.params.write_text(yaml.safe_dump({"encoder": {"checkpoint_uri": "b"}, "ask": {"llm_uri": "l"}}))
    assert steps_of(asked)["ask"] == 1
    assert capfd.readouterr().err.count("an LLM will write them") == 1


@pytest.mark.parametrize(
    ("folder", "name"),
    [("checkpoint-0123456789ab", "checkpoint"), ("annotations-0123456789ab-1", "annotations-1"), ("a-b", "a-b")],
)
def test_a_link_is_named_as_in_a_run_s_own_work_folder(folder: str, name: str) -> None:
    assert plain_name(folder) == name

"""Arms are declared, complete, and what is wrong with a declaration is named."""

from pathlib import Path

import pytest
import yaml

from components.train.curriculum import parse_curriculum
from pipelines.cli import PARAMS
from pipelines.compare.arms import Arm, chosen_arms
from pipelines.compare.built_in import BUILT_IN
from pipelines.settings import SettingsError, read_settings


@pytest.mark.parametrize("arm", BUILT_IN, ids=lambda arm: arm.name)
def test_every_built_in_arm_makes_settings_that_can_work(arm: Arm) -> None:
    settings = read_settings(PARAMS / "laptop.yaml", [*arm.assignments, "prepare.collection_uri=x"])
    stages = parse_curriculum(settings["train"]["curriculum"])
    if "curriculum" in arm.settings.get("train", {}):
        assert [stage.name for stage in stages] == [stage["name"] for stage in arm.settings["train"]["curriculum"]]
    # Whoever takes the LLM's word pays for it, and nobody else does.
    if arm.name != "params" and arm.trains:
        takes = any(stage.uses_llm or (stage.uses_teacher and stage.llm_share != 0) for stage in stages)
        assert takes == (settings["annotate"]["judge"] == "llm")


def test_an_ingredient_is_said_of_two_arms_that_are_there() -> None:
    names = {arm.name for arm in BUILT_IN}
    assert {other for arm in BUILT_IN for other in arm.adds} <= names


def test_a_name_that_is_none_is_named_with_a_near_one() -> None:
    with pytest.raises(SettingsError, match=r"--arms teachr: no such arm; did you mean teacher\?"):
        chosen_arms("base,teachr", BUILT_IN)


def test_an_arm_brings_the_arm_that_mines_for_it_and_before_it() -> None:
    assert [arm.name for arm in chosen_arms("two-rounds,base", BUILT_IN)] == ["both", "two-rounds", "base"]


def test_an_own_arm_starts_from_another_and_says_what_differs(tmp_path: Path) -> None:
    rows = [
        {"name": "hot", "sentence": "Hotter.", "extends": "human", "settings": {"train": {"loss_temperature": 0.2}}},
        {"name": "hotter", "sentence": "Hotter still.", "extends": "hot", "adds": {"hot": "heat"}},
    ]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(rows))
    human, hot, hotter = chosen_arms("human,hot,hotter", BUILT_IN, tmp_path / "own.yaml")
    assert hot.settings["train"] == {**human.settings["train"], "loss_temperature": 0.2}
    assert hotter.settings == hot.settings
    assert hotter.adds == {"hot": "heat"}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"sentence": "x"}, "arm 1: name is missing"),
        ({"name": "human", "sentence": "x"}, "name 'human' is that of another arm"),
        ({"name": "a b", "sentence": "x"}, "letters, digits and . . - _ are wanted"),
        ({"name": "a", "sentence": "x", "setings": {}}, "unknown field 'setings'; did you mean settings?"),
        ({"name": "a", "sentence": "x", "extends": "base"}, "extends 'base': no arm that trains"),
        ({"name": "a", "sentence": "x", "settings": {"evaluate": {"depth": 5}}}, "section evaluate is the same"),
        ({"name": "a", "sentence": "x", "settings": {"train": 3}}, "sections with settings are wanted"),
        ({"name": "a", "sentence": "x", "adds": {"nobody": "y"}}, "adds 'nobody': no such arm before it"),
    ],
)
def test_what_is_wrong_with_an_own_arm_is_named(tmp_path: Path, row: dict[str, object], problem: str) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump([row]))
    with pytest.raises(SettingsError, match=problem.replace("?", r"\?")):
        chosen_arms("base", BUILT_IN, tmp_path / "own.yaml")


def test_an_own_arm_says_a_thing_once(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("- {name: a, sentence: x, settings: {train: {seed: 1, seed: 2}}}\n")
    with pytest.raises(SettingsError, match="'seed' stands in line 1 already"):
        chosen_arms("base", BUILT_IN, tmp_path / "own.yaml")


def test_the_variants_of_the_recipe_each_change_one_thing() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "recipes.yaml"
    names = [row["name"] for row in yaml.safe_load(path.read_text())]
    recipe, *variants = chosen_arms(",".join(["teacher+human", *names]), BUILT_IN, path)
    (stage,) = recipe.settings["train"]["curriculum"]
    for variant in variants:
        (own,) = variant.settings["train"]["curriculum"]
        changed = [name for name in stage if own[name] != stage[name]]
        beside = set(variant.settings["train"]) - {"curriculum"}
        assert bool(changed) != bool(beside)
        assert len(changed) <= 1
        assert list(variant.adds) == ["teacher+human"]

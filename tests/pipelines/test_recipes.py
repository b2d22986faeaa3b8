"""The paper's recipes as parameter files: they differ in what the paper varies, and in nothing else."""

from pathlib import Path
from typing import Any

import pytest

from components.annotate.judging.methods import METHODS
from components.train.curriculum import Stage, known_human_share, parse_curriculum
from pipelines.settings import read_settings

_PARAMS = Path(__file__).parents[2] / "pipelines" / "params"
_LLM = Stage("llm", "llm", "disj_infonce", "all", epochs=2, learning_rate=3e-5)
_STAGES: dict[str, list[Stage]] = {
    "msmarco": [_LLM, Stage("human", "human", "disj_infonce", "one", epochs=1, learning_rate=3e-5, human_share=0.2)],
    "msmarco-cl100": [
        _LLM,
        Stage("human", "human", "disj_infonce", "one", epochs=1, learning_rate=3e-5, human_share=1.0),
    ],
    "msmarco-utilsel": [_LLM],
    "msmarco-utilrank": [_LLM],
    "msmarco-replug": [Stage("replug", "llm", "kl_replug", epochs=2, learning_rate=3e-5)],
    "msmarco-interleave": [
        Stage("interleave", "mixed", "disj_infonce", "one", epochs=2, learning_rate=3e-5, human_share=0.2)
    ],
    "msmarco-human": [Stage("human", "human", "infonce", "one", epochs=2, learning_rate=3e-5)],
}
# Beside the curriculum.
_DIFFERENCES: dict[str, dict[str, Any]] = {
    "msmarco-cl100": {},
    "msmarco-utilsel": {"train.denominators": "own_labels"},
    "msmarco-utilrank": {"train.denominators": "own_labels", "annotate.method": "utility_ranking"},
    "msmarco-replug": {
        "train.denominators": "own_labels",
        "annotate.method": "replug",
        "annotate.not_useful": "ignore",
    },
    "msmarco-interleave": {},
    "msmarco-human": {"train.denominators": "own_labels"},
}


# What all recipes share. Source: [ufa] (arXiv 2504.05220), sections 3 and 4: pools of 31 shown in two windows, passages
# cut at 300 words, the top tenth of a ranking; groups of 16, and inner products divided by 1.
_PAPER: dict[str, Any] = {
    "mine.num_bm25": 15,
    "mine.num_dense": 15,
    "mine.human_positive": "include",
    "annotate.window": 16,
    "annotate.passage_words": 300,
    "annotate.rank_share": 0.1,
    "annotate.layout": "paper",
    "train.group_size": 16,
    "train.loss_temperature": 1.0,
}


def flat(name: str) -> dict[str, Any]:
    settings = read_settings(_PARAMS / f"{name}.yaml")
    return {
        f"{section}.{field}": value
        for section, values in settings.items()
        for field, value in values.items()
        if field != "curriculum"
    }


@pytest.mark.parametrize("name", _STAGES)
def test_the_stages_are_the_papers(name: str) -> None:
    assert parse_curriculum(read_settings(_PARAMS / f"{name}.yaml")["train"]["curriculum"]) == _STAGES[name]


@pytest.mark.parametrize("name", _DIFFERENCES)
def test_nothing_else_differs_from_the_twenty_percent_curriculum(name: str) -> None:
    base, recipe = flat("msmarco"), flat(name)
    assert {field: value for field, value in recipe.items() if value != base[field]} == _DIFFERENCES[name]


@pytest.mark.parametrize("name", _STAGES)
@pytest.mark.parametrize(("field", "number"), _PAPER.items())
def test_every_number_is_the_papers(name: str, field: str, number: object) -> None:
    assert flat(name)[field] == number


@pytest.mark.parametrize("name", _STAGES)
def test_a_pool_is_thirty_hard_negatives_and_the_human_positive(name: str) -> None:
    recipe = flat(name)
    assert recipe["mine.num_bm25"] + recipe["mine.num_dense"] == 30
    # Two windows of 16 and 15.
    assert recipe["annotate.window"] * 2 >= 31
    assert recipe["mine.depth"] >= 30


@pytest.mark.parametrize("name", _STAGES)
def test_a_batch_is_sixteen_queries_on_each_of_eight_devices(name: str) -> None:
    assert flat(name)["train.batch_queries"] == 16 * 8


@pytest.mark.parametrize("name", [name for name, stages in _STAGES.items() if not any(s.uses_human for s in stages)])
def test_where_the_paper_uses_no_human_label_none_is_known_to_any_part(name: str) -> None:
    recipe = flat(name)
    assert known_human_share(_STAGES[name]) == 0.0
    assert recipe["train.dev_human_share"] < 0
    assert recipe["train.denominators"] == "own_labels"
    # Selection and ranking have no margins to calibrate, and replug's are not fitted.
    assert not METHODS[recipe["annotate.method"]].is_calibrated


def test_what_the_loss_needs_the_method_gives() -> None:
    for name, stages in _STAGES.items():
        method = METHODS[flat(name)["annotate.method"]]
        assert all(method.gives == "scores" for stage in stages if stage.loss_record.needs_utilities)


@pytest.mark.parametrize("name", _STAGES)
def test_the_backbone_is_the_papers_and_another_retriever_mines(name: str) -> None:
    recipe = flat(name)
    assert (recipe["encoder.checkpoint_uri"], recipe["encoder.pooling"]) == ("Shitao/RetroMAE", "cls")
    assert recipe["miner.checkpoint_uri"] not in ("", recipe["encoder.checkpoint_uri"])


def test_every_recipe_of_ms_marco_is_tested() -> None:
    assert {path.stem for path in _PARAMS.glob("msmarco*.yaml")} == set(_STAGES)

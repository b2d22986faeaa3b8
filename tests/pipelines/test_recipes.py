"""The paper's recipes as parameter files, which differ in what the paper varies and in nothing else."""

from pathlib import Path
from typing import Any

import pytest

from components.train.curriculum import Stage, parse_curriculum
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
        Stage("interleave", "mixed", "disj_infonce", "all", epochs=2, learning_rate=3e-5, human_share=0.2)
    ],
    "msmarco-human": [Stage("human", "human", "infonce", "one", epochs=3, learning_rate=3e-5)],
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


def flat(name: str) -> dict[str, Any]:
    settings = read_settings(_PARAMS / f"{name}.yaml")
    return {
        f"{section}.{field}": value
        for section, its in settings.items()
        for field, value in its.items()
        if field != "curriculum"
    }


@pytest.mark.parametrize("name", _STAGES)
def test_the_stages_are_the_papers(name: str) -> None:
    assert parse_curriculum(read_settings(_PARAMS / f"{name}.yaml")["train"]["curriculum"]) == _STAGES[name]


@pytest.mark.parametrize("name", _DIFFERENCES)
def test_nothing_else_differs_from_the_twenty_percent_curriculum(name: str) -> None:
    base, its = flat("msmarco"), flat(name)
    assert {field: value for field, value in its.items() if value != base[field]} == _DIFFERENCES[name]


def test_every_recipe_of_ms_marco_is_tested() -> None:
    assert {path.stem for path in _PARAMS.glob("msmarco*.yaml")} == set(_STAGES)

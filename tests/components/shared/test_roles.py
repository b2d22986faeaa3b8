"""Every field of every config declares what it is, in a full sentence, and a config refuses what cannot work."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from components.evaluate.suites.cells import CellConfig
from components.evaluate.suites.config import SuiteConfig
from components.prepare.config import DocsConfig
from components.serve.config import ServeConfig
from components.shared.identity import settings
from components.shared.roles import (
    FLOW,
    INPUT,
    OPERATION,
    OUTPUT,
    PLACE,
    SETTING,
    Role,
    above,
    at_least,
    at_most,
    below,
    hint,
    names,
    problems,
    refuse,
    role_of,
    sections_value,
    values,
)
from pipelines.flow import SECTIONS
from pipelines.kubeflow import field_sentences

_CONFIGS = [*dict.fromkeys(SECTIONS.values()), DocsConfig, ServeConfig, SuiteConfig, CellConfig]
every_config = pytest.mark.parametrize("config", _CONFIGS, ids=lambda config: config.__name__)


@every_config
def test_every_field_declares_one_role(config: type[Any]) -> None:
    for declared in dataclasses.fields(config):
        assert role_of(declared) in Role


@every_config
def test_every_field_has_a_full_sentence(config: type[Any]) -> None:
    sentences = field_sentences(config)
    for declared in dataclasses.fields(config):
        sentence = sentences[declared.name]
        assert sentence[-1] == ".", (declared.name, sentence)
        assert len(sentence.split()) >= 3, (declared.name, sentence)


@every_config
def test_a_field_named_for_an_address_is_no_setting_but_where_it_says_that_it_decides(config: type[Any]) -> None:
    for name in names(config, Role.SETTING, Role.FLOW):
        assert not name.endswith("_uri") or config.__dataclass_fields__[name].metadata.get("address"), name


@dataclass(frozen=True, kw_only=True)
class _Config:
    dataset_uri: str = field(default="d", metadata=INPUT)
    output_uri: str = field(default="o", metadata=OUTPUT)
    journal_uri: str = field(default="", metadata=PLACE)
    seed: int = field(default=42, metadata=SETTING)
    share: float = field(default=0.5, metadata=SETTING | above(0) | at_most(1))
    kind: Literal["a", "b"] = field(default="a", metadata=SETTING)
    held_rows: int = field(default=8, metadata=OPERATION | at_least(0) | below(100))
    shard: int = field(default=0, metadata=FLOW)


@pytest.mark.parametrize(
    ("role", "fields"),
    [
        (Role.INPUT, ["dataset_uri"]),
        (Role.OUTPUT, ["output_uri"]),
        (Role.PLACE, ["journal_uri"]),
        (Role.SETTING, ["seed", "share", "kind"]),
        (Role.OPERATION, ["held_rows"]),
        (Role.FLOW, ["shard"]),
    ],
)
def test_fields_are_found_by_their_role(role: Role, fields: list[str]) -> None:
    assert names(_Config, role) == fields
    assert list(values(_Config(), role)) == fields


def test_settings_and_what_the_flow_fills_make_the_identity_and_nothing_else_does() -> None:
    assert settings(_Config()) == {"seed": 42, "share": 0.5, "kind": "a", "shard": 0}
    unlike = {"output_uri": "x", "journal_uri": "x", "held_rows": 1, "dataset_uri": "moved"}
    assert settings(_Config(**unlike)) == settings(_Config())


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"share": 0.0}, "share 0.0: must be above 0"),
        ({"share": 1.5}, "share 1.5: must be at most 1"),
        ({"share": float("nan")}, "share nan: must be above 0"),
        ({"share": "half"}, "share 'half': is not a number"),
        ({"kind": "c"}, "kind 'c': is none of a, b"),
        ({"held_rows": -1}, "held_rows -1: must be at least 0"),
        ({"held_rows": 100}, "held_rows 100: must be below 100"),
        ({"seed": 1.5}, "seed 1.5: is not of type int"),
        ({"seed": True}, "seed True: is not of type int"),
    ],
)
def test_a_value_that_cannot_work_is_named(change: dict[str, Any], line: str) -> None:
    assert list(problems(_Config(**change))) == [line]


def test_all_problems_of_a_config_come_in_one_error() -> None:
    with pytest.raises(ValueError, match="share 2: must be at most 1\nkind 'x': is none of a, b\nmore than that"):
        refuse(_Config(share=2, kind="x"), "more than that")


def test_a_hint_is_what_its_reader_can_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRIEVER_SECTIONS", raising=False)
    assert hint("passage_tokens", 64) == "--passage-tokens 64"
    owners = {"passage_tokens": "encoder", "seed": "train"}
    monkeypatch.setenv("RETRIEVER_SECTIONS", sections_value(owners, "train"))
    assert json.loads(sections_value(owners, "train")) == {"": "train", "passage_tokens": "encoder"}
    assert hint("passage_tokens", 64) == "--set encoder.passage_tokens=64"
    assert hint("seed", 1) == "--set train.seed=1"

"""The curriculum's YAML: what it means and how mistakes are named."""

import pytest

from components.train.config import DEFAULT_CURRICULUM
from components.train.curriculum import Stage, parse_curriculum


def test_the_default_is_the_papers_twenty_percent_curriculum() -> None:
    first, second = parse_curriculum(DEFAULT_CURRICULUM)
    assert first == Stage("llm", "llm", "disj_infonce", "all", epochs=2, learning_rate=3e-5)
    assert second == Stage("human", "human", "disj_infonce", "one", epochs=1, learning_rate=3e-5, human_share=0.2)


def test_a_number_without_a_point_is_a_number() -> None:
    (stage,) = parse_curriculum("[{name: a, labels: llm, learning_rate: 3e-5}]")
    assert stage.learning_rate == 3e-5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "curriculum: not YAML"),
        ("", "curriculum: no stages"),
        ("{name: llm}", "curriculum: no stages"),
        ("[llm]", "curriculum stage 1: 'llm' is not a mapping"),
        ("[{name: a}]", r"curriculum stage 1: \['labels'\] missing"),
        ("[{name: a, labels: gpt}]", "curriculum stage 1: labels 'gpt'; known are llm, human, mixed"),
        ("[{name: a, labels: llm}, {name: b, labels: llm, los: x}]", r"curriculum stage 2: unknown fields \['los'\]"),
        (
            "[{name: a, labels: llm, loss: hinge}]",
            "loss 'hinge'; known are disj_infonce, conj_infonce, infonce, lsepair, kl_replug",
        ),
        ("[{name: a, labels: llm, positives: two}]", "positives 'two'; known are one, avg, all"),
        ("[{name: a, labels: human, human_share: 20}]", "human_share above 0 and at most 1"),
        ("[{name: a, labels: llm, epochs: 0}]", "epochs must be whole and at least 1"),
        ("[{name: a, labels: llm, epochs: 1.5}]", "epochs must be whole and at least 1"),
        ("[{name: a, labels: llm, epochs: many}]", "epochs 'many' is not a number"),
        ("[{name: a, labels: llm, ignore: drop}]", "ignore 'drop'; known are mask, negative"),
        ("[{name: a, labels: llm, utility_temperature: 0}]", "learning_rate and utility_temperature must be above 0"),
    ],
)
def test_a_mistake_is_named_with_its_stage(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_curriculum(text)

"""The curriculum's YAML: what it means and how mistakes are named."""

from dataclasses import fields

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from components.train.config import DEFAULT_CURRICULUM
from components.train.curriculum import Stage, known_human_share, parse_curriculum


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
        ("[{name: a, labels: llm, name: b}]", "'name' stands in line 1 already; delete one of the two"),
        ("", "curriculum: no stages"),
        ("{name: llm}", "curriculum: no stages"),
        ("[llm]", "curriculum stage 1: 'llm' is not a mapping"),
        ("[{name: a}]", "curriculum stage 1: labels is missing"),
        ("[{labels: llm}]", "curriculum stage 1: name is missing"),
        ("[{name: 3, labels: llm}]", "name 3 is not a word"),
        ("[{name: ' ', labels: llm}]", "name ' ' is not a word"),
        ("[{name: a, labels: gpt}]", "curriculum stage 1: labels 'gpt'; known are llm, human, mixed"),
        ("[{name: a, labels: humans}]", r"labels 'humans' \(did you mean human\?\)"),
        ("[{name: a, labels: [llm]}]", r"labels \['llm'\].*known are llm, human, mixed"),
        (
            "[{name: a, labels: llm}, {name: b, labels: llm, los: x}]",
            r"stage 2: unknown field 'los' \(did you mean loss",
        ),
        ("[{name: a, labels: llm, 5: x}]", "unknown field '5'; known are name, labels, loss"),
        ("[{name: a, labels: llm, loss: hinge}]", "known are disj_infonce, conj_infonce, infonce, lsepair, kl_replug"),
        ("[{name: a, labels: llm, loss: disj_infoNCE}]", r"\(did you mean disj_infonce\?\)"),
        ("[{name: a, labels: llm, loss: replug}]", r"\(did you mean kl_replug\?\)"),
        ("[{name: a, labels: llm, positives: two}]", "positives 'two'.*known are one, avg, all"),
        ("[{name: a, labels: llm, positives: al}]", r"positives 'al' \(did you mean all\?\)"),
        ("[{name: a, labels: human, human_share: 20}]", "human_share 20 must be from 0 to 1"),
        (
            "[{name: a, labels: human, human_share: 0}]",
            "human_share 0 leaves labels 'human' nothing; it must be above 0 and at most 1",
        ),
        ("[{name: a, labels: human, human_share: .nan}]", "human_share nan is not a number"),
        ("[{name: a, labels: human, human_share: yes}]", "human_share True is not a number"),
        ("[{name: a, labels: llm, epochs: 0}]", "epochs 0 must be whole and at least 1"),
        ("[{name: a, labels: llm, epochs: 1.5}]", "epochs 1.5 must be whole and at least 1"),
        ("[{name: a, labels: llm, epochs: .inf}]", "epochs inf must be whole and at least 1"),
        ("[{name: a, labels: llm, epochs: many}]", "epochs 'many' is not a number; it must be whole and at least 1"),
        (f"[{{name: a, labels: llm, epochs: 1{'0' * 400}}}]", "epochs 10+ is not a number"),
        ("[{name: a, labels: llm, learning_rate: -1e-5}]", "learning_rate '-1e-5' must be above 0"),
        ("[{name: a, labels: llm, ignore: drop}]", "ignore 'drop'; known are mask, negative"),
        ("[{name: a, labels: llm, loss: kl_replug, utility_temperature: 0}]", "utility_temperature 0 must be above 0"),
        ("[{name: a, labels: llm}, {name: a, labels: human}]", "2 stages have the name 'a'; give each its own"),
    ],
)
def test_a_mistake_is_named_with_its_stage(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_curriculum(text)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("labels: human, loss: kl_replug", "learns from the LLM's scores, which labels 'human' do not have"),
        ("labels: mixed, loss: kl_replug", "use labels: llm, or one of the losses disj_infonce, conj_infonce, infonce"),
        ("labels: llm, human_share: 0.2", "human_share has no effect on labels 'llm'"),
        ("labels: llm, loss: disj_infonce, utility_temperature: 2", "utility_temperature has no effect on the loss"),
        ("labels: human, utility_temperature: 2", "utility_temperature has no effect on the loss disj_infonce"),
        ("labels: llm, loss: infonce, positives: avg", "takes one positive a query, not positives: avg"),
    ],
)
def test_what_cannot_work_together_is_refused(stage: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"curriculum stage 1: .*{message}"):
        parse_curriculum(f"[{{name: a, {stage}}}]")


@pytest.mark.parametrize(
    "stage",
    [
        "labels: llm, loss: kl_replug, utility_temperature: 0.5",
        "labels: llm, human_share: 1",
        "labels: mixed, human_share: 0.2, positives: one",
        "labels: llm, loss: infonce, positives: one",
        "labels: human, human_share: 1.0e-3, ignore: negative",
        "labels: llm, epochs: 2.0",
    ],
)
def test_what_can_work_together_is_taken(stage: str) -> None:
    (parsed,) = parse_curriculum(f"[{{name: a, {stage}}}]")
    assert isinstance(parsed.epochs, int)


def test_every_problem_of_every_stage_is_found_at_once() -> None:
    text = """
    - {name: a, labels: gpt, loss: hinge, epochs: none}
    - {labels: human, loss: kl_replug}
    - {name: c, labels: mixed, loss: kl_replug}
    - 7
    - {name: c, labels: llm}
    """
    with pytest.raises(ValueError, match="curriculum") as refused:
        parse_curriculum(text)
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *["curriculum stage 1"] * 3,
        "curriculum stage 2",
        "curriculum stage 3",
        "curriculum stage 4",
        "curriculum",
    ]


def test_a_run_knows_the_largest_human_share_of_its_stages() -> None:
    llm, fifth, half = Stage("a", "llm"), Stage("b", "human", human_share=0.2), Stage("c", "mixed", human_share=0.5)
    assert known_human_share([llm]) == 0.0
    assert known_human_share([llm, fifth]) == 0.2
    assert known_human_share([half, llm, fifth]) == 0.5


def stages_or_problems(text: str) -> list[Stage] | str:
    try:
        return parse_curriculum(text)
    except ValueError as error:
        return str(error)


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["llm", "human", "mixed", "kl_replug", "infonce", "one", "avg", "mask", "3e-5", "x"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            _VALUES,
            st.dictionaries(st.sampled_from([field.name for field in fields(Stage)] + ["x"]), _VALUES, max_size=9),
        ),
        max_size=3,
    )
)
def test_any_yaml_gives_stages_or_says_what_is_wrong(rows: list[object]) -> None:
    outcome = stages_or_problems(yaml.safe_dump(rows))
    if isinstance(outcome, str):
        assert outcome.startswith("curriculum")
    else:
        assert len(outcome) == len(rows)
        assert all(stage.epochs >= 1 and 0 <= stage.human_share <= 1 for stage in outcome)

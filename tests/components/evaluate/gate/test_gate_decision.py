import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from components.evaluate.gate.decision import Evidence, check_quality, decide
from components.evaluate.gate.policy import DEFAULT_POLICY, Policy, read_policy
from components.shared.contract.verdict import write_decision

QUALITY = Policy(candidate="new", production="old", max_loss=0.01)


def production_of(num_queries: int, seed: int = 0) -> np.ndarray:
    """Values as nDCG@10 has them: some 0, some 1, most between."""
    generator = np.random.default_rng(seed)
    return np.clip(generator.normal(0.65, 0.4, num_queries), 0, 1)


def seed_noise(production: np.ndarray, seed: int = 1) -> np.ndarray:
    """The same encoder with another seed: a third of the queries move, as often up as down."""
    generator = np.random.default_rng(seed)
    moved = generator.random(len(production)) < 1 / 3
    return np.clip(production + moved * generator.normal(0, 0.1, len(production)), 0, 1)


def evidence_of(candidate: np.ndarray, production: np.ndarray, **changes: object) -> Evidence:
    evidence = Evidence("scifact", "nDCG@10", candidate, production, None, True, 0.99, 12.0)
    return replace(evidence, **changes)


def test_another_seed_of_the_same_encoder_passes() -> None:
    production = production_of(3000)
    decision = decide(QUALITY, [evidence_of(seed_noise(production), production)])
    assert decision.passed, decision.reasons


def test_a_planted_regression_of_3_percent_fails() -> None:
    production = production_of(3000)
    decision = decide(QUALITY, [evidence_of(0.97 * seed_noise(production), production)])
    assert (decision.verdict, decision.checks[0].outcome) == ("fail", "fail")
    assert "loses more than is allowed" in decision.reasons[0]


def test_a_regression_on_one_of_three_collections_fails() -> None:
    production = production_of(3000)
    good = evidence_of(seed_noise(production), production)
    bad = replace(good, collection="wiki", candidate=0.97 * good.candidate)
    decision = decide(QUALITY, [good, bad, replace(good, collection="climate")])
    assert [check.outcome for check in decision.checks] == ["pass", "fail", "pass"]
    assert [reason.partition(":")[0] for reason in decision.reasons] == ["wiki"]


def test_too_few_queries_let_nothing_through_unless_the_policy_says_so() -> None:
    production = production_of(30)
    evidence = [evidence_of(seed_noise(production), production)]
    decision = decide(QUALITY, evidence)
    assert (decision.verdict, decision.checks[0].outcome) == ("fail", "unclear")
    assert "30 queries are too few to tell" in decision.reasons[0]
    assert decide(replace(QUALITY, when_unclear="pass"), evidence).passed


def test_the_bound_is_that_of_a_one_sided_t_test() -> None:
    production = production_of(200)
    candidate = seed_noise(production)
    for max_loss in (0.0, 0.005, 0.02):
        p_value = stats.ttest_1samp(candidate - (1 - max_loss) * production, 0.0, alternative="greater").pvalue
        check = check_quality(evidence_of(candidate, production), max_loss=max_loss, confidence=0.95)
        assert (check.outcome == "pass") == (p_value <= 0.05)


def test_topics_make_the_bound_wider() -> None:
    generator = np.random.default_rng(2)
    production = np.full(400, 0.5)
    # Ten queries of a topic move together.
    candidate = production + np.repeat(generator.normal(0, 0.03, 40), 10)
    alone = check_quality(evidence_of(candidate, production), max_loss=0.01, confidence=0.95)
    topics = np.repeat(np.arange(40), 10)
    together = check_quality(evidence_of(candidate, production, topics=topics), max_loss=0.01, confidence=0.95)
    assert alone.value is not None
    assert together.value is not None
    assert together.value < alone.value


def test_one_query_proves_nothing() -> None:
    check = check_quality(evidence_of(np.array([0.9]), np.array([0.9])), max_loss=0.01, confidence=0.95)
    assert check.outcome == "unclear"


def test_equal_systems_pass_whatever_their_number() -> None:
    production = np.ones(5)
    assert decide(QUALITY, [evidence_of(production, production)]).passed


def test_every_other_rule_has_its_limit_and_its_reason() -> None:
    values = production_of(50)
    policy = Policy(
        candidate="new", production="old", min_recall=0.95, max_p95_ms=20.0, max_synthetic_share=0.5, max_loss=None
    )
    good, bad = evidence_of(values, values), evidence_of(values, values, index_recall=0.9, p95_ms=21.0, is_human=False)
    assert decide(policy, [good]).passed
    decision = decide(policy, [bad])
    assert decision.reasons == [
        "scifact: the index's recall is 0.9, asked is at least 0.95",
        "scifact: the 95th percentile of the milliseconds of a query is 21, asked is at most 20",
        "100 % of 50 judged queries were judged by no person, allowed are 50 %",
    ]
    # Half of the queries are people's.
    assert decide(replace(policy, min_recall=None, max_p95_ms=None), [good, bad]).passed


def test_what_was_not_measured_does_not_pass() -> None:
    values = production_of(50)
    decision = decide(
        Policy(candidate="new", production="old", min_recall=0.95, max_p95_ms=20.0),
        [evidence_of(values, values, index_recall=None, p95_ms=None)],
    )
    assert len(decision.reasons) == 2
    assert all("was not measured" in reason for reason in decision.reasons)


def test_a_workflow_reads_one_word_and_people_read_reasons(tmp_path: Path) -> None:
    production = production_of(3000)
    decision = decide(QUALITY, [evidence_of(0.9 * production, production)])
    write_decision(tmp_path, decision.as_json())
    assert (tmp_path / "gate.txt").read_bytes() == b"fail"
    written = json.loads((tmp_path / "gate.json").read_text())
    assert (written["passed"], written["verdict"], written["candidate"]) == (False, "fail", "new")
    assert written["reasons"] == decision.reasons
    assert written["policy"]["max_loss"] == 0.01


def test_the_default_policy_is_readable_and_strict() -> None:
    policy = read_policy()
    assert (policy.candidate, policy.production, policy.when_unclear) == ("trained", "base", "fail")
    assert (policy.max_loss, policy.min_recall, policy.max_synthetic_share, policy.max_p95_ms) == (0.01, 0.95, 0, None)
    assert DEFAULT_POLICY.is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("candidate = 1", "candidate is missing"),
        ('candidate = "a"', "production is missing"),
        ('candidate = "a"\nproduction = "b"\n[speed]\n', "unknown table 'speed'; known are quality"),
        ('candidate = "a"\nproduction = "b"\n[quality]\nloss = 1\n', r"\[quality\] unknown 'loss'"),
        ('candidate = "a"\nproduction = "b"\n[quality]\nmax_loss = 1.5\n', "max_loss = 1.5: must lie between 0 and 1"),
        ('candidate = "a"\nproduction = "b"\n[quality]\nmax_loss = "1"\n', "must be a number"),
        ('candidate = "a"\nproduction = "b"\n[quality]\nwhen_unclear = "maybe"\n', "must be fail or pass"),
        ('candidate = "a"\nproduction = "b"\n[latency]\nmax_p95_ms = 0\n', "must be above 0"),
        ("candidate =", "not a policy file"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_policy(str(path))
    with pytest.raises(ValueError, match="no such policy file"):
        read_policy(str(tmp_path / "none.toml"))

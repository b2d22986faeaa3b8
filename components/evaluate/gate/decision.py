"""The decision: every rule of a policy held against what was measured, each with its reason as a sentence.

The rule of quality is a test of non-inferiority: the candidate passes where the confidence bound of what it loses lies
within what the policy allows, so that too few queries let nothing through by their number alone. Asking for it on every
collection needs no correction: the chance to let a worse one through is that of the collection where it is worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from components.evaluate.gate.policy import Policy
from components.shared.measuring.statistics import Differences, Topics, standard_error

Outcome = Literal["pass", "fail", "unclear"]


@dataclass(frozen=True)
class Evidence:
    """What was measured on one collection.

    Attributes:
        collection: Its name.
        measure: The primary measure.
        candidate: Values of each judged query.
        production: Of the same queries.
        topics: Topic of each query; None: each is its own.
        is_human: Whether people judged the queries.
        index_recall: Of the candidate's index against exact search; 1 where it has none to lose hits in; None: unknown.
        p95_ms: Of the candidate's latency; None: not measured.
    """

    collection: str
    measure: str
    candidate: Differences
    production: Differences
    topics: Topics | None
    is_human: bool
    index_recall: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class Check:
    """One rule on one collection, or on all; `value` and `limit` are what was compared."""

    rule: str
    collection: str
    outcome: Outcome
    reason: str
    value: float | None
    limit: float


@dataclass(frozen=True)
class Decision:
    """Whether the candidate may take production's place, and why."""

    passed: bool
    candidate: str
    production: str
    checks: tuple[Check, ...]
    policy: Policy

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        """The word for a condition of a workflow."""
        return "pass" if self.passed else "fail"

    @property
    def reasons(self) -> list[str]:
        """The sentences that decided: of what failed, else of everything."""
        stopped = [check.reason for check in self.checks if not _lets_through(check, self.policy)]
        return stopped or [check.reason for check in self.checks]

    def as_json(self) -> dict[str, Any]:
        """What gate.json holds."""
        return {
            "verdict": self.verdict,
            "passed": self.passed,
            "candidate": self.candidate,
            "production": self.production,
            "reasons": self.reasons,
            "checks": [asdict(check) for check in self.checks],
            "policy": asdict(self.policy),
        }


def decide(policy: Policy, evidence: Sequence[Evidence]) -> Decision:
    """Holds every rule against every collection."""
    checks = [check for of_collection in evidence for check in _checks(policy, of_collection)]
    if policy.max_synthetic_share is not None:
        checks.append(_check_judgements(policy.max_synthetic_share, evidence))
    passed = all(_lets_through(check, policy) for check in checks)
    return Decision(passed, policy.candidate, policy.production, tuple(checks), policy)


def _lets_through(check: Check, policy: Policy) -> bool:
    return check.outcome == "pass" or (check.outcome == "unclear" and policy.when_unclear == "pass")


def _checks(policy: Policy, evidence: Evidence) -> Iterator[Check]:
    if policy.max_loss is not None:
        yield check_quality(evidence, max_loss=policy.max_loss, confidence=policy.confidence)
    if policy.min_recall is not None:
        yield _check_bound("index", evidence.collection, "the index's recall", evidence.index_recall, policy.min_recall)
    if policy.max_p95_ms is not None:
        what = "the 95th percentile of the milliseconds of a query"
        yield _check_bound("latency", evidence.collection, what, evidence.p95_ms, policy.max_p95_ms, most=True)


def check_quality(evidence: Evidence, *, max_loss: float, confidence: float) -> Check:
    """Whether the candidate keeps all but the allowed share of production's mean, by a one-sided paired t-test.

    Source: Schuirmann 1987, the one-sided half of the two one-sided tests procedure.
    """
    margins = evidence.candidate - (1 - max_loss) * evidence.production
    low, high = _bounds(margins, evidence.topics, confidence)
    outcome: Outcome = "pass" if low >= 0 else "fail" if high < 0 else "unclear"
    before, after = float(np.mean(evidence.production)), float(np.mean(evidence.candidate))
    # The bound of the margin, back on the scale of what is lost.
    worst = min(1.0, max_loss - low / before) if before > 0 else 0.0
    change = f"{evidence.measure} {before:.3f} -> {after:.3f}" + (
        f" ({_signed(after / before - 1)})" if before > 0 else ""
    )
    said = {
        "pass": "loses at most",
        "fail": "loses more than is allowed; at most",
        "unclear": "may lose as much as",
    }[outcome]
    reason = (
        f"{evidence.collection}: {change}; with {_percent(confidence)} confidence the candidate {said} "
        f"{_percent(max(worst, 0.0))} of production's value, allowed are {_percent(max_loss)}"
    )
    if outcome == "unclear":
        reason += f"; {len(margins)} queries are too few to tell"
    return Check("quality", evidence.collection, outcome, reason, -worst, -max_loss)


def _bounds(margins: Differences, topics: Topics | None, confidence: float) -> tuple[float, float]:
    """One-sided lower and upper bound of the mean margin."""
    mean = float(np.mean(margins))
    if len(margins) < 2:
        return -np.inf, np.inf
    if np.ptp(margins) <= 1e-12:
        return mean, mean
    error = standard_error(margins, topics)
    if not np.isfinite(error):
        return -np.inf, np.inf
    num_units = len(margins) if topics is None else int(topics.max()) + 1
    reach = float(stats.t.ppf(confidence, num_units - 1)) * error
    return mean - reach, mean + reach


def _check_bound(
    rule: str, collection: str, what: str, value: float | None, limit: float, *, most: bool = False
) -> Check:
    asked = f"{'at most' if most else 'at least'} {limit:g}"
    if value is None:
        return Check(rule, collection, "fail", f"{collection}: {what} was not measured, asked is {asked}", None, limit)
    outcome: Outcome = "pass" if (value <= limit if most else value >= limit) else "fail"
    return Check(rule, collection, outcome, f"{collection}: {what} is {value:.4g}, asked is {asked}", value, limit)


def _check_judgements(limit: float, evidence: Sequence[Evidence]) -> Check:
    total = sum(len(of_collection.candidate) for of_collection in evidence)
    synthetic = sum(len(of_collection.candidate) for of_collection in evidence if not of_collection.is_human)
    share = synthetic / total
    reason = f"{_percent(share)} of {total:,} judged queries were judged by no person, allowed are {_percent(limit)}"
    return Check("judgements", "all", "pass" if share <= limit else "fail", reason, share, limit)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} %"

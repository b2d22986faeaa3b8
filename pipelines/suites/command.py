"""`retriever evaluate` and `retriever gate`: what a person reads at the end, and the exit code that a script reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from components.shared.launch import EXIT_OK

# The evaluation went well and the candidate may not take production's place: no error, and not success either.
EXIT_GATE = 1


def evaluate(suite: Path, workdir: Path = Path(".retriever/suite"), policy: Path | None = None) -> int:
    """Measures any number of systems on any number of collections, as a suite file declares them.

    What the suite names and nobody has made yet (datasets, encoders, indexes) is made first. A system that was searched
    on a collection is not searched there again. Ends with 1 where the policy lets the candidate not pass.

    Args:
        suite: Suite file, TOML; components/evaluate/suites/suite.py says what stands in it.
        workdir: Where everything goes; a second run continues there, or does only what changed.
        policy: Policy file, TOML, such as components/evaluate/gate/policy.toml: what the candidate must show.
    """
    text, code = run_suite(suite, workdir, policy)
    print(text)
    return code


def gate(evaluation: Path = Path(".retriever/run/evaluation")) -> int:
    """Says whether the candidate of an evaluation may take production's place; ends with 0 if so, else with 1.

    Args:
        evaluation: Folder that an evaluation with a gate wrote.
    """
    text, code = read_gate(evaluation)
    print(text)
    return code


def run_suite(suite: Path, workdir: Path, policy: Path | None) -> tuple[str, int]:
    """Makes what is missing, evaluates, and gives the text for the terminal and the exit code.

    Raises:
        ValueError: Where the suite or the policy file is wrong.
        StepError: Where a step failed.
    """
    # Imported here: the measures' library takes a moment that no other command should pay.
    from components.evaluate.suites.wording import markdown
    from pipelines.local import run_steps
    from pipelines.suites.plan import EVALUATION, plan_suite

    run_steps(plan_suite(str(suite), workdir, policy_uri=str(policy) if policy is not None else ""))
    folder = workdir / EVALUATION
    figures: dict[str, Any] = orjson.loads((folder / "metrics.json").read_bytes())
    text = f"{markdown(figures)}\nreport: {(folder / 'report.html').resolve()}"
    passed = figures["gate"]["passed"] if figures["gate"] is not None else True
    return text, EXIT_OK if passed else EXIT_GATE


def read_gate(evaluation: Path) -> tuple[str, int]:
    """The verdict and the reasons of a finished evaluation, and the exit code that says the same.

    Raises:
        ValueError: Where the evaluation has no gate.
    """
    from components.shared.contract.verdict import DECISION_NAME

    path = evaluation / DECISION_NAME
    if not path.is_file():
        raise ValueError(f"{path}: no gate was decided here; give a policy file (retriever evaluate --policy ...)")
    decided: dict[str, Any] = orjson.loads(path.read_bytes())
    text = "\n".join([f"gate: {decided['verdict']}", *(f"- {reason}" for reason in decided["reasons"])])
    return text, EXIT_OK if decided["passed"] else EXIT_GATE

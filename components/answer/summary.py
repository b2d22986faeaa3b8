"""The content of metrics.json: means, comparisons, counts and costs, and what they say in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from components.answer.asking import Answered
from components.answer.chosen import BOUNDS, CLOSED_BOOK, ORACLE, Chosen
from components.answer.config import AnswerConfig
from components.answer.reading import OUTCOMES
from components.answer.scoring.table import BLEU, Scores, Table
from components.shared.calls.tally import Tally, prices_of
from components.shared.manifest import read_manifest

# Below this share of answers that could be read the page says that the LLM may be too small.
_FEW_READ = 0.8


def summarise(
    config: AnswerConfig,
    chosen: Chosen,
    answered: Sequence[Answered],
    scores: Mapping[str, Scores],
    named: Mapping[str, str],
    model: str,
) -> dict[str, Any]:
    """Everything but the costs; `named` are the measures and what exactly each is of."""
    table = Table(
        scores,
        measures=[measure for measure in named if measure != BLEU],
        num_resamples=config.num_resamples,
        confidence=config.confidence,
        seed=config.seed,
    )
    first = next((name for name in scores if name not in BOUNDS), ORACLE if ORACLE in scores else CLOSED_BOOK)
    comparisons = [asdict(row) for row in table.comparisons(first, primary=config.primary)]
    systems = {name: {measure: asdict(of) for measure, of in row.items()} for name, row in table.systems().items()}
    metrics: dict[str, Any] = {
        "model": model,
        "split": config.split,
        "num_queries": len(chosen.queries),
        "num_in_split": chosen.num_in_split,
        "num_with_answers": chosen.num_with_answers,
        "num_answerable": chosen.num_answerable,
        "num_passages": config.num_passages,
        "primary": config.primary,
        "confidence": config.confidence,
        "first": first,
        "systems": systems,
        "comparisons": comparisons,
        "signatures": dict(named),
        "outcomes": _outcomes(answered),
    }
    return {**metrics, "headline": _headline(metrics), "notes": list(_notes(config, metrics))}


def costs(config: AnswerConfig, answered: Sequence[Answered], tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """Tokens of all calls behind the answers, whoever made them first, and what this artifact itself paid for."""
    calls = {one.call: one for one in answered if one.call}.values()
    total = Tally()
    for tally in tallies.values():
        total = total.plus(tally)
    return {
        "prompt_tokens": sum(one.prompt_tokens for one in calls),
        "completion_tokens": sum(one.completion_tokens for one in calls),
        "engine_seconds": round(sum(one.engine_seconds for one in calls), 3),
        "num_calls": len(calls),
        "paid": {template: asdict(tally) for template, tally in sorted(tallies.items())},
        "dollars": total.dollars(prices_of(config)),
    }


def flat(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Means for the manifest, such as `trained_F1`."""
    return {
        f"{system}_{measure}": of["mean"] for system, row in metrics["systems"].items() for measure, of in row.items()
    }


def _outcomes(answered: Sequence[Answered]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for one in answered:
        counts.setdefault(one.system, Counter())[one.reading.outcome] += 1
    return {system: {outcome: count[outcome] for outcome in OUTCOMES} for system, count in counts.items()}


def _headline(metrics: Mapping[str, Any]) -> str:
    first, primary, systems = metrics["first"], metrics["primary"], metrics["systems"]
    others = [f"{systems[name][primary]['mean']:.1f} {_words(name)}" for name in systems if name != first]
    passages = "" if first in BOUNDS else f" from the first {metrics['num_passages']} passages of {first}"
    beside = f"; {', '.join(others)}" if others else ""
    of = systems[first][primary]
    interval = f"{100 * metrics['confidence']:.0f} % interval {of['low']:.1f} to {of['high']:.1f}"
    return f"{primary} {of['mean']:.1f} ({interval}) on {metrics['num_queries']:,} queries{passages}{beside}."


def _words(name: str) -> str:
    words = {CLOSED_BOOK: "without any passage", ORACLE: "from the known positives"}
    return words.get(name, f"from {name}")


def _notes(config: AnswerConfig, metrics: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before believing the numbers."""
    teachers = {str(read_manifest(uri).metrics.get("model", "")) for uri in config.annotations_uri.split(",") if uri}
    if metrics["model"] in teachers:
        yield (
            f"The LLM that answers, {metrics['model']}, also made the labels that the retriever was trained on: "
            "passages that this model likes may look better than they are. Answer with another model to be sure."
        )
    read = sum(row["ok"] + row["repaired"] + row["truncated"] for row in metrics["outcomes"].values())
    total = sum(sum(row.values()) for row in metrics["outcomes"].values())
    if read < _FEW_READ * total:
        yield (
            f"Only {read:,} of {total:,} replies held an answer; the others count as wrong. The LLM may be too small, "
            "or answer_tokens too few."
        )

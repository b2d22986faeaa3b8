"""The content of metrics.json: means, comparisons, counts, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ir_measures import Measure

from components.evaluate import summary
from components.evaluate.config import EvaluateConfig
from components.evaluate.judgements import Judgements
from components.evaluate.measures import curve_measures, signature
from components.evaluate.runs import SystemRun
from components.shared.measuring.statistics import compare

# The first is what the evaluation is for; what a team had before is BM25, the base encoder and both of them fused.
PAIRS = (
    ("trained", "base"),
    ("trained", "bm25"),
    ("base", "bm25"),
    ("hybrid_trained", "hybrid_base"),
    ("hybrid_trained", "bm25"),
    ("trained", "hybrid_base"),
)


def compute_metrics(
    config: EvaluateConfig,
    judgements: Judgements,
    runs: Mapping[str, SystemRun],
    measures: Sequence[Measure],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that is measured of the runs.

    Args:
        config: Of the evaluation.
        judgements: Of the split.
        runs: By system; the columns of their values are `measures`, then the recall curve's, then the share judged.
        measures: The first one is the headline's.
        about: What is known before anything is searched: `unlike`, `cut`, `fusion`, `training`, `num_passages`,
            `num_unjudged`.
    """
    names = [str(measure) for measure in measures]
    systems, comparisons = compare(
        {name: run.values[:, : len(names)] for name, run in runs.items()},
        measures=names,
        pairs=PAIRS,
        num_resamples=config.num_resamples,
        confidence=config.confidence,
        seed=config.seed,
        primary=names[0],
    )
    curve = curve_measures(depth=min(config.depth, about["num_passages"]), min_grade=config.min_grade)
    metrics = {
        **{name: getattr(config, name) for name in ("split", "depth", "min_grade", "confidence", "num_resamples")},
        "judge": _judge(judgements),
        "unlike": about["unlike"],
        "cut": about["cut"],
        "fusion": about["fusion"],
        "training": about["training"],
        **_counts(config, judgements, runs, about),
        "measures": names,
        "headline_measure": names[0],
        "signatures": {
            str(measure): signature(measure, split=config.split, depth=config.depth, min_grade=config.min_grade)
            for measure in measures
        },
        "systems": {
            name: {measure: asdict(interval) for measure, interval in intervals.items()}
            for name, intervals in systems.items()
        },
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "recall_curve": {
            "cutoffs": [measure["cutoff"] for measure in curve],
            "systems": {name: run.values[:, len(names) : -1].mean(axis=0).tolist() for name, run in runs.items()},
        },
        "judged_at_10": {name: float(run.values[:, -1].mean()) for name, run in runs.items()},
    }
    return metrics | {
        "headline": summary.claims(metrics),
        "evidence": summary.evidence(metrics),
        "notes": summary.notes(metrics),
    }


def _counts(
    config: EvaluateConfig, judgements: Judgements, runs: Mapping[str, SystemRun], about: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "num_queries": len(judgements.grades),
        "num_judgements": judgements.num_judgements,
        "num_without_relevant": len(judgements.without_relevant(min_grade=config.min_grade)),
        "num_without_hits": {name: run.num_without_hits for name, run in runs.items()},
        "num_unjudged": about["num_unjudged"],
        "num_dropped": judgements.num_dropped,
        "num_self_matches": sum(run.num_self_matches for run in runs.values()),
        "num_passages": about["num_passages"],
    }


def _judge(judgements: Judgements) -> dict[str, Any]:
    if judgements.kind != "llm":
        return {"kind": judgements.kind}
    return {"kind": judgements.kind, "model": ", ".join(judgements.models), "taught": judgements.taught}

"""metrics.json in words: the headline, what a reader must know before believing it, and the table for a terminal.

Every sentence is made from the numbers, also where training did not help. Standard library only, so that whoever prints
a result needs nothing else.
"""

from __future__ import annotations

import re
from typing import Any, Literal

SYSTEM_NAMES = {"bm25": "BM25", "base": "base encoder", "trained": "trained encoder"}
SHORT_NAMES = {"bm25": "BM25", "base": "base", "trained": "trained"}
# Below this the t test leans on the normality of few values.
_FEW_QUERIES = 30
# Difference in the share of judged hits above which one system is measured with another yardstick.
_UNEVEN_JUDGING = 0.1


def measure_key(name: str) -> str:
    """A measure's name as a metric's: nDCG@10 -> ndcg_10."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def verdict(comparison: dict[str, Any], *, confidence: float) -> Literal["better", "worse", "unclear"]:
    """Better or worse where both the interval and the corrected p value say so."""
    if comparison["p_holm"] >= 1 - confidence or comparison["low"] <= 0 <= comparison["high"]:
        return "unclear"
    return "better" if comparison["difference"] > 0 else "worse"


def find_comparison(metrics: dict[str, Any], system: str, against: str, measure: str) -> dict[str, Any]:
    """The comparison of two systems in a measure."""
    wanted = (system, against, measure)
    return next(its for its in metrics["comparisons"] if (its["system"], its["against"], its["measure"]) == wanted)


def claims(metrics: dict[str, Any]) -> str:
    """What happened, in two sentences."""
    measure, confidence = metrics["headline_measure"], metrics["confidence"]
    base, bm25 = (find_comparison(metrics, "trained", against, measure) for against in ("base", "bm25"))
    mean = {name: its[measure]["mean"] for name, its in metrics["systems"].items()}
    effect = {
        "better": f"Training helped: {measure} rose from {mean['base']:.3f} to {mean['trained']:.3f}",
        "worse": f"Training hurt: {measure} fell from {mean['base']:.3f} to {mean['trained']:.3f}",
        "unclear": f"Training made no reliable difference: {measure} was {mean['base']:.3f} before and is {mean['trained']:.3f} after",
    }[verdict(base, confidence=confidence)]
    lexical = {
        "better": f"The trained encoder beats BM25 ({mean['bm25']:.3f})",
        "worse": f"BM25 is still better ({mean['bm25']:.3f})",
        "unclear": f"Against BM25 ({mean['bm25']:.3f}) there is no reliable difference",
    }[verdict(bm25, confidence=confidence)]
    judge = "By the labels of an LLM and not of people: " if metrics["judge"]["kind"] == "llm" else ""
    return f"{judge}{effect}. {lexical}."


def evidence(metrics: dict[str, Any]) -> str:
    """What the claims rest on: differences, intervals, p values, number of queries, judge."""
    measure = metrics["headline_measure"]
    parts = [
        f"trained minus {SHORT_NAMES[against]} {describe(find_comparison(metrics, 'trained', against, measure), metrics['confidence'])}"
        for against in ("base", "bm25")
    ]
    judge = f"the LLM {metrics['judge']['model']}, not people" if metrics["judge"]["kind"] == "llm" else "people"
    queries = f"n = {metrics['num_queries']} queries of split {metrics['split']}, judged by {judge}"
    return f"{measure}, {'; '.join(parts)}; {queries}; p values after Holm's correction."


def describe(comparison: dict[str, Any], confidence: float) -> str:
    """The difference with its interval and p value."""
    covers = " and so includes 0" if comparison["low"] <= 0 <= comparison["high"] else ""
    interval = (
        f"{confidence:.0%}".replace("%", " %")
        + f" interval {comparison['low']:+.3f} to {comparison['high']:+.3f}{covers}"
    )
    return f"{comparison['difference']:+.3f} ({interval}, {p_text(comparison['p_holm'])})"


def p_text(p_value: float) -> str:
    """A p value as papers print it."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def notes(metrics: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the numbers; the weightiest first."""
    found = []
    judge = metrics["judge"]
    if judge["kind"] == "llm":
        found.append(
            f"The judge is the LLM {judge['model']} and not people: nobody judged split {metrics['split']!r}. The LLM saw one "
            "pool of passages a query; every other hit counts as not relevant, so the numbers only compare systems on the same pools."
        )
    if judge.get("taught"):
        found.append(
            "The same LLM labelled other queries of this collection: where the trained encoder learned from those labels, "
            "it is graded by its teacher."
        )
    if metrics["split"] == "train":
        found.append("Split 'train' is what encoders are trained on: these numbers say nothing about new queries.")
    if metrics["num_queries"] < _FEW_QUERIES:
        found.append(f"Only {metrics['num_queries']} judged queries: intervals and p values are rough.")
    counts = {
        "num_without_relevant": "Judged queries without a relevant passage: {}. Every system scores 0 on them, and they stay in the "
        "denominator (trec_eval's convention).",
        "num_unjudged": "Queries of the split that nobody judged: {}. They are in the runs and in no mean.",
        "num_dropped": "Queries whose set of judgements was empty: {}. They were left out.",
        "num_self_matches": "Hits that are the query itself: {}. They were left out.",
    }
    found += [text.format(metrics[name]) for name, text in counts.items() if metrics[name]]
    shares = metrics["judged_at_10"]
    if max(shares.values()) - min(shares.values()) > _UNEVEN_JUDGING:
        text = ", ".join(f"{SYSTEM_NAMES[name]} {value:.0%}" for name, value in shares.items())
        found.append(
            f"The first ten hits of the systems were not judged equally ({text}): an unjudged hit counts as not relevant."
        )
    return found


def summary_table(metrics: dict[str, Any]) -> str:
    """The result as plain text for a terminal: means, what they mean, and the notes."""
    measures = metrics["measures"]
    width = max(8, *(len(measure) for measure in measures))
    lines = [f"{'':16}" + "".join(f"{measure:>{width + 2}}" for measure in measures)]
    for name, its in metrics["systems"].items():
        lines.append(
            f"{SYSTEM_NAMES[name]:16}" + "".join(f"{its[measure]['mean']:>{width + 2}.4f}" for measure in measures)
        )
    lines.append("")
    lines += [claims(metrics), evidence(metrics), *(f"! {note}" for note in metrics["notes"])]
    return "\n".join(lines)


def flat(metrics: dict[str, Any]) -> dict[str, float | int]:
    """The numbers a metric store takes: every mean (trained_ndcg_10), and the headline's differences (trained_minus_base_ndcg_10)."""
    values: dict[str, float | int] = {
        "num_queries": metrics["num_queries"],
        "num_judgements": metrics["num_judgements"],
    }
    values["judged_by_llm"] = int(metrics["judge"]["kind"] == "llm")
    for name, its in metrics["systems"].items():
        values.update({f"{name}_{measure_key(measure)}": interval["mean"] for measure, interval in its.items()})
    measure = metrics["headline_measure"]
    for against in ("base", "bm25"):
        its, name = (
            find_comparison(metrics, "trained", against, measure),
            f"trained_minus_{against}_{measure_key(measure)}",
        )
        values.update({name: its["difference"], f"{name}_p_holm": its["p_holm"]})
    return values

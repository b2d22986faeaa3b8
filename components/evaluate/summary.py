"""metrics.json in words: the headline, what a reader must know before believing it, and the table for a terminal.

Every sentence is made from the numbers, also where training did not help. Standard library only, so that whoever prints
a result needs nothing else.
"""

from __future__ import annotations

import re
from typing import Any, Literal

SYSTEM_NAMES = {
    "bm25": "BM25",
    "base": "base encoder",
    "trained": "trained encoder",
    "hybrid_base": "hybrid(base)",
    "hybrid_trained": "hybrid(trained)",
}
SHORT_NAMES = SYSTEM_NAMES | {"base": "base", "trained": "trained"}
# What the claims and a metric store are told of.
_HEADLINE_PAIRS = (
    ("trained", "base"),
    ("trained", "bm25"),
    ("hybrid_trained", "hybrid_base"),
    ("hybrid_trained", "bm25"),
    ("trained", "hybrid_base"),
)
# What stands before a claim, by the kind of judge.
_JUDGED_BY = {
    "human": "",
    "llm": "By the labels of an LLM and not of people: ",
    "asked": "On synthetic queries, which an LLM wrote for passages and nobody judged: ",
}
# Below this the t test leans on the normality of few values.
_FEW_QUERIES = 30
# Difference in the share of judged hits above which one system is measured with another yardstick.
_UNEVEN_JUDGING = 0.1
# Share of texts from which on their cut ends are worth a warning.
_MUCH_CUT = 0.1
# Share of queries without any BM25 hit above which the headline says so: words of a language as BM25 is made for it
# (English stop words and stems) nearly always meet some passage.
_MANY_WITHOUT_HITS = 0.05


def measure_key(name: str) -> str:
    """A measure's name as a metric's: nDCG@10 -> ndcg_10."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def verdict(comparison: dict[str, Any], *, confidence: float) -> Literal["better", "worse", "unclear", "descriptive"]:
    """Better or worse where interval and corrected p value agree; all but the primary measure only describe."""
    if comparison["p_holm"] is None:
        return "descriptive"
    if comparison["p_holm"] >= 1 - confidence or comparison["low"] <= 0 <= comparison["high"]:
        return "unclear"
    return "better" if comparison["difference"] > 0 else "worse"


def find_comparison(metrics: dict[str, Any], system: str, against: str, measure: str) -> dict[str, Any]:
    """The comparison of two systems in a measure."""
    wanted = (system, against, measure)
    return next(row for row in metrics["comparisons"] if (row["system"], row["against"], row["measure"]) == wanted)


def unlike(metrics: dict[str, Any]) -> str:
    """What must be read first where base and trained encoder are not like for like; empty where they are."""
    differences = metrics.get("unlike", ())
    return f"Not like for like: {'; '.join(differences)} (base against trained)." if differences else ""


def claims(metrics: dict[str, Any]) -> str:
    """What happened, in three sentences; before them what limits it: unlike encoders, labels of an LLM."""
    measure, confidence = metrics["headline_measure"], metrics["confidence"]
    base, bm25 = (find_comparison(metrics, "trained", against, measure) for against in ("base", "bm25"))
    mean = {name: intervals[measure]["mean"] for name, intervals in metrics["systems"].items()}
    before_and_after = f"{measure} was {mean['base']:.3f} before and is {mean['trained']:.3f} after"
    effect = {
        "better": f"Training helped: {measure} rose from {mean['base']:.3f} to {mean['trained']:.3f}",
        "worse": f"Training hurt: {measure} fell from {mean['base']:.3f} to {mean['trained']:.3f}",
        "unclear": f"Training made no reliable difference: {before_and_after}",
    }[verdict(base, confidence=confidence)]
    if metrics.get("training", {}).get("kept") == "base":
        effect = f"Training did not help on dev, so the base encoder was kept: {measure} is {mean['trained']:.3f}"
    of_bm25 = f"{mean['bm25']:.3f}{_without_hits(metrics)}"
    lexical = {
        "better": f"The trained encoder beats BM25 ({of_bm25})",
        "worse": f"BM25 is still better ({of_bm25})",
        "unclear": f"Against BM25 ({of_bm25}) there is no reliable difference",
    }[verdict(bm25, confidence=confidence)]
    judge = _JUDGED_BY[metrics["judge"]["kind"]]
    return f"{unlike(metrics)} {judge}{effect}. {lexical}.{_of_hybrids(metrics)}".lstrip()


def _of_hybrids(metrics: dict[str, Any]) -> str:
    """What remains where both encoders are fused with BM25; empty in the metrics of an older version."""
    if "hybrid_base" not in metrics["systems"]:
        return ""
    measure, confidence = metrics["headline_measure"], metrics["confidence"]
    before, after = (metrics["systems"][name][measure]["mean"] for name in ("hybrid_base", "hybrid_trained"))
    fused = find_comparison(metrics, "hybrid_trained", "hybrid_base", measure)
    alone = find_comparison(metrics, "trained", "hybrid_base", measure)
    effect = {
        "better": f"training still helps, from {before:.3f} to {after:.3f}",
        "worse": f"training hurts, from {before:.3f} to {after:.3f}",
        "unclear": f"training makes no reliable difference, {before:.3f} before and {after:.3f} after",
    }[verdict(fused, confidence=confidence)]
    than_alone = {
        "better": "; alone the trained encoder beats even the untrained fusion",
        "worse": "; alone the trained encoder is worse than the untrained fusion",
        "unclear": "",
    }[verdict(alone, confidence=confidence)]
    return f" Fused with BM25 {effect}{than_alone}."


def _without_hits(metrics: dict[str, Any]) -> str:
    share = metrics.get("num_without_hits", {}).get("bm25", 0) / metrics["num_queries"]
    return f", which finds nothing at all for {share:.0%} of the queries" if share > _MANY_WITHOUT_HITS else ""


def evidence(metrics: dict[str, Any]) -> str:
    """What the claims rest on: differences, intervals, p values, number of queries, judge."""
    measure, confidence = metrics["headline_measure"], metrics["confidence"]
    parts = [
        f"{SHORT_NAMES[system]} minus {SHORT_NAMES[against]} "
        f"{describe(find_comparison(metrics, system, against, measure), confidence)}"
        for system, against in _headline_pairs(metrics)
    ]
    judge = {
        "human": "people",
        "llm": f"the LLM {metrics['judge'].get('model')}, not people",
        "asked": "nobody: relevant is the passage that a query was written for",
    }[metrics["judge"]["kind"]]
    queries = f"n = {metrics['num_queries']} queries of split {metrics['split']}, judged by {judge}"
    return f"{measure}, {'; '.join(parts)}; {queries}; p values after Holm's correction."


def _headline_pairs(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Those of the systems that were measured: an older version had no hybrids."""
    return [pair for pair in _HEADLINE_PAIRS if set(pair) <= set(metrics["systems"])]


def fusions(metrics: dict[str, Any]) -> str:
    """How much BM25 weighs in each hybrid, and why; empty in the metrics of an older version."""
    parts = [
        f"{SYSTEM_NAMES[f'hybrid_{name}']} gives BM25 {fusion['weight']:.2f} ({fusion['method']}; {_tuned(fusion)})"
        for name, fusion in metrics.get("fusion", {}).items()
    ]
    return f"{'; '.join(parts)}." if parts else ""


def _tuned(fusion: dict[str, Any]) -> str:
    if not fusion["tuned_on"]:
        return "not tuned"
    return f"tuned on {fusion['num_queries']:,} dev queries with {fusion['num_human_labels']:,} human labels"


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


def p_number(p_value: float | None) -> str:
    """A p value in a table; a dash where none was computed."""
    return "-" if p_value is None else p_text(p_value).removeprefix("p ").removeprefix("= ")


def cut(metrics: dict[str, Any]) -> str:
    """How many texts each encoder does not read to their end; empty in the metrics of an older version."""
    parts = [
        f"{SYSTEM_NAMES[name]} {share['queries']:.1%} of {share['num_queries']:,} queries "
        f"(longer than {share['query_tokens']} tokens) and {share['passages']:.1%} of {share['num_passages']:,} "
        f"passages (longer than {share['passage_tokens']})"
        for name, share in metrics.get("cut", {}).items()
    ]
    return f"Texts of which the end is not read: {'; '.join(parts)}." if parts else ""


def notes(metrics: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the numbers; the weightiest first."""
    of_parts = (_notes_on_judge, _notes_on_training, _notes_on_systems, _notes_on_queries)
    return [note for of_part in of_parts for note in of_part(metrics)]


def _notes_on_judge(metrics: dict[str, Any]) -> list[str]:
    judge, notes = metrics["judge"], []
    if judge["kind"] == "asked":
        notes.append(
            "Queries and judgements are synthetic: an LLM wrote each query for a passage of this corpus, and that "
            "passage alone counts as relevant. The numbers say how well a passage's own query finds it. They do not "
            "say that people will find what they look for, and an encoder that learned from such queries is measured "
            "here on more of their kind. Before you use the trained encoder, have people judge some real queries; "
            "until then the untrained fusion of BM25 and the base encoder is the safe choice."
        )
    if judge["kind"] == "llm":
        notes.append(
            f"The judge is the LLM {judge['model']} and not people: nobody judged split {metrics['split']!r}. The LLM "
            "saw one pool of passages a query; every other hit counts as not relevant, so the numbers only compare "
            "systems on the same pools."
        )
    if judge.get("taught"):
        notes.append(
            "The same LLM labelled other queries of this collection: where the trained encoder learned from those "
            "labels, it is graded by its teacher."
        )
    return notes


def _notes_on_training(metrics: dict[str, Any]) -> list[str]:
    """Whether the trained encoder is what training ended with; nothing in the metrics of an older version."""
    training = metrics.get("training", {})
    if training.get("kept") == "base":
        return [f"The trained encoder is the base encoder, which train kept: {training['kept_reason']}."]
    if training.get("kept") == "mixed":
        share = f"{training['trained_share']:.0%}".replace("%", " %")
        return [f"The trained encoder is {share} trained and the rest the base encoder: {training['kept_reason']}."]
    return []


def _notes_on_systems(metrics: dict[str, Any]) -> list[str]:
    notes = []
    if num_without_hits := metrics.get("num_without_hits", {}).get("bm25", 0):
        num_queries = metrics["num_queries"]
        notes.append(
            f"BM25 finds no passage at all for {num_without_hits:,} of {num_queries:,} judged queries "
            f"({num_without_hits / num_queries:.0%}), and scores 0 there. Where these are many, the baseline is broken "
            "rather than beaten: its stop words and stems are English."
        )
    fusions = metrics.get("fusion", {})
    if untuned := [SYSTEM_NAMES[f"hybrid_{name}"] for name, fusion in fusions.items() if not fusion["tuned_on"]]:
        notes.append(
            f"BM25's weight in {' and '.join(untuned)} is a default and was not tuned: a hybrid may be worth more than "
            "it shows here."
        )
    shares = [share[texts] for share in metrics.get("cut", {}).values() for texts in ("queries", "passages")]
    if shares and max(shares) > _MUCH_CUT:
        notes.append(f"{cut(metrics)} Longer maximum lengths may change the result.")
    judged = metrics["judged_at_10"]
    if max(judged.values()) - min(judged.values()) > _UNEVEN_JUDGING:
        text = ", ".join(f"{SYSTEM_NAMES[name]} {value:.0%}" for name, value in judged.items())
        notes.append(
            f"The first ten hits of the systems were not judged equally ({text}): an unjudged hit counts as not "
            "relevant."
        )
    return notes


def _notes_on_queries(metrics: dict[str, Any]) -> list[str]:
    notes = []
    if metrics["split"] == "train":
        notes.append("Split 'train' is what encoders are trained on: these numbers say nothing about new queries.")
    if metrics["num_queries"] < _FEW_QUERIES:
        notes.append(f"Only {metrics['num_queries']} judged queries: intervals and p values are rough.")
    counts = {
        "num_without_relevant": "Judged queries without a relevant passage: {}. Every system scores 0 on them, and "
        "they stay in the denominator (trec_eval's convention).",
        "num_unjudged": "Queries of the split that nobody judged: {}. They are in the runs and in no mean.",
        "num_dropped": "Queries whose set of judgements was empty: {}. They were left out.",
        "num_self_matches": "Hits that are the query itself: {}. They were left out.",
    }
    return notes + [text.format(metrics[name]) for name, text in counts.items() if metrics[name]]


def summary_table(metrics: dict[str, Any]) -> str:
    """The result as plain text for a terminal: means, what they mean, and the notes."""
    measures = metrics["measures"]
    width = max(8, *(len(measure) for measure in measures))
    lines = [unlike(metrics)] if unlike(metrics) else []
    lines.append(f"{'':16}" + "".join(f"{measure:>{width + 2}}" for measure in measures))
    for name, intervals in metrics["systems"].items():
        means = "".join(f"{intervals[measure]['mean']:>{width + 2}.4f}" for measure in measures)
        lines.append(f"{SYSTEM_NAMES[name]:16}{means}")
    lines += ["", claims(metrics), evidence(metrics), *filter(None, [fusions(metrics)])]
    lines += [f"! {note}" for note in metrics["notes"]]
    return "\n".join(lines)


def markdown(metrics: dict[str, Any]) -> str:
    """The result as Markdown: claims, evidence, notes, the table, the gate and the signatures."""
    measures = metrics["measures"]
    lines = [f"# Retrieval evaluation, split {metrics['split']}", "", f"**{claims(metrics)}**", "", evidence(metrics)]
    lines += [f"\n> {note}" for note in metrics["notes"]]
    lines += ["", f"| system | {' | '.join(measures)} |", f"|---|{'---|' * len(measures)}"]
    for name, intervals in metrics["systems"].items():
        cells = (f"{row['mean']:.4f} ({row['low']:.3f} to {row['high']:.3f})" for row in map(intervals.get, measures))
        lines.append(f"| {SYSTEM_NAMES[name]} | {' | '.join(cells)} |")
    lines += ["", f"## Gate: {metrics['gate']['verdict']}", ""]
    lines += [f"- {reason}" for reason in metrics["gate"]["reasons"]]
    lines += ["", "## Signatures", "", *(f"- `{signature}`" for signature in metrics["signatures"].values())]
    return "\n".join(lines) + "\n"


def flat(metrics: dict[str, Any]) -> dict[str, float | int]:
    """The numbers a metric store takes: every mean (trained_ndcg_10), and the differences that the headline is of."""
    values: dict[str, float | int] = {
        "num_queries": metrics["num_queries"],
        "num_judgements": metrics["num_judgements"],
        "judged_by_llm": int(metrics["judge"]["kind"] == "llm"),
        "synthetic": int(metrics["judge"]["kind"] == "asked"),
        "like_for_like": int(not metrics.get("unlike")),
        **({"gate_passed": int(metrics["gate"]["passed"])} if "gate" in metrics else {}),
    }
    for name, intervals in metrics["systems"].items():
        values.update({f"{name}_{measure_key(measure)}": interval["mean"] for measure, interval in intervals.items()})
    measure = metrics["headline_measure"]
    for system, against in _headline_pairs(metrics):
        comparison = find_comparison(metrics, system, against, measure)
        name = f"{system}_minus_{against}_{measure_key(measure)}"
        values.update({name: comparison["difference"], f"{name}_p_holm": comparison["p_holm"]})
    return values

"""A suite's figures in words: the verdict in one sentence, the notes, and the whole result as Markdown or plain text.

Every sentence is made from the numbers, also where nothing was shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.evaluate.summary import p_number, verdict

_UNEVEN_JUDGING = 0.1
_FEW_QUERIES = 30
DOMAINS = {"in": "in domain", "out": "out of domain", "all": "all collections"}


def headline(figures: Mapping[str, Any]) -> str:
    """What the first declared comparison came to, in one sentence."""
    return claim_sentence(figures, *figures["claims"][0])


def claim_sentence(figures: Mapping[str, Any], system: str, against: str) -> str:
    """What a declared comparison came to on all collections."""
    labels, measure = figures["labels"], figures["primary_measure"]
    outcomes: dict[str, list[str]] = {"better": [], "worse": [], "unclear": []}
    for name, comparison in claims_of(figures, system, against):
        outcomes[verdict(comparison, confidence=figures["confidence"])].append(name)
    total = sum(map(len, outcomes.values()))
    one, other = labels[system], labels[against]
    if not total:
        return f"{one} and {other} met on no collection."
    better, worse, unclear = outcomes.values()
    if not better and not worse:
        return (
            f"{one} and {other} show no reliable difference in {measure} on {_where(unclear, total)}"
            f"{_average_clause(figures, system, against)}."
        )
    if better and worse:
        said = f"{one} beats {other} in {measure} on {_names(better)} and is worse on {_names(worse)}"
    elif better:
        said = f"{one} beats {other} in {measure} on {_where(better, total)}"
    else:
        said = f"{one} is worse than {other} in {measure} on {_where(worse, total)}"
    said += f"; on {_names(unclear)} there is no reliable difference" if unclear else ""
    return f"{said}{_average_clause(figures, system, against)}."


def claims_of(figures: Mapping[str, Any], system: str, against: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A declared comparison in the primary measure, with the name of each collection."""
    wanted = (system, against, figures["primary_measure"])
    for name, of_collection in figures["collections"].items():
        for comparison in of_collection["comparisons"]:
            if (comparison["system"], comparison["against"], comparison["measure"]) == wanted:
                yield name, comparison


def _average_clause(figures: Mapping[str, Any], system: str, against: str) -> str:
    averages = figures["averages"]
    for average in (averages[name] for name in ("all", "out", "in") if name in averages):
        means = average["systems"]
        if system in means and against in means:
            after, before = (means[name]["mean"] for name in (system, against))
            return f"; on average {after:.3f} against {before:.3f}"
    return ""


def _where(names: Sequence[str], total: int) -> str:
    if total == 1:
        return names[0]
    return f"all {total} collections" if len(names) == total else f"{len(names)} of {total} collections"


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def evidence(figures: Mapping[str, Any]) -> str:
    """What the claims rest on."""
    collections = figures["collections"]
    queries = sum(of_collection["num_queries"] for of_collection in collections.values())
    claims, level = _count(figures["num_claims"], "claim"), 100 * (1 - figures["confidence"])
    return (
        f"{figures['primary_measure']} was declared beforehand; {_count(len(figures['claims']), 'comparison')} on "
        f"{_count(len(collections), 'collection')}, {queries:,} judged queries. p values are corrected by Holm over "
        f"{claims}, so that the chance of even one false claim is at most {level:.3g} %."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def notes(figures: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the numbers; the weightiest first."""
    lines = [f"Not like for like: {line}." for line in figures["unlike"]]
    for name, of_collection in figures["collections"].items():
        lines += [f"{name}: {note}" for note in _notes_of(of_collection, figures["labels"])]
    return lines


def _notes_of(of_collection: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[str]:
    judge = of_collection["judge"]
    if judge["kind"] == "llm":
        yield f"the judge is the LLM {', '.join(judge['models'])} and not people."
    if judge["kind"] == "asked":
        yield "queries and judgements are synthetic: an LLM wrote each query for the passage that counts as relevant."
    if of_collection["num_queries"] < _FEW_QUERIES:
        yield f"only {of_collection['num_queries']} judged queries: intervals and p values are rough."
    judged = of_collection["judged_at_10"]
    if max(judged.values()) - min(judged.values()) > _UNEVEN_JUDGING:
        shares = ", ".join(f"{labels[name]} {value:.0%}".replace("%", " %") for name, value in judged.items())
        yield f"the first ten hits were not judged equally ({shares}): an unjudged hit counts as not relevant."
    for name, number in of_collection["num_without_hits"].items():
        if number:
            queries = "1 query" if number == 1 else f"{number:,} queries"
            yield f"{labels[name]} finds nothing for {queries}, and scores 0 there."
    counts = {
        "num_without_relevant": "judged queries without a relevant passage, on which every system scores 0: {}.",
        "num_dropped": "queries whose set of judgements was empty, and which were left out: {}.",
    }
    yield from (text.format(of_collection[name]) for name, text in counts.items() if of_collection[name])
    if of_collection["num_topics"] < of_collection["num_queries"]:
        yield (
            f"its {of_collection['num_queries']} queries share {of_collection['num_topics']} topics, which are what is "
            "drawn and counted."
        )


def power_sentence(comparison: Mapping[str, Any]) -> str:
    """What a claim's test set could have shown."""
    power = comparison.get("power") or {}
    if power.get("smallest") is None:
        return "no spread of differences to judge by"
    return (
        f"{power['smallest']:.3f} is the smallest difference noticed with a chance of 80 %; half of it would take "
        f"{power['queries_for_half']:,} queries"
    )


def markdown(figures: Mapping[str, Any]) -> str:
    """The result as Markdown: verdict, table, claims, notes, gate, signatures."""
    lines = [f"# {figures['title']}", "", f"**{figures['headline']}**", "", figures["evidence"], ""]
    lines += [f"> {note}\n" for note in figures["notes"]]
    lines += [*_gate_lines(figures), *_means_table(figures), ""]
    lines += ["## Claims", "", *_claims_table(figures), "", "## Signatures", ""]
    for name, of_collection in figures["collections"].items():
        lines.append(f"- {name}: `{of_collection['signatures'][figures['primary_measure']]}`")
    return "\n".join(lines) + "\n"


def _gate_lines(figures: Mapping[str, Any]) -> list[str]:
    if not (gate := figures.get("gate")):
        return []
    return [f"## Gate: {gate['verdict']}", "", *(f"- {reason}" for reason in gate["reasons"]), ""]


def _means_table(figures: Mapping[str, Any]) -> list[str]:
    collections, averages = figures["collections"], figures["averages"]
    measure = figures["primary_measure"]
    heads = [f"{name} ({of_collection['num_queries']})" for name, of_collection in collections.items()]
    heads += [f"average, {DOMAINS[domain]}" for domain in averages]
    rows = [f"| {measure} | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name, label in figures["labels"].items():
        cells = [_cell(of_collection["systems"].get(name, {}).get(measure)) for of_collection in collections.values()]
        cells += [_cell(average["systems"].get(name)) for average in averages.values()]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return rows


def _cell(interval: Mapping[str, float] | None) -> str:
    return "-" if interval is None else f"{interval['mean']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def _claims_table(figures: Mapping[str, Any]) -> list[str]:
    rows = [
        "| claim | collection | difference | interval | p (Holm) | d | better / equal / worse | verdict | power |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for system, against in figures["claims"]:
        for name, row in claims_of(figures, system, against):
            effect = "-" if row["effect_size"] is None else f"{row['effect_size']:+.2f}"
            rows.append(
                f"| {figures['labels'][system]} minus {figures['labels'][against]} | {name} | {row['difference']:+.4f} "
                f"| {row['low']:+.3f} to {row['high']:+.3f} | {p_number(row['p_holm'])} | {effect} "
                f"| {row['wins']} / {row['ties']} / {row['losses']} "
                f"| {verdict(row, confidence=figures['confidence'])} | {power_sentence(row)} |"
            )
    return rows


def flat(figures: Mapping[str, Any]) -> dict[str, float | int]:
    """The numbers a metric store takes: every mean of the primary measure, and every average."""
    measure = figures["primary_measure"]
    values: dict[str, float | int] = {
        f"{name}_{system}": intervals[measure]["mean"]
        for name, of_collection in figures["collections"].items()
        for system, intervals in of_collection["systems"].items()
    }
    for domain, average in figures["averages"].items():
        values |= {f"average_{domain}_{system}": interval["mean"] for system, interval in average["systems"].items()}
    if gate := figures.get("gate"):
        values["gate_passed"] = int(gate["passed"])
    return values

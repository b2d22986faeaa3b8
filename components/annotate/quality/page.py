"""quality.html: how far the labels can be trusted, on one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.annotate.quality import charts
from components.annotate.quality.summary import OUTCOMES
from components.shared.pages.page import open_environment
from components.shared.pages.plots import NUM_SERIES, shortened

# A report worth acting on says what to look at first.
_MUCH_QUARANTINE, _LITTLE_AGREEMENT, _DRIFT_LEVEL = 0.05, 0.6, 0.01
# What fits into a chart of an annotator's name, with the level behind it.
_NAME_CHARACTERS = 32


def write_page(path: Path, report: Mapping[str, Any], *, title: str) -> None:
    """Renders quality.json's content."""
    environment = open_environment(Path(__file__).parent)
    environment.filters["dollars"] = dollars
    annotators = report["annotators"]
    page = environment.get_template("quality.html").render(
        title=title,
        report=report,
        annotators=annotators,
        outcomes=OUTCOMES,
        headline=headline(report),
        warnings=[*synthetic(report), *warnings(annotators)],
        colours=[f"series-{number % NUM_SERIES}" for number in range(len(annotators))],
        charts=_charts(annotators, list(report["golds"])),
    )
    path.write_text(page, encoding="utf-8")


def estimate(estimated: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A value with estimated interval, as text."""
    if estimated is None or estimated["value"] is None:
        return "-"
    if estimated["low"] is None:
        return f"{estimated['value']:.{digits}f}"
    return f"{estimated['value']:.{digits}f} ({estimated['low']:.{digits}f} to {estimated['high']:.{digits}f})"


def dollars(value: float) -> str:
    """Enough digits for a small sum, none too many for a large one."""
    return f"${value:,.2f}" if value >= 0.1 or not value else f"${value:.3g}"


def headline(report: Mapping[str, Any]) -> str:
    """The one sentence to remember: the best kappa against people, or that there is nobody to compare with."""
    ranked = [
        (against["kappa"]["value"], annotator["name"], gold, against)
        for annotator in report["annotators"]
        for gold, against in annotator["levels"].get("useful", {}).get("against", {}).items()
        if against["kappa"]["value"] is not None
    ]
    if not ranked:
        return "No human labels to compare with: only self-consistency, positions and parsing are measured."
    _, name, gold, against = max(ranked, key=lambda row: row[0])
    lead = "Agrees best with people" if len(report["annotators"]) > 1 else "Against people"
    return (
        f"{lead}: {name}, kappa {against['kappa']['value']:.2f}, precision {estimate(against['precision'], 2)}, recall "
        f"{estimate(against['recall'], 2)} over {against['num_queries']:,} queries ({gold})."
    )


def synthetic(report: Mapping[str, Any]) -> Iterator[str]:
    """Says that queries are an LLM's, where they are."""
    if num_asked := report.get("num_asked", 0):
        yield (
            f"{num_asked:,} of these queries are synthetic: an LLM wrote each for a passage. No person asked them, and "
            "no agreement with people is measured on them."
        )


def warnings(annotators: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What somebody should look at before training on the labels."""
    for annotator in annotators:
        name = annotator["name"]
        if annotator["quarantine_share"] > _MUCH_QUARANTINE:
            queries = f"{annotator['num_quarantined']:,} of {annotator['num_queries']:,} queries"
            yield f"{name}: {queries} ({annotator['quarantine_share']:.0%}) have no labels."
        for template, report in annotator["positions"].items():
            if report["biased"]:
                reason = f"{_shape(report)}, p = {report['p_value']:.2g}"
                yield f"{name}: {template} depends on the position in the prompt ({reason})."
        again = annotator["self_agreement"]
        if again and again["kappa"]["high"] is not None and again["kappa"]["high"] < _LITTLE_AGREEMENT:
            kappa = again["kappa"]["value"]
            yield f"{name}: judged again in another order it agrees with itself by kappa {kappa:.2f} only."
        drift = annotator["drift"]
        if drift and drift["num_queries"] and drift["num_selected_p_value"] < _DRIFT_LEVEL:
            before, after = drift["num_selected_before"]["value"], drift["num_selected_after"]["value"]
            yield f"{name}: selects {after:.2f} passages a pool where the previous run selected {before:.2f}."


def _shape(report: Mapping[str, Any]) -> str:
    if report["trend_p_value"] > report["places_p_value"]:
        return "some positions are preferred"
    return "later positions are preferred" if report["trend_z"] > 0 else "earlier positions are preferred"


def _charts(annotators: Sequence[Mapping[str, Any]], golds: Sequence[str]) -> dict[str, Any]:
    numbered = list(enumerate(annotators))
    return {
        "agreement": {gold: charts.agreement(rows) for gold in golds if (rows := _against(annotators, gold))},
        "counts": {level: charts.selection_counts(_histograms(annotators, level)) for level in _levels(annotators)},
        "positions": [
            {
                "name": annotator["name"],
                "template": template,
                "report": report,
                "chart": charts.positions(report, number),
            }
            for number, annotator in numbered
            for template, report in annotator["positions"].items()
        ],
    }


def _against(annotators: Sequence[Mapping[str, Any]], gold: str) -> list[tuple[str, int, Mapping[str, Any]]]:
    """Rows of the agreement chart; none where no annotated query was judged by people."""
    return [
        (f"{shortened(annotator['name'], _NAME_CHARACTERS)}: {level}", number, values["against"][gold])
        for number, annotator in enumerate(annotators)
        for level, values in annotator["levels"].items()
        if gold in values["against"]
    ]


def _levels(annotators: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(level for annotator in annotators for level in annotator["levels"]))


def _histograms(annotators: Sequence[Mapping[str, Any]], level: str) -> list[tuple[int, list[int]]]:
    return [
        (number, annotator["levels"][level]["histogram"])
        for number, annotator in enumerate(annotators)
        if level in annotator["levels"]
    ]

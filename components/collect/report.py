"""report.html: how systems rank under people, under the LLM, and under both together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.pages.page import open_environment

REPORT_NAME = "report.html"
_NAMES = {"human": "people", "llm": "the LLM", "merged": "both together"}


def write_report(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes the page of one artifact."""
    page = open_environment(Path(__file__).parent).get_template("collection.html")
    text = page.render(metrics=metrics, names=_NAMES, lead=_lead(metrics))
    (folder / REPORT_NAME).write_text(text, encoding="utf-8")


def _lead(metrics: Mapping[str, Any]) -> str:
    judged = f"{metrics['num_judgements']:,} passages of {metrics['num_queries']:,} queries are judged"
    told = [f"{tau['tau']:.2f} with {_NAMES[tau['against']]}" for tau in metrics["taus"] if tau["tau"] is not None]
    if not told:
        return f"{judged}; no ranking of people's to compare with."
    return f"{judged}. Kendall's tau of people's ranking of the systems: {', '.join(told)}."

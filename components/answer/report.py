"""report.html: what the answers are worth, beside the bounds, with examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from components.answer.chosen import CLOSED_BOOK, ORACLE
from components.answer.records import Answer
from components.shared.dataset import Dataset
from components.shared.pages import plots
from components.shared.pages.page import open_environment
from components.shared.records import Query

REPORT_NAME = "report.html"
_NUM_EXAMPLES = 12
_LEVEL = 0.05
_ROW = 26
_SHORT = {CLOSED_BOOK: "closed book"}
_NAMES = {CLOSED_BOOK: "closed book (no passage)", ORACLE: "oracle (known positives)"}


def write_report(
    folder: Path, dataset: Dataset, queries: Sequence[Query], answers: Sequence[Answer], metrics: Mapping[str, Any]
) -> None:
    """Writes the page of one artifact."""
    page = open_environment(Path(__file__).parent).get_template("answers.html")
    text = page.render(
        metrics=metrics,
        names={system: _NAMES.get(system, system) for system in metrics["systems"]},
        measures=list(metrics["signatures"]),
        chart=_bars(metrics),
        level=_LEVEL,
        examples=list(_examples(dataset, queries, answers)),
    )
    (folder / REPORT_NAME).write_text(text, encoding="utf-8")


def _bars(metrics: Mapping[str, Any]) -> Markup:
    """The primary measure of each system, with its interval."""
    primary, systems = metrics["primary"], metrics["systems"]
    with plots.drawing(f"{primary} of each system, with intervals", len(systems) * _ROW + 40) as chart:
        axes = chart.axes
        for place, (system, row) in enumerate(systems.items()):
            of = row[primary]
            (patch,) = axes.barh([place], [of["mean"]], 0.6, color=plots.series_colour(_series(system, metrics)))
            patch.set_gid(plots.css_class("bar"))
            patch.set_clip_on(False)
            plots.whisker(axes, of["low"], of["high"], place)
            plots.value_at_the_right(axes, place, f"{of['mean']:.1f}")
        axes.set_yticks(range(len(systems)), [plots.shortened(_SHORT.get(system, system), 22) for system in systems])
        axes.set_xlim(0.0, max(1.0, *(row[primary]["high"] for row in systems.values())))
        axes.set_ylim(len(systems) - 0.4, -0.6)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    return chart.svg


def _series(system: str, metrics: Mapping[str, Any]) -> int:
    """The first run stands out; bounds are grey."""
    return {metrics["first"]: 1, CLOSED_BOOK: 5, ORACLE: 5}.get(system, 0)


def _examples(dataset: Dataset, queries: Sequence[Query], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The first queries with what each system answered, and from which passages."""
    by_query: dict[str, list[Answer]] = {}
    for answer in answers:
        by_query.setdefault(answer.query_id, []).append(answer)
    return [
        {
            "query": query,
            "answers": [
                {
                    "system": _NAMES.get(answer.system, answer.system),
                    "text": answer.answer,
                    "outcome": answer.outcome,
                    "is_right": answer.scores["EM"] > 0,
                    "f1": answer.scores["F1"],
                    "titles": [dataset.passage(p).title or p for p in answer.passage_ids],
                }
                for answer in by_query[query.query_id]
            ],
        }
        for query in queries[:_NUM_EXAMPLES]
    ]

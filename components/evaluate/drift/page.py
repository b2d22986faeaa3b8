"""report.html of drift: the verdict, every property on both sides, the scores as a chart, new words, worst queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import PercentFormatter

from components.evaluate.drift.comparison import Queries
from components.evaluate.drift.config import DriftConfig
from components.evaluate.summary import p_number
from components.shared.pages import plots
from components.shared.pages.page import open_environment

_BINS = 30


def write_page(
    path: Path,
    values: Mapping[str, Any],
    own: Queries,
    sampled: Queries,
    *,
    worst: Sequence[tuple[str, float]],
    config: DriftConfig,
) -> None:
    """Renders the page; queries are untrusted text, which the template escapes."""
    environment = open_environment(Path(__file__).parent)
    environment.filters["p_number"] = p_number
    page = environment.get_template("drift.html").render(
        values=values,
        headline=headline(values),
        config=config,
        chart=_histogram(own, sampled, values["good_score"]),
        worst=worst,
    )
    path.write_text(page, encoding="utf-8")


def headline(values: Mapping[str, Any]) -> str:
    """The verdict as a sentence."""
    sample = values["sample"]
    about = f"{sample['num_queries']:,} queries sampled from {sample['first_day']} to {sample['last_day']}"
    if values["verdict"] == "too few queries":
        return f"No verdict: {about} are too few, or the release has too few of its own."
    drifted = [comparison["name"] for comparison in values["comparisons"] if comparison["is_drift"]]
    if drifted:
        return f"The queries have drifted ({', '.join(drifted)}): {about}. Retraining is due."
    return f"The queries are like those of the release: {about}."


def _histogram(own: Queries, sampled: Queries, good_score: float) -> Markup:
    both = np.concatenate([own.scores, sampled.scores])
    edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-6), _BINS + 1)
    with plots.drawing("Scores of the best hits of the release's own queries and of the sampled ones", 220) as chart:
        for number, (label, queries) in enumerate((("the release's own", own), ("sampled", sampled))):
            counts, _ = np.histogram(queries.scores, edges)
            heights = counts / max(1, len(queries.scores))
            chart.axes.stairs(
                heights, edges, color=plots.series_colour(number), label=label, linewidth=2, clip_on=False
            )
        chart.axes.axvline(good_score, color=plots.colour("ink"), linewidth=1.2, linestyle=(0, (4, 3)), clip_on=False)
        chart.axes.set_xlabel("inner product with the best passage; dashed: a good hit")
        chart.axes.set_ylabel("share of queries")
        chart.axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        chart.legend(2)
    return chart.svg

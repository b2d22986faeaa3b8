"""What asking gave and cost: facts for the manifest, and a page for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.ask.filters import FILTERS
from components.ask.records import AskedQuery
from components.ask.sampling import Sample
from components.ask.styles import STYLES
from components.shared.calls.tally import Prices, Tally
from components.shared.dataset import SPLITS
from components.shared.manifest import LOGS
from components.shared.pages.page import open_environment

PAGE_NAME = f"{LOGS}asked.html"
_SPENT = ("prompt_tokens", "completion_tokens", "engine_seconds")
# Queries that the page shows of each kind.
_NUM_EXAMPLES = 8
# Below this share of kept queries the page says that the LLM may be too small.
_FEW_KEPT = 0.3


def facts(
    records: Sequence[AskedQuery], sample: Sample, tallies: Mapping[str, Tally], prices: Prices
) -> dict[str, Any]:
    """What belongs into the manifest: counts, the table of filters, tokens and dollars.

    `paid` are the calls of this artifact alone, by template; tokens and seconds outside of it are those of all calls
    behind the queries, whoever made them first.
    """
    kept = [one for one in records if one.is_kept]
    splits = Counter(one.split for one in kept)
    total = Tally()
    for tally in tallies.values():
        total = total.plus(tally)
    return {
        "synthetic": True,
        "num_asked": len(records),
        "num_kept": len(kept),
        **{f"num_kept_{split}": splits[split] for split in SPLITS},
        "filters": filter_table(records),
        "outcomes": dict(sorted(Counter(one.outcome for one in records).items())),
        "passages_left_out": dict(sorted(sample.left_out.items())),
        **{name: round(sum(getattr(one, name) for one in records), 3) for name in _SPENT},
        "paid": {template: asdict(tally) for template, tally in sorted(tallies.items())},
        "dollars": total.dollars(prices),
    }


def filter_table(records: Sequence[AskedQuery]) -> dict[str, dict[str, int]]:
    """Style (and `all`) -> number asked, rejected by each filter in the order in which they judge, and kept."""
    names = [name for name in STYLES if any(one.style == name for one in records)]
    table: dict[str, dict[str, int]] = {}
    for style in (*names, "all"):
        chosen = [one for one in records if style in (one.style, "all")]
        rejected = Counter(one.rejected_by for one in chosen)
        by_filter: dict[str, int] = {name: rejected[name] for name in FILTERS}
        table[style] = {"asked": len(chosen), **by_filter, "kept": rejected[""]}
    return table


def write_page(folder: Path, records: Sequence[AskedQuery], metrics: Mapping[str, Any]) -> None:
    """Writes asked.html under logs/."""
    by_reason: dict[str, list[AskedQuery]] = {"": []}
    for one in records:
        shown = by_reason.setdefault(one.rejected_by, [])
        if len(shown) < _NUM_EXAMPLES:
            shown.append(one)
    page = open_environment(Path(__file__).parent).get_template("asked.html")
    (folder / LOGS).mkdir(exist_ok=True)
    text = page.render(
        metrics=metrics,
        filters=FILTERS,
        kept=by_reason[""],
        rejected={name: by_reason[name] for name in FILTERS if name in by_reason},
        is_poor=metrics["num_kept"] < _FEW_KEPT * metrics["num_asked"],
    )
    (folder / PAGE_NAME).write_text(text, encoding="utf-8")

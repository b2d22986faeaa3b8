"""compare.html, compare.md and compare.json: the same content for a browser, for a text file, and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from components.evaluate.summary import p_text
from components.shared.durable import storage
from components.shared.pages import plots
from components.shared.pages.page import open_environment
from pipelines.compare.content import difference
from pipelines.compare.results import BASE, HYBRID

_ROW = 18
_LABEL_CHARACTERS = 26
_SPLITS = {
    "dev": "On dev: arms and settings are chosen here",
    "test": "On test: read once for each claim",
}
_HOW = {
    "dev": "Dev has chosen the best weights of each arm that knows human labels, and BM25's weight in every hybrid, so "
    "its differences are somewhat too high. Choose by them, and believe test's.",
    "test": "Nothing was chosen here. The claim is of the row that dev chose, as the first sentence says it; all other "
    "rows are on record, and the p values of this table are corrected for all of them.",
}
_BOLD = "Bold: more than chance, after Holm's correction over all differences of the split."
_NO_COST = dict.fromkeys(("calls", "tokens", "llm_seconds", "labels", "seconds"), "0") | {"kept": "-"}


def write_pages(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes the three files; whoever reads meanwhile sees the old one whole."""
    html = open_environment(Path(__file__).parent).get_template("compare.html")
    page = html.render(
        content=content,
        titles=_SPLITS,
        how=_HOW,
        charts={name: forest(split["rows"]) for name, split in content["splits"].items()},
        cost_rows=list(cost_rows(content)),
        p_number=lambda value: p_text(value).removeprefix("p ").removeprefix("= "),
        difference=difference,
        references=(BASE, HYBRID),
    )
    files = {"compare.html": page.encode(), "compare.md": markdown(content).encode()}
    files["compare.json"] = orjson.dumps(content, option=orjson.OPT_INDENT_2)
    for name, written in files.items():
        storage.write_bytes(str(folder / name), written)


def forest(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Each row's differences to both references with their intervals, around the line of no difference."""
    shown = [row for row in rows if any(row["against"].values())]
    known = [against for row in shown for against in row["against"].values() if against]
    if not known:
        return Markup("")
    reach = 1.08 * max(1e-3, *(max(abs(against["low"]), abs(against["high"])) for against in known))
    height = len(shown) * _ROW * 2 + 10
    with plots.drawing("Difference of each row to the untrained systems, with intervals", height + 60) as chart:
        axes = chart.axes
        axes.axvline(0.0, color=plots.colour("soft"), linewidth=1.0, gid=plots.css_class("zero"), clip_on=False)
        named: set[str] = set()
        for number, row in enumerate(shown):
            for place, (name, against) in enumerate(row["against"].items()):
                if against is None:
                    continue
                label, height_of = None if name in named else f"minus {name}", (2 * number + place + 0.7) * _ROW
                named.add(name)
                style: dict[str, Any] = {"color": plots.series_colour((0, 3)[place]), "clip_on": False}
                axes.plot([against["low"], against["high"]], [height_of] * 2, gid=plots.css_class("line"), **style)
                axes.plot(
                    [against["difference"]],
                    [height_of],
                    marker="^v"[place],
                    markersize=7,
                    markeredgewidth=0.0,
                    linestyle="none",
                    label=label,
                    gid=plots.css_class("mark"),
                    **style,
                )
                plots.value_at_the_right(axes, height_of, f"{against['difference']:+.3f}")
        names = [plots.shortened(row["name"], _LABEL_CHARACTERS) for row in shown]
        axes.set_yticks([(2 * number + 1.2) * _ROW for number in range(len(shown))], names)
        axes.set_ylim(height, 0.0)
        axes.set_xlim(-reach, reach)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if abs(value) < 1e-12 else f"{value:+.3g}"))
        axes.grid(axis="x", clip_on=False)
        chart.legend(2)
    return chart.svg


def cost_rows(content: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What each arm costs, as text."""
    for arm in content["arms"]:
        cost = content["costs"].get(arm["name"])
        if cost is None:
            yield {"arm": arm["name"], **_NO_COST}
            continue
        kept = ", ".join(f"{name} {count}" for name, count in cost["kept"].items())
        yield {
            "arm": arm["name"],
            "calls": f"{cost['llm_calls']:,.0f}",
            "tokens": f"{cost['prompt_tokens'] + cost['completion_tokens']:,.0f}",
            "llm_seconds": f"{cost['llm_seconds']:,.0f}",
            "labels": f"{cost['human_labels']:,.0f} + {cost['dev_labels']:,.0f}",
            "seconds": f"{cost['train_seconds']:,.0f}",
            "kept": kept,
        }


def markdown(content: Mapping[str, Any]) -> str:
    """The page as text: for a terminal, a repository, a message."""
    lines = [f"# {content['collection']}: what each ingredient is worth", "", content["lead"], ""]
    lines += [f"- {note}" for note in content["notes"]]
    for name, split in content["splits"].items():
        lines += [
            "",
            f"## {_SPLITS[name]}",
            "",
            f"{split['num_queries']} queries, {_seeds(split)}. {_HOW[name]} {_BOLD}",
            "",
        ]
        lines += _table(content, split)
        if split["ingredients"]:
            lines += ["", "| ingredient | with it | without it | difference | p (Holm) |", "|---|---|---|---|---|"]
            lines += [
                f"| {row['ingredient']} | {row['having']} | {row['lacking']} | {_bold(row)} | {row['p_holm']:.3f} |"
                for row in split["ingredients"]
            ]
    lines += ["", "## What it costs", "", *_cost_table(content), "", "## The arms", ""]
    lines += [f"- **{arm['name']}**: {arm['sentence']}" for arm in content["arms"]]
    return "\n".join(lines) + "\n"


def _seeds(split: Mapping[str, Any]) -> str:
    count = split["num_seeds"]
    return f"{count} seed{'' if count == 1 else 's'}" if count else "nothing trained"


def _table(content: Mapping[str, Any], split: Mapping[str, Any]) -> list[str]:
    """The rows of a split; a difference that is more than chance is bold."""
    lines = [f"| | {content['measure']} (deviation of seeds) | minus {BASE} | minus {HYBRID} |", "|---|---|---|---|"]
    for row in split["rows"]:
        deviation = "" if row["deviation"] is None else f" ({row['deviation']:.3f})"
        name = f"{row['name']} **(chosen on dev)**" if row["is_chosen"] else row["name"]
        against = " | ".join(_bold(row["against"][reference]) for reference in (BASE, HYBRID))
        lines.append(f"| {name} | {row['mean']:.3f}{deviation} | {against} |")
    return lines


def _bold(comparison: Mapping[str, Any] | None) -> str:
    if comparison is None:
        return ""
    text = f"{comparison['difference']:+.3f} ({comparison['low']:+.3f} to {comparison['high']:+.3f})"
    return text if comparison["verdict"] == "unclear" else f"**{text}**"


def _cost_table(content: Mapping[str, Any]) -> list[str]:
    titles = ("arm", "LLM calls", "LLM tokens", "LLM seconds", "human labels (train + dev)", "training seconds", "kept")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    return lines + [f"| {' | '.join(row.values())} |" for row in cost_rows(content)]

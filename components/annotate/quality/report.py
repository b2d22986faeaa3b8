"""The reports beside the annotations: ledger.json, quality.json and quality.html.

They lie under logs/, because no later step reads them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from components.annotate.config import AnnotateConfig
from components.annotate.cost.ledger import Ledger
from components.annotate.quality.gold import Gold, qrels_gold, read_utility_labels
from components.annotate.quality.page import write_page
from components.annotate.quality.recheck import is_rechecked
from components.annotate.quality.summary import Annotator, quality
from components.shared.calls.tally import Prices, Tally, tally_journal
from components.shared.dataset import Dataset
from components.shared.manifest import LOGS, open_artifact, read_manifest
from components.shared.records import Annotation, Quarantined, read_records

ANNOTATIONS_NAME, QUARANTINE_NAME, RECHECK_NAME = "annotations.jsonl", "quarantine.jsonl", f"{LOGS}recheck.jsonl"
CALIBRATION_NAME = f"{LOGS}calibration.json"
LEDGER_NAME, QUALITY_NAME, PAGE_NAME = f"{LOGS}ledger.json", f"{LOGS}quality.json", f"{LOGS}quality.html"
# Drift is measured on about this many queries: the earlier labels of all would not fit into memory.
_MOST_PREVIOUS = 20_000


def write_reports(
    folder: Path,
    config: AnnotateConfig,
    dataset: Dataset,
    *,
    records: Iterable[tuple[str, Mapping[str, Any]]],
    artifact: str,
) -> dict[str, Any]:
    """Writes all three beside the annotations of a folder; returns the few numbers that belong into the manifest.

    Args:
        folder: Holds the annotations, those in quarantine and, under logs/, those judged again.
        config: Prices, gold set and previous run.
        dataset: Human qrels.
        records: Of the journal.
        artifact: As which the journal knows these annotations.

    Raises:
        RecordError: Where the file of utility labels is broken.
    """
    (folder / LOGS).mkdir(exist_ok=True)
    golds = [qrels_gold(dataset)]
    if config.utility_labels_uri:
        golds.append(read_utility_labels(config.utility_labels_uri))
    tallies = tally_journal(records, artifact)
    num_queries, num_pairs, used = _count(folder)
    ledger = Ledger(tallies, num_queries, num_pairs, prices(config), used, _left_out_per_query(config)).as_dict()
    annotator = _annotator(config.method, [folder], previous=_previous(config), ledger=ledger)
    measured = quality([annotator], golds, gold_queries=config.gold_queries)
    # How many of the queries are synthetic: a page without this would pass them for people's.
    measured["num_asked"] = _count_asked(folder, dataset.asked_ids)
    _write_json(folder / LEDGER_NAME, ledger)
    _write_json(folder / QUALITY_NAME, measured)
    write_page(folder / PAGE_NAME, measured, title=config.method)
    return _facts(measured, ledger)


def compare(
    annotations: Mapping[str, Sequence[str]], golds: Sequence[Gold], output: Path, *, title: str, gold_queries: int = 0
) -> dict[str, Any]:
    """Writes quality.json and quality.html over several finished artifacts, side by side.

    Args:
        annotations: For each name the URIs of its artifacts: one, or one a shard.
        golds: Human labels.
        output: Folder for the two files.
        title: Of the page.
        gold_queries: See `quality`.
    """
    annotators = []
    for name, uris in annotations.items():
        folders = [open_artifact(uri) for uri in uris]
        ledgers = [
            orjson.loads((folder / LEDGER_NAME).read_bytes()) for folder in folders if (folder / LEDGER_NAME).exists()
        ]
        annotators.append(_annotator(name, folders, ledger=_merged(ledgers) if ledgers else {}))
    measured = quality(annotators, golds, gold_queries=gold_queries)
    output.mkdir(parents=True, exist_ok=True)
    _write_json(output / "quality.json", measured)
    write_page(output / "quality.html", measured, title=title)
    return measured


def prices(config: AnnotateConfig) -> Prices:
    """The prices of a config."""
    return Prices(
        engine_hour=config.engine_hour_dollars,
        prompt_million=config.prompt_million_dollars,
        cached_million=config.cached_million_dollars,
        completion_million=config.completion_million_dollars,
        human_label=config.human_label_dollars,
    )


def _annotator(
    name: str, folders: Sequence[Path], *, previous: Iterable[Annotation] = (), ledger: Mapping[str, Any] | None = None
) -> Annotator:
    rechecked = [folder / RECHECK_NAME for folder in folders if (folder / RECHECK_NAME).exists()]
    return Annotator(
        name,
        annotations=chain.from_iterable(read_records(folder / ANNOTATIONS_NAME, Annotation) for folder in folders),
        quarantined=chain.from_iterable(read_records(folder / QUARANTINE_NAME, Quarantined) for folder in folders),
        rechecked=chain.from_iterable(read_records(path, Annotation) for path in rechecked),
        previous=previous,
        fitted_on=frozenset(chain.from_iterable(map(_fitted_on, folders))),
        ledger=ledger or {},
    )


def write_calibration(folder: Path, query_ids: Sequence[str]) -> None:
    """Says on which queries the margins were fitted: agreement with people is not measured on these."""
    (folder / LOGS).mkdir(exist_ok=True)
    _write_json(folder / CALIBRATION_NAME, {"query_ids": query_ids})


def _fitted_on(folder: Path) -> list[str]:
    path = folder / CALIBRATION_NAME
    return list(orjson.loads(path.read_bytes())["query_ids"]) if path.exists() else []


def _count_asked(folder: Path, asked_ids: Collection[str]) -> int:
    annotated, quarantined = (
        read_records(folder / ANNOTATIONS_NAME, Annotation),
        read_records(folder / QUARANTINE_NAME, Quarantined),
    )
    return sum(record.query_id in asked_ids for record in chain[Annotation | Quarantined](annotated, quarantined))


def _count(folder: Path) -> tuple[int, int, Tally]:
    """Queries asked about, labelled or not; pairs that got a label; what all calls behind them took, whoever paid."""
    num_queries = num_pairs = 0
    used = Tally()
    annotated, quarantined = (
        read_records(folder / ANNOTATIONS_NAME, Annotation),
        read_records(folder / QUARANTINE_NAME, Quarantined),
    )
    for record in chain[Annotation | Quarantined](annotated, quarantined):
        num_queries += 1
        num_pairs += len(record.labels) if isinstance(record, Annotation) else 0
        used.calls += sum(len(exchange.calls) for exchange in record.exchanges)
        used.retries += sum(len(exchange.calls) for exchange in record.exchanges if exchange.rung != "first")
        used.prompt_tokens += record.prompt_tokens
        used.cached_tokens += record.cached_tokens
        used.completion_tokens += record.completion_tokens
        used.engine_seconds += record.engine_seconds
        used.uncounted_calls += record.uncounted_calls
    return num_queries, num_pairs, used


def _previous(config: AnnotateConfig) -> Iterator[Annotation]:
    for uri in filter(None, config.previous_uri.split(",")):
        share = _MOST_PREVIOUS / max(1, int(read_manifest(uri).metrics.get("num_annotated", 0)))
        for annotation in read_records(open_artifact(uri) / ANNOTATIONS_NAME, Annotation):
            if is_rechecked(annotation.query_id, share=share, seed=0):
                yield annotation


def _merged(ledgers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ledger of several shards; prices are the first one's."""
    tallies: dict[str, Tally] = {}
    used = Tally()
    for ledger in ledgers:
        used = used.plus(_tally(ledger["used"]))
        for template, row in ledger["templates"].items():
            tallies[template] = tallies.get(template, Tally()).plus(_tally(row))
    num_queries, num_pairs = (sum(int(ledger[name]) for ledger in ledgers) for name in ("num_queries", "num_pairs"))
    # A ledger that was written before selections were knew of no saving.
    saved = sum(ledger.get("saved", {}).get("queries", 0.0) for ledger in ledgers)
    per_query = saved / num_queries if num_queries else 0.0
    return Ledger(tallies, num_queries, num_pairs, Prices(**ledgers[0]["prices"]), used, per_query).as_dict()


def _left_out_per_query(config: AnnotateConfig) -> float:
    """Train queries without a pool, because mine selected others, for each that has one."""
    selection = read_manifest(config.pools_uri).metrics.get("selection")
    if not selection or not selection["num_selected"]:
        return 0.0
    return float((selection["num_candidates"] - selection["num_selected"]) / selection["num_selected"])


def _tally(row: Mapping[str, Any]) -> Tally:
    # A ledger that was written before a sum was kept has none of it.
    return Tally(**{name: row.get(name, 0) for name in Tally.__dataclass_fields__})


def _facts(measured: Mapping[str, Any], ledger: Mapping[str, Any]) -> dict[str, Any]:
    (annotator,) = measured["annotators"]
    facts: dict[str, Any] = {"quarantine_share": annotator["quarantine_share"], "dollars": ledger["total"]["dollars"]}
    useful = annotator["levels"].get("useful", {"num_selected": {"value": 0.0}, "against": {}})
    facts["num_selected"] = useful["num_selected"]["value"]
    for gold, against in useful["against"].items():
        facts |= {
            f"{name}_{gold.replace(' ', '_')}": against[name]["value"] for name in ("precision", "recall", "kappa")
        }
    biased = [template for template, report in annotator["positions"].items() if report["biased"]]
    return facts | {"position_bias": ", ".join(biased) or "none found"}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))

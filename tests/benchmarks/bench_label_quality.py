"""How good the labels of a real LLM are, method by method, against people: one page and one table.

Run: python tests/benchmarks/bench_label_quality.py [--collection F] [--methods
query_likelihood,answer_likelihood,replug,utility_selection]
     [--num-queries 16] [--pool 8] [--passage-words 60] [--workdir W]

Pools are BM25's hardest negatives and the human positives, shuffled. The LLM is the packaged one. Everything is
journalled in the work folder: a run that was ended continues there, and another method or more queries pay for their
own calls only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson

from components.annotate.quality.gold import qrels_gold, read_utility_labels
from components.annotate.quality.page import estimate
from components.annotate.quality.report import compare
from components.mine.config import MineConfig
from components.mine.job import choose_queries
from components.mine.pools import make_pool
from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared.bm25 import BM25
from components.shared.dataset import SPLITS, Dataset
from components.shared.manifest import artifact_writer
from components.shared.records import write_records
from pipelines.packaged import find_llm

_DATA = Path(os.environ.get("RETRIEVER_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write_pools(dataset_path: Path, output: Path, *, num_queries: int, pool: int) -> None:
    """Pools of so many passages: the human positives and BM25's best others."""
    config = MineConfig(
        dataset_uri=str(dataset_path),
        encoder_uri="",
        index_uri="",
        output_uri=str(output),
        num_bm25=pool,
        num_dense=0,
        num_queries=num_queries,
    )
    dataset = Dataset(dataset_path)
    positives = {query_id: ids for split in SPLITS for query_id, ids in dataset.positives(split).items()}
    queries = choose_queries(dataset, config)
    hits = BM25(dataset).search([query.text for query in queries], 100)
    with artifact_writer("mine", config) as artifact:
        pools = []
        for query, its in zip(queries, hits, strict=True):
            human = positives.get(query.query_id, [])
            negatives = [hit for hit in its if hit.passage_id not in human][: pool - len(human)]
            pools.append(make_pool(query.query_id, bm25=negatives, dense=[], positives=human, config=config).pool)
        write_records(artifact.path / "pools.jsonl", pools)


def annotate(workdir: Path, method: str, arguments: argparse.Namespace, utility_labels: Path) -> str | None:
    """Runs the component as its container would; the artifact's URI, or None where it could annotate nothing."""
    uri = str(workdir / f"annotations-{method}")
    flags = {
        "dataset-uri": workdir / "dataset",
        "pools-uri": workdir / f"pools-{arguments.num_queries}",
        "output-uri": uri,
        "llm-uri": find_llm(),
        "journal-uri": workdir / "journal",
        "engine": "transformers",
        "method": method,
        "passage-words": arguments.passage_words,
        "answer-tokens": arguments.answer_tokens,
        "recheck-share": arguments.recheck_share,
        "gold-queries": arguments.num_queries // 2,
        "engine-hour-dollars": arguments.engine_hour_dollars,
        "num-in-flight": 8,
        # Margins fitted to the human positives that the labels are then measured against would flatter them.
        "calibration-queries": 0,
    }
    if utility_labels.exists():
        flags["utility-labels-uri"] = utility_labels
    command = [sys.executable, "-m", "components.annotate", *(f"--{name}={value}" for name, value in flags.items())]
    return uri if subprocess.run(command, check=False).returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", type=Path, default=_DATA / "squad-mini")
    parser.add_argument("--methods", default="query_likelihood")
    parser.add_argument("--num-queries", type=int, default=16)
    parser.add_argument("--pool", type=int, default=8)
    parser.add_argument("--passage-words", type=int, default=60)
    parser.add_argument("--answer-tokens", type=int, default=48)
    parser.add_argument("--recheck-share", type=float, default=0.1)
    parser.add_argument("--engine-hour-dollars", type=float, default=0.1, help="of a machine like this one")
    parser.add_argument("--workdir", type=Path)
    arguments = parser.parse_args()
    if not arguments.collection.is_dir():
        print(f"no collection at {arguments.collection}; set RETRIEVER_DATA or give --collection")
        return
    with tempfile.TemporaryDirectory() as scratch:
        workdir = arguments.workdir or Path(scratch)
        report(workdir, arguments)


def report(workdir: Path, arguments: argparse.Namespace) -> None:
    """Prepares what is missing, annotates by every method, and prints the table."""
    pools = workdir / f"pools-{arguments.num_queries}"
    if not (workdir / "dataset" / "manifest.json").exists():
        prepare(PrepareConfig(collection_uri=str(arguments.collection), output_uri=str(workdir / "dataset")))
    if not (pools / "manifest.json").exists():
        write_pools(workdir / "dataset", pools, num_queries=arguments.num_queries, pool=arguments.pool)
    utility_labels = arguments.collection / "utility_labels.tsv"
    uris = {method: annotate(workdir, method, arguments, utility_labels) for method in arguments.methods.split(",")}
    golds = [qrels_gold(Dataset(workdir / "dataset"))]
    if utility_labels.exists():
        golds.append(read_utility_labels(str(utility_labels)))
    annotations = {method: [uri] for method, uri in uris.items() if uri}
    measured = compare(
        annotations, golds, workdir, title=arguments.collection.name, gold_queries=arguments.num_queries // 2
    )
    what = f"{arguments.num_queries} queries, pools of {arguments.pool}, {arguments.passage_words} words a passage"
    print(f"{arguments.collection.name}: {what}")
    print(f"{'annotator':<20} {'level':<9} {'people':<15} {'precision':<24} {'recall':<24} {'number':<22} kappa")
    for its in measured["annotators"]:
        for level, values in its["levels"].items():
            for gold, against in values["against"].items():
                cells = [
                    estimate(against["precision"]),
                    estimate(against["recall"]),
                    estimate(values["num_selected"], 2),
                    estimate(against["kappa"], 2),
                ]
                print(
                    f"{its['name']:<20} {level:<9} {gold:<15} {cells[0]:<24} {cells[1]:<24} {cells[2]:<22} {cells[3]}"
                )
        print(
            f"{'':<20} {its['num_quarantined']} of {its['num_queries']} queries without labels; "
            f"{orjson.dumps(_outcomes(its)).decode()}"
        )
    for method in (method for method, uri in uris.items() if not uri):
        print(f"{method}: no pool could be annotated, see above")
    print(f"page: {workdir / 'quality.html'}")


def _outcomes(its: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, dict[str, int]]:
    return {
        template: {name: count for name, count in row["counts"].items() if count}
        for template, row in its["outcomes"].items()
    }


if __name__ == "__main__":
    main()

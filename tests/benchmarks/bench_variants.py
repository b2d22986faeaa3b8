"""What a smaller graph costs: vectors against torch over 500 texts, retrieval against fp32, size.

Run: python tests/benchmarks/bench_variants.py [--num-texts 500] [--collection scifact-mini] [--tokens 140]

The texts are those of the export job's own check: empty, one token, over-long, emoji, right to left, 100 kB, and all
lengths between. The collection (RETRIEVER_DATA names the folder of collections; without one retrieval is left out)
lends its dev queries, or train queries.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from components.export.config import ExportConfig
from components.export.job import export
from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared.encoding.encoder import GRAPH_NAMES
from components.shared.manifest import read_manifest
from pipelines.packaged import find_encoder

_COLUMNS = ("largest_difference", "mean_cosine", "smallest_cosine", "overlap_10", "batch_cosine")
_VARIANTS = ("fp32", "fp16", "int8")


def main() -> None:
    """Exports the packaged encoder in all variants, through all gates, and prints what the manifest says of each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--num-texts", type=int, default=500)
    parser.add_argument("--collection", default="scifact-mini")
    parser.add_argument("--tokens", type=int, default=140)
    arguments = parser.parse_args()
    source = Path(os.environ.get("RETRIEVER_DATA", "")) / arguments.collection
    with tempfile.TemporaryDirectory(prefix="bench-variants-") as folder:
        workdir = Path(folder)
        if is_judged := (source / "corpus.jsonl").is_file():
            prepare(PrepareConfig(collection_uri=str(source), output_uri=str(workdir / "dataset")))
        config = ExportConfig(
            checkpoint_uri=str(find_encoder()),
            output_uri=str(workdir / "encoder"),
            dataset_uri=str(workdir / "dataset") if is_judged else "",
            passage_tokens=arguments.tokens,
            variants=",".join(_VARIANTS),
            num_parity_texts=arguments.num_texts,
        )
        start = time.monotonic()
        export(config)
        seconds = time.monotonic() - start
        sizes = {name: (workdir / "encoder" / GRAPH_NAMES[name]).stat().st_size / 2**20 for name in _VARIANTS}
        reports = read_manifest(config.output_uri).metrics["variants"]
    print(f"{arguments.num_texts} texts, as queries and as passages; export and checks {seconds:.0f} s")
    print(f"{'variant':<8} {'MiB':>6} " + " ".join(f"{name:>18}" for name in _COLUMNS))
    for name in _VARIANTS:
        print(f"{name:<8} {sizes[name]:>6.1f} " + " ".join(f"{reports[name][column]:>18.7f}" for column in _COLUMNS))
    if not is_judged:
        print("nDCG@10: RETRIEVER_DATA names no folder that holds the collection")
        return
    for name in _VARIANTS[1:]:
        its = reports[name]
        print(
            f"{name}: nDCG@10 {its['ndcg_10']:.4f} -> {its['ndcg_10'] + its['ndcg_10_drift']:.4f} on "
            f"{its['num_queries']} queries of "
            f"{arguments.collection} (p = {its['p_value']:.2f}, paired sign flips); with fp32 passages "
            f"{its['ndcg_10_drift_queries']:+.4f}"
        )


if __name__ == "__main__":
    main()

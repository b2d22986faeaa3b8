"""Scoring a large run: ours, pytrec_eval called plainly, ranx where it is installed; each in a process of its own.

Run: python tests/benchmarks/bench_evaluate.py [--queries 1000000] [--depth 100] [--folder F]

All read the same TREC files and give nDCG@10, RR@10 and R@100 of every query; the means must agree. Seconds are those
of reading and scoring together; memory is the largest resident set of the process.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # `python tests/benchmarks/...` puts this folder there, not the root

import numpy as np  # noqa: E402
from pytrec_eval import RelevanceEvaluator, parse_qrel, parse_run  # noqa: E402

from components.evaluate.measures import parse_measures, per_query  # noqa: E402
from components.evaluate.suites.foreign import iter_written  # noqa: E402

_JUDGED, _BLOCK_QUERIES, _PASSAGES = 10, 1024, 1_000_000


def write_files(folder: Path, num_queries: int, depth: int) -> None:
    """A run and qrels of random passages; a third of the judged ones are retrieved."""
    generator = np.random.default_rng(0)
    with (folder / "run.trec").open("w") as run, (folder / "qrels.trec").open("w") as qrels:
        for query in range(num_queries):
            hits = generator.choice(_PASSAGES, depth, replace=False) if query < 100 else _some(generator, depth)
            judged = [*hits[generator.integers(0, depth, _JUDGED // 3)], *generator.integers(0, _PASSAGES, _JUDGED)]
            run.writelines(f"q{query} Q0 p{hit} {rank} {depth - rank} b\n" for rank, hit in enumerate(hits.tolist()))
            qrels.writelines(f"q{query} 0 p{hit} {hit % 3}\n" for hit in dict.fromkeys(map(int, judged[:_JUDGED])))


def _some(generator: np.random.Generator, depth: int) -> np.ndarray:
    """Different passages, faster than a choice among all of them."""
    return (int(generator.integers(0, _PASSAGES)) + 9973 * np.arange(depth)) % _PASSAGES


def ours(folder: Path) -> list[float]:
    """Block by block, as a suite measures a run."""
    with (folder / "qrels.trec").open() as file:
        grades = parse_qrel(file)
    measures = parse_measures("nDCG@10 RR@10 R@100", min_grade=1)
    runs = iter_written(folder / "run.trec")
    blocks = []
    while block := dict(itertools.islice(runs, _BLOCK_QUERIES)):
        blocks.append(per_query(block, grades=grades, measures=measures))
    means: list[float] = np.concatenate(blocks).mean(axis=0).tolist()
    return means


def pytrec_eval(folder: Path) -> list[float]:
    """Everything as dictionaries at once; RR is not cut at 10 there, so the run is cut for it, as people do."""
    with (folder / "qrels.trec").open() as qrels, (folder / "run.trec").open() as run:
        grades, runs = parse_qrel(qrels), parse_run(run)
    values = RelevanceEvaluator(grades, {"ndcg_cut.10", "recall.100"}).evaluate(runs)
    first = {query: dict(sorted(hits.items(), key=lambda hit: -hit[1])[:10]) for query, hits in runs.items()}
    ranks = RelevanceEvaluator(grades, {"recip_rank"}).evaluate(first)
    of_all = [[row["ndcg_cut_10"], ranks[query]["recip_rank"], row["recall_100"]] for query, row in values.items()]
    means: list[float] = np.mean(of_all, axis=0).tolist()
    return means


def ranx(folder: Path) -> list[float]:
    """By its own readers; its first call compiles, which counts as it does for a person."""
    from ranx import Qrels, Run, evaluate

    qrels = Qrels.from_file(str(folder / "qrels.trec"), kind="trec")
    run = Run.from_file(str(folder / "run.trec"), kind="trec")
    means = evaluate(qrels, run, ["ndcg@10", "mrr@10", "recall@100"], make_comparable=True)
    return [float(means[name]) for name in ("ndcg@10", "mrr@10", "recall@100")]


TOOLS: dict[str, Callable[[Path], list[float]]] = {"ours": ours, "pytrec_eval": pytrec_eval, "ranx": ranx}


def measured(tool: str, folder: Path) -> dict[str, object]:
    """One tool in a process of its own."""
    command = [sys.executable, __file__, "--tool", tool, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:80]}
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_tool(tool: str, folder: Path) -> None:
    """The child's work: prints its figures as one line of JSON."""
    start, cpu = time.perf_counter(), time.process_time()
    means = TOOLS[tool](folder)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"means": means, "seconds": seconds, "cpu_seconds": cpu_seconds, "mebibytes": mebibytes}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--tool", choices=TOOLS)
    options = parser.parse_args()
    if options.tool:
        run_tool(options.tool, options.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        write_files(folder, options.queries, options.depth)
        print(f"{options.queries:,} queries x {options.depth} hits, {_JUDGED} judgements each")
        print("| tool | seconds | CPU seconds | peak MiB | nDCG@10, RR@10, R@100 |")
        print("|---|---|---|---|---|")
        for tool in TOOLS:
            if tool == "ranx" and importlib.util.find_spec("ranx") is None:
                print("| ranx | not installed | | | |")
                continue
            row = measured(tool, folder)
            if "failed" in row:
                print(f"| {tool} | {row['failed']} | | | |")
                continue
            means = ", ".join(f"{mean:.6f}" for mean in row["means"])  # type: ignore[attr-defined]
            print(f"| {tool} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['mebibytes']:.0f} | {means} |")


if __name__ == "__main__":
    main()

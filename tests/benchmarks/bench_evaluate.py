"""Scoring a large run: ours, pytrec_eval called plainly, and ranx; each in a process of its own.

Run: python tests/benchmarks/bench_evaluate.py [--queries 100000 1000000] [--depth 100] [--folder F] [--ranx PYTHON]

All read the same TREC files and give nDCG@10, RR@10 and R@100 of every query; the means must agree. Seconds are those
of reading and scoring together; memory is the largest resident set of the process. A process may take what is free of
the machine's memory but for a quarter (--memory-gib): what needs more is told, and takes nothing from others. ranx
brings a compiler, so it has an environment of its own, which is made beside this one where --ranx names none.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # `python tests/benchmarks/...` puts this folder there, not the root

if "ranx" not in sys.argv:  # a child in ranx's environment, which holds none of these
    from pytrec_eval import RelevanceEvaluator, parse_qrel, parse_run

    from components.evaluate.measures import parse_measures, per_query
    from components.evaluate.suites.foreign import iter_written

_JUDGED, _BLOCK_QUERIES, _PASSAGES = 10, 1024, 1_000_000
_RANX = "ranx==0.3.21"


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


def measured(tool: str, folder: Path, interpreter: str, memory_gib: float) -> dict[str, Any]:
    """One tool in a process of its own."""
    command = [interpreter, __file__, "--tool", tool, "--folder", str(folder), "--memory-gib", str(memory_gib)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        # Without memory some libraries end in their own ways; numba's dictionaries with "failed unexpectedly".
        is_full = (
            any(word in said for word in ("MemoryError", "allocate", "failed unexpectedly")) or done.returncode < 0
        )
        return {"failed": f"not within {memory_gib:.1f} GiB" if is_full else said[:80]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_tool(tool: str, folder: Path, memory_gib: float) -> None:
    """The child's work: prints its figures as one line of JSON."""
    limit = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start, cpu = time.perf_counter(), time.process_time()
    means = TOOLS[tool](folder)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"means": means, "seconds": seconds, "cpu_seconds": cpu_seconds, "mebibytes": mebibytes}))


def free_gib() -> float:
    """Three quarters of the memory that nobody uses."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 0.75 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20


def ranx_python() -> str:
    """The interpreter of an environment with ranx, which is made at the first call; empty where that fails."""
    folder = ROOT / ".venv-ranx"
    interpreter = folder / "bin" / "python"
    if not (folder / "finished").is_file():
        install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", _RANX]
        for command in ([sys.executable, "-m", "venv", str(folder)], install):
            if subprocess.run(command, check=False).returncode:
                return ""
        (folder / "finished").touch()
    return str(interpreter)


def print_table(num_queries: int, depth: int, folder: Path, interpreters: Mapping[str, str], memory_gib: float) -> None:
    """Writes the files of one size and has every tool score them."""
    write_files(folder, num_queries, depth)
    print(f"\n{num_queries:,} queries x {depth} hits, {_JUDGED} judgements each; at most {memory_gib:.1f} GiB a tool\n")
    print("| tool | seconds | CPU seconds | peak MiB | nDCG@10, RR@10, R@100 |")
    print("|---|---|---|---|---|")
    for tool, interpreter in interpreters.items():
        row = measured(tool, folder, interpreter, memory_gib) if interpreter else {"failed": "could not be installed"}
        if "failed" in row:
            print(f"| {tool} | {row['failed']} | | | |", flush=True)
            continue
        means = ", ".join(f"{mean:.6f}" for mean in row["means"])
        seconds = f"{row['seconds']:.1f} | {row['cpu_seconds']:.1f}"
        print(f"| {tool} | {seconds} | {row['mebibytes']:,.0f} | {means} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--memory-gib", type=float, default=free_gib())
    parser.add_argument("--ranx", metavar="PYTHON", help="interpreter of an environment with ranx")
    parser.add_argument("--tool", choices=TOOLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tool:
        run_tool(options.tool, options.folder, options.memory_gib)
        return
    interpreters = {"ours": sys.executable, "pytrec_eval": sys.executable, "ranx": options.ranx or ranx_python()}
    for num_queries in options.queries:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            print_table(num_queries, options.depth, Path(folder), interpreters, options.memory_gib)


if __name__ == "__main__":
    main()

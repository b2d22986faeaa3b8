"""annotate over the bare engine on the same prompts: requests a second, journal overhead, memory over queries.

    python tests/benchmarks/bench_annotate.py [--queries 24] [--rounds 3] [--memory 1000 10000]

The ratio is measured with a real language model, the packaged one, in turns within one run. Memory is that of whole
processes which annotate so many queries with an engine that answers at once; `--memory 1000 100000` is the long form.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from components.annotate import job
from components.annotate.job import annotate
from components.shared.calls.asks import Ask
from components.shared.durable.journal import Journal
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    Engine,
    Likelihood,
    LikelihoodRequest,
    Request,
    Result,
)
from components.shared.engines.opening import open_engine
from tests.components.annotate.inputs import job_config, write_inputs


class _Kept:
    """The bare engine with its requests written down; loaded once for all rounds."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.model, self.can_constrain = engine, engine.model, engine.can_constrain
        self.collect = engine.collect
        self.requests: list[Request] = []

    def submit(self, request: Request) -> None:
        self.requests.append(request)
        self._engine.submit(request)

    def close(self) -> None:
        pass


class _Instant:
    """Answers at once: what is left is the component."""

    model, can_constrain = "instant", False

    def __init__(self) -> None:
        self._queue: list[Request] = []

    def submit(self, request: Request) -> None:
        self._queue.append(request)

    def collect(self) -> list[Result]:
        queue, self._queue = self._queue, []
        return [
            Completion(request.key, "[1], [2]", "stop", 300, 6)
            if isinstance(request, CompletionRequest)
            else Likelihood(request.key, (-1.0,) * 8, 90)
            for request in queue
        ]

    def close(self) -> None:
        pass


def measure_ratio(folder: Path, *, queries: int, rounds: int) -> None:
    """The component and the bare engine in turns on the same prompts."""
    from pipelines.packaged import find_llm

    write_inputs(folder, num_queries=queries, pool_size=8)
    engine = _Kept(open_engine("transformers", llm_uri=str(find_llm())))
    # The first pass of a model pays for what later ones find ready.
    engine.submit(LikelihoodRequest("warm", "a few words to", " warm up"))
    engine.collect()
    ratios, shares = [], []
    for number in range(rounds):
        engine.requests.clear()
        start = time.perf_counter()
        _annotate(folder, engine, f"round-{number}", method="query_likelihood", engine="transformers")
        through = time.perf_counter() - start
        requests = list(engine.requests)
        start = time.perf_counter()
        for request in requests:
            engine.submit(request)
        results = []
        while batch := engine.collect():
            results += batch
        bare = time.perf_counter() - start
        assert len(results) == len(requests) == 8 * queries
        journal = _journal_seconds(folder / f"journal-{number}", results)
        ratios.append(bare / through)
        shares.append(journal / through)
        print(
            f"round {number + 1}: {len(requests) / through:6.1f} requests/s through the component, "
            f"{len(requests) / bare:6.1f} bare"
        )
    print(f"ratio: median {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f}); goal 0.95")
    print(f"journal: {statistics.median(shares):.2%} of the component's time")


def _annotate(folder: Path, opened: object, output: str, **settings: object) -> None:
    job.open_engine_of = lambda *_, **__: opened  # type: ignore[assignment]
    annotate(job_config(folder, output, **settings))


def _journal_seconds(folder: Path, results: list[Result]) -> float:
    from components.shared.calls.journalled import origin, to_value

    ask = Ask("q", "query_likelihood", "likelihood.1@0123456789ab", "first", (0,), ())
    start = time.perf_counter()
    with Journal(folder) as journal:
        for result in results:
            journal.append(result.key, to_value(result) | origin(ask, "artifact"))
            journal.get(result.key)
    return time.perf_counter() - start


_MEASURED = """
import sys
from pathlib import Path
from tests.benchmarks.bench_annotate import annotate_at_once
annotate_at_once(Path(sys.argv[1]))
"""


def annotate_at_once(folder: Path) -> None:
    """Prints the seconds and the peak of this process."""
    start = time.perf_counter()
    _annotate(folder, _Instant(), "annotations", method="utility_selection")
    # Not ru_maxrss: a child's begins with what its parent held when it was forked.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    print(f"{time.perf_counter() - start:.1f} {peak:.1f}")


def measure_memory(folder: Path, sizes: list[int]) -> None:
    """Peak memory of processes that annotate so many queries."""
    for size in sizes:
        its = folder / str(size)
        its.mkdir()
        write_inputs(its, num_queries=size)
        output = subprocess.run(
            [sys.executable, "-c", _MEASURED, its], capture_output=True, text=True, check=True
        ).stdout.split()
        seconds, peak = float(output[0]), float(output[1])
        print(
            f"{size:7} queries, {3 * size} calls: peak {peak:6.1f} MiB, {3 * size / seconds:6.0f} calls/s where the "
            "engine costs nothing"
        )


def main() -> None:
    """Prints the ratio, the journal's share, and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="*", default=[1000, 10000])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if arguments.rounds:
            measure_ratio(folder, queries=arguments.queries, rounds=arguments.rounds)
        measure_memory(folder, arguments.memory)


if __name__ == "__main__":
    main()

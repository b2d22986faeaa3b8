"""How often the gate stops an encoder that is as good, and how often it lets a worse one through, by number of queries.

Run: python tests/benchmarks/bench_gate.py [--repeats 1000] [--per-query F --system NAME]

Production's values are drawn, with replacement, from the nDCG@10 of real queries where `--per-query` names the
per_query.csv of a suite, else from a made distribution of the same shape. The candidate of the first column is the same
encoder with another seed: a third of its queries move, by a normal draw. Those of the others have lost 1, 2 or 3 % on
top. The size of the noise is printed, so that a reader can hold it against what two seeds of a training differ in.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # `python tests/benchmarks/...` puts this folder there, not the root

import numpy as np  # noqa: E402

from components.evaluate.gate.decision import Evidence, check_quality  # noqa: E402

_MOVED, _NOISE = 1 / 3, 0.1
_QUERIES = (100, 300, 1000, 3000, 10000)
_LOSSES = (0.0, 0.01, 0.02, 0.03)
OUTCOMES = ("pass", "unclear", "fail")


def real_values(path: Path, system: str) -> np.ndarray:
    """The primary measure of every query of a suite's per_query.csv."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    measure = list(rows[0])[3]
    return np.array([float(row[measure]) for row in rows if row["system"] == system])


def made_values(generator: np.random.Generator) -> np.ndarray:
    """Many 0 and 1, and the rest between, as nDCG@10 has them."""
    return np.clip(generator.normal(0.65, 0.45, 5000), 0, 1)


def rates(
    generator: np.random.Generator, values: np.ndarray, num_queries: int, loss: float, repeats: int
) -> dict[str, float]:
    """Share of the repeats with each outcome."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for _ in range(repeats):
        production = generator.choice(values, num_queries)
        moved = generator.random(num_queries) < _MOVED
        # Not clipped: a clip would move the mean of values at the edges, and so plant a loss of its own.
        candidate = (1 - loss) * production + moved * generator.normal(0, _NOISE, num_queries)
        evidence = Evidence("simulated", "nDCG@10", candidate, production, None, True, None, None)
        counts[check_quality(evidence, max_loss=0.01, confidence=0.95).outcome] += 1
    return {outcome: count / repeats for outcome, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--per-query", type=Path)
    parser.add_argument("--system", default="base")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    values = real_values(options.per_query, options.system) if options.per_query else made_values(generator)
    print(
        f"{len(values):,} values, mean {values.mean():.3f}; another seed moves {_MOVED:.0%} of the queries by a normal "
        f"draw of deviation {_NOISE}; a loss of 1 % is allowed, at 95 % confidence; {options.repeats} repeats"
    )
    print("pass / unclear / fail, in % of the repeats; the default policy stops what is unclear")
    print(f"| queries | {' | '.join(f'loses {100 * loss:g} %' for loss in _LOSSES)} |")
    print(f"|---|{'---|' * len(_LOSSES)}")
    for num_queries in _QUERIES:
        cells = []
        for loss in _LOSSES:
            shares = rates(generator, values, num_queries, loss, options.repeats)
            cells.append(" / ".join(f"{100 * shares[outcome]:.1f}" for outcome in OUTCOMES))
        print(f"| {num_queries:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

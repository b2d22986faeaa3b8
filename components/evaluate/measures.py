"""Values of each measure for each judged query, by ir-measures.

A judged query without hits scores 0; a query nobody judged is never in a mean. What is measured is a run with strictly
decreasing scores (runs.py), so that every evaluator sees the same ranking whatever it does with ties.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata

import ir_measures
import numpy as np
from ir_measures import Judged, Measure, R
from jaxtyping import Float64

from components.evaluate.judgements import Grades

Values = Float64[np.ndarray, "query measure"]

# What decides a value of a given run: the libraries that compute it.
_LIBRARIES = ("ir-measures", "pytrec-eval-terrier", "numpy")

CURVE_CUTOFFS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)
JUDGED = Judged @ 10


def parse_measures(names: str, *, min_grade: int) -> list[Measure]:
    """Measures from their ir-measures names; binary ones count grades from `min_grade` on unless a name says otherwise.

    Raises:
        ValueError: Naming the one that is not a measure, or not one whose mean over queries means anything.
    """
    measures = [_parse_measure(name, min_grade=min_grade) for name in names.split()]
    if not measures:
        raise ValueError("measures: none named; write for example 'nDCG@10 RR@10 R@100'")
    return list(dict.fromkeys(measures))


def _parse_measure(name: str, *, min_grade: int) -> Measure:
    try:
        measure = ir_measures.parse_measure(name)
        if min_grade != 1 and "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params:
            measure = measure(rel=min_grade)
        # Computed once now, so that a measure that cannot be computed here fails before an hour of retrieval.
        ir_measures.calc_aggregate([measure], {"query": {"passage": 1}}, {"query": {"passage": 1.0}})
    except (NameError, ValueError, AssertionError, RuntimeError, OSError) as error:
        raise ValueError(
            f"measures: {name!r} is not a measure ({error}); see https://ir-measur.es for their names"
        ) from error
    except subprocess.SubprocessError as error:
        # gdeval and other programs of their own, which read numbers as query ids.
        raise ValueError(
            f"measures: {name!r} is computed by an outside program, which cannot read ids that are text; leave it out"
        ) from error
    if not isinstance(measure.aggregator(), type(R.aggregator())):
        raise ValueError(f"measures: {name!r} counts instead of averaging over queries; leave it out")
    return measure


def curve_measures(*, depth: int, min_grade: int) -> list[Measure]:
    """Recall at cutoffs up to the depth, for the recall curve."""
    cutoffs = [cutoff for cutoff in CURVE_CUTOFFS if cutoff < depth] + [min(depth, CURVE_CUTOFFS[-1])]
    return [_with_grade(R @ cutoff, min_grade) for cutoff in cutoffs]


def _with_grade(measure: Measure, min_grade: int) -> Measure:
    return measure if min_grade == 1 else measure(rel=min_grade)


def per_query(runs: Mapping[str, Mapping[str, float]], *, grades: Grades, measures: Sequence[Measure]) -> Values:
    """Values of the queries in `runs`, in that order; all of them judged.

    A run is query id -> passage id -> score, strictly decreasing; an empty one scores 0.
    """
    rows = {query_id: row for row, query_id in enumerate(runs)}
    columns = {measure: [column for column, other in enumerate(measures) if other == measure] for measure in measures}
    values = np.zeros((len(rows), len(measures)))
    evaluator = ir_measures.evaluator(list(columns), {query_id: dict(grades[query_id]) for query_id in runs})
    for metric in evaluator.iter_calc({query_id: dict(run) for query_id, run in runs.items() if run}):
        values[rows[metric.query_id], columns[metric.measure]] = metric.value
    return values


def signature(measure: Measure, *, split: str, depth: int, min_grade: int, drops_self: bool = True) -> str:
    """All that two values of a measure must agree in before they may stand beside each other, as one line.

    Source: the idea is that of sacreBLEU's signatures, Post 2018, A call for clarity in reporting BLEU scores.
    """
    rules = {
        "measure": str(measure),
        "relevant": f"grade>={min_grade}",
        "depth": str(depth),
        "split": split,
        "ties": "none:32bit-strictly-decreasing",
        "unjudged": "not-relevant",
        "denominator": "judged-queries",
        "self": "dropped" if drops_self else "kept",
    }
    return "|".join(f"{name}:{value}" for name, value in {**rules, **_versions()}.items())


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _LIBRARIES}

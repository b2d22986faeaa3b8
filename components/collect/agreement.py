"""Whether an LLM's judgements rank systems as people's do: means under each, and Kendall's tau between the rankings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
from jaxtyping import Float
from scipy import stats

from components.collect.pooling import Rankings
from components.shared.measuring.statistics import Interval, Values, bootstrap_means
from components.shared.records import Annotation

Grades = Mapping[str, Mapping[str, int]]
HUMAN, LLM, MERGED = "human", "llm", "merged"


def llm_grades(annotations: Sequence[Annotation]) -> dict[str, dict[str, int]]:
    """Query id -> passage id -> 1 where the LLM found it useful, else 0."""
    return {
        annotation.query_id: {
            passage_id: int(label == "positive")
            for passage_id, label in zip(annotation.passage_ids, annotation.labels, strict=True)
        }
        for annotation in annotations
    }


def merge(of_llm: Grades, of_people: Grades) -> dict[str, dict[str, int]]:
    """Both together; where people judged a passage, theirs is the grade."""
    return {query_id: {**grades, **of_people.get(query_id, {})} for query_id, grades in of_llm.items()}


def per_query(rankings: Rankings, grades: Grades, query_ids: Sequence[str], measure: str) -> Values:
    """Value of each query (rows) for each system (columns); a query without a relevant passage scores 0."""
    parsed = ir_measures.parse_measure(measure)
    columns = []
    for ranking in rankings.values():
        # Strictly falling scores, so that every evaluator sees the order of the run.
        run = {
            query_id: {passage_id: float(-place) for place, passage_id in enumerate(ranking.get(query_id, ()))}
            for query_id in query_ids
        }
        qrels = {query_id: dict(grades[query_id]) for query_id in query_ids}
        values = {value.query_id: value.value for value in ir_measures.iter_calc([parsed], qrels, run)}
        columns.append([values.get(query_id, 0.0) for query_id in query_ids])
    return np.array(columns, dtype=np.float64).T


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b of two rankings of the systems, with its bootstrap interval over queries.

    None where all systems are equal under one of them, because then there is no ranking.
    """

    against: str
    tau: float | None
    low: float | None
    high: float | None


def compare_rankings(values: Mapping[str, Values], *, num_resamples: int, confidence: float, seed: int) -> list[Tau]:
    """Tau of people's ranking with every other one; the rows of all are the same queries, the columns the systems."""
    num_systems = values[HUMAN].shape[1]
    means = bootstrap_means(np.concatenate(list(values.values()), axis=1), num_resamples=num_resamples, seed=seed)
    resampled = dict(zip(values, np.split(means, len(values), axis=1), strict=True))
    taus = []
    for name in values:
        if name == HUMAN or num_systems < 2:
            continue
        tau = _tau(values[HUMAN].mean(axis=0), values[name].mean(axis=0))
        drawn = [
            one
            for of_people, of_other in zip(resampled[HUMAN], resampled[name], strict=True)
            if (one := _tau(of_people, of_other)) is not None
        ]
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist() if drawn else (None, None)
        taus.append(Tau(name, tau, low, high))
    return taus


def _tau(one: Float[np.ndarray, system], other: Float[np.ndarray, system]) -> float | None:
    value = float(stats.kendalltau(one, other).statistic)
    return None if np.isnan(value) else value


def means(values: Values, *, num_resamples: int, confidence: float, seed: int) -> list[Interval]:
    """Mean of each system with its interval."""
    resampled = bootstrap_means(values, num_resamples=num_resamples, seed=seed)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return [Interval(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]


def passage_agreement(of_llm: Grades, of_people: Grades) -> dict[str, Any]:
    """Of the passages that both judged: how many each called relevant, and how many both did."""
    pairs = list(_both(of_llm, of_people))
    return {
        "num_judged_by_both": len(pairs),
        "num_relevant_to_people": sum(person for person, _ in pairs),
        "num_useful_to_llm": sum(llm for _, llm in pairs),
        "num_both": sum(person and llm for person, llm in pairs),
    }


def _both(of_llm: Grades, of_people: Grades) -> Iterator[tuple[bool, bool]]:
    for query_id, grades in of_llm.items():
        for passage_id, grade in of_people.get(query_id, {}).items():
            if passage_id in grades:
                yield grade > 0, grades[passage_id] > 0

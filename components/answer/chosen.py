"""Which queries are answered, and from which passages by each system."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.answer.config import AnswerConfig
from components.shared import log
from components.shared.dataset import SPLITS, Dataset
from components.shared.hashing import content_key
from components.shared.measuring.runs import find_runs
from components.shared.measuring.trec import read_top
from components.shared.records import Query
from components.shared.roles import hint

CLOSED_BOOK, ORACLE = "closed_book", "oracle"
BOUNDS = (CLOSED_BOOK, ORACLE)

Contexts = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Chosen:
    """The queries that all systems answer, in the collection's order.

    `num_with_answers` of the split's `num_in_split` queries have reference answers, `num_answerable` of these a
    positive too, where the oracle needs one.
    """

    queries: Sequence[Query]
    num_in_split: int
    num_with_answers: int
    num_answerable: int


def choose_queries(dataset: Dataset, config: AnswerConfig) -> Chosen:
    """Draws by a seeded hash among the queries of the split that can be answered and measured.

    Raises:
        ValueError: Where there are none.
    """
    in_split = dataset.queries(config.split)
    with_answers = [query for query in in_split if any(answer.strip() for answer in query.answers)]
    if not with_answers:
        raise ValueError(
            f"{config.dataset_uri}: none of the {len(in_split)} queries of split {config.split!r} has a reference "
            f"answer, so no answer can be measured; {_remedy(dataset, config.split)}"
        )
    positives = dataset.positives(config.split)
    answerable = [query for query in with_answers if config.oracle == "no" or query.query_id in positives]
    if not answerable:
        raise ValueError(
            f"{config.dataset_uri}: no query of split {config.split!r} with a reference answer has a known positive "
            f"for the oracle to read; leave it out ({hint('oracle', 'no')})"
        )
    drawn = heapq.nsmallest(
        config.num_queries, answerable, key=lambda query: content_key(config.seed, "answered", query.query_id)
    )
    if len(drawn) < config.num_queries:
        log.warning("the split has too few queries that can be answered", wanted=config.num_queries, queries=len(drawn))
    kept = {query.query_id for query in drawn}
    queries = [query for query in answerable if query.query_id in kept]
    return Chosen(queries, len(in_split), len(with_answers), len(answerable))


def _remedy(dataset: Dataset, split: str) -> str:
    others = [other for other in SPLITS if other != split and any(query.answers for query in dataset.queries(other))]
    if others:
        return f"take another split ({hint('split', others[0])})"
    return 'give queries of the collection their answers, as a list "answers" on their lines of queries.jsonl'


def find_contexts(dataset: Dataset, queries: Sequence[Query], config: AnswerConfig) -> Contexts:
    """System -> query id -> the passages that it shows the LLM, best first: closed book, the runs, oracle.

    Raises:
        ValueError: Where there is nothing to answer from, a run is unknown, named twice, or of another dataset.
    """
    files = find_runs(
        dataset_uri=config.dataset_uri,
        evaluation_uri=config.evaluation_uri,
        runs_uri=config.runs_uri,
        systems=config.systems,
        reserved=BOUNDS,
    )
    query_ids = {query.query_id for query in queries}
    contexts: dict[str, Mapping[str, tuple[str, ...]]] = {}
    if config.closed_book == "yes":
        contexts[CLOSED_BOOK] = {}
    for name, path in files.items():
        contexts[name] = read_top(path, dataset, query_ids=query_ids, depth=config.num_passages)
        if num_without := len(query_ids - contexts[name].keys()):
            log.warning("a run has no hits for some queries: they get no passage", run=name, queries=num_without)
    if config.oracle == "yes":
        contexts[ORACLE] = _positives(dataset, query_ids, config)
    if not contexts:
        raise ValueError(
            "there is nothing to answer from: no run is named and both bounds are off; name runs "
            f"({hint('evaluation_uri')} or {hint('runs_uri')})"
        )
    return contexts


def _positives(dataset: Dataset, query_ids: set[str], config: AnswerConfig) -> dict[str, tuple[str, ...]]:
    """The positives of the highest grades; of equal ones those that were judged first."""
    qrels = dataset.qrels(config.split)
    return {
        query_id: tuple(
            sorted(
                (passage_id for passage_id, grade in qrels[query_id].items() if grade > 0),
                key=lambda passage_id, grades=qrels[query_id]: -grades[passage_id],  # type: ignore[misc]
            )[: config.num_passages]
        )
        for query_id in query_ids
    }

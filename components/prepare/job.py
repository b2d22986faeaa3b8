"""The recipe of prepare: look at the files, read and check every line, then write what is good and its BM25 index.

The corpus is read twice, once to check and once to write, so that a refused collection leaves nothing behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from components.prepare.collection import check_corpus, check_qrels, read_qrels, read_queries
from components.prepare.config import PrepareConfig
from components.prepare.layout import find_layout
from components.prepare.problems import Problems
from components.prepare.splits import assign_splits
from components.shared import log
from components.shared.bm25 import BM25_NAME, build_bm25
from components.shared.dataset import SPLITS, Dataset, DatasetWriter
from components.shared.language.detection import SAMPLE_TEXTS, Detection, detect_language
from components.shared.language.table import AUTO, OTHER, require_language
from components.shared.manifest import artifact_writer
from components.shared.records import Query

# Fewer function words than this in all queries together say too little of their language for a warning.
_ENOUGH_EVIDENCE = 10


def prepare(config: PrepareConfig) -> None:
    """Makes a dataset of a collection in BEIR layout.

    Raises:
        ValueError: Naming bad lines by file and line, or a file that cannot be used; nothing is written.
    """
    require_language(config.language)
    problems = Problems(config.collection_uri, max_reported=config.max_reported)
    layout = find_layout(config.collection_uri, problems)
    queries = read_queries(layout, problems)
    judgements = read_qrels(layout, queries, problems)
    corpus = check_corpus(layout, {row.qrel.passage_id for row in judgements.rows}, problems)
    rows = check_qrels(judgements, corpus, layout, problems)
    problems.settle(config.on_problem)
    detection = detect_language(corpus.sample)
    language = detection.language if config.language == AUTO else config.language
    _log_language(language, detection, queries.values(), asked=config.language)
    if layout.notes:
        log.warning("lines read in another form than they stand there", num_lines=dict(layout.notes))
    splits = assign_splits(queries, judgements.splits)
    num_queries = _count_queries(splits, judgements.splits)
    log.event("queries by split, and how many of them have human judgements", num_queries=num_queries)
    with artifact_writer("prepare", config) as artifact:
        writer = DatasetWriter(artifact.path, language=language)
        for passage in corpus.passages():
            writer.add_passage(passage)
        writer.finish(
            ((query, splits[query_id]) for query_id, query in queries.items()), ((row.qrel, row.split) for row in rows)
        )
        build_bm25(Dataset(artifact.path), artifact.path / BM25_NAME, scratch=artifact.scratch / BM25_NAME)
        artifact.metrics |= {
            "num_passages": corpus.num_passages,
            "num_queries": len(queries),
            **num_queries,
            "num_qrels": len(rows),
            "num_positive_qrels": sum(row.qrel.grade > 0 for row in rows),
            "num_clamped_grades": judgements.num_clamped,
            "num_repeated_qrels": judgements.num_repeated,
            "num_blank_lines": layout.count_blank_lines(),
            "num_skipped": problems.skipped.total(),
            "skipped": dict(problems.skipped),
            "read_as": dict(layout.notes),
            "language": language,
            "language_shares": detection.shares,
        }


def _count_queries(splits: Mapping[str, str], judged: Collection[str]) -> dict[str, int]:
    """Queries of each split, and how many of them have a row of qrels."""
    counts = {f"num_{split}_queries": list(splits.values()).count(split) for split in SPLITS}
    counted = Counter(split for query_id, split in splits.items() if query_id in judged)
    return counts | {f"num_judged_{split}_queries": counted[split] for split in SPLITS}


def _log_language(language: str, detection: Detection, queries: Iterable[Query], *, asked: str) -> None:
    """Says what the language is, and warns where the texts leave it open or the queries are in another one."""
    log.event("language of the passages", language=language, shares=detection.shares)
    if asked == AUTO and not detection.shares:
        log.warning(
            "no language speaks from the passages; if this one is wrong, set prepare.language", language=language
        )
    elif asked == AUTO and language == OTHER:
        log.warning(
            "the passages are in several languages: BM25 uses no stemmer and no stop words; to choose one, set "
            "prepare.language",
            shares=detection.shares,
        )
    elif asked not in (AUTO, OTHER) and detection.language not in (language, OTHER) and detection.shares:
        log.warning("the passages look like another language than prepare.language", shares=detection.shares)
    asking = detect_language(query.text for query in islice(queries, SAMPLE_TEXTS))
    if asking.evidence >= _ENOUGH_EVIDENCE and asking.language not in (language, OTHER):
        log.warning(
            "the queries are in another language than the passages: BM25 will find little",
            queries=asking.language,
            passages=language,
        )

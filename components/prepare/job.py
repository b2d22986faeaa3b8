"""The recipe of prepare: look at the files, read and check every line, then write what is good and its BM25 index.

A corpus in BEIR layout is read twice, once to check and once to write, so that a refused collection leaves nothing
behind. Documents are read once into working files of the artifact, which a killed job finds again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Ids
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from components.prepare.collection import Collection, check_corpus, check_qrels, read_qrels, read_queries
from components.prepare.config import PrepareConfig
from components.prepare.documents.job import documents_folder, read_documents
from components.prepare.labels.clicks import check_clicks, read_click_rows
from components.prepare.labels.splits import assign_splits
from components.prepare.layout import find_layout
from components.prepare.problems import Problems
from components.shared import log
from components.shared.bm25 import BM25_NAME, build_bm25
from components.shared.clicks import ClickLog, write_clicks
from components.shared.dataset import SPLITS, Dataset, DatasetWriter
from components.shared.language.detection import SAMPLE_TEXTS, Detection, detect_language
from components.shared.language.table import AUTO, OTHER, require_language
from components.shared.manifest import ArtifactWriter, artifact_writer
from components.shared.records import Query

# Fewer function words than this in all queries together say too little of their language for a warning.
_ENOUGH_EVIDENCE = 10


def prepare(config: PrepareConfig) -> None:
    """Makes a dataset of a collection in BEIR layout, or of a folder of documents.

    Raises:
        ValueError: Naming bad lines by file and line, or a file that cannot be used; nothing is written.
    """
    require_language(config.language)
    if folder := documents_folder(config.collection_uri):
        with artifact_writer("prepare", config) as artifact:
            _write(config, read_documents(config, folder, artifact), artifact)
        return
    collection = _read_beir(config)
    with artifact_writer("prepare", config) as artifact:
        _write(config, collection, artifact)


def _read_beir(config: PrepareConfig) -> Collection:
    problems = Problems(config.collection_uri, max_reported=config.max_reported)
    layout = find_layout(config.collection_uri, problems)
    queries = read_queries(layout.queries, layout.notes, problems)
    judgements = read_qrels(layout.qrels, queries, problems)
    clicks = read_click_rows(layout.folder, problems)
    wanted = {row.qrel.passage_id for row in judgements.rows}.union(clicks.log.passage_ids if clicks else ())
    corpus = check_corpus(layout, wanted, problems)
    rows = check_qrels(judgements, problems, named=corpus.named, empty=corpus.empty)
    log_of_clicks = None
    if clicks is not None:
        log_of_clicks = check_clicks(clicks, problems, query_ids=queries, named=corpus.named, empty=corpus.empty)
    problems.settle(config.on_problem)
    metrics = {
        "num_passages": corpus.num_passages,
        "num_blank_lines": layout.count_blank_lines(),
        "num_skipped": problems.skipped.total(),
        "skipped": dict(problems.skipped),
    }
    return Collection(corpus.passages, corpus.sample, queries, judgements, rows, metrics, layout.notes, log_of_clicks)


def _write(config: PrepareConfig, collection: Collection, artifact: ArtifactWriter) -> None:
    queries, judgements, rows = collection.queries, collection.judgements, collection.rows
    detection = detect_language(collection.sample)
    language = detection.language if config.language == AUTO else config.language
    _log_language(language, detection, queries.values(), asked=config.language)
    if collection.notes:
        log.warning("lines or files read in another form than they stand there", num_lines=dict(collection.notes))
    splits = assign_splits(queries, judgements.splits)
    num_queries = _count_queries(splits, judgements.splits)
    log.event("queries by split, and how many of them have human judgements", num_queries=num_queries)
    if not queries:
        log.event("the collection has no queries, so an LLM must write them (ask.num_queries)")
    writer = DatasetWriter(artifact.path, language=language)
    for passage, provenance in collection.passages():
        writer.add_passage(passage, provenance)
    writer.finish(
        ((query, splits[query_id]) for query_id, query in queries.items()), ((row.qrel, row.split) for row in rows)
    )
    if collection.clicks is not None:
        write_clicks(artifact.path, collection.clicks)
        artifact.metrics |= _count_clicks(collection.clicks)
    build_bm25(Dataset(artifact.path), artifact.path / BM25_NAME, scratch=artifact.scratch / BM25_NAME)
    artifact.metrics |= {
        **collection.metrics,
        "num_queries": len(queries),
        **num_queries,
        "num_qrels": len(rows),
        "num_positive_qrels": sum(row.qrel.grade > 0 for row in rows),
        "num_clamped_grades": judgements.num_clamped,
        "num_repeated_qrels": judgements.num_repeated,
        "read_as": dict(collection.notes),
        "language": language,
        "language_shares": detection.shares,
    }


def _count_clicks(clicks: ClickLog) -> dict[str, Any]:
    """Facts of the click log, also said."""
    counts: dict[str, Any] = {
        "num_sessions": len(clicks.session_ids),
        "num_shown_results": clicks.num_rows,
        "num_clicks": int(clicks.clicked.sum()),
    }
    log.event("clicks", **counts)
    return counts


def _count_queries(splits: Mapping[str, str], judged: Ids[str]) -> dict[str, int]:
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

"""The recipe of prepare: look at the files, read and check every line, then write what is good.

The corpus is read twice, once to check and once to write, so that a refused collection leaves nothing behind.
"""

from __future__ import annotations

from components.prepare.collection import check_corpus, check_qrels, find_layout, read_qrels, read_queries
from components.prepare.config import PrepareConfig
from components.prepare.problems import Problems
from components.prepare.splits import NO_SPLIT, assign_splits
from components.shared.dataset import SPLITS, DatasetWriter
from components.shared.manifest import artifact_writer


def prepare(config: PrepareConfig) -> None:
    """Makes a dataset of a collection in BEIR layout.

    Raises:
        ValueError: Naming bad lines by file and line, or a file that cannot be used; nothing is written.
    """
    problems = Problems(config.collection_uri, max_reported=config.max_reported)
    layout = find_layout(config.collection_uri, problems)
    queries = read_queries(layout, problems)
    judgements = read_qrels(layout, queries, problems)
    corpus = check_corpus(layout, {row.qrel.passage_id for row in judgements.rows}, problems)
    rows = check_qrels(judgements, corpus, layout, problems)
    problems.settle(config.on_problem)
    splits = assign_splits(queries, judgements.splits)
    with artifact_writer("prepare", config) as artifact:
        writer = DatasetWriter(artifact.path)
        for passage in corpus.passages():
            writer.add_passage(passage)
        writer.finish(
            ((query, splits[query_id]) for query_id, query in queries.items()), ((row.qrel, row.split) for row in rows)
        )
        artifact.metrics |= {
            "num_passages": corpus.num_passages,
            "num_queries": len(queries),
            **{
                f"num_{split or 'unsplit'}_queries": list(splits.values()).count(split) for split in (*SPLITS, NO_SPLIT)
            },
            "num_qrels": len(rows),
            "num_positive_qrels": sum(row.qrel.grade > 0 for row in rows),
            "num_clamped_grades": judgements.num_clamped,
            "num_repeated_qrels": judgements.num_repeated,
            "num_skipped": problems.skipped.total(),
            "skipped": dict(problems.skipped),
        }

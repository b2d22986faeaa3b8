"""The recipe of ask: draw passages, have a query written for each, filter, and write the dataset that has them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.ask.config import AskConfig
from components.ask.filters import Judged, Search, judge_gains, judge_round_trip, judge_texts
from components.ask.records import AskedQuery, to_record, write_asked
from components.ask.report import facts, write_page
from components.ask.sampling import Assignment, Sample, draw
from components.ask.writing import Gain, Written, source_text, weigh_query, write_query
from components.shared import log
from components.shared.bm25 import BM25
from components.shared.calls.driver import Driver
from components.shared.calls.journalled import is_completed, journal_model
from components.shared.calls.sampling import profile_of
from components.shared.calls.tally import prices_of, tally_journal
from components.shared.clicks import read_clicks, write_clicks
from components.shared.corpus import check_corpus, corpus_files
from components.shared.dataset import SPLITS, Dataset, write_queries
from components.shared.durable.journal import Journal
from components.shared.engines.engine import Engine
from components.shared.engines.opening import open_engine_of
from components.shared.index.opening import open_pair
from components.shared.manifest import ArtifactWriter, artifact_writer, open_artifact, read_manifest
from components.shared.records import Hit, Qrel, Query
from components.shared.roles import hint


def ask(config: AskConfig) -> None:
    """Writes a dataset of the same corpus with the queries that passed every filter.

    Raises:
        ValueError: Where the engine cannot be opened, no passage can be asked about, or too few queries are left.
        TransientError: Where the engine went away; a second attempt continues.
    """
    if not config.num_queries:
        raise ValueError(f"num_queries is 0, so there is nothing to ask; say how many ({hint('num_queries', 300)})")
    dataset = Dataset(open_artifact(config.dataset_uri))
    bm25 = BM25(dataset)
    searches = {"bm25": bm25.search, **_dense(config)}
    journal_uri = config.journal_uri or f"{config.output_uri.rstrip('/')}.journal"
    with artifact_writer("ask", config) as artifact, Journal(journal_uri, accepts=is_completed) as journal:
        sample = draw(dataset, config, bm25)
        _log_sample(sample, config)
        engine = open_engine_of(config, journal_uri=journal_uri)
        try:
            calls = _Calls(config, engine, journal, artifact.identity[:12])
            judged = _judged(config, dataset, sample, calls, searches)
        finally:
            engine.close()
        records = [to_record(one, calls.model) for one in judged]
        _refuse_too_few(records, config, splits_are_ours=not _has_held_out(dataset))
        _link_corpus(config.dataset_uri, dataset.folder, artifact.path)
        _write_queries(artifact, dataset, records)
        tallies = tally_journal(journal.records(), artifact.identity[:12])
        artifact.metrics.update(facts(records, sample, tallies, prices_of(config)) | calls.facts())
        write_page(artifact.path, records, artifact.metrics)


class _Calls:
    """The LLM's part: one driver for queries, one for likelihoods, over one engine and one journal."""

    def __init__(self, config: AskConfig, engine: Engine, journal: Journal, artifact: str) -> None:
        self.model = journal_model(
            engine.model,
            config.llm_uri,
            endpoint_omit=config.endpoint_omit,
            endpoint_rename=config.endpoint_rename,
        )
        self._journal = journal
        self._profile = profile_of(
            config.llm_uri, config.sampling_profile, sampling_temperature=config.sampling_temperature
        )
        self._config = config
        in_flight = config.num_in_flight
        self._writing = Driver[Written](engine, journal, model=self.model, artifact=artifact, num_in_flight=in_flight)
        self._weighing = Driver[Gain](engine, journal, model=self.model, artifact=artifact, num_in_flight=in_flight)

    def write(self, assignments: Sequence[Assignment]) -> list[Written]:
        """The queries in order; every finished call is in the journal before the next one is waited for."""
        written = []
        askers = (write_query(assignment, self._config, self._profile) for assignment in assignments)
        with log.Progress("asking", total=len(assignments), unit="queries") as bar:
            for one in self._writing.run(askers):
                written.append(one)
                counts = self._writing.counts
                bar.add(calls=counts.calls_made, from_journal=counts.calls_from_journal)
        self._journal.sync()
        return written

    def weigh(self, kept: Sequence[Judged]) -> dict[str, tuple[float, tuple[str, ...]]]:
        """Gain in likelihood and calls by query id; the unrelated passage of a query is the next one's source."""
        sources = [source_text(one.written.assignment, self._config) for one in kept]
        askers = (
            weigh_query(one.written.assignment.query_id, one.written.reading.query, source, unrelated)
            for one, source, unrelated in zip(kept, sources, sources[1:] + sources[:1], strict=True)
        )
        gains = list(self._weighing.run(askers))
        self._journal.sync()
        return {one.written.assignment.query_id: (gain.nats, gain.calls) for one, gain in zip(kept, gains, strict=True)}

    def facts(self) -> dict[str, Any]:
        """What became of the calls of this attempt."""
        both = (self._writing.counts, self._weighing.counts)
        return {
            "model": self.model,
            "calls_made": sum(counts.calls_made for counts in both),
            "calls_from_journal": sum(counts.calls_from_journal for counts in both),
            "calls_refused": sum(counts.calls_refused for counts in both),
            "journal_repairs": self._journal.num_repaired,
        }


def _judged(
    config: AskConfig, dataset: Dataset, sample: Sample, calls: _Calls, searches: Mapping[str, Search]
) -> list[Judged]:
    """Every query with its verdict, in the order of the draw."""
    written = calls.write(sample.assignments)
    known = [query.text for query in dataset.queries()]
    judged = judge_texts(written, config, language=dataset.language, known=known)
    if config.round_trip != "none":
        judged = judge_round_trip(judged, config, searches, num_passages=dataset.num_passages)
    if config.min_likelihood_gain:
        gains = calls.weigh([one for one in judged if one.is_kept])
        judged = judge_gains(judged, gains, min_gain=config.min_likelihood_gain)
    return judged


def _dense(config: AskConfig) -> dict[str, Search]:
    """The encoder's search, where there is an encoder."""
    if not config.encoder_uri or config.round_trip not in ("dense", "either"):
        return {}
    check_corpus(config.index_uri, config.dataset_uri)
    encoder, index = open_pair(config.encoder_uri, config.index_uri)

    def search(queries: Sequence[str], depth: int) -> list[list[Hit]]:
        return index.search(encoder.encode_queries(list(queries)), depth) if queries else []

    return {"dense": search}


def _log_sample(sample: Sample, config: AskConfig) -> None:
    log.event("passages to ask about", queries=len(sample.assignments), left_out=dict(sample.left_out))
    if not sample.assignments:
        raise ValueError(
            f"{config.dataset_uri}: none of {sample.num_candidates} passages can be asked about "
            f"({dict(sample.left_out)}); take shorter ones too ({hint('min_passage_words', 5)})"
        )
    if len(sample.assignments) < config.num_queries:
        log.warning(
            "the corpus has too few passages for so many queries",
            wanted=config.num_queries,
            queries=len(sample.assignments),
        )


def _has_held_out(dataset: Dataset) -> bool:
    return any(dataset.human_qrels(split) for split in SPLITS[1:])


def _refuse_too_few(records: Sequence[AskedQuery], config: AskConfig, *, splits_are_ours: bool) -> None:
    """Raises ValueError where a later task would find nothing to learn from or to measure with."""
    wanted = SPLITS if splits_are_ours else SPLITS[:1]
    missing = [split for split in wanted if not any(one.is_kept and one.split == split for one in records)]
    if missing:
        rejected: dict[str, int] = {}
        for one in records:
            if one.rejected_by:
                rejected[one.rejected_by] = rejected.get(one.rejected_by, 0) + 1
        raise ValueError(
            f"{config.dataset_uri}: no query is left for split {' and '.join(missing)}: of {len(records)} asked "
            f"{sum(one.is_kept for one in records)} are kept, rejected are {rejected}; ask for more "
            f"({hint('num_queries', 4 * config.num_queries)}), or have a larger LLM write them ({hint('llm_uri')})"
        )


def _link_corpus(dataset_uri: str, source: Path, target: Path) -> None:
    """The corpus files of the dataset in another folder, without a second copy on the disk where that can be."""
    for name in corpus_files(read_manifest(dataset_uri)):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            os.link(source / name, path)
        except OSError:
            # Another disk, or a file system that has no links.
            shutil.copyfile(source / name, path)


def _write_queries(artifact: ArtifactWriter, dataset: Dataset, records: Iterable[AskedQuery]) -> None:
    """People's queries and qrels as they were, then the kept ones, whose source passages have grade 1."""
    asked = list(records)
    kept = [one for one in asked if one.is_kept]
    splits = dataset.splits
    queries = [(query, splits[query.query_id]) for query in dataset.queries()]
    queries += [(Query(one.query_id, one.text), one.split) for one in kept]
    qrels = [
        (Qrel(query_id, passage_id, grade), split)
        for split in ("", *SPLITS)
        for query_id, grades in dataset.qrels(split).items()
        for passage_id, grade in grades.items()
    ]
    qrels += [(Qrel(one.query_id, passage_id, 1), one.split) for one in kept for passage_id in one.passage_ids]
    if (clicks := read_clicks(dataset.folder)) is not None:
        write_clicks(artifact.path, clicks)
    write_queries(artifact.path, queries, qrels, asked=dataset.asked_ids | {one.query_id for one in kept})
    write_asked(artifact.path, asked)

"""The recipe of answer: choose queries, show the LLM each system's passages, and measure what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from components.answer.asking import Answered, ask_answer
from components.answer.chosen import Contexts, choose_queries, find_contexts
from components.answer.config import AnswerConfig
from components.answer.records import to_record, write_answers
from components.answer.report import write_report
from components.answer.scoring.bertscore import check_bertscore
from components.answer.scoring.scores import score, signatures
from components.answer.scoring.table import BLEU, Scores
from components.answer.scoring.wording import Wording
from components.answer.summary import costs, flat, summarise
from components.shared import log
from components.shared.calls.driver import Driver
from components.shared.calls.journalled import is_completed, journal_model
from components.shared.calls.sampling import profile_of
from components.shared.calls.tally import tally_journal
from components.shared.dataset import Dataset
from components.shared.durable.journal import Journal
from components.shared.engines.opening import open_engine_of
from components.shared.manifest import artifact_writer, open_artifact
from components.shared.records import Query
from components.shared.roles import hint

METRICS_NAME = "metrics.json"


def answer(config: AnswerConfig) -> None:
    """Answers the same queries from the passages of every system, and writes what the answers are worth.

    Raises:
        ValueError: Where no query can be answered and measured, a run is of another dataset, or the engine cannot be
            opened.
        TransientError: Where the engine went away; a second attempt continues.
    """
    if not config.num_queries:
        raise ValueError(f"num_queries is 0, so there is nothing to answer; say how many ({hint('num_queries', 50)})")
    if config.bertscore_uri:
        check_bertscore()
    dataset = Dataset(open_artifact(config.dataset_uri))
    chosen = choose_queries(dataset, config)
    contexts = find_contexts(dataset, chosen.queries, config)
    journal_uri = config.journal_uri or f"{config.output_uri.rstrip('/')}.journal"
    with artifact_writer("answer", config) as artifact, Journal(journal_uri, accepts=is_completed) as journal:
        places = {"journal_uri": journal_uri, "artifact": artifact.identity[:12]}
        answered, facts = _answered(config, dataset, chosen.queries, contexts, journal, **places)
        wording = Wording(dataset.language)
        scores = _scores(config, chosen.queries, contexts, answered, wording)
        metrics = summarise(config, chosen, answered, scores, signatures(config, wording), facts["model"])
        metrics |= costs(config, answered, tally_journal(journal.records(), artifact.identity[:12])) | facts
        named = [measure for measure in metrics["signatures"] if measure != BLEU]
        values = {name: iter(of.values.tolist()) for name, of in scores.items()}
        records = [
            to_record(one, dict(zip(named, next(values[one.system]), strict=True)), facts["model"]) for one in answered
        ]
        write_answers(artifact.path, records)
        (artifact.path / METRICS_NAME).write_bytes(orjson.dumps(metrics, option=orjson.OPT_INDENT_2))
        write_report(artifact.path, dataset, chosen.queries, records, metrics)
        artifact.metrics.update(flat(metrics) | {name: metrics[name] for name in ("model", "num_queries", *_COUNTS)})
    for note in metrics["notes"]:
        log.warning(note)
    log.event(metrics["headline"])


_COUNTS = ("calls_made", "calls_from_journal", "calls_refused", "journal_repairs", "engine_seconds", "dollars")


def _answered(
    config: AnswerConfig,
    dataset: Dataset,
    queries: Sequence[Query],
    contexts: Contexts,
    journal: Journal,
    *,
    journal_uri: str,
    artifact: str,
) -> tuple[list[Answered], dict[str, Any]]:
    """Answers system by system, queries in order; and what became of the calls of this attempt."""
    profile = profile_of(config.llm_uri, config.sampling_profile, sampling_temperature=config.sampling_temperature)
    engine = open_engine_of(config, journal_uri=journal_uri)
    try:
        changes = {"endpoint_omit": config.endpoint_omit, "endpoint_rename": config.endpoint_rename}
        model = journal_model(engine.model, config.llm_uri, **changes)
        driver = Driver[Answered](engine, journal, model=model, artifact=artifact, num_in_flight=config.num_in_flight)
        askers = (
            ask_answer(query, system, [dataset.passage(p) for p in context.get(query.query_id, ())], config, profile)
            for system, context in contexts.items()
            for query in queries
        )
        answered = []
        with log.Progress("answering", total=len(contexts) * len(queries), unit="answers") as bar:
            for one in driver.run(askers):
                answered.append(one)
                bar.add(calls=driver.counts.calls_made, from_journal=driver.counts.calls_from_journal)
        journal.sync()
    finally:
        engine.close()
    counts = driver.counts
    return answered, {
        "model": model,
        "calls_made": counts.calls_made,
        "calls_from_journal": counts.calls_from_journal,
        "calls_refused": counts.calls_refused,
        "journal_repairs": journal.num_repaired,
    }


def _scores(
    config: AnswerConfig, queries: Sequence[Query], contexts: Contexts, answered: Sequence[Answered], wording: Wording
) -> Mapping[str, Scores]:
    references = [[text for text in query.answers if text.strip()] for query in queries]
    by_system = {system: [one.reading.answer for one in answered if one.system == system] for system in contexts}
    return {system: score(answers, references, config, wording) for system, answers in by_system.items()}

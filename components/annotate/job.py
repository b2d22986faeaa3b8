"""The recipe of annotate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from components.annotate.chosen import ChosenPools
from components.annotate.config import AnnotateConfig
from components.annotate.judging.calibration import calibrated, calibration_pools
from components.annotate.judging.inquiry import Judge, Verdict
from components.annotate.judging.judge import judge
from components.annotate.judging.methods import METHODS
from components.annotate.quality.recheck import is_rechecked, reordered
from components.annotate.quality.report import (
    ANNOTATIONS_NAME,
    QUARANTINE_NAME,
    RECHECK_NAME,
    write_calibration,
    write_reports,
)
from components.shared import log
from components.shared.calls import untrusted
from components.shared.calls.driver import Driver
from components.shared.calls.journalled import is_completed, journal_model
from components.shared.dataset import Dataset
from components.shared.durable.journal import Journal
from components.shared.engines.engine import Engine
from components.shared.engines.opening import open_engine_of
from components.shared.manifest import ArtifactWriter, artifact_writer, open_artifact
from components.shared.records import Annotation, Pool, Quarantined, to_line
from components.shared.roles import hint

_SYNC_SECONDS = 5.0
_SPENT = ("prompt_tokens", "completion_tokens", "cached_tokens", "engine_seconds", "uncounted_calls")
_ANNOTATED = ("ok", "ok_empty", "repaired")


@dataclass
class _Sums:
    """What became of the pools so far; `reason` is why the last one without labels has none."""

    outcomes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    spent: Counter[str] = field(default_factory=Counter)
    reason: str = "there are none"

    def add(self, verdict: Verdict) -> None:
        self.outcomes[verdict.outcome] += 1
        self.labels.update(verdict.labels)
        self.spent.update({name: getattr(verdict, name) for name in _SPENT})
        if not verdict.labels:
            self.reason = verdict.detail

    @property
    def num_annotated(self) -> int:
        return sum(self.outcomes[outcome] for outcome in _ANNOTATED)


def annotate(config: AnnotateConfig) -> None:
    """Judges every pool of this shard; what cannot be parsed goes to the quarantine file, never into labels.

    Raises:
        ValueError: Where the engine cannot be opened, or no pool could be annotated.
        TransientError: Where the engine went away; a second attempt continues.
    """
    dataset = Dataset(open_artifact(config.dataset_uri))
    pools = ChosenPools(open_artifact(config.pools_uri) / "pools.jsonl", dataset, config)
    journal_uri = config.journal_uri or f"{config.output_uri.rstrip('/')}.journal"
    with artifact_writer("annotate", config) as artifact, Journal(journal_uri, accepts=is_completed) as journal:
        engine = open_engine_of(config, journal_uri=journal_uri)
        try:
            _annotate(config, dataset, pools, engine, journal, artifact)
            facts = write_reports(
                artifact.path, config, dataset, records=journal.records(), artifact=artifact.identity[:12]
            )
            artifact.metrics.update(facts)
        finally:
            engine.close()


def _annotate(
    config: AnnotateConfig,
    dataset: Dataset,
    pools: ChosenPools,
    engine: Engine,
    journal: Journal,
    artifact: ArtifactWriter,
) -> None:
    model = journal_model(
        engine.model,
        config.llm_uri,
        endpoint_omit=config.endpoint_omit,
        endpoint_rename=config.endpoint_rename,
    )
    driver: Driver[Verdict] = Driver(
        engine, journal, model=model, artifact=artifact.identity[:12], num_in_flight=config.num_in_flight
    )
    cut, calibration, fitted_on = _calibrated(config, dataset, pools, driver)
    write_calibration(artifact.path, fitted_on)
    judge_pool = partial(_judge, dataset=dataset, config=cut, can_constrain=engine.can_constrain)
    total = sum(1 for _ in pools.of_shard())
    sums = _write_labels(artifact.path, config, pools, driver, journal, judge_pool, model=model, total=total)
    again = [
        reordered(pool)
        for pool in pools.of_shard()
        if is_rechecked(pool.query_id, share=config.recheck_share, seed=config.seed)
    ]
    _write_rechecked(artifact.path / RECHECK_NAME, again, driver.run(map(judge_pool, again)), config.method, model)
    if uncounted := sums.spent["uncounted_calls"]:
        log.warning(
            "the server did not say the tokens of all calls; sums of tokens and dollars are lower bounds",
            calls=uncounted,
        )
    artifact.metrics.update(
        num_annotated=sums.num_annotated,
        num_quarantined=total - sums.num_annotated,
        outcomes=dict(sorted(sums.outcomes.items())),
        labels=dict(sorted(sums.labels.items())),
        model=model,
        method=config.method,
        calibration=calibration,
        calls_made=driver.counts.calls_made,
        calls_from_journal=driver.counts.calls_from_journal,
        calls_refused=driver.counts.calls_refused,
        unknown_finish_reasons=dict(sorted(driver.counts.unknown_reasons.items())),
        journal_repairs=journal.num_repaired,
        **{name: round(sums.spent[name], 3) for name in _SPENT},
    )


def _write_labels(
    folder: Path,
    config: AnnotateConfig,
    pools: ChosenPools,
    driver: Driver[Verdict],
    journal: Journal,
    judge_pool: Callable[[Pool], Judge],
    *,
    model: str,
    total: int,
) -> _Sums:
    """Writes annotations and quarantine in the order of the pools.

    Raises:
        ValueError: Where no pool could be annotated.
    """
    sums, last_sync = _Sums(), time.monotonic()
    with (
        (folder / ANNOTATIONS_NAME).open("wb") as annotated,
        (folder / QUARANTINE_NAME).open("wb") as quarantined,
        log.Progress("annotating", total=total, unit="queries") as bar,
    ):
        verdicts = driver.run(map(judge_pool, pools.of_shard()))
        for pool, verdict in zip(pools.of_shard(), verdicts, strict=True):
            if verdict.labels:
                annotated.write(to_line(_annotation(pool, verdict, config.method, model)))
            else:
                quarantined.write(to_line(_quarantined(pool, verdict, config.method, model)))
            sums.add(verdict)
            bar.add(calls=driver.counts.calls_made, from_journal=driver.counts.calls_from_journal)
            if time.monotonic() - last_sync > _SYNC_SECONDS:
                journal.sync()
                last_sync = time.monotonic()
    if not sums.num_annotated:
        raise ValueError(
            f"{config.pools_uri}: none of {total} pools could be annotated (outcomes {dict(sums.outcomes)}; "
            f"for example: {sums.reason}); {hint('method', 'query_likelihood')} needs neither answers nor a model "
            "that follows "
            "instructions"
        )
    return sums


def _write_rechecked(path: Path, pools: Sequence[Pool], verdicts: Iterator[Verdict], method: str, model: str) -> None:
    """The labels of a small sample of the pools that was judged once more, in another order."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for pool, verdict in zip(pools, verdicts, strict=True):
            if verdict.labels:
                file.write(to_line(_annotation(pool, verdict, method, model)))


def _calibrated(
    config: AnnotateConfig, dataset: Dataset, pools: ChosenPools, driver: Driver[Verdict]
) -> tuple[AnnotateConfig, dict[str, float], list[str]]:
    """The config with margins fitted to human positives, how they were got, and on which queries; as given elsewhere.

    Only methods that cut by a margin have any.
    """
    if not config.calibration_queries or not METHODS[config.method].is_calibrated:
        return config, {}, []
    positives = dataset.human_positives("train")
    drawn = calibration_pools(pools, positives, num_queries=config.calibration_queries, seed=config.seed)
    judges = (_judge(pool, dataset, config, can_constrain=False) for pool in drawn)
    scored = [
        (verdict.scores, [passage_id in positives[pool.query_id] for passage_id in pool.passage_ids])
        for pool, verdict in zip(drawn, driver.run(judges), strict=True)
        if verdict.scores
    ]
    cut, calibration = calibrated(config, scored)
    return cut, calibration, [pool.query_id for pool in drawn] if calibration else []


def _judge(pool: Pool, dataset: Dataset, config: AnnotateConfig, *, can_constrain: bool) -> Judge:
    passages = [untrusted.cut(dataset.passage(p).full_text, num_words=config.passage_words) for p in pool.passage_ids]
    return judge(dataset.query(pool.query_id), passages, config, can_constrain=can_constrain)


def _annotation(pool: Pool, verdict: Verdict, method: str, model: str) -> Annotation:
    return Annotation(
        query_id=pool.query_id,
        passage_ids=pool.passage_ids,
        labels=verdict.labels,
        method=method,
        model=model,
        outcome=verdict.outcome,
        scores=_rounded(verdict.scores),
        score_sums=_rounded(verdict.score_sums),
        distribution=_rounded(verdict.distribution),
        **_story(pool, verdict),
    )


def _quarantined(pool: Pool, verdict: Verdict, method: str, model: str) -> Quarantined:
    return Quarantined(
        query_id=pool.query_id,
        passage_ids=pool.passage_ids,
        method=method,
        model=model,
        outcome=verdict.outcome,
        detail=verdict.detail,
        completion=verdict.completion,
        **_story(pool, verdict),
    )


def _story(pool: Pool, verdict: Verdict) -> dict[str, Any]:
    spent = {name: getattr(verdict, name) for name in _SPENT}
    return {
        "pool_seed": pool.seed,
        "exchanges": verdict.exchanges,
        **spent,
        "engine_seconds": round(verdict.engine_seconds, 6),
    }


def _rounded(scores: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(score, 6) for score in scores)

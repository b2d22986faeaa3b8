"""The recipe of train."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from components.shared import log
from components.shared.checkpoint import DualEncoder
from components.shared.clicks import read_clicks
from components.shared.dataset import Dataset
from components.shared.durable import storage
from components.shared.manifest import LOGS, artifact_writer, open_artifact, read_manifest
from components.shared.records import Annotation, Pool, read_records
from components.train.config import TrainConfig
from components.train.curriculum import Stage, known_human_share, parse_curriculum
from components.train.kappa import choose_kappa, kappas_to_try, with_kappa
from components.train.labels.clicks import Clicks, train_clicks
from components.train.labels.dev import dev_set
from components.train.labels.fan_in import check_shards
from components.train.labels.groups import share_of, stage_groups
from components.train.loop.choice import Choice, choose_weights, mix_weights
from components.train.loop.model import base_model, merge_adapters
from components.train.loop.processes import Processes, joined_processes
from components.train.loop.state import Position
from components.train.loop.teaching import Staged
from components.train.loop.watch import Watch
from components.train.material import Material, fit
from components.train.precision import with_precision

LINES_NAME = f"{LOGS}training.jsonl"


def train(config: TrainConfig) -> None:
    """Trains the curriculum's stages and writes the checkpoint with the best dev nDCG@10.

    Raises:
        ValueError: Where the curriculum cannot be read, or no stage has a query to learn from.
    """
    stages = parse_curriculum(config.curriculum)
    known_share = known_human_share(stages)
    dataset = Dataset(open_artifact(config.dataset_uri))
    annotations = _annotations(config)
    held_out = {query.query_id for split in ("dev", "test") for query in dataset.queries(split)}
    # Whoever is not held out trains, also where people judged other queries and not these.
    trained_on = {query_id: annotation for query_id, annotation in annotations.items() if query_id not in held_out}
    uses_pools = any(stage.uses_teacher or stage.uses_human for stage in stages)
    pools = read_pools(config, trained_on, held_out) if uses_pools else {}
    dev_share = known_share if config.dev_human_share < 0 else config.dev_human_share
    clicks = read_train_clicks(config, dataset) if any(stage.uses_clicks for stage in stages) else None
    kappas = kappas_to_try(stages, clicks)

    def restaged(kappa: float) -> Staged:
        return _staged(with_kappa(stages, kappa), dataset, trained_on, pools, config, known_share, clicks)

    material = Material(
        config=config,
        dataset=dataset,
        annotations=trained_on,
        dev=dev_set(dataset, annotations, config, human_share=dev_share),
        staged=restaged(kappas[0] if kappas else 0.0),
        known_share=known_share,
        clicks=clicks,
        kappas=kappas,
        restaged=restaged,
    )
    with joined_processes() as processes:
        if processes.is_first:
            if any(synthetic_labels(material).values()):
                log.warning(
                    "labels called human here are synthetic: an LLM wrote the query for them",
                    **synthetic_labels(material),
                )
            if not material.dev.queries:
                log.warning("no label may choose the best weights: the last ones are kept", human_share=dev_share)
            _train_and_write(material, processes)
        else:
            # What the other processes do: encode their part of each step, measure and write nothing.
            material, _ = with_precision(material, processes, place="")
            chosen, _ = choose_kappa(material, processes, scratch=None, place="")
            fit(chosen, processes, watch=Watch(None))
        # Nobody asks for the artifact before it is there.
        processes.wait_for_all()


def human_labels_used(material: Material) -> dict[str, Any]:
    """How many human labels this run uses, and for what; a label counts once a stage.

    `positives` and `masks`: by stage, those learnt from and those kept out of the denominators of the LLM's groups.
    `dev`: those that choose the best weights. `calibration_queries`: queries whose labels the annotator's margins were
    fitted to. `pooled_beyond_share`: positives of queries outside the share that stand in annotated pools, where the
    LLM saw them; mine puts them there (human_positive) or found them itself. `synthetic`: how many of the positives are
    no person's labels but the passages that queries were asked about, in training and in the dev set; with any of them
    the other counts hold them too.
    """
    config, staged = material.config, material.staged
    positives = material.dataset.positives("train")
    known = share_of(positives, material.known_share, seed=config.seed, asked=material.dataset.asked_ids)
    pooled = sum(
        len(set(annotation.passage_ids).intersection(positives.get(query_id, ())))
        for query_id, annotation in material.annotations.items()
        if query_id not in known
    )
    calibrations = [
        (read_manifest(uri).metrics.get("calibration") or {}).get("num_queries", 0)
        for uri in _uris(config.annotations_uri)
    ]
    return {
        "share": material.known_share,
        "positives": {stage.name: sum(group.num_human_positives for group in groups) for stage, groups in staged},
        "masks": {stage.name: sum(group.num_human_masks for group in groups) for stage, groups in staged},
        "dev": material.dev.num_human_labels,
        "calibration_queries": max(calibrations, default=0),
        "pooled_beyond_share": pooled,
        "synthetic": synthetic_labels(material),
    }


def synthetic_labels(material: Material) -> dict[str, int]:
    """Positives in training and grades in the dev set that no person gave: an LLM wrote the query for them."""
    asked, dev = material.dataset.asked_ids, material.dev
    groups = (group for _, groups in material.staged for group in groups)
    return {
        "positives": sum(group.num_human_positives for group in groups if group.query_id in asked),
        "dev": sum(len(dev.qrels[query_id]) for query_id in dev.queries if query_id in asked),
    }


def _train_and_write(material: Material, processes: Processes) -> None:
    config = material.config
    with artifact_writer("train", config) as artifact:
        lines_path = artifact.path / LINES_NAME
        lines_path.parent.mkdir(exist_ok=True)
        place = f"{config.state_uri.rstrip('/') or artifact.scratch}/{artifact.identity}"
        material, precision = with_precision(material, processes, place=place)
        material, kappas = choose_kappa(material, processes, scratch=artifact.scratch, place=place)
        used = human_labels_used(material)
        log.event("human labels", **used)
        state_uri = f"{place}.pt"
        if not storage.exists(state_uri):
            lines_path.unlink(missing_ok=True)
        with contextlib.closing(Watch(lines_path, tensorboard=config.tensorboard == "yes")) as watch:
            fitted = fit(
                material,
                processes,
                watch=watch,
                state_uri=state_uri,
                best_path=artifact.scratch / "best.pt",
                cache_path=artifact.scratch / "teacher.npy",
            )
        model, taught, position = fitted.model, fitted.taught, fitted.position
        merge_adapters(model)
        choice = _chosen(model, position, material)
        model.save(artifact.path)
        artifact.metrics.update(
            num_steps=position.step,
            best_step=position.best_step,
            masked_pairs=watch.masked_pairs,
            num_processes=processes.count,
            **precision.as_metrics(),
            human_labels=used,
            num_groups={stage.name: len(groups) for stage, groups in taught.staged},
            **({"teacher": dict(taught.metrics)} if taught.metrics else {}),
            **click_metrics(material, kappas),
            **({"best_dev_ndcg_10": position.best_ndcg} if math.isfinite(position.best_ndcg) else {}),
            **choice.as_metrics(),
        )


def _chosen(model: DualEncoder, position: Position, material: Material) -> Choice:
    """What is kept; the model holds its weights afterwards."""
    config, choice = material.config, choose_weights(position)
    if config.mixtures and choice.kept == "trained" and material.dev.queries:
        base = base_model(replace(config, lora_rank=0)).state_dict()
        choice = mix_weights(model, base, material.dev, config.mixtures, choice)
    tell = log.warning if choice.kept == "base" else log.event
    tell("weights kept", kept=choice.kept, reason=choice.kept_reason)
    return choice


def click_metrics(material: Material, kappas: Mapping[str, float]) -> dict[str, Any]:
    """What was estimated from clicks, for the manifest; nothing where no stage learns from them."""
    if material.clicks is None:
        return {}
    theta, shares = material.clicks.propensities, {}
    for stage, groups in material.staged:
        if weighed := [group.clicks.share for group in groups if group.clicks is not None]:
            shares[stage.name] = {"queries": len(weighed), "mean_share": sum(weighed) / len(weighed)}
    return {
        "clicks": {
            "propensities": [round(float(value), 6) for value in theta],
            "num_shown_results": material.clicks.log.num_rows,
            "num_clicks": int(material.clicks.log.clicked.sum()),
            "by_stage": shares,
            "kappa": {stage.name: stage.kappa for stage, _ in material.staged if stage.kappa >= 0},
            "dev_ndcg_10_by_kappa": dict(kappas),
        }
    }


def read_train_clicks(config: TrainConfig, dataset: Dataset) -> Clicks:
    """The clicks that may be learnt from.

    Raises:
        ValueError: Where the dataset has no click log, or none of a train query.
    """
    log_of_all = read_clicks(dataset.folder)
    clicks = None if log_of_all is None else train_clicks(log_of_all, dataset)
    if clicks is None or not clicks.log.clicked.any():
        raise ValueError(
            f"{config.dataset_uri}: a stage of the curriculum learns from clicks, and there are none of train queries; "
            "put clicks.tsv into the collection and prepare it again, or leave the stage out"
        )
    log.event(
        "clicks to learn from",
        shown=clicks.log.num_rows,
        clicked=int(clicks.log.clicked.sum()),
        propensities=[round(float(value), 3) for value in clicks.propensities[:10]],
    )
    return clicks


def _annotations(config: TrainConfig) -> dict[str, Annotation]:
    """What the LLM judged, whole and of one run; nothing where no LLM judged anything."""
    if uris := _uris(config.annotations_uri):
        check_shards(uris, max_quarantine_share=config.max_quarantine_share)
    return read_annotations(config.annotations_uri)


def _uris(joined: str) -> list[str]:
    return [uri for uri in joined.split(",") if uri]


def read_annotations(uris: str) -> dict[str, Annotation]:
    """Annotations of all shards by query id.

    Raises:
        ValueError: Where two shards annotate the same query.
    """
    by_query: dict[str, Annotation] = {}
    for uri in _uris(uris):
        for annotation in read_records(open_artifact(uri) / "annotations.jsonl", Annotation):
            if annotation.query_id in by_query:
                raise ValueError(
                    f"{uri}: query {annotation.query_id!r} is annotated in two shards; pass each shard once"
                )
            by_query[annotation.query_id] = annotation
    return by_query


def read_pools(
    config: TrainConfig, annotations: dict[str, Annotation], held_out: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Passages found for each query that is not held out: of mine's pools, or where none are given the annotated."""
    if not config.pools_uri:
        return {query_id: annotation.passage_ids for query_id, annotation in annotations.items()}
    pools = read_records(open_artifact(config.pools_uri) / "pools.jsonl", Pool)
    return {pool.query_id: pool.passage_ids for pool in pools if pool.query_id not in held_out}


def _staged(
    stages: list[Stage],
    dataset: Dataset,
    annotations: dict[str, Annotation],
    pools: dict[str, tuple[str, ...]],
    config: TrainConfig,
    known_share: float,
    clicks: Clicks | None,
) -> Staged:
    """Each stage with its groups; a stage without any is left out, loudly."""
    positives = dataset.positives("train")
    staged = []
    for stage in stages:
        own = config.denominators == "own_labels"
        groups = stage_groups(
            stage,
            positives,
            annotations,
            seed=config.seed,
            known_share=known_share,
            own_labels_only=own,
            pools=pools,
            asked=dataset.asked_ids,
            clicks=clicks,
        )
        if groups:
            staged.append((stage, groups))
            log.event("stage", name=stage.name, labels=stage.labels, queries=len(groups))
        else:
            log.warning("stage left out: no query has such labels", name=stage.name, labels=stage.labels)
    if not staged:
        raise ValueError(
            f"{config.annotations_uri or 'without annotations'}: no stage of the curriculum has a query with a "
            "positive; annotate more, or add human qrels"
        )
    return staged

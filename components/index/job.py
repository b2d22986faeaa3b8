"""The recipe of index."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from components.index.choice import AUTO, Candidate, candidates
from components.index.config import IndexConfig
from components.index.engine import open_encoder
from components.index.fusion import fusion_metrics, tune_fusion
from components.index.previous import PreviousIndex, write_hashes
from components.index.queries import ExactSearch, held_out
from components.index.shards import encode_shards, gather_vectors, sample_rows, write_contract
from components.index.tuning import DEPTH, TUNE, tune
from components.shared import log
from components.shared.corpus import CORPUS, corpus_digest
from components.shared.dataset import Dataset
from components.shared.drift.expected import measure_expected, write_expected
from components.shared.encoding.cuts import cut_metrics, measure_passages, warn_of_cuts
from components.shared.encoding.encoder import Encoder, num_cores
from components.shared.encoding.unknown import unknown_share, warn_of_unknown
from components.shared.fusion.tuned import write_fusion
from components.shared.hashing import text_digest
from components.shared.index import (
    FaissIndex,
    IndexSettings,
    MilvusIndex,
    MilvusServer,
    PassageIds,
    PassageIndex,
    place_of,
    set_threads,
)
from components.shared.manifest import ArtifactWriter, artifact_writer, open_artifact, read_manifest
from components.shared.roles import hint

# Tells apart jobs that write the same content at once.
_WRITER_CHARACTERS = 8


def build_index(config: IndexConfig) -> None:
    """Encodes the corpus, builds the index, measures it against exact search and tunes hybrid search with it.

    Raises:
        ValueError: Where recall@10 is below the gate, the engine refuses the factory, or given vectors do not fit.
        TransientError: Where Milvus does not answer.
    """
    if config.backend == "milvus" and config.product == "index":
        # Before the corpus is encoded for hours: a server that is away, or that refuses the token.
        MilvusServer.connect(config.milvus_uri)
    dataset = Dataset(open_artifact(config.dataset_uri))
    set_threads(config.num_threads or num_cores())
    with artifact_writer("index", config) as artifact:
        encoder, choice = open_encoder(config, dataset, artifact.scratch)
        previous = PreviousIndex(config.previous_uri, encoder) if config.previous_uri else None
        tokenize = partial(encoder.tokenize_passages, truncate=False)
        cuts = measure_passages(dataset, tokenize, limit=encoder.settings.passage_tokens, seed=config.seed)
        warn_of_cuts(cuts)
        unknown = unknown_share(dataset, encoder, seed=config.seed)
        warn_of_unknown(unknown)
        artifact.metrics.update(cut_metrics(cuts) | choice, unknown_tokens_share=round(unknown, 4))
        if config.product == "vectors":
            encode_shards(dataset, encoder, artifact.path, config)
            write_contract(artifact.path, encoder, config)
            artifact.metrics.update(shard=config.shard, num_shards=config.num_shards)
            return
        if config.vectors_uri:
            shards = gather_vectors(config, dataset, encoder)
        else:
            shards = encode_shards(dataset, encoder, artifact.scratch / "vectors", config, previous)
        index, measured = _build(config, dataset, encoder, shards, artifact, previous)
        index.save(artifact.path)
        write_hashes(artifact.path, dataset)
        fusion = tune_fusion(dataset, encoder, index, config)
        write_fusion(artifact.path, fusion)
        expected = measure_expected(dataset, encoder, index)
        write_expected(artifact.path, expected)
        log.event("what is expected of queries", good_score=expected.good_score, reason=expected.reason)
        corpus = {CORPUS: corpus_digest(read_manifest(config.dataset_uri))}
        artifact.metrics.update(measured | fusion_metrics(fusion) | corpus)


def _build(
    config: IndexConfig,
    dataset: Dataset,
    encoder: Encoder,
    shards: list[Path],
    artifact: ArtifactWriter,
    previous: PreviousIndex | None,
) -> tuple[PassageIndex, dict[str, Any]]:
    """The first candidate whose recall holds the gate, and what was measured of it."""
    exact = ExactSearch(held_out(dataset, encoder, config), shards)
    for number, candidate in enumerate(_candidates(config, dataset, encoder, previous)):
        scratch = artifact.scratch / f"candidate-{number}"
        scratch.mkdir(exist_ok=True)
        start = time.monotonic()
        index = _assemble(candidate, config, dataset, encoder, shards, scratch, artifact.identity)
        seconds = time.monotonic() - start
        curve: list[dict[str, Any]] = []
        if TUNE in (config.search_parameters, config.factory):
            _, curve = tune(index, exact.tuning, exact.tuning_rows, min_recall=config.min_recall)
        point = exact.measure(index)
        log.event(
            "recall against exact search", factory=candidate.factory, recall_10=point.recall_10, gate=config.min_recall
        )
        if point.recall_10 >= config.min_recall:
            return index, _place(index) | {
                "num_passages": index.num_passages,
                "factory": candidate.factory,
                "trained_before": candidate.like is not None,
                "variant": encoder.variant,
                "engine": encoder.engine,
                "provider": encoder.providers[0],
                "search_parameters": index.settings.search_parameters,
                "recall_10": point.recall_10,
                "queries_per_second": point.queries_per_second,
                "exact_queries_per_second": exact.exact_queries_per_second,
                "num_recall_queries": len(exact.verifying),
                "estimated_memory_bytes": candidate.memory_bytes,
                "build_seconds": round(seconds, 2),
                "curve": curve,
            }
        if isinstance(index, MilvusIndex):
            index.discard()
    raise ValueError(
        f"factory {candidate.factory!r}: recall@{DEPTH} is {point.recall_10:.3f}, the gate is {config.min_recall}; "
        f"raise nprobe or efSearch ({hint('search_parameters', 'nprobe=64')}), or choose a finer factory"
    )


def _candidates(
    config: IndexConfig, dataset: Dataset, encoder: Encoder, previous: PreviousIndex | None
) -> list[Candidate]:
    """The previous index's structure, then those that are trained anew: what no longer holds the recall is rebuilt."""
    if config.factory == AUTO:
        memory_bytes = config.memory_mib << 20
        new = candidates(
            dataset.num_passages,
            encoder.dimension,
            min_recall=config.min_recall,
            memory_bytes=memory_bytes,
            in_milvus=config.backend == "milvus",
        )
    else:
        new = [Candidate(config.factory, 0, config.training_vectors)]
    if previous is None or previous.trained is None or config.backend != "faiss":
        return new
    same = [candidate for candidate in new if candidate.factory == previous.settings.factory]
    return [*(replace(candidate, like=previous.trained) for candidate in same), *new]


def _assemble(
    candidate: Candidate,
    config: IndexConfig,
    dataset: Dataset,
    encoder: Encoder,
    shards: list[Path],
    scratch: Path,
    identity: str,
) -> PassageIndex:
    tuned = TUNE in (config.search_parameters, config.factory)
    settings = IndexSettings(
        encoder_digest=encoder.digest,
        dimension=encoder.dimension,
        factory=candidate.factory,
        search_parameters="" if tuned else config.search_parameters,
        num_passages=dataset.num_passages,
        vector_dtype=config.vector_dtype,
        variant=encoder.variant,
        engine=encoder.engine,
    )
    passage_ids = (passage.passage_id for passage in dataset.iter_passages())
    if config.backend == "milvus":
        return MilvusIndex.assemble(
            shards,
            PassageIds.of(passage_ids),
            settings=settings,
            uri=place_of(config.milvus_uri),
            corpus=corpus_digest(read_manifest(config.dataset_uri)),
            scratch=scratch,
            writer=text_digest(f"{identity} {config.output_uri}")[:_WRITER_CHARACTERS],
        )
    num_samples = min(config.training_vectors, candidate.training_vectors)
    sample = sample_rows(shards, num_samples, config.seed, dimension=encoder.dimension)
    shards_a_part = max(1, config.part_passages // config.shard_passages)
    parts = [shards[first : first + shards_a_part] for first in range(0, len(shards), shards_a_part)]
    return FaissIndex.assemble(
        parts, passage_ids, sample=sample, settings=settings, scratch=scratch, like=candidate.like
    )


def _place(index: PassageIndex) -> dict[str, str]:
    """What a manifest says of where the index lies, where it does not lie in the artifact."""
    return (
        {"milvus_uri": index.place.uri, "collection": index.place.collection} if isinstance(index, MilvusIndex) else {}
    )

"""The recipe of index."""

from __future__ import annotations

from pathlib import Path

from components.index.config import IndexConfig
from components.index.shards import encode_shards, sample_rows
from components.shared import log
from components.shared.dataset import Dataset
from components.shared.encoder import Encoder, num_cores
from components.shared.index import IndexSettings, PassageIndex, exact_rows, iter_blocks, recall, set_threads
from components.shared.manifest import artifact_writer, open_artifact

_RECALL_DEPTH = 10


def build_index(config: IndexConfig) -> None:
    """Encodes the corpus, builds the index, and measures it against exact search before it becomes visible.

    Raises:
        ValueError: Where recall@10 is below the gate, or FAISS refuses the factory string.
    """
    dataset = Dataset(open_artifact(config.dataset_uri))
    encoder = Encoder(open_artifact(config.encoder_uri), num_threads=config.num_threads)
    set_threads(config.num_threads or num_cores())
    with artifact_writer("index", config) as artifact:
        shards = encode_shards(
            dataset, encoder, artifact.scratch / "vectors", shard_passages=config.shard_passages, batch_tokens=config.batch_tokens
        )
        index = _build(config, dataset, encoder, shards)
        found = measure_recall(index, dataset, encoder, shards, config)
        if found < config.min_recall:
            raise ValueError(
                f"factory {config.factory!r}: recall@{_RECALL_DEPTH} is {found:.3f}, the gate is {config.min_recall}; "
                "raise nprobe or efSearch in --search-parameters, or choose a finer factory"
            )
        index.save(artifact.path)
        artifact.metrics.update(num_passages=index.num_passages, recall_10=found, factory=config.factory)


def _build(config: IndexConfig, dataset: Dataset, encoder: Encoder, shards: list[Path]) -> PassageIndex:
    settings = IndexSettings(
        encoder_digest=encoder.digest,
        dimension=encoder.dimension,
        factory=config.factory,
        search_parameters=config.search_parameters,
        num_passages=dataset.num_passages,
    )
    sample = sample_rows(shards, config.training_vectors, config.seed)
    passage_ids = (passage.passage_id for passage in dataset.iter_passages())
    return PassageIndex.build(iter_blocks(shards), passage_ids, sample=sample, settings=settings)


def measure_recall(index: PassageIndex, dataset: Dataset, encoder: Encoder, shards: list[Path], config: IndexConfig) -> float:
    """recall@10 on the dataset's own queries; on a sample of passages where it has none."""
    texts = [query.text for query in dataset.queries()][: config.num_recall_queries]
    queries = encoder.encode_queries(texts) if texts else sample_rows(shards, config.num_recall_queries, config.seed)
    depth = min(_RECALL_DEPTH, index.num_passages)
    _, found = index.search_rows(queries, depth)
    share = recall(found, exact_rows(iter_blocks(shards), queries, depth))
    log.event("recall against exact search", recall_10=share, queries=len(queries))
    return share

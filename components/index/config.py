"""Settings of index."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Encoder and corpus -> index, its recall against exact search measured and gated."""

    dataset_uri: str
    """Dataset of prepare."""
    encoder_uri: str
    """Encoder of export; the index is bound to its digest."""
    output_uri: str
    """Where the index goes."""
    factory: str = "Flat"
    """FAISS factory string: Flat, HNSW32, IVF1024,Flat, IVF1024,PQ96x4fs,RFlat, ..."""
    search_parameters: str = ""
    """FAISS search parameters kept in the index, such as nprobe=32 or efSearch=64."""
    shard_passages: int = 16384
    """Passages encoded between two resume points; each shard is sorted by length."""
    batch_tokens: int = 512
    """Padded tokens in one call of the encoder; small on a CPU, where activations should stay in the cache."""
    num_threads: int = 0
    """Threads of the encoder and of FAISS; 0 = the cores this process may use."""
    training_vectors: int = 262144
    """Largest sample that an IVF or PQ index is trained on."""
    num_recall_queries: int = 256
    """Queries on which recall@10 is measured."""
    min_recall: float = 0.95
    """Smallest recall@10 against exact search; less fails the job."""
    seed: int = 42
    """Of the samples."""

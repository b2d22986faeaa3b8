"""Settings of index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Encoder and corpus -> index, its recall against exact search measured and gated."""

    dataset_uri: str
    """Dataset of prepare."""
    encoder_uri: str
    """Encoder of export; the index is bound to its digest."""
    output_uri: str
    """Where the index goes."""
    vectors_uri: str = ""
    """Vectors that other jobs of this component have encoded (see product), separated by commas; empty: encode here."""
    previous_uri: str = ""
    """Index of an earlier state of the corpus, made by the same encoder: unchanged passages are not encoded again;
    empty: none."""
    variant: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """Graph of the encoder that encodes the passages; auto: fp16 on a GPU where the encoder has it, else fp32."""
    factory: str = "auto"
    """FAISS factory string: Flat, HNSW32, IVF1024,Flat, IVF1024,PQ96x4fs,RFlat, ...; auto: by size, memory and
    recall."""
    search_parameters: str = ""
    """FAISS search parameters kept in the index, such as nprobe=32 or efSearch=64; auto (and with factory auto): tuned
    to min_recall."""
    memory_mib: int = 0
    """What the index may take when it is searched; auto keeps within it. 0 = any amount."""
    shard_passages: int = 16384
    """Passages encoded between two resume points; each shard is sorted by length."""
    part_passages: int = 1048576
    """Vectors added to the index between two resume points."""
    batch_tokens: int = 512
    """Padded tokens in one call of the encoder; small on a CPU, where activations should stay in the cache."""
    vector_dtype: Literal["float32", "float16"] = "float32"
    """Of the encoded vectors on disk; float16 halves the disk and costs 0.0005 of a component."""
    num_threads: int = 0
    """Cores for the encoder and for FAISS; 0 = the cores this process may use."""
    training_vectors: int = 262144
    """Largest sample that an IVF or PQ index is trained on."""
    num_recall_queries: int = 512
    """Held-out queries against which the index is measured: half of them to tune by, half for the gate."""
    min_recall: float = 0.95
    """Smallest recall@10 against exact search; less fails the job."""
    product: Literal["index", "vectors"] = "index"
    """vectors: only encode a share of the corpus; several such jobs feed one that is given all of them as
    vectors_uri."""
    shard: int = 0
    """With product vectors: which share, from 0."""
    num_shards: int = 1
    """With product vectors: shares in all; a job encodes every num_shards-th shard."""
    seed: int = 42
    """Of the samples."""

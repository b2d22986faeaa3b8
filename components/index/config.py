"""Settings of index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.encoding.engines.config import EncodingConfig
from components.shared.roles import ADDRESS, FLOW, INPUT, OPERATION, OUTPUT, SETTING, at_least, at_most, refuse


@dataclass(frozen=True, kw_only=True)
class IndexConfig(EncodingConfig):
    """Encoder and corpus -> index, its recall against exact search measured and gated."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset that prepare wrote."""
    encoder_uri: str = field(metadata=INPUT)
    """Encoder that export wrote; the index is bound to its digest."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the index is written to."""
    vectors_uri: str = field(default="", metadata=INPUT)
    """Vectors that other jobs of this component have encoded (see product), separated by commas; empty encodes here."""
    previous_uri: str = field(default="", metadata=INPUT)
    """Index of an earlier state of the corpus, made by the same encoder: unchanged passages are not encoded again;
    empty: none."""
    variant: Literal["auto", "fp32", "bf16", "fp16", "int8"] = field(default="auto", metadata=SETTING)
    """Precision in which the passages are encoded; auto takes fp16 on a GPU where the encoder has it, bf16 where engine
    auto finds it fastest, else fp32."""
    backend: Literal["faiss", "milvus"] = field(default="faiss", metadata=SETTING)
    """Engine that searches the index: faiss in the memory of every reader, from a file in the artifact, or Milvus, in a
    collection that the artifact names (extra milvus)."""
    milvus_uri: str = field(default="", metadata=SETTING | ADDRESS)
    """Address of Milvus, such as http://milvus:19530, or a path that ends in .db for milvus-lite; a token is read from
    RETRIEVER_MILVUS_TOKEN. Another address is another index, because every reader finds the collection by it."""
    factory: str = field(default="auto", metadata=SETTING)
    """FAISS factory string, such as Flat, HNSW32, IVF1024,Flat or IVF1024,PQ96x4fs,RFlat; auto chooses by size, memory
    and recall. Milvus has Flat, HNSW<links>, IVF<lists>,Flat and IVF<lists>,SQ8."""
    search_parameters: str = field(default="", metadata=SETTING)
    """FAISS search parameters kept in the index, such as nprobe=32 or efSearch=64; auto (and factory auto) tunes them
    to min_recall."""
    memory_mib: int = field(default=0, metadata=SETTING | at_least(0))
    """Mebibytes that the index may take when it is searched, which factory auto keeps within; 0 allows any amount."""
    shard_passages: int = field(default=16384, metadata=SETTING | at_least(1))
    """Number of passages encoded between two resume points; each such shard is sorted by length."""
    part_passages: int = field(default=1048576, metadata=SETTING | at_least(1))
    """Number of vectors added to the index between two resume points."""
    batch_tokens: int = field(default=512, metadata=OPERATION | at_least(1))
    """Padded tokens in one call of the encoder; small on a CPU, where activations should stay in the cache."""
    vector_dtype: Literal["float32", "float16"] = field(default="float32", metadata=SETTING)
    """Type of the encoded vectors on disk; float16 halves the disk and costs 0.0005 of a component."""
    num_threads: int = field(default=0, metadata=OPERATION | at_least(0))
    """Number of cores for the encoder and for FAISS; 0 takes the cores that this process may use."""
    training_vectors: int = field(default=262144, metadata=SETTING | at_least(1))
    """Largest number of vectors that an IVF or PQ index is trained on."""
    num_recall_queries: int = field(default=512, metadata=SETTING | at_least(2))
    """Number of held-out queries against which the index is measured: half of them to tune by, half for the gate."""
    min_recall: float = field(default=0.95, metadata=SETTING | at_least(0) | at_most(1))
    """Smallest recall@10 against exact search; less fails the job."""
    hybrid_method: Literal["minmax", "zscore", "rrf"] = field(default="minmax", metadata=SETTING)
    """How hybrid search makes one score of BM25's and the encoder's: the weighted sum of both on a common scale
    (minmax, zscore), or of reciprocal ranks (rrf)."""
    hybrid_depth: int = field(default=100, metadata=SETTING | at_least(10))
    """Number of hits of each retriever among which hybrid search looks for the best passages."""
    hybrid_queries: int = field(default=500, metadata=SETTING | at_least(0))
    """Largest number of judged dev queries that BM25's weight in hybrid search is tuned on; 0 tunes nothing and keeps
    the default weight of 0.3."""
    dev_human_share: float = field(default=1.0, metadata=SETTING | at_least(0) | at_most(1))
    """Share of the judged dev queries whose human labels may be used to tune that weight."""
    product: Literal["index", "vectors"] = field(default="index", metadata=FLOW)
    """vectors only encodes a share of the corpus; several such jobs feed one that is given all of them as
    vectors_uri."""
    shard: int = field(default=0, metadata=FLOW | at_least(0))
    """Number of the share that a job with product vectors encodes, from 0."""
    num_shards: int = field(default=1, metadata=SETTING | at_least(1) | at_most(32))
    """Number of jobs that encode the corpus, each every num_shards-th shard; 1 encodes it where the index is built."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of the samples."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        if self.factory != "auto":
            # Imported here: only a factory string that somebody wrote needs FAISS to be understood.
            from components.shared.index import factory_problem, milvus_factory_problem

            known = milvus_factory_problem if self.backend == "milvus" else factory_problem
            if problem := known(self.factory):
                yield f"factory {self.factory!r}: {problem}"
        if self.backend == "milvus":
            from components.shared.index import uri_problem

            if problem := uri_problem(self.milvus_uri):
                yield f"milvus_uri {self.milvus_uri!r}: {problem}"
        elif self.milvus_uri:
            yield f"milvus_uri {self.milvus_uri!r}: only backend milvus writes there; choose that, or leave it out"
        if self.shard >= self.num_shards:
            yield f"shard {self.shard}: shards are numbered from 0 to {self.num_shards - 1}"

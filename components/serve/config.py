"""Settings of serve."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.shared.encoding.engines.config import EncodingConfig
from components.shared.roles import INPUT, OPERATION, PLACE, above, at_least, at_most, refuse


@dataclass(frozen=True, kw_only=True)
class ServeConfig(EncodingConfig):
    """Encoder and index -> HTTP: /search, /v1/embeddings, /v2 (Open Inference Protocol), a page for people at /."""

    encoder_uri: str = field(default="", metadata=INPUT)
    """Encoder of export, local or gs://."""
    index_uri: str = field(default="", metadata=INPUT)
    """Index made by that encoder; of another one it is refused."""
    dataset_uri: str = field(default="", metadata=INPUT)
    """Dataset whose passages are sent with the hits, and whose BM25 index the modes bm25 and hybrid search; empty: hits
    carry ids and scores only, and dense is the one mode."""
    pointer_uri: str = field(default="", metadata=PLACE)
    """JSON file that names encoder_uri, index_uri and dataset_uri instead of the flags; when it changes, what it names
    is served."""
    pointer_seconds: float = field(default=5.0, metadata=OPERATION | above(0))
    """How often the pointer is looked at."""
    model_name: str = field(default="encoder", metadata=OPERATION)
    """Name of the encoder under /v2/models and /v1/models."""
    host: str = field(default="127.0.0.1", metadata=OPERATION)
    """Address to listen on; 0.0.0.0 in a container."""
    port: int = field(default=8080, metadata=OPERATION | at_least(0) | at_most(65535))
    """Port to listen on; 0 = a free one, named in the log."""
    num_workers: int = field(default=1, metadata=OPERATION | at_least(1))
    """Server processes on one socket and one memory-mapped index; more than one pays where HTTP fills a core, on eight
    cores and up."""
    num_sessions: int = field(default=0, metadata=OPERATION | at_least(0))
    """Batches a process encodes at once, each on one thread: faster for short texts than one batch on many; 0 = the
    cores, shared out."""
    batch_tokens: int = field(default=256, metadata=OPERATION | at_least(1))
    """Padded tokens a session takes from the queue at once. More fill a CPU core no better and hold more padding;
    thousands on a GPU."""
    max_queued_tokens: int = field(default=65536, metadata=OPERATION | at_least(1))
    """Tokens waiting beyond which a request is answered 429."""
    max_queue_seconds: float = field(default=5.0, metadata=OPERATION | above(0))
    """Waiting time, foreseen from the tokens that wait and the pace of late, beyond which a request is answered 429."""
    max_texts: int = field(default=256, metadata=OPERATION | at_least(1))
    """Texts in one request; more is answered 413."""
    max_body_bytes: int = field(default=4194304, metadata=OPERATION | at_least(1))
    """Bytes of one request's body; more is answered 413."""
    max_depth: int = field(default=1000, metadata=OPERATION | at_least(1))
    """Largest depth that a search may ask for."""
    max_filter_ids: int = field(default=1000, metadata=OPERATION | at_least(1))
    """Passage ids that a search may be limited to, or may leave out; more is answered 413."""
    request_seconds: float = field(default=30.0, metadata=OPERATION | above(0))
    """Longest time from the queue to the answer; more is answered 503. A batch that takes longer fails /healthz."""
    body_seconds: float = field(default=10.0, metadata=OPERATION | above(0))
    """Longest time that a client may take to send its request; more is answered 408."""
    drain_seconds: float = field(default=5.0, metadata=OPERATION | at_least(0))
    """After SIGTERM: time in which /readyz says no while requests are still taken, before the listener closes."""
    api_keys_path: str = field(default="", metadata=OPERATION)
    """File with a name and a key a line; read again when it changes. Empty: everybody may ask."""
    allowed_origins: str = field(default="", metadata=OPERATION)
    """Origins whose pages may ask from a browser, separated by commas, or *; empty: only the page that this server
    sends."""
    access_log: bool = field(default=True, metadata=OPERATION)
    """One log line a request; probes that succeed are left out."""

    sample_uri: str = field(default="", metadata=PLACE)
    """Folder, local or in a bucket, for a random sample of the answered queries, which the report on drift reads: of
    each its first 2,000 characters, length, mode, release and day, and nothing of who asked, from where or at which
    hour. Empty: no query is kept."""
    sample_queries: int = field(default=1000, metadata=OPERATION | at_least(1))
    """Queries of a day that a server process keeps at most, in memory and in its file."""
    sample_days: int = field(default=14, metadata=OPERATION | at_least(1))
    """Days after which a file of sampled queries is removed, by the next server that writes into the folder."""
    sample_mebibytes: int = field(default=64, metadata=OPERATION | at_least(1))
    """Mebibytes of sampled queries in the folder beyond which servers add nothing until the oldest go."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self)

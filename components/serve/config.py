"""Settings of serve."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Encoder and index -> HTTP: /search, /v1/embeddings, /healthz, /readyz, /metrics."""

    encoder_uri: str
    """Encoder of export, local or gs://."""
    index_uri: str
    """Index made by that encoder; of another one it is refused."""
    dataset_uri: str = ""
    """Dataset whose passages are sent with the hits; empty: hits carry ids and scores only."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a container."""
    port: int = 8080
    """Port to listen on; 0 = a free one, named in the log."""
    num_sessions: int = 0
    """Batches encoded at the same time, each on one thread, which is faster for short texts than one batch on many; 0 = one a core."""
    batch_tokens: int = 512
    """Padded tokens a session takes from the queue at once."""
    max_queued_tokens: int = 65536
    """Tokens waiting beyond which a request is answered 429."""
    max_texts: int = 256
    """Texts in one request; more is answered 413."""
    max_body_bytes: int = 4194304
    """Bytes of one request's body; more is answered 413."""
    max_depth: int = 1000
    """Largest depth that a search may ask for."""
    request_seconds: float = 30.0
    """Longest time from the queue to the answer; more is answered 503. A batch that takes longer fails /healthz."""
    drain_seconds: float = 5.0
    """After SIGTERM: time in which /readyz says no while requests are still taken, before the listener closes."""
    access_log: bool = True
    """One log line a request; probes that succeed are left out."""

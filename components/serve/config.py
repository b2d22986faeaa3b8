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
    """Port to listen on."""
    num_sessions: int = 0
    """Encoder sessions of one thread each, which is faster for short texts than one session of many; 0 = one a core."""
    batch_tokens: int = 512
    """Padded tokens a session takes from the queue at once."""
    max_queued_tokens: int = 65536
    """Tokens waiting beyond which a request is answered 429."""
    max_texts: int = 256
    """Texts in one request; more is answered 413."""
    request_seconds: float = 30.0
    """Longest time in the queue; more is answered 503."""
    drain_seconds: float = 5.0
    """After SIGTERM: time in which /readyz says no while requests are still taken, before the listener closes."""

"""Release: one encoder, its index and the dataset, opened together and replaced together.

What does not belong together is refused when it is opened: damaged files, an index of another encoder, a dataset that
is not the index's. A request holds the release it began with until it is answered, so no answer mixes two.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from components.serve.batching import Batcher
from components.serve.config import ServeConfig
from components.serve.drift.sampling import QuerySampler
from components.serve.drift.watch import QueryWatch
from components.serve.metrics import ServerMetrics
from components.serve.protocols.bodies import InputType, SearchFields
from components.serve.ranking import Ranker
from components.shared import log
from components.shared.contract.pointer import ArtifactUris, parse_pointer
from components.shared.corpus import check_corpus
from components.shared.dataset import Dataset, Provenance
from components.shared.drift.expected import read_expected
from components.shared.durable import storage
from components.shared.encoding import matryoshka
from components.shared.encoding.encoder import Encoder, NotFiniteError, num_cores
from components.shared.encoding.engines.onnx_runtime import check_encodes_on_gpu
from components.shared.fusion.tuned import Mode, read_fusion
from components.shared.index import PassageIndex
from components.shared.index.opening import open_pair
from components.shared.manifest import open_artifact, read_manifest
from components.shared.records import Hit, Passage
from components.shared.tracing.spans import span

Vectors = Float32[np.ndarray, "text dimension"]

# Characters that are tokenised on the event loop; more would hold up other requests for a millisecond and longer.
_INLINE_CHARACTERS = 2048
# Warm-up: texts of these many words, so that the first request meets neither cold caches nor a first-call cost.
_WARM_UP_WORDS = (1, 8, 64)
# About a kilobyte each.
_CACHED_PASSAGES = 16384


def named_by(config: ServeConfig) -> ArtifactUris:
    """What the pointer names, else what the flags name.

    Raises:
        ValueError: Where neither names an encoder and an index.
    """
    if config.pointer_uri:
        return parse_pointer(config.pointer_uri, storage.read_bytes(config.pointer_uri))
    if not config.encoder_uri or not config.index_uri:
        raise ValueError("nothing to serve: give --encoder-uri and --index-uri, or --pointer-uri")
    return ArtifactUris(config.encoder_uri, config.index_uri, config.dataset_uri)


class NotFiniteScoreError(Exception):
    """A score of the index that is no number; it names the passage, and no part of the ranking may be answered."""


@dataclass(frozen=True)
class FoundPassage:
    """A hit and, where a dataset is served, its passage, with its provenance where it was cut from a document."""

    hit: Hit
    passage: Passage | None
    provenance: Provenance | None = None


class Release:
    """Texts in, vectors or passages out; `version` names the index, and with it the encoder that made it."""

    def __init__(
        self,
        uris: ArtifactUris,
        config: ServeConfig,
        *,
        metrics: ServerMetrics,
        threads: Executor,
        sampler: QuerySampler | None = None,
    ) -> None:
        """Opens and checks all artifacts.

        Raises:
            ValueError: Where one is damaged, or they do not belong together.
        """
        start = time.monotonic()
        self.uris = uris
        self.version = version_at(uris)
        num_sessions = config.num_sessions or max(1, num_cores() // config.num_workers)
        self.encoder, self.index = encoder, index = _open_pair(uris, config, num_sessions)
        check_encodes_on_gpu(str(encoder.maker), encoder.providers)
        _check_encoder(encoder, uris.encoder_uri)
        _check_queue(encoder, config)
        index_path = open_artifact(uris.index_uri)
        dataset = _open_dataset(uris) if uris.dataset_uri else None
        self.ranker = Ranker(index, read_fusion(index_path), dataset)
        self._is_synthetic = dataset is not None and bool(dataset.asked_ids)
        # Ten look-ups cost more CPU than the rest of a search's HTTP; what is found is found again.
        self._passage = lru_cache(_CACHED_PASSAGES)(_lookup(dataset)) if dataset else None
        if version_at(uris) != self.version:
            raise ValueError(f"{uris.index_uri}: changed while it was being opened; try again when it is written")
        self._threads, self._metrics = threads, metrics
        self.watch = QueryWatch(read_expected(index_path), self.version, metrics, sampler)
        self._is_warm = False
        self._num_users, self._unused = 0, asyncio.Event()
        self._unused.set()
        self.batcher = Batcher(
            # One ONNX Runtime session serves all threads, each batch on the thread that brings it: the weights are in
            # memory once.
            lambda token_ids: _encode(encoder, token_ids, config.batch_tokens),
            num_sessions=num_sessions,
            batch_tokens=config.batch_tokens,
            max_queued_tokens=config.max_queued_tokens,
            max_queue_seconds=config.max_queue_seconds,
            hang_seconds=config.request_seconds,
            metrics=metrics,
        )
        log.event(
            "artifacts opened",
            version=self.version,
            encoder=encoder.digest[:12],
            engine=str(encoder.maker),
            dimension=encoder.dimension,
            passages=self.index.num_passages,
            modes=self.ranker.modes,
            default_mode=self.ranker.default_mode,
            seconds=round(time.monotonic() - start, 2),
        )

    @property
    def is_synthetic(self) -> bool:
        """Whether an LLM wrote queries of the served dataset; what was learned from those no person has judged."""
        return self._is_synthetic

    async def start(self) -> None:
        """Starts the threads and warms them up."""
        self.batcher.start()
        start = time.monotonic()
        for num_words in _WARM_UP_WORDS:
            text = " ".join(["warm"] * num_words)
            token_ids = await self.tokenize([text], "query", truncate=True)
            for mode in self.ranker.modes:
                await self.search([text], token_ids, SearchFields(depth=1), mode)
        self.batcher.forget_pace()
        # Our own texts are no queries.
        self._is_warm = True
        log.event("warmed up", version=self.version, seconds=round(time.monotonic() - start, 3))

    def close(self) -> None:
        """Ends the encoding threads."""
        self.batcher.close()

    @contextmanager
    def used(self) -> Iterator[Release]:
        """While a request is being answered; `unused` waits for it."""
        self._num_users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._num_users -= 1
            if not self._num_users:
                self._unused.set()

    async def unused(self) -> None:
        """Returns when no request holds this release."""
        await self._unused.wait()

    async def tokenize(self, texts: Sequence[str], input_type: InputType, *, truncate: bool = False) -> list[list[int]]:
        """Token ids as in training, with the prefix; uncut, a text that is too long has more than `max_tokens`."""
        tokenize = self.encoder.tokenize_queries if input_type == "query" else self.encoder.tokenize_passages
        if sum(map(len, texts)) <= _INLINE_CHARACTERS:
            return tokenize(texts, truncate=truncate)
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: tokenize(texts, truncate=truncate)
        )

    def max_tokens(self, input_type: InputType) -> int:
        """Tokens of the longest text that the encoder takes whole."""
        settings = self.encoder.settings
        return settings.query_tokens if input_type == "query" else settings.passage_tokens

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Lengths that vectors may have: the encoder's own, then the smaller ones that it declares."""
        return (self.encoder.dimension, *self.encoder.settings.matryoshka)

    def cut(self, vectors: Vectors, dimensions: int) -> Float32[np.ndarray, "text kept"]:
        """The first components of vectors, as one of `dimensions`."""
        if dimensions == self.encoder.dimension:
            return vectors
        return matryoshka.cut(vectors, dimensions, normalise=self.encoder.settings.normalise)

    def prefix(self, input_type: InputType) -> str:
        """What is put before a text."""
        settings = self.encoder.settings
        return settings.query_prefix if input_type == "query" else settings.passage_prefix

    async def encode(self, token_ids: Sequence[list[int]]) -> Vectors:
        """Vectors of token ids, in their order.

        Raises:
            NotFiniteError: Where a vector holds NaN or infinity.
            QueueFullError, SessionDiedError: As Batcher.encode does.
        """
        # With the time in the queue.
        with span("encode", texts=len(token_ids), tokens=sum(map(len, token_ids))):
            vectors = await self.batcher.encode(token_ids)
        self._check_finite(vectors)
        return vectors

    def _check_finite(self, vectors: Vectors) -> None:
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            self._metrics.count_not_finite(len(broken))
            raise NotFiniteError(int(broken[0]), f"text {broken[0]}")

    async def search(
        self, queries: Sequence[str], token_ids: Sequence[list[int]], wanted: SearchFields, mode: Mode
    ) -> list[list[FoundPassage]]:
        """The best passages of each query, best first; without token ids, which bm25 does not need, none is encoded."""
        vectors = await self.encode(token_ids) if token_ids else None
        with span("search", mode=mode, queries=len(queries), depth=wanted.depth, version=self.version):
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._find, mode, queries, vectors, wanted
            )

    def _find(
        self, mode: Mode, queries: Sequence[str], vectors: Vectors | None, wanted: SearchFields
    ) -> list[list[FoundPassage]]:
        start = time.monotonic()
        rankings = self.ranker.rank(mode, queries, vectors, wanted)
        self._metrics.count_search(mode, queries=len(queries), seconds=time.monotonic() - start)
        self.check_scores(rankings.hits)
        if self._is_warm:
            self.watch.look(queries, mode, rankings.best)
        passage = self._passage if wanted.include_text else None
        return [
            [FoundPassage(hit, *(passage(hit.passage_id) if passage else (None, None))) for hit in hits]
            for hits in rankings.hits
        ]

    def check_scores(self, rankings: Sequence[Sequence[Hit]]) -> None:
        """Refuses scores that are not finite, which JSON would write as null.

        Raises:
            NotFiniteScoreError: Naming the first such passage.
        """
        broken = [hit.passage_id for hits in rankings for hit in hits if not math.isfinite(hit.score)]
        if broken:
            self._metrics.count_not_finite(len(broken))
            raise NotFiniteScoreError(
                f"passage {broken[0]!r}: its score is not finite, so there is no answer; the index {self.version} "
                "holds a vector with NaN or infinity: build the index again"
            )


def _open_pair(uris: ArtifactUris, config: ServeConfig, num_sessions: int) -> tuple[Encoder, PassageIndex]:
    return open_pair(
        uris.encoder_uri,
        uris.index_uri,
        engine=config.engine,
        num_threads=1,
        num_streams=num_sessions,
        # Waiting is for jobs: a request has seconds, and a release that cannot be opened now is tried again.
        wait_seconds=0.0,
    )


def _check_encoder(encoder: Encoder, uri: str) -> None:
    try:
        encoder.encode_queries(["warm"])
    except NotFiniteError as error:
        raise ValueError(f"{uri}: {error}") from error


def _check_queue(encoder: Encoder, config: ServeConfig) -> None:
    longest = max(encoder.settings.query_tokens, encoder.settings.passage_tokens)
    if config.max_queued_tokens < longest:
        raise ValueError(
            f"--max-queued-tokens {config.max_queued_tokens}: less than one text of this encoder ({longest} tokens); "
            "raise it"
        )


def _encode(encoder: Encoder, token_ids: Sequence[list[int]], batch_tokens: int) -> Vectors:
    """Vectors of a batch; that of a text whose vector is not finite is NaN, for its own request to be refused."""
    try:
        return encoder.encode_tokens(token_ids, batch_tokens=batch_tokens)
    except NotFiniteError:
        # The batch holds texts of other requests, which have nothing to do with it.
        vectors = np.full((len(token_ids), encoder.dimension), np.nan, dtype=np.float32)
        for row, ids in enumerate(token_ids):
            with suppress(NotFiniteError):
                vectors[row] = encoder.encode_tokens([ids])[0]
        return vectors


def version_at(uris: ArtifactUris) -> str:
    """What a release of these uris would be called now."""
    return read_manifest(uris.index_uri).digest[:12]


def _lookup(dataset: Dataset) -> Callable[[str], tuple[Passage, Provenance | None]]:
    """The passage of an id, and where it was cut from."""

    def look_up(passage_id: str) -> tuple[Passage, Provenance | None]:
        row = dataset.row(passage_id)
        return dataset.passage_at(row), dataset.provenance_at(row)

    return look_up


def _open_dataset(uris: ArtifactUris) -> Dataset:
    check_corpus(uris.index_uri, uris.dataset_uri)
    return Dataset(open_artifact(uris.dataset_uri))

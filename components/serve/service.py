"""Service: the opened encoder, index and dataset, and the threads that work with them.

What does not belong together is refused when it is opened, before the server listens: damaged files, an index of another
encoder, a dataset that is not the index's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from components.serve.batching import Batcher
from components.serve.config import ServeConfig
from components.serve.metrics import ServerMetrics
from components.serve.parsing import InputType
from components.shared import log
from components.shared.dataset import Dataset
from components.shared.encoder import Encoder, num_cores
from components.shared.index import PassageIndex, set_threads
from components.shared.manifest import open_artifact, read_manifest
from components.shared.records import Hit, Passage

Vectors = Float32[np.ndarray, "text dimension"]

# Characters that are tokenised on the event loop; more would hold up other requests for a millisecond and longer.
_INLINE_CHARACTERS = 2048
# Warm-up: texts of these many words, so that the first request meets neither cold caches nor a first-call cost.
_WARM_UP_WORDS = (1, 8, 64)


@dataclass(frozen=True)
class FoundPassage:
    """A hit and, where a dataset is served, its passage."""

    hit: Hit
    passage: Passage | None


class Service:
    """Texts in, vectors or passages out; `state` says why it is not ready."""

    def __init__(self, config: ServeConfig, encoder: Encoder, index: PassageIndex, dataset: Dataset | None) -> None:
        """Takes the opened parts; `open` opens and checks them."""
        self.config, self.encoder, self.index = config, encoder, index
        self._dataset = dataset
        self.metrics = ServerMetrics()
        num_sessions = config.num_sessions or num_cores()
        self._batcher = Batcher(
            # One ONNX Runtime session serves all threads, each batch on the thread that brings it: the weights are in memory once.
            lambda token_ids: encoder.encode_tokens(token_ids, batch_tokens=config.batch_tokens),
            num_sessions=num_sessions,
            batch_tokens=config.batch_tokens,
            max_queued_tokens=config.max_queued_tokens,
            hang_seconds=config.request_seconds,
            metrics=self.metrics,
        )
        # FAISS keeps its number of threads a thread, hence the initialiser.
        self._threads = ThreadPoolExecutor(num_sessions, thread_name_prefix="search", initializer=set_threads, initargs=(1,))
        self._warm = self._draining = False
        self.metrics.watch_ready(lambda: not self.not_ready())

    @classmethod
    def open(cls, config: ServeConfig) -> Service:
        """Opens and checks all artifacts.

        Raises:
            ValueError: Where one is damaged, or they do not belong together.
        """
        start = time.monotonic()
        encoder = Encoder(open_artifact(config.encoder_uri), num_threads=1)
        longest = max(encoder.settings.query_tokens, encoder.settings.passage_tokens)
        if config.max_queued_tokens < longest:
            raise ValueError(
                f"--max-queued-tokens {config.max_queued_tokens}: less than one text of this encoder ({longest} tokens); raise it"
            )
        index = PassageIndex.open(open_artifact(config.index_uri), encoder_digest=encoder.digest)
        dataset = _open_dataset(config) if config.dataset_uri else None
        log.event(
            "artifacts opened",
            encoder=encoder.digest[:12],
            dimension=encoder.dimension,
            passages=index.num_passages,
            seconds=round(time.monotonic() - start, 2),
        )
        return cls(config, encoder, index, dataset)

    async def start(self) -> None:
        """Starts the threads and warms them up; /readyz says yes from then on."""
        self._batcher.start()
        start = time.monotonic()
        for num_words in _WARM_UP_WORDS:
            await self.search([" ".join(["warm"] * num_words)], depth=1)
        self._warm = True
        log.event("warmed up", seconds=round(time.monotonic() - start, 3))

    def stop(self) -> None:
        """Ends the threads."""
        self._warm = False
        self._batcher.close()
        self._threads.shutdown(cancel_futures=True)

    def drain(self) -> None:
        """Makes /readyz say no; requests are still answered."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """True from SIGTERM on."""
        return self._draining

    def not_alive(self) -> str:
        """Why this process must be replaced; empty where it need not."""
        return self._batcher.problem()

    def not_ready(self) -> str:
        """Why no request should be sent here; empty where one may."""
        if self._draining:
            return "draining"
        if not self._warm:
            return "warming up"
        return self.not_alive()

    async def tokenize(self, texts: Sequence[str], input_type: InputType = "query") -> list[list[int]]:
        """Token ids as in training: prefix put before, cut at the encoder's length."""
        tokenize = self.encoder.tokenize_queries if input_type == "query" else self.encoder.tokenize_passages
        if sum(map(len, texts)) <= _INLINE_CHARACTERS:
            return tokenize(texts)
        return await asyncio.get_running_loop().run_in_executor(self._threads, tokenize, texts)

    async def encode(self, token_ids: Sequence[list[int]]) -> Vectors:
        """Vectors of token ids, in their order; raises what Batcher.encode raises."""
        return await self._batcher.encode(token_ids)

    async def search(self, queries: Sequence[str], *, depth: int) -> list[list[FoundPassage]]:
        """The best passages of each query, best first."""
        return await self.search_tokens(await self.tokenize(queries), depth=depth)

    async def search_tokens(self, token_ids: Sequence[list[int]], *, depth: int) -> list[list[FoundPassage]]:
        """As `search`, of tokenised queries."""
        vectors = await self.encode(token_ids)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._find, vectors, depth)

    def _find(self, vectors: Vectors, depth: int) -> list[list[FoundPassage]]:
        start = time.monotonic()
        rankings = self.index.search(vectors, depth)
        self.metrics.count_search(time.monotonic() - start)
        dataset = self._dataset
        return [[FoundPassage(hit, dataset.passage(hit.passage_id) if dataset else None) for hit in hits] for hits in rankings]


def _open_dataset(config: ServeConfig) -> Dataset:
    given, indexed = read_manifest(config.dataset_uri).digest, read_manifest(config.index_uri).inputs.get("dataset", "")
    if given != indexed:
        raise ValueError(
            f"{config.dataset_uri}: dataset {given[:12]}, but {config.index_uri} was built over dataset {indexed[:12] or 'unknown'}; "
            "serve the dataset that was indexed, or build the index again"
        )
    return Dataset(open_artifact(config.dataset_uri))

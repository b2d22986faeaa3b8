"""Service: the release that is served, and how another takes its place under traffic.

The new release is opened, checked and warmed up beside the old one; then it answers every request that begins, and the
old one ends when its last request is answered. What cannot be opened is refused and logged, and the old release goes
on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

from components.serve.config import ServeConfig
from components.serve.drift.sampling import QuerySampler
from components.serve.keys import KeyRing
from components.serve.metrics import ServerMetrics
from components.serve.protocols.bodies import Limits
from components.serve.release import Release, named_by, version_at
from components.shared import log
from components.shared.contract.pointer import ArtifactUris
from components.shared.durable import storage
from components.shared.encoding.encoder import num_cores
from components.shared.index import set_threads
from components.shared.tracing.spans import Tracer


class Service:
    """The release that is served, its readiness, the API keys, and the tracer where a collector is named."""

    def __init__(self, config: ServeConfig) -> None:
        """Opens and checks all artifacts.

        Raises:
            ValueError: Where one is damaged, or they do not belong together.
        """
        self.config = config
        self.limits = Limits(config.max_texts, config.max_depth, config.max_filter_ids)
        self.started = int(time.time())
        self.metrics = ServerMetrics()
        self.tracer = Tracer.open("retriever-serve")
        self.keys = KeyRing.open(config.api_keys_path) if config.api_keys_path else None
        # FAISS keeps its number of threads a thread, hence the initialiser.
        num_threads = config.num_sessions or num_cores()
        self._threads = ThreadPoolExecutor(
            num_threads, thread_name_prefix="search", initializer=set_threads, initargs=(1,)
        )
        self._sampler = QuerySampler(config) if config.sample_uri else None
        # Before the release: what is written while that is opened is seen as a change.
        self._pointer = storage.read_bytes(config.pointer_uri) if config.pointer_uri else b""
        self.release = self._open(named_by(config))
        self._retiring: set[Release] = set()
        self._warm = self._draining = False
        self._reloading = asyncio.Lock()
        self._may_pass = False
        self._watcher: asyncio.Task[None] | None = None
        self.metrics.watch_ready(lambda: not self.not_ready())
        self.metrics.watch_queue(
            tokens=lambda: sum(release.batcher.queued_tokens for release in (self.release, *self._retiring)),
            texts=lambda: sum(release.batcher.queued_texts for release in (self.release, *self._retiring)),
        )

    def _open(self, uris: ArtifactUris) -> Release:
        return Release(uris, self.config, metrics=self.metrics, threads=self._threads, sampler=self._sampler)

    async def start(self) -> None:
        """Starts and warms up the release; /readyz says yes from then on."""
        await self.release.start()
        self._warm = True
        self._show(self.release)
        if self._sampler is not None:
            self._sampler.start()
        if self.config.pointer_uri:
            self._watcher = asyncio.get_running_loop().create_task(self._watch_pointer())

    def _show(self, release: Release) -> None:
        """Names the release in the metrics, with what can be counted of its queries."""
        self.metrics.set_version(release.version)
        release.watch.begin()

    def stop(self) -> None:
        """Ends the threads."""
        self._warm = False
        if self._watcher is not None:
            self._watcher.cancel()
        for release in (self.release, *self._retiring):
            release.close()
        self._threads.shutdown(cancel_futures=True)
        if self._sampler is not None:
            self._sampler.stop()
        if self.tracer is not None:
            self.tracer.close()

    def drain(self) -> None:
        """Makes /readyz say no; requests are still answered."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """True from SIGTERM on."""
        return self._draining

    def not_alive(self) -> str:
        """Why this process must be replaced; empty where it need not."""
        return self.release.batcher.problem()

    def not_ready(self) -> str:
        """Why no request should be sent here; empty where one may."""
        if self._draining:
            return "draining"
        if not self._warm:
            return "warming up"
        return self.not_alive()

    async def reload(self) -> bool:
        """Serves what the pointer or the flags name now; False where that cannot be done and the release stays."""
        async with self._reloading:
            try:
                return await self._replace(await asyncio.to_thread(named_by, self.config))
            except (ValueError, OSError) as error:
                # What is missing is said once; what passes by itself (a store that is away) is tried again.
                self._may_pass = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
                self.metrics.reloads("refused")
                log.error(
                    "reload refused; the release before is served on",
                    version=self.release.version,
                    problem=str(error),
                    tried_again=self._may_pass,
                )
                return False

    async def _replace(self, uris: ArtifactUris) -> bool:
        old = self.release
        if uris == old.uris and await asyncio.to_thread(version_at, uris) == old.version:
            log.event("reload: unchanged", version=old.version)
            return True
        new = await asyncio.to_thread(self._open, uris)
        await new.start()
        self.release = new
        self._retiring.add(old)
        self._show(new)
        self.metrics.reloads("done")
        log.event("reload: another release is served", version=new.version, before=old.version)
        await old.unused()
        await asyncio.to_thread(old.close)
        self._retiring.discard(old)
        return True

    async def _watch_pointer(self) -> None:
        while True:
            await asyncio.sleep(self.config.pointer_seconds)
            with contextlib.suppress(FileNotFoundError):
                await self._follow_pointer()

    async def _follow_pointer(self) -> None:
        try:
            content = await asyncio.to_thread(storage.read_bytes, self.config.pointer_uri)
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a bucket's library raises, the release stays
            log.warning("the pointer cannot be read", pointer=self.config.pointer_uri, problem=repr(error))
            return
        # Tried once: a pointer to something broken is refused once, not every few seconds.
        if content != self._pointer or self._may_pass:
            self._pointer, self._may_pass = content, False
            await self.reload()

"""Keeps a random sample of the queries that were answered, for the report on drift.

All that is kept is bounded: a reservoir a day in memory, a file of it in the folder, files of some days, and a size of
the folder beyond which nothing is written. A file is written whole in the place of the one before, so a kill loses the
last minute and damages nothing; a store that is away costs the sample and never an answer.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

from components.serve.config import ServeConfig
from components.shared import log
from components.shared.drift.sample import MOST_CHARACTERS, SampledQuery, day_of, encoded, file_name
from components.shared.durable import storage

_WRITE_SECONDS = 60.0
# A server that ends does not wait longer for its store.
_LAST_SECONDS = 5.0


def _today() -> date:
    return datetime.now(UTC).date()


class QuerySampler:
    """A reservoir of today's queries and the thread that writes it down; called from several threads at once."""

    def __init__(self, config: ServeConfig, *, today: Callable[[], date] = _today) -> None:
        """Takes the folder and the bounds of a config; `start` begins to write."""
        self._folder = config.sample_uri.rstrip("/")
        self._most, self._days = config.sample_queries, config.sample_days
        self._most_bytes = config.sample_mebibytes << 20
        self._today = today
        # Of this process alone: several servers share a folder.
        self._writer = os.urandom(6).hex()
        self._random = random.Random()
        self._lock = threading.Lock()
        self._day, self._kept, self._num_seen = today(), list[SampledQuery](), 0
        self._is_written = True
        self._full: list[tuple[date, list[SampledQuery], int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sample", daemon=True)

    def start(self) -> None:
        """Begins to write once a minute what has changed."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what is left; a store that does not answer in time loses it."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_SECONDS)

    def offer(self, queries: Sequence[str], *, mode: str, version: str) -> None:
        """Lets queries be sampled: of those of a day each is kept with the same chance.

        Source: Vitter 1985, Random sampling with a reservoir, algorithm R.
        """
        with self._lock:
            self._turn_day()
            for query in queries:
                self._num_seen += 1
                self._is_written = False
                place = len(self._kept) if len(self._kept) < self._most else self._random.randrange(self._num_seen)
                if place >= self._most:
                    continue
                sampled = SampledQuery(query[:MOST_CHARACTERS], len(query), mode, version)
                self._kept[place : place + 1] = [sampled]

    def _turn_day(self) -> None:
        """Puts the reservoir of a day that is over aside, to be written, and begins another."""
        if (today := self._today()) == self._day:
            return
        if self._num_seen:
            # One day at most waits for a store that is away.
            self._full = [(self._day, self._kept, self._num_seen)]
        self._day, self._kept, self._num_seen, self._is_written = today, [], 0, True

    def _run(self) -> None:
        while not self._ended.wait(_WRITE_SECONDS):
            self.write()
        self.write()

    def write(self) -> None:
        """Writes what has changed and removes what is too old; what cannot be written is said and left."""
        with self._lock:
            self._turn_day()
            waiting = [*self._full, *([] if self._is_written else [(self._day, list(self._kept), self._num_seen)])]
            self._full, self._is_written = [], True
        try:
            for day, kept, num_seen in waiting:
                self._write(day, kept, num_seen)
        except (OSError, ValueError) as error:
            log.warning("sampled queries were not written", folder=self._folder, problem=str(error))
            with self._lock:
                self._is_written = False
                self._full = [entry for entry in waiting if entry[0] != self._day][-1:]

    def _write(self, day: date, kept: Sequence[SampledQuery], num_seen: int) -> None:
        name = file_name(day, self._writer)
        content = encoded(kept, num_seen=num_seen)
        sizes = self._remove_old(storage.file_sizes(self._folder))
        if sum(size for other, size in sizes.items() if other != name) + len(content) > self._most_bytes:
            log.warning(
                "the folder of sampled queries is full; nothing is added until its oldest files go",
                folder=self._folder,
                mebibytes=self._most_bytes >> 20,
            )
            return
        storage.write_bytes(f"{self._folder}/{name}", content)

    def _remove_old(self, sizes: dict[str, int]) -> dict[str, int]:
        """Files of samples that stay; those of days long past go, whoever wrote them, and no other file is touched."""
        oldest = self._today() - timedelta(days=self._days)
        stay = {}
        for name, size in sizes.items():
            day = day_of(name)
            if day is not None and day <= oldest:
                storage.delete(f"{self._folder}/{name}")
            elif day is not None:
                stay[name] = size
        return stay

"""Joins the texts of concurrent requests into batches.

Nobody waits for a timer: a free session takes what is queued at that moment, the oldest text first and then those of
similar length. Under light load a batch is one request; under heavy load batches fill by themselves.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from components.serve.metrics import ServerMetrics
from components.shared import log

Vectors = Float32[np.ndarray, "text dimension"]
TokenIds = list[int]

# Texts join a batch while at least this share of its padded tokens is real; below it the padding costs more than a call
# of its own would (a call saturates a core from about 100 tokens on, so small batches lose little). Of queries among 64
# clients: 0.85 gives batches of 16 and 10 % padding, 0.95 batches of 8 and 3.5 %; passages are 98.6 % full either way.
MIN_FILL = 0.95
# Weight of a batch in the pace when the next one is counted: a hundred batches, some seconds, are remembered.
_MEMORY = 0.99


class QueueFullError(Exception):
    """The queue holds as many tokens as it may; `retry_seconds` is when it should have room."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_seconds} s")
        self.retry_seconds = retry_seconds


class SessionDiedError(Exception):
    """The session that held a request's texts is gone."""


@dataclass(eq=False)
class _Request:
    """The texts of one caller; `future` is done when the last of them has its vector."""

    future: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop
    vectors: list[Float32[np.ndarray, " dimension"] | None]
    missing: int


@dataclass(eq=False, slots=True)
class _Text:
    request: _Request
    position: int
    token_ids: TokenIds
    queued: float


@dataclass
class _Session:
    thread: threading.Thread
    busy_since: float | None = field(default=None)


class Batcher:
    """A queue bounded in tokens and the threads that empty it; `encode` is called from several threads at once."""

    def __init__(
        self,
        encode: Callable[[Sequence[TokenIds]], Vectors],
        *,
        num_sessions: int,
        batch_tokens: int,
        max_queued_tokens: int,
        max_queue_seconds: float,
        hang_seconds: float,
        metrics: ServerMetrics,
    ) -> None:
        """Makes the threads; `start` runs them."""
        self._encode, self._metrics = encode, metrics
        self._batch_tokens, self._hang_seconds = batch_tokens, hang_seconds
        self._max_queued_tokens, self._max_queue_seconds = max_queued_tokens, max_queue_seconds
        self._changed = threading.Condition()
        self._texts: OrderedDict[int, _Text] = OrderedDict()  # by number, oldest first
        self._by_length: list[tuple[int, int]] = []  # (tokens, number), sorted
        self._next_number = 0
        self._queued_tokens = 0
        self._encoded_tokens, self._encode_seconds = 0.0, 0.0  # of late
        self._closed = False
        self._sessions = [
            _Session(threading.Thread(target=self._work, args=(i,), daemon=True)) for i in range(num_sessions)
        ]

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait for a session."""
        return self._queued_tokens

    @property
    def queued_texts(self) -> int:
        """Texts that wait for a session."""
        return len(self._texts)

    def start(self) -> None:
        """Starts the sessions."""
        for session in self._sessions:
            session.thread.start()

    def forget_pace(self) -> None:
        """Forgets how fast the first batches were: they are ten times slower, and would have requests refused."""
        with self._changed:
            self._encoded_tokens, self._encode_seconds = 0.0, 0.0

    def close(self) -> None:
        """Ends the sessions after the batches they hold; whoever still waits is told that its session is gone."""
        with self._changed:
            self._closed = True
            waiting = {text.request for text in self._texts.values()}
            self._changed.notify_all()
        _fail(waiting)
        for session in self._sessions:
            if session.thread.ident is not None:
                session.thread.join(self._hang_seconds)

    def problem(self) -> str:
        """What is wrong with the sessions; empty where nothing is."""
        now = time.monotonic()
        for number, session in enumerate(self._sessions):
            if not session.thread.is_alive():
                return f"session {number} is not running"
            if session.busy_since is not None and now - session.busy_since > self._hang_seconds:
                return f"session {number} has been busy with one batch for {now - session.busy_since:.0f} s"
        return ""

    async def encode(self, token_ids: Sequence[TokenIds]) -> Vectors:
        """Vectors of the texts, in their order; a cancelled call gives its place in the queue back.

        Raises:
            QueueFullError: Where the texts do not fit into the queue now.
            SessionDiedError: Where the session that had taken the texts died.
        """
        assert all(token_ids), "a text without tokens has no vector"
        assert token_ids, "no text would never be done"
        loop = asyncio.get_running_loop()
        request = _Request(loop.create_future(), loop, [None] * len(token_ids), len(token_ids))
        numbers = self._queue(request, token_ids)
        try:
            await request.future
        finally:
            if request.missing:
                with self._changed:
                    self._remove(numbers)
        return np.stack([vector for vector in request.vectors if vector is not None])

    def _queue(self, request: _Request, token_ids: Sequence[TokenIds]) -> range:
        num_tokens = sum(map(len, token_ids))
        with self._changed:
            if self._closed:
                raise SessionDiedError("the server is closing")
            # What comes first waits for nobody, however long it takes itself.
            if (
                self._queued_tokens + num_tokens > self._max_queued_tokens
                or self._wait_seconds() > self._max_queue_seconds
            ):
                raise QueueFullError(max(1, math.ceil(self._wait_seconds())))
            now = time.monotonic()
            numbers = range(self._next_number, self._next_number + len(token_ids))
            for position, (number, ids) in enumerate(zip(numbers, token_ids, strict=True)):
                self._texts[number] = _Text(request, position, ids, now)
                insort(self._by_length, (len(ids), number))
            self._next_number = numbers.stop
            self._queued_tokens += num_tokens
            self._changed.notify(len(token_ids))
        return numbers

    def _wait_seconds(self) -> float:
        if not self._encoded_tokens:
            return 0.0
        return self._queued_tokens * self._encode_seconds / self._encoded_tokens / len(self._sessions)

    def _remove(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            text = self._texts.pop(number, None)
            if text is not None:
                del self._by_length[bisect_left(self._by_length, (len(text.token_ids), number))]
                self._queued_tokens -= len(text.token_ids)

    def _work(self, number: int) -> None:
        session = self._sessions[number]
        while batch := self._take(session):
            start = time.monotonic()
            try:
                vectors = self._encode([text.token_ids for text in batch])
                self._deliver(batch, vectors)
            except BaseException as error:
                # The thread dies and /healthz says so; its callers must not wait for their time limit to hear of it.
                log.error("an encoding session died", session=number, problem=repr(error))
                _fail({text.request for text in batch})
                raise
            finally:
                session.busy_since = None
            self._count(batch, start=start, seconds=time.monotonic() - start)

    def _take(self, session: _Session) -> list[_Text]:
        """The next batch; empty once the batcher is closed."""
        with self._changed:
            while not self._texts and not self._closed:
                self._changed.wait()
            if self._closed:
                return []
            number, oldest = next(iter(self._texts.items()))
            anchor = bisect_left(self._by_length, (len(oldest.token_ids), number))
            rows = similar_rows(_Lengths(self._by_length), anchor, self._batch_tokens)
            numbers = [self._by_length[row][1] for row in rows]
            batch = [self._texts[number] for number in numbers]
            self._remove(numbers)
            session.busy_since = time.monotonic()
            return batch

    def _deliver(self, batch: Sequence[_Text], vectors: Vectors) -> None:
        finished = []
        with self._changed:
            for text, vector in zip(batch, vectors, strict=True):
                text.request.vectors[text.position] = vector
                text.request.missing -= 1
                if not text.request.missing:
                    finished.append(text.request)
        for request in finished:
            request.loop.call_soon_threadsafe(_settle, request.future, None)

    def _count(self, batch: Sequence[_Text], *, start: float, seconds: float) -> None:
        num_tokens = sum(len(text.token_ids) for text in batch)
        with self._changed:
            self._encoded_tokens = _MEMORY * self._encoded_tokens + num_tokens
            self._encode_seconds = _MEMORY * self._encode_seconds + seconds
        self._metrics.count_batch(
            texts=len(batch),
            tokens=num_tokens,
            padded_tokens=len(batch) * max(len(text.token_ids) for text in batch),
            encode_seconds=seconds,
            queue_seconds=[start - text.queued for text in batch],
        )


class _Lengths(Sequence[int]):
    """The lengths of the queued texts, read where they are needed: a batch looks at a few of thousands."""

    def __init__(self, by_length: Sequence[tuple[int, int]]) -> None:
        self._by_length = by_length

    def __getitem__(self, row: Any) -> Any:  # noqa: ANN401 - one signature for both of Sequence's
        return self._by_length[row][0]

    def __len__(self) -> int:
        return len(self._by_length)


def similar_rows(lengths: Sequence[int], anchor: int, batch_tokens: int) -> range:
    """Rows around the anchor that make a good batch with it; `lengths` ascend.

    The nearest length joins first, as long as the padded batch stays within `batch_tokens` and MIN_FILL of it is real.
    A text that is longer than the budget is a batch of its own.
    """
    first, last, num_tokens = anchor, anchor, lengths[anchor]
    while True:
        shorter = lengths[anchor] - lengths[first - 1] if first > 0 else math.inf
        longer = lengths[last + 1] - lengths[anchor] if last + 1 < len(lengths) else math.inf
        if shorter == longer == math.inf:
            break
        row = last + 1 if longer <= shorter else first - 1
        longest = lengths[max(last, row)]
        padded_tokens = (last - first + 2) * longest
        if padded_tokens > batch_tokens or num_tokens + lengths[row] < MIN_FILL * padded_tokens:
            break
        first, last, num_tokens = min(first, row), max(last, row), num_tokens + lengths[row]
    return range(first, last + 1)


def _fail(requests: set[_Request]) -> None:
    for request in requests:
        error = SessionDiedError("the session that held the texts is gone")
        request.loop.call_soon_threadsafe(_settle, request.future, error)


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # its caller gave up, or another of its texts failed first
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)

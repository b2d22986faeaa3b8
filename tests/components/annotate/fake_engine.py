"""An LLM is an outside thing: this one answers what it is told to, in random order, and counts its calls in a file."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from components.annotate.config import AnnotateConfig
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    Likelihood,
    LikelihoodRequest,
    Request,
    Result,
)

Reply = Callable[[CompletionRequest], str]


class FakeEngine:
    """`replies` maps a part of the last turn to the reply; a function sees the whole request."""

    model = "fake"

    def __init__(
        self,
        log_path: Path | None = None,
        *,
        replies: Mapping[str, str] | Reply | None = None,
        can_constrain: bool = False,
        batch: int = 3,
    ) -> None:
        self._log = log_path.open("a") if log_path else None
        self._queue, self._random, self._batch = list[Request](), random.Random(0), batch
        self._replies = replies or {}
        self.can_constrain = can_constrain
        self.requests: list[Request] = []

    def submit(self, request: Request) -> None:
        self._queue.append(request)

    def collect(self) -> list[Result]:
        chosen = [
            self._queue.pop(self._random.randrange(len(self._queue))) for _ in range(min(self._batch, len(self._queue)))
        ]
        return [self._result(request) for request in chosen]

    def close(self) -> None:
        if self._log:
            self._log.close()

    def _result(self, request: Request) -> Result:
        if self._log:
            self._log.write(request.key + "\n")
            self._log.flush()
        else:
            self.requests.append(request)
        if isinstance(request, LikelihoodRequest):
            same = len(set(request.context.split()) & set(request.continuation.split()))
            return Likelihood(request.key, (-5.0 + same,), 10, 0, 0.25)
        return Completion(request.key, self._reply(request), "stop", 20, 3, 5, 0.5)

    def _reply(self, request: CompletionRequest) -> str:
        if callable(self._replies):
            return self._replies(request)
        last = request.turns[-1].content
        return next((reply for part, reply in self._replies.items() if part in last), "[1], [2]")


def calls(log_path: Path) -> Counter[str]:
    return Counter(log_path.read_text().split())


def config(**settings: object) -> AnnotateConfig:
    places = {"dataset_uri": "", "pools_uri": "", "output_uri": "", "llm_uri": "fake"}
    return AnnotateConfig(**{**places, **settings})  # type: ignore[arg-type]

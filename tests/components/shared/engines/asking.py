"""How the tests of the endpoint engine ask: requests, engines, answers that fail a few times."""

from collections.abc import Callable
from typing import Any

from components.shared.engines.endpoint import EndpointEngine
from components.shared.engines.engine import (
    CompletionRequest,
    Refusal,
    Result,
    Turn,
)
from tests.components.shared.engines.openai_server import Answer

Answered = Result | Refusal
MakeEngine = Callable[..., EndpointEngine]


def chat_request(key: str, *, text: str = "the tides", max_tokens: int = 10) -> CompletionRequest:
    return CompletionRequest(key, (Turn("system", "Be brief."), Turn("user", text)), max_tokens, 0.0, 7)


def drain(engine: EndpointEngine, results: list[Answered]) -> list[Answered]:
    """Collects into `results`, which the caller keeps when collect raises."""
    while batch := engine.collect():
        results += batch
    return results


def failing(times: int, answer: Answer) -> Callable[[str, dict[str, Any]], Answer | None]:
    left = iter(range(times))
    return lambda _path, _body: None if next(left, None) is None else answer

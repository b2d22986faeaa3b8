"""What a server answers and what comes of it: a row, and what its answers are made of."""

from dataclasses import dataclass
from typing import Any

from components.shared.engines.engine import FinishReason

USAGE = {"prompt_tokens": 9, "completion_tokens": 3}


def chat(
    content: object = "[1]", finish_reason: object = "stop", *, usage: object = USAGE, **message: object
) -> dict[str, Any]:
    """A chat completion; `usage` "missing" leaves it out."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}}
    choice |= {} if finish_reason == "missing" else {"finish_reason": finish_reason}
    return {"choices": [choice]} | ({} if usage == "missing" else {"usage": usage})


def weighed(logprobs: list[Any], tokens: list[str] | None = None, usage: object = "missing") -> dict[str, Any]:
    """The echo of the prompt "tides rise" (two tokens), and one token more."""
    echoed = {"tokens": tokens or ["tides", " rise", " x"], "token_logprobs": logprobs}
    return {"choices": [{"text": "", "logprobs": echoed}]} | ({} if usage == "missing" else {"usage": usage})


@dataclass(frozen=True)
class Row:
    """A server's behaviour and what comes of it; the answers are given in turn, the last one for ever."""

    name: str
    answers: tuple[object, ...]
    status: int = 200
    text: str | None = None
    reason: FinishReason = "stop"
    tokens: tuple[int, int, int] = (9, 3, 0)
    is_counted: bool = True
    logprobs: tuple[float, ...] | None = None
    refusal: str | None = None
    ends: type[Exception] | None = None
    message: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def error(message: str, **fields: object) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}

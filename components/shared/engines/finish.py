"""What an engine says of a completion's end, in the four words that the parser knows.

The journal keeps the engine's own word; this reading of it is made anew each time, so a mended reading also mends the
completions that were paid for before.
"""

from __future__ import annotations

from typing import Literal

FinishReason = Literal["stop", "length", "abort", "content_filter"]

# The words of vLLM, TGI, Ollama, llama.cpp, and of the gateways in front of Anthropic, Gemini, Mistral, DeepSeek and
# others that pass their own words on. Compared in lower case, with underscores.
_STOP = frozenset(
    [
        "stop",
        "eos",
        "eos_token",
        "end_turn",
        "stop_sequence",
        "stop_token",
        "end_of_turn",
        "end_of_text",
        "end_of_sequence",
        "end",
        "complete",
        "completed",
        "finish",
        "finished",
        "done",
        "null",
        "none",
    ]
)
_LENGTH = frozenset(
    [
        "length",
        "max_tokens",
        "model_length",
        "max_length",
        "max_output_tokens",
        "max_completion_tokens",
        "max_new_tokens",
        "max_token",
        "token_limit",
        "max_tokens_reached",
        "length_limit",
        "context_length",
        "context_window",
        "model_context_window_exceeded",
    ]
)
_CONTENT_FILTER = frozenset(
    [
        "content_filter",
        "content_filtered",
        "content_filter_error",
        "safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "language",
        "guardrail_intervened",
        "guardrail",
        "refusal",
        "sensitive",
        "moderation",
    ]
)
# No end of a completion but a failure on the way: such an answer is asked for again and never kept.
_ABORT = frozenset(
    [
        "abort",
        "aborted",
        "error",
        "cancelled",
        "canceled",
        "insufficient_system_resource",
        "network_error",
        "disconnected",
    ]
)
_KNOWN: dict[str, FinishReason] = {
    **dict.fromkeys(_STOP, "stop"),
    **dict.fromkeys(_LENGTH, "length"),
    **dict.fromkeys(_CONTENT_FILTER, "content_filter"),
    **dict.fromkeys(_ABORT, "abort"),
}


def read_reason(reason: str | None) -> FinishReason:
    """The reading of an engine's word; no word, or one that is unknown, is taken as `stop`."""
    return _KNOWN.get(_plain(reason), "stop")


def is_known_reason(reason: str | None) -> bool:
    """Whether the word is one of those above; no word at all is known to mean nothing."""
    return reason is None or not reason.strip() or _plain(reason) in _KNOWN


def _plain(reason: str | None) -> str:
    # Gemini's words may come with the name of their type: FinishReason.MAX_TOKENS.
    return (reason or "").strip().lower().rsplit(".", 1)[-1].replace("-", "_").replace(" ", "_")

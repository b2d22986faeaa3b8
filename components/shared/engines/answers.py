"""What OpenAI-compatible servers answer: read leniently where nothing is lost, strictly where a number would be wrong.

A completion needs a choice and nothing else: text may be a string, parts, null or missing; usage may be missing,
partial or nonsense, and its tokens are then unknown, never guessed. A log-likelihood that is missing, no number or of
another token makes the whole prompt fail: a mean over what is left would be the mean of another text. A token of
probability 0 (-inf, or the -9999 that vLLM writes for it) fails too: it says that the model's arithmetic underflowed,
JSON has no word for it, and its mean and softmax say nothing of the passage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from components.shared.engines.engine import Completion, Likelihood, LikelihoodRequest
from components.shared.roles import hint

# What vLLM writes where JSON has no word for minus infinity.
_MINUS_INFINITY = -9999.0
# Rounding may put the logarithm of a certain token a little above 0.
_HIGHEST_LOGPROB = 1e-3
_MARKS = str.maketrans({"\u2581": " ", "\u0120": " ", "\u010a": "\n", "\u0109": "\t"})
_NO_LIKELIHOODS = (
    "the server gives no likelihoods of the prompt's tokens (echo with logprobs); "
    f"serve the model with vLLM, or use a method that needs completions only ({hint('method', 'utility_selection')})"
)


_SHIFTED = (
    "the server weighs each token by what it expects after it: its log-likelihoods are shifted by one token "
    "(llama-cpp-python's are); serve the model with vLLM, or use a method that needs completions only "
    f"({hint('method', 'utility_selection')})"
)
# Likeliest tokens that are the next token of the text, from which on chance is no explanation.
_MIN_SHIFTED = 3


class MalformedError(Exception):
    """An answer that is no answer of the protocol; says what is missing."""


class UnusableError(Exception):
    """An answer of the protocol from which this request's result cannot be had."""


class NoLikelihoodsError(UnusableError):
    """The server weighs no prompts at all, or all of them wrongly."""

    def __init__(self, words: str = _NO_LIKELIHOODS) -> None:
        super().__init__(words)


def first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one choice that was asked for.

    Raises:
        MalformedError: Where the answer has no list of choices.
        UnusableError: Where the list is empty, as some servers answer for a prompt that their filter stopped.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list):
        raise MalformedError("it has no choices")
    if not choices:
        raise UnusableError("the server answered without a choice")
    if not isinstance(choices[0], dict):
        raise MalformedError("its choice is no object")
    return choices[0]


def read_completion(key: str, answer: Mapping[str, Any]) -> Completion:
    """A chat completion.

    Raises:
        MalformedError: Where there is no message, or its content is neither text nor parts nor nothing.
        UnusableError: Where there is no choice.
    """
    choice = first_choice(answer)
    reason = choice.get("finish_reason")
    prompt_tokens, completion_tokens, cached_tokens = _usage(answer)
    text = _text(choice)
    if text and not completion_tokens:
        completion_tokens = None
    return Completion(
        key,
        text,
        reason if reason is None or isinstance(reason, str) else str(reason)[:40],
        prompt_tokens or 0,
        completion_tokens or 0,
        cached_tokens,
        is_counted=bool(prompt_tokens) and completion_tokens is not None,
    )


def _text(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    if message is None and isinstance(choice.get("text"), str):
        return str(choice["text"])
    if not isinstance(message, dict):
        raise MalformedError("its choice has no message")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(map(_part_text, content))
    # No content at all where a reasoning parser took everything, or a filter did; a refusal has a field of its own.
    content = content or message.get("refusal") or ""
    if not isinstance(content, str):
        raise MalformedError(f"its content is {type(content).__name__}")
    return content


def _part_text(part: object) -> str:
    """Text of one part of a content; thoughts and pictures are not part of the reply."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise MalformedError(f"a part of its content is {type(part).__name__}")
    text = part.get("text") if part.get("type", "text") in ("text", "output_text") else ""
    return text if isinstance(text, str) else ""


def _usage(answer: Mapping[str, Any]) -> tuple[int | None, int | None, int]:
    """Prompt, completion and cached tokens; None where the server does not say, or says what cannot be."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None, None, 0
    prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    completion = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    total = _count(usage.get("total_tokens"))
    if total is not None and completion is not None and not prompt:
        prompt = total - completion
    if total is not None and prompt and completion is None:
        completion = _count(total - prompt)
    details = usage.get("prompt_tokens_details")
    # DeepSeek and Moonshot have names of their own.
    own_names = usage.get("prompt_cache_hit_tokens", usage.get("cached_tokens"))
    cached = _count(details.get("cached_tokens") if isinstance(details, dict) else own_names)
    # No chat has an empty prompt: a server that counts 0 does not count.
    prompt = prompt if prompt and prompt > 0 else None
    return prompt, completion, min(cached or 0, prompt or 0)


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and value >= 0 and value == int(value) else None


def read_likelihood(
    request: LikelihoodRequest, answer: Mapping[str, Any], prompt: str | list[int], num_continuation: int
) -> Likelihood:
    """The likelihoods of the continuation's tokens; `num_continuation` is their number, 0 where it is not known.

    Raises:
        MalformedError: Where there is no choice.
        NoLikelihoodsError: Where the server answers without them.
        UnusableError: Where those of this prompt are incomplete, infinite, or of other tokens.
    """
    tokens, logprobs, is_prompt_only = _weighed(first_choice(answer), prompt)
    counted_prompt, completion_tokens, _ = _usage(answer)
    num_prompt = len(logprobs) if is_prompt_only else counted_prompt
    if num_prompt is None:
        num_prompt = _prompt_length(request, tokens, prompt, len(logprobs), completion_tokens)
    if len(logprobs) < num_prompt or num_prompt < 2:
        raise NoLikelihoodsError
    first = num_prompt - num_continuation if num_continuation else _find_border(request, tokens[:num_prompt])
    if first < 1:
        raise UnusableError(f"{num_prompt} tokens were weighed, but the continuation alone has {num_continuation}")
    _check_spelling(request, tokens[first:num_prompt])
    values = tuple(_logprob(value, place - first) for place, value in enumerate(logprobs[first:num_prompt], first))
    return Likelihood(request.key, values, num_prompt)


def _weighed(choice: Mapping[str, Any], prompt: str | list[int]) -> tuple[list[str], list[Any], bool]:
    """Tokens (where they are said), their log-likelihoods, and whether these are the prompt's only."""
    of_prompt = choice.get("prompt_logprobs")
    if isinstance(of_prompt, list) and len(of_prompt) > 1:
        ids = prompt if isinstance(prompt, list) else [None] * len(of_prompt)
        entries = [_entry(entry, token) for entry, token in zip(of_prompt, ids, strict=False)]
        return [token for token, _ in entries], [logprob for _, logprob in entries], True
    echoed = choice.get("logprobs")
    if not isinstance(echoed, dict):
        raise NoLikelihoodsError
    if isinstance(content := echoed.get("content"), list):
        weighed = [part for part in content if isinstance(part, dict)]
        return [str(part.get("token", "")) for part in weighed], [part.get("logprob") for part in weighed], False
    tokens, logprobs = echoed.get("tokens"), echoed.get("token_logprobs")
    if not isinstance(logprobs, list):
        raise NoLikelihoodsError
    _check_shift(tokens, echoed.get("top_logprobs"))
    return [str(token) for token in tokens] if isinstance(tokens, list) else [], logprobs, False


def _check_shift(tokens: object, alternatives: object) -> None:
    """Refuses a server whose distribution at a token is the one that follows it: no other check would see it.

    Where the likeliest token at a place is right about the text at all, it must be right about the token of its own
    place more often than about the next one.
    """
    if not isinstance(tokens, list) or not isinstance(alternatives, list):
        return
    likeliest = [
        max(weighed, key=weighed.__getitem__)
        if isinstance(weighed, dict) and weighed and all(isinstance(value, int | float) for value in weighed.values())
        else None
        for weighed in alternatives
    ]
    num_own = sum(best == token for best, token in zip(likeliest, tokens, strict=False))
    num_next = sum(best == token for best, token in zip(likeliest, tokens[1:], strict=False))
    if num_next >= _MIN_SHIFTED and num_next > 2 * num_own:
        raise NoLikelihoodsError(_SHIFTED)


def _entry(entry: object, token: int | None) -> tuple[str, Any]:
    """Text and log-likelihood of a prompt's token in vLLM's own form, which may also name likelier tokens beside it."""
    if not isinstance(entry, dict) or not entry:
        return "", None
    weighed = entry.get(str(token)) if token is not None else next(iter(entry.values()))
    if isinstance(weighed, dict):
        return str(weighed.get("decoded_token") or ""), weighed.get("logprob")
    return "", weighed


def _prompt_length(
    request: LikelihoodRequest, tokens: Sequence[str], prompt: str | list[int], num_weighed: int, written: int | None
) -> int:
    """Tokens of the prompt where the server counts none: as many as were sent, or all but those that it wrote."""
    if isinstance(prompt, list):
        return len(prompt)
    if written is not None:
        return num_weighed - written
    is_all = bool(tokens) and _spelled(tokens).endswith(request.continuation)
    return num_weighed if is_all else num_weighed - 1


def _find_border(request: LikelihoodRequest, tokens: Sequence[str]) -> int:
    """Place of the continuation's first token; a token across the border counts as the continuation's.

    Offsets are measured from the end of the prompt: a server may count tokens at its beginning that are not in our
    text.
    """
    for spelling in (list(tokens), [token.translate(_MARKS) for token in tokens]):
        length = 0
        for place in range(len(spelling) - 1, 0, -1):
            length += len(spelling[place])
            if length >= len(request.continuation):
                if "".join(spelling[place:]).endswith(request.continuation):
                    return place
                break
    raise UnusableError(
        f"the server's tokens {list(tokens[-8:])} do not end in the continuation {request.continuation[-40:]!r}; "
        "serve the model with vLLM, whose /tokenize makes the border certain"
    )


def _check_spelling(request: LikelihoodRequest, tokens: Sequence[str]) -> None:
    """Refuses likelihoods of other tokens: a server that adds or drops one would shift them all without a word."""
    said = "".join(_spelled(tokens).split())
    wanted = "".join(request.continuation.split())
    # Parts of a character, and token numbers, spell nothing that could be compared.
    if (
        said
        and said.isascii()
        and wanted.isascii()
        and "token_id:" not in said
        and "bytes:" not in said
        and not said.endswith(wanted)
    ):
        raise UnusableError(f"the weighed tokens {list(tokens[-8:])} are not those of {request.continuation[-40:]!r}")


def _spelled(tokens: Sequence[str]) -> str:
    return "".join(tokens).translate(_MARKS)


def _logprob(value: object, number: int) -> float:
    if value is None:
        raise UnusableError(f"token {number} of the continuation has no log-likelihood (null)")
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value > _HIGHEST_LOGPROB:
        raise UnusableError(f"token {number} of the continuation has {value!r}, which is no log-likelihood")
    if value <= _MINUS_INFINITY:
        raise UnusableError(f"token {number} of the continuation has probability 0 (log-likelihood {value!r})")
    return float(value)

"""How one query comes about: the prompt of its style, asked until the reply can be read; and the likelihood test.

An asker (shared/calls) knows nothing of engines and journals. What it returns names every call behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from components.ask.config import AskConfig
from components.ask.reading import Reading, read_query
from components.ask.sampling import Assignment
from components.ask.styles import STYLES
from components.shared.calls.asks import Ask, Asker, RefusedError
from components.shared.calls.sampling import Profile
from components.shared.calls.templates import filled, read_template
from components.shared.calls.untrusted import clean, cut
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    Likelihood,
    LikelihoodRequest,
    Result,
    Role,
    Turn,
)

_PACKAGE = "components.ask"
LIKELIHOOD = "query_likelihood"
# A second attempt with greedy decoding would repeat the first one word for word.
_RETRY_TEMPERATURE = 0.7
_NO_CALL = Reading("refused", "no attempt was made")


@dataclass(frozen=True)
class Written:
    """What became of one assignment: the reading of the last reply, and the calls behind it.

    `completion` is the last raw reply; tokens and seconds are sums over the calls, whoever paid for them first.
    """

    assignment: Assignment
    reading: Reading
    template_version: str
    calls: tuple[str, ...] = ()
    completion: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0


def write_query(assignment: Assignment, config: AskConfig, profile: Profile) -> Asker[Written]:
    """Asks for the query until a reply can be read, each time with a new seed."""
    template = read_template(_PACKAGE, "prompts", f"{assignment.style}.txt")
    turns = _turns(assignment, config)
    reading, results = _NO_CALL, list[Completion]()
    try:
        for attempt in range(config.max_attempts):
            ask = Ask(
                assignment.query_id,
                f"ask_{assignment.style}",
                template.version,
                "new_seed" if attempt else "first",
                (),
                (_request(turns, config, profile, attempt),),
            )
            ((result,),) = yield [ask]
            assert isinstance(result, Completion)
            results.append(result)
            reading = read_query(result.text, STYLES[assignment.style], finish_reason=result.finish_reason)
            if reading.query:
                break
    except RefusedError as refused:
        reading = Reading("refused", str(refused))
    return Written(
        assignment,
        reading,
        template.version,
        calls=tuple(result.key for result in results),
        completion=results[-1].text if results else "",
        prompt_tokens=sum(result.prompt_tokens for result in results),
        completion_tokens=sum(result.completion_tokens for result in results),
        engine_seconds=math.fsum(result.engine_seconds for result in results),
    )


def _turns(assignment: Assignment, config: AskConfig) -> tuple[Turn, ...]:
    texts = [cut(passage.full_text, num_words=config.passage_words) for passage in assignment.passages]
    values = dict(zip(("passage", "second"), texts, strict=False))
    sections = read_template(_PACKAGE, "prompts", f"{assignment.style}.txt").sections
    return tuple(Turn(cast(Role, role), filled(text, values)) for role, text in sections)


def _request(turns: tuple[Turn, ...], config: AskConfig, profile: Profile, attempt: int) -> CompletionRequest:
    temperature = profile.sampling_temperature
    if attempt:
        temperature = max(temperature, _RETRY_TEMPERATURE)
    return CompletionRequest(
        "",
        turns,
        max_tokens=config.query_tokens + profile.thinking_tokens,
        sampling_temperature=temperature,
        # Greedy decoding has no seed: leaving it out of the call lets runs with other seeds share it.
        seed=config.seed + attempt if temperature > 0 else 0,
        top_p=profile.top_p,
        top_k=profile.top_k,
        chat_options=profile.chat_options,
    )


@dataclass(frozen=True)
class Gain:
    """Nats per token by which the source passages raise the likelihood of a query; nan where it was not to be had."""

    nats: float
    calls: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()


def weigh_query(query_id: str, query: str, source: str, unrelated: str) -> Asker[Gain]:
    """Weighs a query given its source and given an unrelated passage; texts are cut and cleaned already.

    Source: the difference is the pointwise mutual information of passage and query, per token.
    """
    template = read_template(_PACKAGE, "prompts", f"{LIKELIHOOD}.txt")
    sections = dict(template.sections)
    continuation = " " + filled(sections["continuation"], {"query": clean(query)})
    requests = tuple(
        LikelihoodRequest("", filled(sections["context"], {"passage": text}), continuation)
        for text in (source, unrelated)
    )
    try:
        (results,) = yield [Ask(query_id, f"ask_{LIKELIHOOD}", template.version, "first", (), requests)]
    except RefusedError:
        return Gain(math.nan)
    means = [_mean(result) for result in results]
    return Gain(means[0] - means[1], tuple(result.key for result in results), tuple(results))


def _mean(result: Result) -> float:
    assert isinstance(result, Likelihood)
    return math.fsum(result.logprobs) / len(result.logprobs)


def source_text(assignment: Assignment, config: AskConfig) -> str:
    """The source passages as one text, each cut as in the prompt."""
    texts: Sequence[str] = [cut(passage.full_text, num_words=config.passage_words) for passage in assignment.passages]
    return "\n\n".join(texts)

"""The methods: how one query's pool becomes labels, written as generators that yield LLM calls and receive their results.

A judge knows nothing of engines, journals or threads. It yields a list of requests, is sent the list of their results, and
returns a verdict; the driver keeps many judges going at once, so that the engine is never idle.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from components.annotate import prompting
from components.annotate.config import AnnotateConfig
from components.annotate.parsing import Parsed, parse_ranking, parse_selection, strip_thinking
from components.shared.llm import Completion, CompletionRequest, Likelihood, Request, Result, Turn
from components.shared.records import Label

# A second attempt with greedy decoding would repeat the first one word for word.
_RETRY_TEMPERATURE = 0.7
_SELECTION_TOKENS = 160
_RANKING_TOKENS = 256


@dataclass(frozen=True)
class Verdict:
    """Labels of the whole pool, or none where a completion could not be parsed; `outcome` says how it went."""

    outcome: str
    labels: tuple[Label, ...] = ()
    scores: tuple[float, ...] = ()
    detail: str = ""


Judge = Generator[list[Request], list[Result], Verdict]
Parser = Callable[[Completion], Parsed]


class _FailedError(Exception):
    def __init__(self, parsed: Parsed) -> None:
        super().__init__(parsed.detail)
        self.parsed = parsed


def judge(query: str, passages: Sequence[str], answers: Sequence[str], config: AnnotateConfig) -> Judge:
    """The judge of the configured method for one query; passages are cut already and in pool order."""
    try:
        if config.method == "query_likelihood":
            return (yield from _query_likelihood(query, passages, config))
        if config.method == "answer_likelihood":
            return (yield from _answer_likelihood(query, passages, answers, config))
        return (yield from _selection(query, passages, config))
    except _FailedError as failed:
        return Verdict(failed.parsed.outcome, detail=failed.parsed.detail)


def _selection(query: str, passages: Sequence[str], config: AnnotateConfig) -> Judge:
    """Relevance selection in windows, pseudo-answer from the survivors, then utility selection or ranking of them."""
    relevant, outcome = yield from _relevant(query, passages, config)
    labels: list[Label] = ["negative"] * len(passages)
    if not relevant:
        return Verdict("ok_empty", tuple(labels))
    survivors = [passages[position] for position in relevant]
    answer = yield from _answer(query, survivors, config)
    if config.method == "utility_ranking":
        parsed = yield from _ask("utility_ranking", query, survivors, answer, config, _ranking_parser(len(survivors)), _RANKING_TOKENS)
        useful = parsed.identifiers[: max(1, int(config.rank_share * len(parsed.identifiers)))]
    else:
        parsed = yield from _ask(
            "utility_selection", query, survivors, answer, config, _selection_parser(len(survivors)), _SELECTION_TOKENS
        )
        useful = parsed.identifiers
    for position in relevant:
        labels[position] = config.not_useful
    for identifier in useful:
        labels[relevant[identifier - 1]] = "positive"
    return Verdict(parsed.outcome if outcome == "ok" else outcome, tuple(labels))


def _relevant(query: str, passages: Sequence[str], config: AnnotateConfig) -> Generator[list[Request], list[Result], tuple[list[int], str]]:
    """Positions of the relevant passages, and the worst outcome of the windows that gave them."""
    found: list[int] = []
    outcome = "ok"
    for start, stop in windows(len(passages), config.window):
        shown = passages[start:stop]
        parsed = yield from _ask("relevance_selection", query, shown, "", config, _selection_parser(len(shown)), _SELECTION_TOKENS)
        found += [start + identifier - 1 for identifier in parsed.identifiers]
        outcome = "repaired" if parsed.outcome == "repaired" else outcome
    return sorted(found), outcome


def windows(num_passages: int, window: int) -> list[tuple[int, int]]:
    """Borders of the fewest windows of at most `window` passages, as equal as can be: 31 passages are 16 and 15."""
    count = -(-num_passages // window)
    borders = [round(number * num_passages / count) for number in range(count + 1)] if count else [0]
    return list(pairwise(borders))


def _answer(query: str, passages: Sequence[str], config: AnnotateConfig) -> Generator[list[Request], list[Result], str]:
    turns = prompting.chat("answer", query=query, passages=passages)
    (completion,) = yield [_request(turns, config, config.answer_tokens, attempt=0)]
    assert isinstance(completion, Completion)
    text = prompting.clean(strip_thinking(completion.text))
    if not text:
        raise _FailedError(Parsed("unparseable", "empty pseudo-answer", ()))
    return text


def _ask(
    template: str, query: str, passages: Sequence[str], answer: str, config: AnnotateConfig, parser: Parser, max_tokens: int
) -> Generator[list[Request], list[Result], Parsed]:
    """One listwise call, asked again with a new seed while its completion does not parse."""
    turns = prompting.chat(template, query=query, passages=passages, answer=answer)
    for attempt in range(config.max_attempts):
        (completion,) = yield [_request(turns, config, max_tokens, attempt=attempt)]
        assert isinstance(completion, Completion)
        parsed = parser(completion)
        if parsed.outcome in ("ok", "ok_empty", "repaired"):
            return parsed
    raise _FailedError(parsed)


def _request(turns: tuple[Turn, ...], config: AnnotateConfig, max_tokens: int, *, attempt: int) -> CompletionRequest:
    sampling_temperature = config.sampling_temperature if attempt == 0 else max(config.sampling_temperature, _RETRY_TEMPERATURE)
    # Greedy decoding has no seed: leaving it out of the call lets runs with other seeds share it.
    seed = config.seed + attempt if sampling_temperature > 0 else 0
    return CompletionRequest("", turns, max_tokens, sampling_temperature, seed)


def _selection_parser(num_passages: int) -> Parser:
    return lambda completion: parse_selection(completion.text, num_passages=num_passages, finish_reason=completion.finish_reason)


def _ranking_parser(num_passages: int) -> Parser:
    return lambda completion: parse_ranking(completion.text, num_passages=num_passages, finish_reason=completion.finish_reason)


def _query_likelihood(query: str, passages: Sequence[str], config: AnnotateConfig) -> Judge:
    """Log P(query | passage), averaged over the query's tokens. Source: method.md section 6 for its worth at small sizes."""
    results = yield [prompting.likelihood("query_likelihood", key="", query=query, passage=passage) for passage in passages]
    scores = _mean_logprobs(results)
    return Verdict("ok", likelihood_labels(scores, config), scores)


def _answer_likelihood(query: str, passages: Sequence[str], answers: Sequence[str], config: AnnotateConfig) -> Judge:
    """Log P(answer | query, passage), averaged over tokens; the collection's answer, else a pseudo-answer from the pool."""
    answer = answers[0] if answers else (yield from _answer(query, passages[: config.window], config))
    results = yield [prompting.likelihood("answer_likelihood", key="", query=query, passage=p, answer=answer) for p in passages]
    scores = _mean_logprobs(results)
    return Verdict("ok", likelihood_labels(scores, config), scores)


def _mean_logprobs(results: Sequence[Result]) -> tuple[float, ...]:
    means = []
    for result in results:
        assert isinstance(result, Likelihood)
        means.append(sum(result.logprobs) / len(result.logprobs))
    return tuple(means)


def likelihood_labels(scores: Sequence[float], config: AnnotateConfig) -> tuple[Label, ...]:
    """Three-way labels by the distance to the pool's best score, in nats per token."""
    best = max(scores, default=0.0)
    labels: list[Label] = []
    for score in scores:
        if best - score <= config.positive_margin:
            labels.append("positive")
        else:
            labels.append("ignore" if best - score <= config.ignore_margin else "negative")
    return tuple(labels)

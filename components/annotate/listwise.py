"""Selection and ranking of passages by a model that follows instructions, with the ladder for completions that do not parse.

The ladder: parse, then ask again with a new seed. What fails on every rung has no labels.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise

from components.annotate import prompting
from components.annotate.config import AnnotateConfig
from components.annotate.inquiry import Ask, FailedError, Inquiry, Judge, Rung
from components.annotate.parsing import Parsed, parse_ranking, parse_selection, strip_thinking
from components.shared.llm import Completion, CompletionRequest, Result, Turn
from components.shared.records import Label

LAYOUT = "paper"
# A second attempt with greedy decoding would repeat the first one word for word.
_RETRY_TEMPERATURE = 0.7
_MAX_TOKENS = {"relevance_selection": 160, "utility_selection": 160, "utility_ranking": 256}
_ACCEPTED = ("ok", "ok_empty", "repaired")


def utility_labels(inquiry: Inquiry) -> Judge:
    """Relevance selection in windows, pseudo-answer from the survivors, then utility selection or ranking of them.

    Source: [ufa] section 3; the three-way reading of the labels is ours.
    """
    config = inquiry.config
    shown = [tuple(range(*borders)) for borders in windows(len(inquiry.passages), config.window)]
    selected = yield from _listwise(inquiry, "relevance_selection", shown)
    relevant = sorted(position for its in selected for position in its)
    labels: list[Label] = ["negative"] * len(inquiry.passages)
    if not relevant:
        return inquiry.verdict("ok_empty", labels)
    answer = yield from pseudo_answer(inquiry, relevant)
    assert config.method in ("utility_selection", "utility_ranking")
    (useful,) = yield from _listwise(inquiry, config.method, [tuple(relevant)], answer)
    if config.method == "utility_ranking":
        useful = useful[: max(1, int(config.rank_share * len(useful)))]
    for position in relevant:
        labels[position] = config.not_useful
    for position in useful:
        labels[position] = "positive"
    return inquiry.verdict("repaired" if inquiry.is_repaired else "ok" if useful else "ok_empty", labels)


def windows(num_passages: int, window: int) -> list[tuple[int, int]]:
    """Borders of the fewest windows of at most `window` passages, as equal as can be: 31 passages are 16 and 15."""
    count = -(-num_passages // window)
    borders = [round(number * num_passages / count) for number in range(count + 1)] if count else [0]
    return list(pairwise(borders))


def pseudo_answer(inquiry: Inquiry, positions: Sequence[int]) -> Generator[list[Ask], list[list[Result]], str]:
    """An answer written from the passages at these places of the pool.

    Raises:
        FailedError: Where the model writes nothing, or nothing but thought.
    """
    turns = prompting.chat(LAYOUT, "answer", query=inquiry.query.text, passages=[inquiry.passages[p] for p in positions])
    failed = FailedError("unparseable", "no attempt was made", "")
    for attempt in range(inquiry.config.max_attempts):
        request = _request(turns, inquiry.config, inquiry.config.answer_tokens, attempt=attempt)
        ask = inquiry.ask("answer", layout=LAYOUT, rung=_rung(attempt), positions=positions, requests=[request])
        ((completion,),) = yield [ask]
        assert isinstance(completion, Completion)
        refused = completion.finish_reason == "content_filter"
        text = "" if refused else prompting.clean(strip_thinking(completion.text))
        # An answer cut at its limit is still an answer: the limit is ours.
        inquiry.note(ask, [completion], outcome="ok" if text else "refused" if refused else "unparseable")
        if text:
            return text
        failed = FailedError("refused" if refused else "unparseable", "no pseudo-answer", completion.text)
    raise failed


def _listwise(
    inquiry: Inquiry, template: str, shown: Sequence[tuple[int, ...]], answer: str = ""
) -> Generator[list[Ask], list[list[Result]], list[tuple[int, ...]]]:
    """What the LLM chooses from each window, as places in the pool; windows whose completion does not parse are asked again.

    Raises:
        FailedError: Where a window fails on every rung.
    """
    chosen: dict[int, tuple[int, ...]] = {}
    for attempt in range(inquiry.config.max_attempts):
        pending = [number for number in range(len(shown)) if number not in chosen]
        asks = [_ask(inquiry, template, shown[number], answer, attempt) for number in pending]
        for number, ask, (completion,) in zip(pending, asks, (yield asks), strict=True):
            assert isinstance(completion, Completion)
            parsed = _parsed(template, completion, len(ask.positions))
            places = tuple(ask.positions[identifier - 1] for identifier in parsed.identifiers)
            inquiry.note(ask, [completion], outcome=parsed.outcome, chosen=places)
            if parsed.outcome in _ACCEPTED:
                chosen[number] = places
            else:
                failed = FailedError(parsed.outcome, parsed.detail, completion.text)
        if len(chosen) == len(shown):
            return [chosen[number] for number in range(len(shown))]
    raise failed


def _ask(inquiry: Inquiry, template: str, positions: tuple[int, ...], answer: str, attempt: int) -> Ask:
    passages = [inquiry.passages[position] for position in positions]
    turns = prompting.chat(LAYOUT, template, query=inquiry.query.text, passages=passages, answer=answer)
    request = _request(turns, inquiry.config, _MAX_TOKENS[template], attempt=attempt)
    return inquiry.ask(template, layout=LAYOUT, rung=_rung(attempt), positions=positions, requests=[request])


def _rung(attempt: int) -> Rung:
    return "new_seed" if attempt else "first"


def _parsed(template: str, completion: Completion, num_passages: int) -> Parsed:
    parse = parse_ranking if template == "utility_ranking" else parse_selection
    return parse(completion.text, num_passages=num_passages, finish_reason=completion.finish_reason)


def _request(turns: tuple[Turn, ...], config: AnnotateConfig, max_tokens: int, *, attempt: int) -> CompletionRequest:
    sampling_temperature = config.sampling_temperature if attempt == 0 else max(config.sampling_temperature, _RETRY_TEMPERATURE)
    # Greedy decoding has no seed: leaving it out of the call lets runs with other seeds share it.
    seed = config.seed + attempt if sampling_temperature > 0 else 0
    return CompletionRequest("", turns, max_tokens, sampling_temperature, seed)

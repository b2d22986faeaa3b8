"""One listwise question, asked until its completion can be read: first, new seed, constrained decoding, smaller window.

Each rung is tried for those windows only that failed on the rung before. What fails on the last one raises, and its
query goes to the quarantine file: no order and no label is assumed for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from components.annotate.judging import prompting
from components.annotate.judging.inquiry import FailedError, Inquiry
from components.annotate.judging.methods import QUESTIONS
from components.annotate.judging.parsing import Parsed, parse_ranking, parse_selection
from components.shared.calls.asks import Ask, Rung
from components.shared.engines.engine import Completion, CompletionRequest, Result, Turn

# A second attempt with greedy decoding would repeat the first one word for word.
_RETRY_TEMPERATURE = 0.7
# Brackets, digits, separator: what an identifier takes at most where a tokenizer cuts every character.
_IDENTIFIER_TOKENS = 7
_ACCEPTED = ("ok", "ok_empty", "repaired")

Places = tuple[int, ...]
Chosen = Generator[list[Ask], list[list[Result]], list[Places]]


def choose(inquiry: Inquiry, template: str, shown: Sequence[Places], answer: str = "") -> Chosen:
    """What the LLM chooses from each window, as places in the pool: selected, or ranked from the best on.

    Raises:
        FailedError: Where a window fails on every rung.
    """
    chosen: dict[int, Places] = {}
    failures: dict[int, FailedError] = {}
    for rung, attempt in _rungs(inquiry):
        pending = [number for number in range(len(shown)) if number not in chosen]
        if not pending:
            break
        windows = [shown[number] for number in pending]
        outcomes = yield from _asked(inquiry, template, windows, answer, rung, attempt)
        for number, outcome in zip(pending, outcomes, strict=True):
            if isinstance(outcome, FailedError):
                failures[number] = outcome
            else:
                chosen[number] = outcome
    for number, places in enumerate(shown):
        if number not in chosen:
            chosen[number] = yield from _halved(inquiry, template, places, answer, failures[number])
    return [chosen[number] for number in range(len(shown))]


def _rungs(inquiry: Inquiry) -> Iterator[tuple[Rung, int]]:
    yield "first", 0
    for attempt in range(1, inquiry.config.max_attempts):
        yield "new_seed", attempt
    if inquiry.can_constrain:
        yield "constrained", 0


def _halved(
    inquiry: Inquiry, template: str, places: Places, answer: str, failure: FailedError
) -> Generator[list[Ask], list[list[Result]], Places]:
    """The last rung: two windows of half the size.

    Selections are joined; of rankings the better halves are ranked against each other.
    """
    if len(places) < 2:
        raise failure
    middle = (len(places) + 1) // 2
    halves = yield from _asked(inquiry, template, [places[:middle], places[middle:]], answer, "smaller_window", 0)
    kept: list[Places] = []
    for half in halves:
        if isinstance(half, FailedError):
            raise half
        kept.append(half)
    if not _ranks(template):
        return tuple(place for half in kept for place in half)
    # Who is in the worse half of a half stays out: a ranking may be partial, it may not be made up.
    best = tuple(place for half in kept for place in half[: (len(half) + 1) // 2])
    (final,) = yield from _asked(inquiry, template, [best], answer, "smaller_window", 0)
    if isinstance(final, FailedError):
        raise final
    return final


def _asked(
    inquiry: Inquiry, template: str, shown: Sequence[Places], answer: str, rung: Rung, attempt: int
) -> Generator[list[Ask], list[list[Result]], list[Places | FailedError]]:
    """Asks about several windows at once; where a completion cannot be read, the error to raise on the last rung."""
    asks = [_ask(inquiry, template, places, answer, rung, attempt) for places in shown]
    outcomes: list[Places | FailedError] = []
    for ask, (completion,) in zip(asks, (yield asks), strict=True):
        assert isinstance(completion, Completion)
        parsed = _parsed(template, completion, len(ask.positions))
        chosen = tuple(ask.positions[identifier - 1] for identifier in parsed.identifiers)
        inquiry.note(ask, [completion], outcome=parsed.outcome, chosen=chosen)
        is_accepted = parsed.outcome in _ACCEPTED
        outcomes.append(chosen if is_accepted else FailedError(parsed.outcome, parsed.detail, completion.text))
    return outcomes


def _ask(inquiry: Inquiry, template: str, positions: Places, answer: str, rung: Rung, attempt: int) -> Ask:
    layout = inquiry.config.layout
    passages = [inquiry.passages[position] for position in positions]
    turns = prompting.chat(layout, template, query=inquiry.query.text, passages=passages, answer=answer)
    is_constrained = rung == "constrained" or (rung == "smaller_window" and inquiry.can_constrain)
    pattern = reply_pattern(template, len(positions)) if is_constrained else ""
    max_tokens = max(QUESTIONS[template].max_tokens, _IDENTIFIER_TOKENS * len(positions))
    call = request(inquiry, turns, max_tokens, attempt=attempt, pattern=pattern)
    return inquiry.ask(template, layout=layout, rung=rung, positions=positions, requests=[call])


def reply_pattern(template: str, num_passages: int) -> str:
    """Regular expression of the replies that a template asks for: literals, alternatives and repetition only."""
    item = rf"\[({'|'.join(str(number) for number in range(1, num_passages + 1))})\]"
    separator, empty = (" > ", "") if _ranks(template) else (", ", "None|")
    return f"({empty}{item}({separator}{item}){{0,{num_passages - 1}}})"


def request(
    inquiry: Inquiry, turns: tuple[Turn, ...], max_tokens: int, *, attempt: int, pattern: str = ""
) -> CompletionRequest:
    """A call with the sampling of the model's family; a later attempt samples where the first was greedy."""
    profile = inquiry.profile
    sampling_temperature = (
        profile.sampling_temperature if attempt == 0 else max(profile.sampling_temperature, _RETRY_TEMPERATURE)
    )
    return CompletionRequest(
        "",
        turns,
        # A constrained reply begins at once: there is no room for thought in the pattern.
        max_tokens=max_tokens + (0 if pattern else profile.thinking_tokens),
        sampling_temperature=sampling_temperature,
        # Greedy decoding has no seed: leaving it out of the call lets runs with other seeds share it.
        seed=inquiry.config.seed + attempt if sampling_temperature > 0 else 0,
        top_p=profile.top_p,
        top_k=profile.top_k,
        pattern=pattern,
        chat_options=profile.chat_options,
    )


def _ranks(template: str) -> bool:
    return QUESTIONS[template].gives == "ranking"


def _parsed(template: str, completion: Completion, num_passages: int) -> Parsed:
    parse = parse_ranking if _ranks(template) else parse_selection
    return parse(completion.text, num_passages=num_passages, finish_reason=completion.finish_reason)

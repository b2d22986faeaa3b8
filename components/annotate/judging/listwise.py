"""Selection and ranking of passages by a model that follows instructions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise

from components.annotate.judging import prompting
from components.annotate.judging.inquiry import FailedError, Inquiry, Judge
from components.annotate.judging.ladder import choose, request
from components.annotate.judging.methods import METHODS
from components.shared.calls.asks import Ask, Rung
from components.shared.calls.replies import strip_thinking
from components.shared.calls.untrusted import clean
from components.shared.engines.engine import Completion, Result
from components.shared.records import Label


def utility_labels(inquiry: Inquiry) -> Judge:
    """Relevance selection in windows, an answer to go by, then utility selection or ranking of the survivors.

    Source: [ufa] section 3; the three-way reading of the labels is ours.
    """
    config, method = inquiry.config, METHODS[inquiry.config.method]
    shown = [tuple(range(*borders)) for borders in windows(len(inquiry.passages), config.window)]
    selected = yield from choose(inquiry, "relevance_selection", shown)
    relevant = sorted(position for window in selected for position in window)
    labels: list[Label] = ["negative"] * len(inquiry.passages)
    if not relevant:
        return inquiry.verdict("ok_empty", labels)
    answer = reference_answer(inquiry) or (yield from pseudo_answer(inquiry, relevant))
    (useful,) = yield from choose(inquiry, method.question, [tuple(relevant)], answer)
    if method.gives == "ranking":
        useful = useful[: max(1, int(config.rank_share * len(useful)))]
    for position in relevant:
        labels[position] = config.not_useful
    for position in useful:
        labels[position] = "positive"
    return inquiry.verdict("repaired" if inquiry.is_repaired else "ok" if useful else "ok_empty", labels)


def reference_answer(inquiry: Inquiry) -> str:
    """The collection's answers of the query, where they are asked for and there are any."""
    if inquiry.config.answers == "llm":
        return ""
    return "; ".join(filter(None, map(clean, inquiry.query.answers)))


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
    config = inquiry.config
    turns = prompting.chat(
        config.layout, "answer", query=inquiry.query.text, passages=[inquiry.passages[p] for p in positions]
    )
    failed = FailedError("unparseable", "no attempt was made", "")
    for attempt in range(config.max_attempts):
        call = request(inquiry, turns, config.answer_tokens, attempt=attempt)
        rung: Rung = "new_seed" if attempt else "first"
        ask = inquiry.ask("answer", layout=config.layout, rung=rung, positions=positions, requests=[call])
        ((completion,),) = yield [ask]
        assert isinstance(completion, Completion)
        is_refused = completion.finish_reason == "content_filter"
        text = "" if is_refused else clean(strip_thinking(completion.text))
        # An answer cut at its limit is still an answer: the limit is ours.
        inquiry.note(ask, [completion], outcome="ok" if text else "refused" if is_refused else "unparseable")
        if text:
            return text
        failed = FailedError("refused" if is_refused else "unparseable", "no pseudo-answer", completion.text)
    raise failed

"""How one answer comes about: the prompt with or without passages, and one call.

An asker (shared/calls) knows nothing of engines and journals. Two systems that put the same passages first have the
same prompt, and share its call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from components.answer.config import AnswerConfig
from components.answer.reading import Reading, read_answer
from components.shared.calls.asks import Ask, Asker, RefusedError
from components.shared.calls.sampling import Profile
from components.shared.calls.templates import filled, read_template
from components.shared.calls.untrusted import clean, cut
from components.shared.engines.engine import Completion, CompletionRequest, Role, Turn
from components.shared.records import Passage, Query

_PACKAGE = "components.answer"
CLOSED_BOOK, PASSAGES = "closed_book", "passages"
# Section of the template that is filled for each passage and is no turn itself.
_EACH = "each passage"


@dataclass(frozen=True)
class Answered:
    """One answer and how it came about; tokens and seconds are those of its call, whoever paid for it first.

    `detail` says why the engine refused; `call` is a journal key, empty where it did.
    """

    query_id: str
    system: str
    passage_ids: tuple[str, ...]
    reading: Reading
    template_version: str
    call: str = ""
    completion: str = ""
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0


def ask_answer(
    query: Query, system: str, passages: Sequence[Passage], config: AnswerConfig, profile: Profile
) -> Asker[Answered]:
    """Asks once for the answer of a query from these passages, best first; from none where there are none."""
    name = PASSAGES if passages else CLOSED_BOOK
    version = read_template(_PACKAGE, "prompts", f"{name}.txt").version
    passage_ids = tuple(passage.passage_id for passage in passages)
    ask = Ask(query.query_id, f"answer_{name}", version, "first", (), (_request(query, passages, config, profile),))
    try:
        ((result,),) = yield [ask]
    except RefusedError as refused:
        return Answered(query.query_id, system, passage_ids, Reading("refused"), version, detail=str(refused))
    assert isinstance(result, Completion)
    return Answered(
        query.query_id,
        system,
        passage_ids,
        read_answer(result.text, finish_reason=result.finish_reason),
        version,
        call=result.key,
        completion=result.text,
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
        engine_seconds=result.engine_seconds,
    )


def _request(query: Query, passages: Sequence[Passage], config: AnswerConfig, profile: Profile) -> CompletionRequest:
    return CompletionRequest(
        "",
        _turns(query, [cut(passage.full_text, num_words=config.passage_words) for passage in passages]),
        max_tokens=config.answer_tokens + profile.thinking_tokens,
        sampling_temperature=profile.sampling_temperature,
        # Greedy decoding has no seed: leaving it out of the call lets runs with other seeds share it.
        seed=config.seed if profile.sampling_temperature > 0 else 0,
        top_p=profile.top_p,
        top_k=profile.top_k,
        chat_options=profile.chat_options,
    )


def _turns(query: Query, texts: Sequence[str]) -> tuple[Turn, ...]:
    sections = read_template(_PACKAGE, "prompts", f"{PASSAGES if texts else CLOSED_BOOK}.txt").sections
    each_passage = dict(sections).get(_EACH, "")
    shown = "\n".join(filled(each_passage, {"passage": text}) for text in texts)
    values = {"query": clean(query.text), "passages": shown}
    return tuple(Turn(cast(Role, role), filled(text, values)) for role, text in sections if role != _EACH)

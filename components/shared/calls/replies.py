"""What surrounds the answer in any completion: thoughts, and turns that the model imitates; or a refusal."""

from __future__ import annotations

import re

_THOUGHT_END = re.compile(
    r"</\s*(?:think(?:ing)?|thought|reasoning)\s*>|\[/THINK\]|\u25c1/think\u25b7|<\|channel\|>\s*final\s*<\|message\|>",
    re.IGNORECASE,
)
_THOUGHT_START = re.compile(
    r"<\s*(?:think(?:ing)?|thought|reasoning)\b[^>]*(?:>|$)|\[THINK\]|\u25c1think\u25b7"
    r"|<\|channel\|>\s*(?:analysis|commentary)",
    re.IGNORECASE,
)
_TURN_END = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|<(?:end_of_turn|start_of_turn|eos|bos)>|\[/?INST\]", re.IGNORECASE)
_REFUSAL = re.compile(
    r"(?:i(?:'m| am) (?:really |very |so )?sorry|sorry|i apologi[sz]e|unfortunately)?[\s,.!]*(?:but )?"
    r"(?:as an ai\b|as a (?:large )?language model\b|i(?:'m| am) (?:unable|not able|not allowed|not permitted)\b"
    r"|i (?:can't|cannot|can not|won't|will not|must decline|decline)(?: to)? "
    r"(?:help|assist|comply|answer|provide|fulfil\w*|do|continue|engage|create|process|complete|respond|discuss)\b)",
    re.IGNORECASE,
)


def strip_thinking(completion: str) -> str:
    """What follows the last end of a thought; empty where a thought has no end."""
    answer = completion
    for match in _THOUGHT_END.finditer(completion):
        answer = completion[match.end() :]
    return "" if _THOUGHT_START.search(answer) else answer


def first_turn(answer: str) -> str:
    """The answer up to the next turn that a model imitates; chat-template tokens that open it are left out."""
    turn = _TURN_END.search(answer)
    if turn is None:
        return answer.strip()
    before = answer[: turn.start()]
    return (before if before.strip() else _TURN_END.split(answer[turn.end() :])[0]).strip()


def is_refusal(answer: str) -> bool:
    """Whether an answer begins by declining."""
    return _REFUSAL.match(answer) is not None

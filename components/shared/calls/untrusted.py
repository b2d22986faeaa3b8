"""Texts that others wrote, made safe to stand in a prompt: passages, queries, and the LLM's own earlier words."""

from __future__ import annotations

import re

from components.shared.language.words import first_words

# Control characters, and invisible ones that could hide a token from the patterns below: zero-width spaces, direction
# marks, the tag characters that spell ASCII unseen. Joiners stay: Persian, Indic scripts and emoji need them.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
# What the chat templates of the known families take for the border of a turn, a thought, a tool's words, or our own
# delimiter.
_CHAT_TOKENS = re.compile(
    r"<[|\uff5c][^>\n]{0,60}?[|\uff5c]>"
    r"|</?(?:s|bos|eos|pad|unk|mask|cls|sep|eod|eot)>|<</?SYS>>|</?(?:start|end)_of_(?:turn|image|utterance)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|CLS|SEP|PAD|MASK|UNK|BOS|EOS|gMASK)\]"
    r"|</?\s*(?:passage|think(?:ing)?|thought|reasoning|tool_call|tool_response|system|user|assistant)\s*>"
    r"|<(?:extra_id_|unused|reserved_special_token_|special_token_|SPECIAL_)\d+>",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"\[(\s*\d{1,3}\s*)\]")


def cut(text: str, *, num_words: int) -> str:
    """The first words of an untrusted text, spaces collapsed, without control characters and chat-template tokens.

    In scripts without spaces between words, such as Chinese and Thai, two characters count as one word.
    """
    return first_words(clean(text), num_words)


def clean(text: str) -> str:
    """Text that cannot end its own turn: chat-template tokens and characters that nobody sees become spaces."""
    cleaned = _UNSEEN.sub(" ", text)
    # What is left of a token cut out of another one may be a token again.
    while (shorter := _CHAT_TOKENS.sub(" ", cleaned)) != cleaned:
        cleaned = shorter
    return cleaned.strip()


def unnumbered(text: str) -> str:
    """Text whose `[3]` reads `(3)`: a citation mark, or an order to select, that is no identifier of the prompt."""
    return _IDENTIFIER.sub(r"(\1)", text)

"""How much of a corpus an encoder has no token for: such words are all alike to it, whatever they say.

A model made for another language or script gives vectors like any others; only this share tells.
"""

from __future__ import annotations

from components.shared import log
from components.shared.dataset import Dataset
from components.shared.encoding.cuts import sampled_texts
from components.shared.encoding.encoder import Encoder

_SAMPLE_PASSAGES = 500
# English encoders know all but a few per thousand of the tokens of English texts, and most of Latin script.
_LARGEST_SHARE = 0.05


def unknown_share(dataset: Dataset, encoder: Encoder, *, seed: int) -> float:
    """Share of the tokens of the passages (a seeded sample) that are the tokenizer's unknown token; 0 without one."""
    unknown = encoder.unknown_token_id
    if unknown is None:
        return 0.0
    texts = sampled_texts(dataset, _SAMPLE_PASSAGES, seed=seed)
    *token_ids, around = encoder.tokenize_passages([*texts, ""], truncate=False)
    num_words = sum(max(0, len(ids) - len(around)) for ids in token_ids)
    return sum(ids.count(unknown) for ids in token_ids) / max(1, num_words)


def warn_of_unknown(share: float) -> None:
    """Logs a warning where the encoder has no token for more than one in twenty."""
    if share > _LARGEST_SHARE:
        log.warning(
            "the encoder's tokenizer does not know a part of the passages' words; take an encoder made for their "
            "language and script",
            unknown_tokens_share=round(share, 4),
        )

"""BERTScore by bert-score: likeness of the words' vectors in one layer of an encoder (extra bertscore).

Its values mean nothing without the encoder and the layer, so both are settings and stand beside every value.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from components.shared.engines.engine import model_name
from components.shared.manifest import model_source
from components.shared.roles import hint


def check_bertscore() -> None:
    """Raises ValueError where the package is not installed."""
    if find_spec("bert_score") is None:
        raise ValueError(
            "BERTScore needs the package bert-score, which is not installed; run `pip install "
            f"'retriever-pipeline[bertscore]'`, or leave it out ({hint('bertscore_uri', '')})"
        )


def bertscore(
    answers: Sequence[str], references: Sequence[Sequence[str]], *, encoder_uri: str, layer: int
) -> list[float]:
    """F of the reference that it is highest for, on the CPU or a GPU where there is one; an empty answer has 0.

    Raises:
        ValueError: Where the encoder cannot be loaded or has no such layer.
    """
    # Imported here: the package brings pandas and torch, and no image holds it.
    from bert_score import BERTScorer

    try:
        scorer: Any = BERTScorer(model_type=model_source(encoder_uri), num_layers=layer)
    except (OSError, AssertionError) as error:
        raise ValueError(
            f"bertscore_uri {encoder_uri}: no encoder with a layer {layer} ({' '.join(str(error).split())[:200]}); "
            f"name a folder or a model on the hub ({hint('bertscore_uri')}), and one of its layers "
            f"({hint('bertscore_layer')})"
        ) from error
    # Under transformers 5 bert-score fails on a text without a word.
    wanted = [[text for text in texts if text.strip()] for texts in references]
    places = [place for place, answer in enumerate(answers) if answer.strip() and wanted[place]]
    values = [0.0] * len(answers)
    if places:
        _, _, fs = scorer.score([answers[place] for place in places], [wanted[place] for place in places])
        for place, value in zip(places, fs.tolist(), strict=True):
            values[place] = float(value)
    return values


def bertscore_signature(encoder_uri: str, layer: int) -> str:
    """What a BERTScore is of."""
    return (
        f"F|best reference|{model_name(encoder_uri)}|layer:{layer}|no idf|bert-score:{metadata.version('bert-score')}"
    )

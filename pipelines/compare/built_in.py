"""The arms that need no file: what people, the LLM, BM25 and the losses are each worth.

Human labels are a fifth wherever an arm has any, so that arms with them are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.compare.arms import Arm


def _trained(curriculum: Sequence[Mapping[str, Any]], *, llm: bool, **more: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    return {
        "train": {"curriculum": list(curriculum), **more},
        "annotate": {"judge": "llm" if llm else "nobody"},
    }


_LLM = {"name": "llm", "labels": "llm", "loss": "disj_infonce", "epochs": 2, "learning_rate": 3e-5}
_HUMAN = {
    "name": "human",
    "labels": "human",
    "human_share": 0.2,
    "loss": "disj_infonce",
    "positives": "one",
    "epochs": 2,
    "learning_rate": 3e-5,
}
# Chosen on the dev queries of five collections (RESULTS.md).
_TEACHER = {
    "name": "distil",
    "labels": "teacher",
    "loss": "distillation",
    "human_share": 0,
    "llm_share": 0,
    "utility_temperature": 0.05,
    "epochs": 3,
    "learning_rate": 5e-5,
}
_TAUGHT = {**_TEACHER, "human_share": 0.2}

BUILT_IN = (
    Arm(name="base", sentence="The untrained encoder.", system="base"),
    Arm(
        name="hybrid",
        sentence="BM25 and the untrained encoder fused, BM25's weight tuned on dev; nothing is trained.",
        system="hybrid_base",
        adds={"base": "BM25 beside the untrained encoder"},
    ),
    Arm(
        name="human",
        sentence="A fifth of the human labels and nothing else; hard negatives of both retrievers, no LLM.",
        settings=_trained([_HUMAN], llm=False),
    ),
    Arm(
        name="llm",
        sentence="The LLM's labels and nothing else, by Disj-InfoNCE; no human label is known to training.",
        settings=_trained([_LLM], llm=True, denominators="own_labels"),
    ),
    Arm(
        name="both",
        sentence="The paper's curriculum: the LLM's labels, then a fifth of the human labels.",
        settings=_trained([_LLM, {**_HUMAN, "epochs": 1}], llm=True),
        adds={
            "human": "the LLM's labels before one epoch of the human ones, in place of a second",
            "llm": "a fifth of the human labels after the LLM's",
        },
    ),
    Arm(
        name="lsepair",
        sentence="As llm, by the loss LSEPair.",
        settings=_trained([{**_LLM, "loss": "lsepair"}], llm=True, denominators="own_labels"),
        adds={"llm": "LSEPair in place of Disj-InfoNCE"},
    ),
    Arm(
        name="teacher",
        sentence="Distilled from the fusion of BM25 and the untrained encoder; nobody judges anything.",
        settings=_trained([_TEACHER], llm=False),
    ),
    Arm(
        name="teacher+llm",
        sentence="As teacher, with the LLM's scores as its third voice (a fifth of its word, fixed).",
        settings=_trained([{**_TEACHER, "llm_share": 0.2}], llm=True),
        adds={"teacher": "the LLM as a third voice"},
    ),
    Arm(
        name="teacher+human",
        sentence="As teacher, and InfoNCE on a fifth of the human labels, which also tune BM25's share.",
        settings=_trained([_TAUGHT], llm=False),
        adds={"teacher": "a fifth of the human labels", "human": "the teacher, with its own epochs and learning rate"},
    ),
    Arm(
        name="teacher+human+llm",
        sentence="As teacher+human, with the LLM as a third voice where the known labels say that it helps.",
        settings=_trained([{**_TAUGHT, "llm_share": -1}], llm=True),
        adds={"teacher+human": "the LLM as a third voice, its share tuned"},
    ),
    Arm(
        name="interpolated",
        sentence="As teacher+human, its weights mixed with the untrained ones by the share that is best on dev.",
        settings=_trained([_TAUGHT], llm=False, mixing_shares="0.25,0.5,0.75"),
        adds={"teacher+human": "a mixture with the untrained weights"},
    ),
    Arm(
        name="two-rounds",
        sentence="As both, on pools that the encoder of both has found: the LLM judges its hard negatives anew, and "
        "those that it calls useful become positives.",
        settings=_trained([_LLM, {**_HUMAN, "epochs": 1}], llm=True),
        mined_by="both",
        adds={"both": "a second round of mining and judging"},
    ),
    Arm(name="params", sentence="What the parameter file says, unchanged."),
)

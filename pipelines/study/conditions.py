"""What is trained in which order, and which of the paper's orderings each pair of conditions tests.

Source of the published figures: [ufa] arXiv 2504.05220, MRR@10 on MS MARCO dev in domain and mean nDCG@10 on 14 BEIR
collections out of domain. They are about other models and data: only their order can be set beside ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.study.annotators import ErrorKind
from pipelines.study.config import StudyConfig

Domain = Literal["in domain", "out of domain"]
IN_DOMAIN: Domain = "in domain"
OUT_OF_DOMAIN: Domain = "out of domain"
BM25_NAME, UNTRAINED_NAME = "BM25", "untrained"

LOSSES = {
    "Disj": "disj_infonce",
    "Conj": "conj_infonce",
    "InfoNCE": "infonce",
    "LSEPair": "lsepair",
    "KL": "kl_replug",
}
# Softmax of the levels 2, 1, 0: useful against relevant against neither as 55 : 7 : 1.
_KL_TEMPERATURE = 0.5
# Weights of the voices of the teacher: BM25's is the middle of what dev chose on five collections (RESULTS.md).
_BM25_SHARE, _LLM_SHARE, _TEACHER_TEMPERATURE = 0.3, 0.3, 0.05


@dataclass(frozen=True)
class Condition:
    """One way to train: whose labels (human, or a level of QUALITIES) with which errors, and the stages."""

    name: str
    level: str
    stages: tuple[dict[str, Any], ...]
    errors: ErrorKind = "uniform"


@dataclass(frozen=True)
class Block:
    """Conditions that are compared with each other, so they run together, seed by seed."""

    name: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Claim:
    """An expected ordering: `better` above `worse` in a domain; the published pair of figures, where there is one."""

    better: str
    worse: str
    domain: Domain
    published: tuple[float, float] | None = None
    about: str = ""


def blocks(config: StudyConfig) -> list[Block]:
    """All blocks, those that say most first: wherever the study is stopped, what ran is a comparison."""
    llm = _stage(config, "llm")
    return [
        _losses(config, "uniform"),
        _losses(config, "bm25"),
        _people(config),
        _losses(config, "random"),
        Block(
            "positives",
            (
                Condition("Disj, Pos-one (uniform)", "utilsel", ({**llm, "positives": "one"},)),
                Condition("Disj, Pos-avg (uniform)", "utilsel", ({**llm, "positives": "avg"},)),
                Condition("Disj, no ignore band (uniform)", "utilsel", ({**llm, "ignore": "negative"},)),
            ),
        ),
        Block(
            "teacher",
            (
                Condition("Teacher of BM25 and base", "utilsel", (_teacher(config, llm_share=0.0),)),
                Condition("Teacher with the LLM (uniform)", "utilsel", (_teacher(config, llm_share=_LLM_SHARE),)),
            ),
        ),
        Block(
            "levels",
            (
                Condition("RelSel Disj (uniform)", "relsel", (llm,)),
                Condition("UtilRank Disj (uniform)", "utilrank", (llm,)),
            ),
        ),
    ]


def chosen_blocks(config: StudyConfig) -> list[Block]:
    """The blocks with the chosen conditions only.

    Raises:
        ValueError: Naming a chosen condition that is none.
    """
    every = blocks(config)
    names = [condition.name for block in every for condition in block.conditions]
    if unknown := set(config.only) - set(names):
        raise ValueError(f"only: no such conditions {sorted(unknown)}; known are {names}")
    kept = (
        Block(block.name, tuple(one for one in block.conditions if not config.only or one.name in config.only))
        for block in every
    )
    return [block for block in kept if block.conditions]


def _losses(config: StudyConfig, errors: ErrorKind) -> Block:
    """The losses on the same labels."""

    def stage(loss: str) -> dict[str, Any]:
        extra = {"utility_temperature": _KL_TEMPERATURE} if loss == "kl_replug" else {}
        return {**_stage(config, "llm"), "loss": loss, **extra}

    conditions = (Condition(f"{name} ({errors})", "utilsel", (stage(loss),), errors) for name, loss in LOSSES.items())
    return Block(f"losses, errors {errors}", tuple(conditions))


def _people(config: StudyConfig) -> Block:
    """Human labels alone, after the LLM's, and among them."""
    llm, human = _stage(config, "llm"), _stage(config, "human")

    def second(share: float) -> dict[str, Any]:
        return {**human, "epochs": 1, "positives": "one", "human_share": share}

    return Block(
        "people",
        (
            Condition("Human 20 %", "human", ({**human, "human_share": 0.2},)),
            Condition("Human 100 %", "human", (human,)),
            Condition("CL 20 % (uniform)", "utilsel", (llm, second(0.2))),
            Condition("CL 100 % (uniform)", "utilsel", (llm, second(1.0))),
            Condition("Interleave 20 % (uniform)", "utilsel", ({**_stage(config, "mixed"), "human_share": 0.2},)),
        ),
    )


def _teacher(config: StudyConfig, *, llm_share: float) -> dict[str, Any]:
    return {
        "name": "teacher",
        "labels": "teacher",
        "loss": "distillation",
        "human_share": 0.0,
        "bm25_share": _BM25_SHARE,
        "llm_share": llm_share,
        "utility_temperature": _TEACHER_TEMPERATURE,
        "epochs": config.epochs,
        "learning_rate": config.learning_rate,
    }


def _stage(config: StudyConfig, labels: str) -> dict[str, Any]:
    return {
        "name": labels,
        "labels": labels,
        "loss": "disj_infonce",
        "positives": "all",
        "epochs": config.epochs,
        "learning_rate": config.learning_rate,
    }


def _loss_claims(errors: ErrorKind, published: Sequence[tuple[float, float] | None]) -> tuple[Claim, ...]:
    """Each loss against Disj, as the literature has them; of Conj, InfoNCE with published figures."""
    about = f"loss, errors {errors}"
    conj, infonce, between = published
    return (
        Claim(f"Disj ({errors})", f"Conj ({errors})", IN_DOMAIN, conj, about),
        Claim(f"Disj ({errors})", f"InfoNCE ({errors})", IN_DOMAIN, infonce, about),
        Claim(f"InfoNCE ({errors})", f"Conj ({errors})", IN_DOMAIN, between, about),
        Claim(f"LSEPair ({errors})", f"Disj ({errors})", IN_DOMAIN, None, f"{about} (arXiv 2602.12727: more robust)"),
        Claim(f"Disj ({errors})", f"KL ({errors})", IN_DOMAIN, None, about),
        Claim(f"Disj ({errors})", f"Conj ({errors})", OUT_OF_DOMAIN, None, about),
        Claim(f"LSEPair ({errors})", f"Disj ({errors})", OUT_OF_DOMAIN, None, about),
    )


CLAIMS = (
    *_loss_claims("uniform", ((35.3, 34.0), (35.3, 34.5), (34.5, 34.0))),
    *_loss_claims("bm25", ((35.3, 34.0), (35.3, 34.5), (34.5, 34.0))),
    *_loss_claims("random", (None, None, None)),
    Claim("Disj (random)", "Disj (uniform)", IN_DOMAIN, None, "kind of errors"),
    Claim("Disj (uniform)", "Disj (bm25)", IN_DOMAIN, None, "kind of errors"),
    Claim("Disj (uniform)", UNTRAINED_NAME, IN_DOMAIN, None, "training at all"),
    Claim("Disj (uniform)", UNTRAINED_NAME, OUT_OF_DOMAIN, None, "training at all"),
    Claim("LSEPair (uniform)", UNTRAINED_NAME, IN_DOMAIN, None, "training at all"),
    Claim("Human 100 %", UNTRAINED_NAME, IN_DOMAIN, None, "training at all"),
    Claim("Disj (uniform)", BM25_NAME, OUT_OF_DOMAIN, (45.3, 42.9), "against BM25"),
    Claim("Human 100 %", "Disj (uniform)", IN_DOMAIN, (38.6, 35.3), "human labels in domain"),
    Claim("Disj (uniform)", "Human 100 %", OUT_OF_DOMAIN, (45.3, 43.1), "LLM labels out of domain"),
    Claim("CL 20 % (uniform)", "Disj (uniform)", IN_DOMAIN, (38.2, 35.3), "some human labels after the LLM's"),
    Claim("CL 20 % (uniform)", "Interleave 20 % (uniform)", IN_DOMAIN, (38.2, 33.2), "one after the other, or mixed"),
    Claim("CL 20 % (uniform)", "Human 20 %", IN_DOMAIN, None, "LLM labels before few human ones"),
    Claim("Human 100 %", "CL 20 % (uniform)", IN_DOMAIN, (38.6, 38.2), "all human labels against a fifth"),
    Claim("CL 100 % (uniform)", "Human 100 %", IN_DOMAIN, (39.3, 38.6), "LLM labels before all human ones"),
    Claim("CL 20 % (uniform)", "Human 100 %", OUT_OF_DOMAIN, (44.7, 43.1), "curriculum out of domain"),
    Claim("CL 100 % (uniform)", "Human 100 %", OUT_OF_DOMAIN, (44.2, 43.1), "curriculum out of domain"),
    Claim("Disj (uniform)", "Disj, Pos-one (uniform)", IN_DOMAIN, (35.3, 35.1), "all positives against one"),
    Claim("Disj (uniform)", "Disj, Pos-avg (uniform)", IN_DOMAIN, (35.3, 35.1), "all positives against the average"),
    Claim("Disj (uniform)", "Disj, no ignore band (uniform)", IN_DOMAIN, None, "relevant, not useful: ignored or not"),
    Claim("Teacher of BM25 and base", "Disj (uniform)", IN_DOMAIN, None, "no labels against noisy ones"),
    Claim("Teacher with the LLM (uniform)", "Teacher of BM25 and base", IN_DOMAIN, None, "LLM as a third voice"),
    Claim("Disj (uniform)", "RelSel Disj (uniform)", IN_DOMAIN, (35.3, 33.5), "utility against relevance"),
    Claim("UtilRank Disj (uniform)", "Disj (uniform)", IN_DOMAIN, (35.7, 35.3), "ranking against selection"),
    Claim("Disj (uniform)", "UtilRank Disj (uniform)", OUT_OF_DOMAIN, (45.3, 43.9), "selection against ranking"),
)

"""What is trained, and which of the paper's orderings each pair of conditions tests.

Source of the published figures: [ufa] arXiv 2504.05220, MRR@10 on MS MARCO dev in domain and mean nDCG@10 on 14 BEIR
collections out of domain. They are about other models and data: only their order can be set beside ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.study.config import StudyConfig

IN_DOMAIN, OUT_OF_DOMAIN = "in domain", "out of domain"
DOMAINS = (IN_DOMAIN, OUT_OF_DOMAIN)
BM25_NAME, UNTRAINED_NAME = "BM25", "untrained"


@dataclass(frozen=True)
class Condition:
    """One way to train: who labelled (a file of annotations), and the curriculum's stages."""

    name: str
    labels: str
    stages: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Claim:
    """An expected ordering: `better` above `worse` in a domain; the published pair of figures, where there is one."""

    better: str
    worse: str
    domain: str
    published: tuple[float, float] | None = None
    about: str = ""


def conditions(config: StudyConfig) -> list[Condition]:
    """All conditions, in the table's order."""

    def llm(**settings: Any) -> dict[str, Any]:  # noqa: ANN401 fields of a stage
        return {
            "name": "llm",
            "labels": "llm",
            "loss": "disj_infonce",
            "positives": "all",
            "epochs": config.epochs,
            "learning_rate": config.learning_rate,
            **settings,
        }

    def human(**settings: Any) -> dict[str, Any]:  # noqa: ANN401 fields of a stage
        return {**llm(), "name": "human", "labels": "human", **settings}

    def second(human_share: float) -> dict[str, Any]:
        return human(positives="one", epochs=1, human_share=human_share)

    def few(**settings: Any) -> dict[str, Any]:  # noqa: ANN401 fields of a stage
        return llm(epochs=config.few_epochs, **settings)

    return [
        Condition("UtilSel Disj", "utilsel", (llm(),)),
        Condition("RelSel Disj", "relsel", (llm(),)),
        Condition("Human Disj", "human", (human(),)),
        Condition("CL 20 %", "utilsel", (llm(), second(0.2))),
        Condition("CL 100 %", "utilsel", (llm(), second(1.0))),
        Condition("Interleave 20 %", "utilsel", (llm(name="mixed", labels="mixed", human_share=0.2),)),
        Condition("UtilRank Disj", "utilrank", (llm(),)),
        *(Condition(f"UtilSel {name}", "utilsel", (llm(loss=loss),)) for name, loss in _OTHER_LOSSES.items()),
        # The same computation as InfoNCE, which draws one positive too: a check that both ways agree to the bit.
        Condition("UtilSel Disj, Pos-one", "utilsel", (llm(positives="one"),)),
        Condition("UtilSel Disj, Pos-avg", "utilsel", (llm(positives="avg"),)),
        Condition("UtilSel Disj, no ignore band", "utilsel", (llm(ignore="negative"),)),
        Condition("Human 20 %", "human", (human(human_share=0.2),)),
        *(Condition(f"RelSel {name}", "relsel", (llm(loss=loss),)) for name, loss in _OTHER_LOSSES.items()),
        *(Condition(f"Human {name}", "human", (human(loss=loss),)) for name, loss in _OTHER_LOSSES.items()),
        Condition("Few: packaged LLM", "llm_few", (few(),)),
        Condition("Few: packaged LLM, REPLUG", "llm_few", (few(loss="kl_replug", utility_temperature=0.3),)),
        Condition("Few: human", "human_few", (few(),)),
        Condition("Few: UtilSel", "utilsel_few", (few(),)),
    ]


_OTHER_LOSSES = {"InfoNCE": "infonce", "Conj": "conj_infonce", "LSEPair": "lsepair"}

CLAIMS = (
    Claim("UtilSel Disj", "RelSel Disj", IN_DOMAIN, (35.3, 33.5), "utility is a better label than relevance"),
    Claim("UtilRank Disj", "UtilSel Disj", IN_DOMAIN, (35.7, 35.3), "ranking against selection"),
    Claim("UtilSel Disj", "UtilRank Disj", OUT_OF_DOMAIN, (45.3, 43.9), "selection against ranking"),
    Claim("UtilSel Disj", "UtilSel InfoNCE", IN_DOMAIN, (35.3, 34.5), "loss, UtilSel labels"),
    Claim("UtilSel Disj", "UtilSel Conj", IN_DOMAIN, (35.3, 34.0), "loss, UtilSel labels"),
    Claim("UtilSel InfoNCE", "UtilSel Conj", IN_DOMAIN, (34.5, 34.0), "loss, UtilSel labels"),
    Claim("UtilSel LSEPair", "UtilSel Disj", IN_DOMAIN, None, "loss, UtilSel labels (arXiv 2602.12727: more robust)"),
    Claim("RelSel Disj", "RelSel Conj", IN_DOMAIN, None, "loss, noisier labels"),
    Claim("RelSel Disj", "RelSel InfoNCE", IN_DOMAIN, None, "loss, noisier labels"),
    Claim("RelSel LSEPair", "RelSel Disj", IN_DOMAIN, None, "loss, noisier labels"),
    Claim("Human Disj", "Human Conj", IN_DOMAIN, None, "loss, clean labels"),
    Claim("Human Disj", "Human InfoNCE", IN_DOMAIN, None, "loss, clean labels"),
    Claim("Human LSEPair", "Human Disj", IN_DOMAIN, None, "loss, clean labels"),
    Claim("UtilSel Disj", "UtilSel Disj, Pos-one", IN_DOMAIN, (35.3, 35.1), "all positives against one"),
    Claim(
        "UtilSel Disj",
        "UtilSel Disj, Pos-avg",
        IN_DOMAIN,
        (35.3, 35.1),
        "all positives against the average number (the same where that fills a group)",
    ),
    Claim("Human Disj", "UtilSel Disj", IN_DOMAIN, (38.6, 35.3), "human labels in domain"),
    Claim("UtilSel Disj", "Human Disj", OUT_OF_DOMAIN, (45.3, 43.1), "LLM labels out of domain"),
    Claim("CL 20 %", "UtilSel Disj", IN_DOMAIN, (38.2, 35.3), "some human labels after the LLM's"),
    Claim("CL 20 %", "Interleave 20 %", IN_DOMAIN, (38.2, 33.2), "one after the other against mixed"),
    Claim("CL 20 %", "Human 20 %", IN_DOMAIN, None, "LLM labels before few human ones"),
    Claim("Human Disj", "CL 20 %", IN_DOMAIN, (38.6, 38.2), "all human labels against a fifth"),
    Claim("CL 100 %", "Human Disj", IN_DOMAIN, (39.3, 38.6), "LLM labels before all human ones"),
    Claim("CL 20 %", "Human Disj", OUT_OF_DOMAIN, (44.7, 43.1), "curriculum out of domain"),
    Claim("CL 100 %", "Human Disj", OUT_OF_DOMAIN, (44.2, 43.1), "curriculum out of domain"),
    Claim(
        "UtilSel Disj",
        "UtilSel Disj, no ignore band",
        IN_DOMAIN,
        None,
        "relevant but not useful: ignored against negative",
    ),
    Claim("Few: human", "Few: packaged LLM", IN_DOMAIN, None, "human labels against the packaged LLM's"),
    Claim(
        "Few: packaged LLM",
        "Few: packaged LLM, REPLUG",
        IN_DOMAIN,
        (35.3, 33.8),
        "labels against likelihoods as a distribution",
    ),
    Claim("Few: packaged LLM", UNTRAINED_NAME, IN_DOMAIN, None, "labels of a 135M model against none"),
    Claim("UtilSel Disj", UNTRAINED_NAME, IN_DOMAIN, None, "training at all"),
    Claim("UtilSel Disj", UNTRAINED_NAME, OUT_OF_DOMAIN, None, "training at all"),
    Claim("UtilSel Disj", BM25_NAME, OUT_OF_DOMAIN, (45.3, 42.9), "against BM25"),
)

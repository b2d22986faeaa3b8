"""Proofs: what a maker's vectors were measured to be worth, and whether they hold the gates.

export proves all makers of its machine against torch and leaves the proofs in its manifest. What could not be proven
there (bf16 on a processor without it) is proven by the index job that would use it, against the reference engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.shared import log
from components.shared.encoding.encoder import Encoder, NotFiniteError, read_encoder_settings
from components.shared.encoding.engines import processor
from components.shared.encoding.engines.drift import DevSet, Vectors, encode, measure_drift
from components.shared.encoding.engines.parity import ReferenceVectors, compare, parity_texts
from components.shared.encoding.engines.records import REFERENCE, Maker, other_makers

# Of a manifest's metrics: maker -> its proof.
PROOFS = "engines"
# Of a proof: whether it holds all gates, and which one it breaks.
PASSED, PROBLEM = "passed", "problem"
Proof = Mapping[str, Any]
Exact = tuple[Vectors, Vectors]


@dataclass(frozen=True)
class Gates:
    """What a maker's vectors must hold; the meaning of each is that of export's setting of the same name."""

    max_difference: float = 1e-5
    min_cosine: float = 0.98
    min_overlap: float = 0.8
    min_batch_cosine: float = 0.999
    max_drift: float = 0.01


def broken_gate(report: Proof, gates: Gates, *, is_exact: bool) -> str:
    """The first gate that a report breaks; empty where it holds all.

    A measure that is not a number breaks its gate: every comparison with nan is false.
    """
    if is_exact:
        difference = report["largest_difference"]
        if difference <= gates.max_difference:
            return ""
        return f"ONNX vectors differ from torch's by {difference:.2e}, allowed are {gates.max_difference:.0e}"
    for name, smallest in (
        ("mean_cosine", gates.min_cosine),
        ("overlap_10", gates.min_overlap),
        ("overlap_10_mixed", gates.min_overlap),
        ("batch_cosine", gates.min_batch_cosine),
    ):
        if not report.get(name, 1.0) >= smallest:
            return f"{name} to torch is {report[name]:.4f}, the gate is {smallest}"
    if "ndcg_10_drift" in report and not report["ndcg_10_drift"] >= -gates.max_drift:
        fall, p_value = -report["ndcg_10_drift"], report["p_value"]
        return f"nDCG@10 falls by {fall:.4f} (p = {p_value:.3f}), allowed are {gates.max_drift}"
    return ""


def prove(
    encoder: Encoder,
    expected: ReferenceVectors,
    texts: Sequence[str],
    dev: DevSet | None,
    exact: Exact | None,
    *,
    gates: Gates,
    seed: int,
) -> Proof:
    """What a maker's vectors are worth beside the expected ones, and in retrieval where there are judged queries."""
    maker = encoder.maker
    try:
        report = asdict(compare(expected, encoder, texts))
        if dev is not None and exact is not None and not maker.is_exact:
            report |= asdict(measure_drift(exact, encoder, dev, seed=seed))
        problem = broken_gate(report, gates, is_exact=maker.is_exact)
    except NotFiniteError as error:
        report, problem = {}, str(error)
    proof = report | {PASSED: not problem, PROBLEM: problem, "processor": processor.described()}
    log.event("an engine's vectors beside the reference's", engine=str(maker), **proof)
    return proof


def prove_other_makers(
    folder: Path,
    expected: ReferenceVectors,
    texts: Sequence[str],
    dev: DevSet | None,
    exact: Exact | None,
    gates: Gates,
    seed: int,
) -> dict[str, Proof]:
    """Proofs of all makers beside the reference engine that this machine has; one that fails is recorded, no error."""
    graphs = frozenset({"fp32", *read_encoder_settings(folder).graphs})
    proofs: dict[str, Proof] = {}
    for maker in other_makers(graphs):
        encoder = open_maker(folder, maker)
        proofs[str(encoder.maker)] = prove(encoder, expected, texts, dev, exact, gates=gates, seed=seed)
    return proofs


def prove_against_reference(
    folder: Path, encoder: Encoder, dev: DevSet | None, *, seed: int, num_texts: int = 64
) -> Proof:
    """A proof where torch is not: against the fp32 graph in the reference engine, whose vectors export held to it."""
    reference = Encoder(folder, variant="fp32", engine=REFERENCE.name)
    texts = parity_texts(encoder.settings.passage_tokens, seed, num_texts)
    # Alone, so that an engine that lets padding leak differs from them.
    passages = [reference.encode_tokens([ids]) for ids in reference.tokenize_passages(texts)]
    expected = ReferenceVectors(reference.encode_queries(texts), np.concatenate(passages))
    exact = encode(reference, dev) if dev is not None and not encoder.maker.is_exact else None
    return prove(encoder, expected, texts, dev, exact, gates=Gates(), seed=seed)


def open_maker(folder: Path, maker: Maker, *, num_threads: int = 0, num_streams: int = 1) -> Encoder:
    """The encoder, computed by this maker.

    Raises:
        ValueError: Where the maker cannot be had here.
    """
    precision: Any = maker.precision
    return Encoder(folder, num_threads=num_threads, variant=precision, engine=maker.engine, num_streams=num_streams)

"""What one maker's vectors are worth beside the reference's, over texts of all lengths and kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from components.shared.encoding.encoder import Encoder

# Words that a tokenizer splits in different ways: Latin with accents, Chinese, Cyrillic, Arabic and Hebrew (right to
# left), code, emoji.
_WORDS = (
    *(
        "index,",
        "caf\u00e9",
        "\u691c\u7d22",
        "\u043f\u043e\u0438\u0441\u043a",
        "\u0628\u062d\u062b",
        "\u05d7\u05d9\u05e4\u05d5\u05e9",
    ),
    *(
        "42",
        "() =>",
        "\U0001f642",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "retrieval",
        "utility",
        "the",
        "of",
        "volcano",
        "glacier",
    ),
)
_SPECIAL = ("", " ", "a", "\U0001f642", "\u0628\u062d\u062b " * 20, "word " * 20_000, "x" * 100_000)
_DEPTH = 10
_ALONE = 32

Vectors = Float32[np.ndarray, "_ dimension"]


@dataclass(frozen=True)
class Parity:
    """A graph against the reference (torch, or the reference engine), over queries and passages alike.

    Attributes:
        num_texts: Texts that were compared.
        largest_difference: Of a vector component, relative to the vector's length.
        mean_cosine: Between a graph's vector and torch's of the same text.
        smallest_cosine: The worst text's.
        overlap_10: Share of torch's ten nearest passages of each query among the graph's ten nearest.
        overlap_10_mixed: The same where only the queries are the graph's, or only the passages; the smaller of both.
        batch_cosine: Smallest cosine between the graph's vector of a text alone and among others.
    """

    num_texts: int
    largest_difference: float
    mean_cosine: float
    smallest_cosine: float
    overlap_10: float
    overlap_10_mixed: float
    batch_cosine: float


@dataclass(frozen=True)
class ReferenceVectors:
    """The vectors of the parity texts that others are held against."""

    queries: Vectors
    passages: Vectors


def parity_texts(longest: int, seed: int, num_texts: int = 64) -> list[str]:
    """Texts of all lengths: empty, one token, 100 kB, and between them up to twice the longest.

    The seed decides their words.
    """
    random = np.random.default_rng(seed)
    lengths = np.geomspace(1, 2 * longest, max(num_texts - len(_SPECIAL), 2)).astype(int)
    return [*_SPECIAL, *(" ".join(random.choice(_WORDS, size=length)) for length in lengths)]


def compare(expected: ReferenceVectors, encoder: Encoder, texts: Sequence[str]) -> Parity:
    """What a graph's vectors, encoded in padded batches, are worth beside torch's."""
    exported = ReferenceVectors(encoder.encode_queries(texts), encoder.encode_tokens(encoder.tokenize_passages(texts)))
    pairs = ((expected.queries, exported.queries), (expected.passages, exported.passages))
    cosines = np.concatenate([_cosines(exact, vectors) for exact, vectors in pairs])
    differences = [float((np.abs(exact - vectors) / _lengths(exact)[:, None]).max()) for exact, vectors in pairs]
    rows = np.linspace(0, len(texts) - 1, min(_ALONE, len(texts))).astype(int)
    alone = np.concatenate([encoder.encode_tokens(encoder.tokenize_passages([texts[row]])) for row in rows])
    return Parity(
        num_texts=len(texts),
        # max() of Python drops a nan, and a nan must break the gate.
        largest_difference=float(np.max(differences)),
        mean_cosine=float(cosines.mean()),
        smallest_cosine=float(cosines.min()),
        overlap_10=_overlap(expected, exported),
        overlap_10_mixed=min(
            _overlap(expected, ReferenceVectors(expected.queries, exported.passages)),
            _overlap(expected, ReferenceVectors(exported.queries, expected.passages)),
        ),
        batch_cosine=float(_cosines(alone, exported.passages[rows]).min()),
    )


def _lengths(vectors: Vectors) -> Float32[np.ndarray, " _"]:
    """Lengths of vectors, never zero: a text without a pooled token has a vector of zeros, and nan stays nan."""
    lengths: Float32[np.ndarray, " _"] = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    return lengths


def _cosines(first: Vectors, second: Vectors) -> Float32[np.ndarray, " _"]:
    cosines: Float32[np.ndarray, " _"] = (first * second).sum(1) / (_lengths(first) * _lengths(second))
    # Two vectors of zeros are alike.
    cosines[~first.any(1) & ~second.any(1)] = 1
    return cosines


def _overlap(expected: ReferenceVectors, exported: ReferenceVectors) -> float:
    nearest = [
        np.argsort(-(vectors.queries @ vectors.passages.T), axis=1, kind="stable")[:, :_DEPTH]
        for vectors in (expected, exported)
    ]
    return float(np.mean([len(set(first) & set(second)) / len(first) for first, second in zip(*nearest, strict=True)]))

"""fusion.json of an index: how its dense scores are fused with BM25's, and what says so. Written and read here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from components.shared.fusion.arithmetic import Method

FUSION_NAME = "fusion.json"
# BM25's share where no person has judged dev queries. On five collections the best one was between .1 and .4.
DEFAULT_WEIGHT = 0.3
DEFAULT_DEPTH = 100

Mode = Literal["dense", "bm25", "hybrid"]
MODES: tuple[Mode, ...] = ("dense", "bm25", "hybrid")


@dataclass(frozen=True)
class Fusion:
    """How two rankings become one.

    Attributes:
        method: See `arithmetic.fuse`.
        weight: BM25's share, 0 to 1.
        depth: Hits of each retriever among which the best are looked for.
        default_mode: What a server does that is not told.
        reason: Where weight and default mode come from, as a sentence.
        tuned_on: Digest of the dev queries and labels that the weight was tuned on; empty: it was not tuned.
        num_queries: Dev queries that it was tuned on.
        num_human_labels: Their positive labels.
        gain: nDCG@10 of hybrid minus dense, each half of the queries with the weight that the other half chose.
        gain_low: Lower bound of the gain, one-sided at 95 %.
        curve: nDCG@10 by weight.
    """

    method: Method = "minmax"
    weight: float = DEFAULT_WEIGHT
    depth: int = DEFAULT_DEPTH
    default_mode: Mode = "dense"
    reason: str = "not tuned: the index was made by an earlier version"
    tuned_on: str = ""
    num_queries: int = 0
    num_human_labels: int = 0
    gain: float = 0.0
    gain_low: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)


def write_fusion(folder: Path, fusion: Fusion) -> None:
    """Writes it beside an index."""
    (folder / FUSION_NAME).write_bytes(orjson.dumps(asdict(fusion), option=orjson.OPT_INDENT_2))


def read_fusion(folder: Path) -> Fusion:
    """That of an index; of an index of an earlier version the default.

    Raises:
        ValueError: Where the file is not one of this version.
    """
    path = folder / FUSION_NAME
    if not path.is_file():
        return Fusion()
    try:
        return Fusion(**orjson.loads(path.read_bytes()))
    except (TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a fusion of this version ({error}); build the index again") from error

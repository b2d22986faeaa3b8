"""What is wrong with finished pools: six counts, each with its threshold.

They are written beside the pools, and one above its threshold fails the job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from components.mine.config import MineConfig
from components.mine.pools import KNOWN
from components.shared.dataset import Dataset
from components.shared.own_passage import same_text
from components.shared.records import Pool
from components.shared.roles import hint

_SHOWN = 5
# With fewer pools, or a corpus of fewer pools' worth of passages, one passage in many pools is no sign of anything.
_SKEW_POOLS, _SKEW_CORPUS = 20, 20


@dataclass
class Check:
    """One kind of violation: how many of what it is a share of, the largest share allowed, and the first cases."""

    name: str
    limit: float
    remedy: str
    counted: int = 0
    among: int = 0
    cases: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of violations; 0 where there was nothing to look at."""
        return self.counted / self.among if self.among else 0.0

    @property
    def is_violated(self) -> bool:
        """More than is allowed."""
        return self.share > self.limit

    def add(self, violated: bool, case: str) -> None:
        """Counts one place that was looked at."""
        self.among += 1
        self.counted += violated
        if violated and len(self.cases) < _SHOWN:
            self.cases.append(case)

    def __str__(self) -> str:
        shown = f" ({', '.join(self.cases)})" if self.cases else ""
        return f"{self.name} {self.share:.4g} where at most {self.limit:g} is allowed{shown}: {self.remedy}"


@dataclass(frozen=True)
class Audit:
    """All checks of a set of pools."""

    checks: tuple[Check, ...]

    @property
    def violations(self) -> list[Check]:
        """The checks that fail the job."""
        return [check for check in self.checks if check.is_violated]

    def to_json(self) -> dict[str, Any]:
        """What audit.json holds."""
        return {
            check.name: {**asdict(check), "share": check.share, "violated": check.is_violated} for check in self.checks
        }


def audit_pools(
    pools: Iterable[Pool],
    dataset: Dataset,
    positives: Mapping[str, Sequence[str]],
    *,
    num_scored: int,
    num_suspected: int,
    config: MineConfig,
) -> Audit:
    """Reads every passage of every pool again; what mining says of itself is only believed for the dense scores."""
    missing = Check(
        "missing", config.max_missing_share, "the pools were mined over another corpus; mine again with this dataset"
    )
    empty = Check(
        "empty", config.max_empty_share, "these passages have no text; clean the collection and prepare it again"
    )
    duplicate = Check(
        "duplicate", config.max_duplicate_share, "the same text stands in a pool twice; remove repeated passages"
    )
    positive = Check(
        "positive", config.max_positive_share, "known positives stand as hard negatives; mine with the present qrels"
    )
    suspected = Check(
        "suspected",
        config.max_suspected_share,
        f"hard negatives score like positives; drop the likeliest ({hint('relative_margin', 0.95)}), or use a better "
        "encoder",
        num_suspected,
        num_scored,
    )
    num_pools, holders = 0, Counter[str]()
    for pool in pools:
        num_pools += 1
        known = positives.get(pool.query_id, ())
        texts = {p: _text(dataset, p) for p in {*pool.passage_ids, *known}}
        known_texts = {texts[p] for p in known} - {None}
        seen: set[str] = set()
        for passage_id, source in zip(pool.passage_ids, pool.sources, strict=True):
            case, text = f"query {pool.query_id!r}, passage {passage_id!r}", texts[passage_id]
            missing.add(text is None, case)
            empty.add(text == "", case)
            duplicate.add(bool(text) and text in seen, case)
            seen.add(text or "")
            if source not in KNOWN:
                positive.add(passage_id in known or (bool(text) and text in known_texts), case)
                holders[passage_id] += 1
    return Audit((missing, empty, duplicate, positive, suspected, _skew(holders, num_pools, dataset, config)))


def _text(dataset: Dataset, passage_id: str) -> str | None:
    try:
        return same_text(dataset.passage(passage_id).full_text)
    except KeyError:
        return None


def _skew(holders: Counter[str], num_pools: int, dataset: Dataset, config: MineConfig) -> Check:
    check = Check(
        "skew",
        config.max_pool_share,
        "one passage is in very many pools: boilerplate in the corpus, or a broken encoder",
    )
    mean_negatives = holders.total() / max(1, num_pools)
    if holders and num_pools >= _SKEW_POOLS and dataset.num_passages >= _SKEW_CORPUS * mean_negatives:
        ((passage_id, check.counted),) = holders.most_common(1)
        check.among, check.cases = num_pools, [f"passage {passage_id!r}"]
    return check

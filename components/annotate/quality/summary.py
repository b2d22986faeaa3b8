"""The label-quality report as data: what quality.json holds, and quality.html shows.

Qrels name positives and little else, so precision and recall count a passage nobody judged as not useful, as the
paper's Table 1 does; kappa and precision over judged passages only are given besides where people judged both ways.
Annotations stream through: what is kept of a query is a few whole numbers.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from components.annotate.judging.parsing import Outcome
from components.annotate.quality import agreement
from components.annotate.quality.gold import Gold
from components.annotate.quality.position import Positions
from components.shared.records import Annotation, Exchange, Quarantined

OUTCOMES: tuple[Outcome, ...] = ("ok", "ok_empty", "repaired", "truncated", "refused", "out_of_range", "unparseable")
_READ = ("ok", "ok_empty", "repaired")


@dataclass(frozen=True)
class Annotator:
    """One artifact of annotations.

    Attributes:
        name: Of its row.
        annotations: What it labelled.
        quarantined: What it could not.
        rechecked: Pools of it that were judged again in another order.
        previous: An earlier run's annotations.
        fitted_on: Queries whose human labels its margins were fitted to: they say nothing of its agreement with people.
        ledger: What it cost.
    """

    name: str
    annotations: Iterable[Annotation]
    quarantined: Iterable[Quarantined] = ()
    rechecked: Iterable[Annotation] = ()
    previous: Iterable[Annotation] = ()
    fitted_on: Collection[str] = frozenset()
    ledger: Mapping[str, Any] = field(default_factory=dict)


def quality(
    annotators: Sequence[Annotator], golds: Sequence[Gold], *, confidence: float = 0.95, gold_queries: int = 0
) -> dict[str, Any]:
    """The whole report.

    Args:
        annotators: One or more; each becomes a row of every table.
        golds: Human labels; each becomes a table.
        confidence: Of every interval.
        gold_queries: Queries whose human labels the prediction-powered interval may see, drawn at random; 0 = all
            that have any.
    """
    fitted_on = frozenset(chain.from_iterable(annotator.fitted_on for annotator in annotators))
    # Left out for every annotator: rows of one table are about the same queries.
    unseen = [gold.without(fitted_on) if fitted_on else gold for gold in golds]
    judged = [gold for gold in unseen if gold.judgements]
    return {
        "confidence": confidence,
        "golds": {gold.name: gold.summary() for gold in judged},
        "num_fitted_on": len(fitted_on),
        "annotators": [_measure(annotator, judged, confidence, gold_queries) for annotator in annotators],
    }


def _measure(annotator: Annotator, golds: Sequence[Gold], confidence: float, gold_queries: int) -> dict[str, Any]:
    measured = _Measured(annotator, golds, gold_queries)
    for annotation in annotator.annotations:
        measured.add(annotation)
    for quarantined in annotator.quarantined:
        measured.add_quarantined(quarantined)
    return {"name": annotator.name} | measured.report(confidence) | {"ledger": dict(annotator.ledger)}


class _Measured:
    """All that is counted of one annotator, annotation by annotation."""

    def __init__(self, annotator: Annotator, golds: Sequence[Gold], gold_queries: int) -> None:
        self._golds = golds
        self._methods, self._models = Counter[str](), Counter[str]()
        self._num_quarantined = self._num_pairs = 0
        self._levels: dict[str, _Level] = {}
        self._outcomes = Outcomes()
        self._positions: dict[str, Positions] = {}
        self._recheck, self._drift = _Comparison(annotator.rechecked), _Comparison(annotator.previous)
        self._powered = [_Powered(gold, gold_queries) for gold in golds]

    def add(self, annotation: Annotation) -> None:
        self._methods[annotation.method] += 1
        self._models[annotation.model] += 1
        self._num_pairs += len(annotation.labels)
        for name, selected in _selections(annotation).items():
            self._levels.setdefault(name, _Level(self._golds)).add(annotation, selected)
        self._outcomes.add(annotation)
        for exchange in annotation.exchanges:
            if exchange.outcome in _READ and exchange.template != "answer":
                places = _places(exchange, annotation)
                self._positions.setdefault(exchange.template, Positions()).add(len(exchange.positions), places)
        self._recheck.add(annotation)
        self._drift.add(annotation)
        for powered in self._powered:
            powered.add(annotation)

    def add_quarantined(self, quarantined: Quarantined) -> None:
        self._methods[quarantined.method] += 1
        self._models[quarantined.model] += 1
        self._num_quarantined += 1
        self._outcomes.add(quarantined)

    def report(self, confidence: float) -> dict[str, Any]:
        total = self._methods.total()
        return {
            "method": ", ".join(sorted(self._methods)),
            "model": ", ".join(sorted(self._models)),
            "num_queries": total,
            "num_quarantined": self._num_quarantined,
            "quarantine_share": self._num_quarantined / total if total else 0.0,
            "num_pairs": self._num_pairs,
            "levels": {name: level.report(confidence) for name, level in self._levels.items()},
            "outcomes": self._outcomes.table(),
            "positions": {name: asdict(positions.report()) for name, positions in self._positions.items()},
            "self_agreement": self._recheck.report(confidence),
            "drift": self._drift.report(confidence),
            "prediction_powered": [means for powered in self._powered if (means := powered.report(confidence))],
        }


def _selections(annotation: Annotation) -> dict[str, frozenset[str]]:
    """What each level of the method selects: the relevant passages where it asks for them first, and the useful ones."""
    windows = [
        exchange
        for exchange in annotation.exchanges
        if exchange.template == "relevance_selection" and exchange.outcome in _READ
    ]
    useful = frozenset(annotation.with_label("positive"))
    if not windows:
        return {"useful": useful}
    return {
        "relevant": frozenset(annotation.passage_ids[place] for window in windows for place in window.chosen),
        "useful": useful,
    }


def _places(exchange: Exchange, annotation: Annotation) -> list[int]:
    """Places in the prompt of what was chosen; of a ranking, which orders everything, of what is a positive label."""
    chosen = set(exchange.chosen)
    if exchange.template == "utility_ranking":
        chosen = {place for place in chosen if annotation.labels[place] == "positive"}
    return [place for place, position in enumerate(exchange.positions) if position in chosen]


def _draw(query_id: str) -> int:
    """A number that is as good as random, and always the same for a query."""
    return int.from_bytes(hashlib.sha256(query_id.encode()).digest()[:4], "big")


class _Rows:
    """Whole numbers of many queries, a few columns each, in little memory."""

    def __init__(self, num_columns: int) -> None:
        self._values, self._num_columns = array("l"), num_columns

    def add(self, values: Iterable[int]) -> None:
        self._values.extend(values)

    def matrix(self) -> np.ndarray:
        return np.array(self._values, dtype=np.float64).reshape(-1, self._num_columns)


class _Level:
    """How many passages are selected, and which of them people find useful."""

    def __init__(self, golds: Sequence[Gold]) -> None:
        self._sizes = Counter[int]()
        self._golds = [(gold, _Rows(4), _Rows(4)) for gold in golds]

    def add(self, annotation: Annotation, selected: Collection[str]) -> None:
        self._sizes[len(selected)] += 1
        for gold, over_pools, over_judged in self._golds:
            judged = gold.judgements.get(annotation.query_id)
            if judged is not None:
                in_pool = [passage_id for passage_id in annotation.passage_ids if passage_id in judged]
                useful = {passage_id for passage_id in in_pool if judged[passage_id] > 0}
                over_pools.add(agreement.count_pairs(selected, useful, annotation.passage_ids))
                over_judged.add(agreement.count_pairs(selected, useful, in_pool))

    def report(self, confidence: float) -> dict[str, Any]:
        sizes = np.array(list(self._sizes.elements()), dtype=np.float64)
        against = {
            gold.name: _against(pools.matrix(), judged.matrix(), confidence) for gold, pools, judged in self._golds
        }
        return {
            "num_selected": asdict(agreement.mean(sizes, confidence)),
            "histogram": [self._sizes[size] for size in range(max(self._sizes, default=-1) + 1)],
            "against": {name: agreed for name, agreed in against.items() if agreed},
        }


def _against(over_pools: agreement.Counts, over_judged: agreement.Counts, confidence: float) -> dict[str, Any] | None:
    """Agreement with people over the queries they judged; None where they judged none."""
    if not len(over_pools):
        return None
    both_ways = bool(over_judged[:, [0, 2]].sum() and over_judged[:, [1, 3]].sum())
    return {
        "num_queries": len(over_pools),
        "num_useful": int(over_pools[:, [0, 2]].sum()),
        "num_judged": int(over_judged.sum()),
        "precision": asdict(agreement.precision(over_pools, confidence)),
        "recall": asdict(agreement.recall(over_pools, confidence)),
        "kappa": asdict(agreement.kappa(over_pools, confidence)),
        "precision_judged": asdict(agreement.precision(over_judged, confidence)) if both_ways else None,
        "kappa_judged": asdict(agreement.kappa(over_judged, confidence)) if both_ways else None,
    }


class Outcomes:
    """How completions parsed, by template and rung of the ladder."""

    def __init__(self) -> None:
        self._counts = Counter[tuple[str, str, str]]()

    def add(self, record: Annotation | Quarantined) -> None:
        """Adds all exchanges of a query."""
        self._counts.update((exchange.template, exchange.rung, exchange.outcome) for exchange in record.exchanges)

    def table(self) -> dict[str, dict[str, Any]]:
        """Every outcome has its place, so the shares of a template add up to 1."""
        table: dict[str, dict[str, Any]] = {}
        for template in dict.fromkeys(template for template, _, _ in self._counts):
            by_rung: dict[str, dict[str, int]] = {}
            for (of_template, rung, outcome), count in self._counts.items():
                if of_template == template:
                    by_rung.setdefault(rung, dict.fromkeys(OUTCOMES, 0))[outcome] += count
            counts = {outcome: sum(rung[outcome] for rung in by_rung.values()) for outcome in OUTCOMES}
            total = sum(counts.values())
            shares = {outcome: count / total for outcome, count in counts.items()}
            table[template] = {"num_exchanges": total, "counts": counts, "shares": shares, "rungs": by_rung}
        return table


class _Comparison:
    """Labels against other labels of the same queries, over the passages that both hold.

    Only the other labels are held in memory.
    """

    def __init__(self, others: Iterable[Annotation]) -> None:
        self._others = {other.query_id: (other.passage_ids, other.labels) for other in others}
        self._pairs, self._same, self._selected = _Rows(4), _Rows(2), _Rows(2)
        self._overlaps = array("d")

    def add(self, annotation: Annotation) -> None:
        if annotation.query_id not in self._others:
            return
        mine = dict(zip(annotation.passage_ids, annotation.labels, strict=True))
        theirs = dict(zip(*self._others[annotation.query_id], strict=True))
        shared = [passage_id for passage_id in mine if passage_id in theirs]
        before, after = ({p for p in shared if labels[p] == "positive"} for labels in (theirs, mine))
        self._pairs.add(agreement.count_pairs(after, before, shared))
        self._same.add((sum(mine[p] == theirs[p] for p in shared), len(shared)))
        self._selected.add((len(before), len(after)))
        self._overlaps.append(agreement.jaccard(before, after))

    def report(self, confidence: float) -> dict[str, Any] | None:
        if not self._others:
            return None
        same, selected = self._same.matrix(), self._selected.matrix()
        return {
            "num_queries": len(same),
            "num_pairs": int(same[:, 1].sum()),
            "same_label": asdict(agreement.ratio(same[:, 0], same[:, 1], confidence)),
            "kappa": asdict(agreement.kappa(self._pairs.matrix(), confidence)),
            "jaccard": asdict(agreement.mean(np.array(self._overlaps, dtype=np.float64), confidence)),
            "num_selected_before": asdict(agreement.mean(selected[:, 0], confidence)),
            "num_selected_after": asdict(agreement.mean(selected[:, 1], confidence)),
            "num_selected_p_value": agreement.paired_p_value(selected[:, 0], selected[:, 1]),
        }


class _Powered:
    """Useful passages a pool: by people where they may be seen, by the LLM everywhere."""

    def __init__(self, gold: Gold, gold_queries: int) -> None:
        self._gold, self._gold_queries = gold, gold_queries
        self._judged, self._others = _Rows(3), _Rows(1)

    def add(self, annotation: Annotation) -> None:
        selected, judged = annotation.labels.count("positive"), self._gold.judgements.get(annotation.query_id)
        if judged is None:
            self._others.add((selected,))
        else:
            useful = sum(judged.get(passage_id, 0) > 0 for passage_id in annotation.passage_ids)
            self._judged.add((_draw(annotation.query_id), useful, selected))

    def report(self, confidence: float) -> dict[str, Any] | None:
        rows = self._judged.matrix()
        # The lowest draws are seen: a sample of the judged queries that is random and always the same.
        rows = rows[np.argsort(rows[:, 0], kind="stable")][:, 1:]
        seen = self._gold_queries or len(rows)
        judged, others = rows[:seen], np.concatenate([rows[seen:, 1], self._others.matrix()[:, 0]])
        if not len(judged):
            return None
        return {
            "gold": self._gold.name,
            "num_gold_queries": len(judged),
            "num_other_queries": len(others),
            "people": asdict(agreement.mean(judged[:, 0], confidence)),
            "llm": asdict(agreement.mean(np.concatenate([judged[:, 1], others]), confidence)),
            "prediction_powered": asdict(
                agreement.prediction_powered_mean(judged[:, 0], judged[:, 1], others, confidence)
            ),
        }

"""The recipe of drift: sampled queries and the release's own -> scored alike -> compared -> drift.json and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from components.evaluate.drift.comparison import Queries, compare, verdict
from components.evaluate.drift.config import DriftConfig
from components.evaluate.drift.page import write_page
from components.shared import log
from components.shared.bm25 import BM25
from components.shared.contract.pointer import ArtifactUris, parse_pointer
from components.shared.corpus import check_corpus
from components.shared.dataset import Dataset
from components.shared.drift.expected import GOOD_QUANTILE, best_scores, languages_of, own_queries
from components.shared.drift.sample import Sample, SampledQuery, read_sample
from components.shared.durable import storage
from components.shared.encoding.encoder import Encoder, num_cores
from components.shared.index import open_index, set_threads
from components.shared.language.detection import language_of_text
from components.shared.manifest import artifact_writer, open_artifact, read_manifest
from components.shared.records import Query

DRIFT_NAME = "drift.json"
# New words: those of fewer sampled queries are names and slips, and may be somebody's own.
_FEWEST_QUERIES_A_WORD, _SHOWN_WORDS = 3, 30
_SHOWN_QUERIES = 10


def report_drift(config: DriftConfig) -> None:
    """Compares, decides, and writes it down.

    Raises:
        ValueError: Where nothing was sampled, the release has no dev or test queries, or its artifacts do not fit.
    """
    uris = _named(config)
    check_corpus(uris.index_uri, uris.dataset_uri)
    sample = read_sample(config.sample_uri, days=config.days, most=config.most_queries, seed=config.seed)
    set_threads(num_cores())
    dataset = Dataset(open_artifact(uris.dataset_uri))
    own, is_synthetic = own_queries(dataset)
    if not own or not sample.queries:
        raise ValueError(f"{uris.dataset_uri}: {len(own)} dev and test queries, {len(sample.queries)} sampled ones")
    with artifact_writer("evaluate.drift", config) as artifact:
        describe = _Describer(uris, dataset)
        sides = describe.own(own), describe.sampled(sample.queries)
        good_score = float(np.quantile(sides[0].scores, GOOD_QUANTILE))
        seen = languages_of(dataset)
        comparisons = compare(*sides, seen, good_score, config)
        values: dict[str, Any] = {
            "verdict": verdict(comparisons, *sides, config),
            "release": read_manifest(uris.index_uri).digest[:12],
            "is_synthetic": is_synthetic,
            "good_score": good_score,
            "seen_languages": seen,
            "comparisons": [asdict(comparison) for comparison in comparisons],
            "sample": _about(sample),
            "languages": _counted(sides[1].languages),
            "new_words": _new_words(*sides),
        }
        (artifact.path / DRIFT_NAME).write_bytes(orjson.dumps(values, option=orjson.OPT_INDENT_2))
        write_page(artifact.path / "report.html", values, *sides, worst=_worst(sides[1]), config=config)
        artifact.metrics.update(_metrics(values))
    log.event("queries compared", verdict=values["verdict"], sampled=len(sample.queries), own=len(own))


class _Describer:
    """Scores and describes queries with one release, so that both sides are alike."""

    def __init__(self, uris: ArtifactUris, dataset: Dataset) -> None:
        self._encoder = Encoder(open_artifact(uris.encoder_uri))
        self._index = open_index(open_artifact(uris.index_uri), encoder_digest=self._encoder.digest)
        self._dataset, self._bm25 = dataset, BM25(dataset)

    def own(self, queries: Sequence[Query]) -> Queries:
        return self._described(queries, [len(query.text) for query in queries])

    def sampled(self, queries: Sequence[SampledQuery]) -> Queries:
        numbered = [Query(f"sampled-{number}", query.text) for number, query in enumerate(queries)]
        return self._described(numbered, [query.characters for query in queries])

    def _described(self, queries: Sequence[Query], characters: Sequence[int]) -> Queries:
        texts = [query.text for query in queries]
        limit = self._encoder.settings.query_tokens
        lengths = [len(ids) for ids in self._encoder.tokenize_queries(texts, truncate=False)]
        # Of a long query the sample keeps the beginning: the rest is taken to have as many tokens a character.
        is_cut = [
            tokens * whole > limit * max(1, len(text))
            for tokens, whole, text in zip(lengths, characters, texts, strict=True)
        ]
        return Queries(
            texts=texts,
            scores=best_scores(self._encoder, self._index, queries, self._dataset),
            is_cut=is_cut,
            languages=[language_of_text(text) for text in texts],
            unknown=self._bm25.unknown_terms(texts),
        )


def _named(config: DriftConfig) -> ArtifactUris:
    if not config.pointer_uri:
        return ArtifactUris(config.encoder_uri, config.index_uri, config.dataset_uri)
    uris = parse_pointer(config.pointer_uri, storage.read_bytes(config.pointer_uri))
    if not uris.dataset_uri:
        raise ValueError(f"{config.pointer_uri}: names no dataset, so there are no queries to compare with")
    return uris


def _about(sample: Sample) -> dict[str, Any]:
    return {
        "first_day": sample.first_day,
        "last_day": sample.last_day,
        "num_files": sample.num_files,
        "num_seen": sample.num_seen,
        "num_queries": len(sample.queries),
        "modes": _counted([query.mode for query in sample.queries]),
        "versions": _counted([query.version for query in sample.queries]),
    }


def _counted(names: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _new_words(own: Queries, sampled: Queries) -> dict[str, int]:
    """Words that neither the passages nor the own queries hold, with the number of sampled queries that do."""
    known = {word for words in own.unknown for word in words}
    counts = _counted([word for words in sampled.unknown for word in sorted(set(words) - known)])
    frequent = [(word, count) for word, count in counts.items() if count >= _FEWEST_QUERIES_A_WORD]
    return dict(frequent[:_SHOWN_WORDS])


def _worst(sampled: Queries) -> list[tuple[str, float]]:
    """The sampled queries with the lowest best scores."""
    rows = np.argsort(sampled.scores, kind="stable")[:_SHOWN_QUERIES].tolist()
    return [(sampled.texts[row], float(sampled.scores[row])) for row in rows]


def _metrics(values: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says, and with it the Pushgateway; without a verdict there is no number for it."""
    by_name = {comparison["name"]: comparison for comparison in values["comparisons"]}
    decided = {} if values["verdict"] == "too few queries" else {"drifted": int(values["verdict"] == "drift")}
    return {
        **decided,
        "num_sampled_queries": values["sample"]["num_queries"],
        "score_distance": round(by_name["score of the best hit"]["distance"], 6),
        "share_without_good_hit": round(by_name["without a good hit"]["sampled"], 6),
    }

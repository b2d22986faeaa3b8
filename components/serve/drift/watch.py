"""Counts queries that are unlike those of the release: without a good hit, or in a language that it has not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.serve.drift.sampling import QuerySampler
from components.serve.metrics import ServerMetrics
from components.shared import log
from components.shared.drift.expected import Expected
from components.shared.fusion.tuned import Mode
from components.shared.language.detection import language_of_text


class QueryWatch:
    """Looks at the queries that one release has answered; called from several threads at once."""

    def __init__(
        self, expected: Expected | None, version: str, metrics: ServerMetrics, sampler: QuerySampler | None
    ) -> None:
        """Takes what the index says of the release's own queries; without it nothing is counted."""
        self._metrics, self._sampler, self._version = metrics, sampler, version
        self._good_score = expected.good_score if expected else None
        self._languages = frozenset(expected.languages if expected else ())
        if self._good_score is None:
            reason = expected.reason if expected else "the index was made by an earlier version; build it again"
            log.warning("queries without a good hit are not counted", version=version, reason=reason)

    def begin(self) -> None:
        """Shows the metrics that this release can fill, and no other, from now on."""
        self._metrics.show_watched(scores=self._good_score is not None, languages=bool(self._languages))

    def look(self, queries: Sequence[str], mode: Mode, best: Sequence[float]) -> None:
        """Counts queries that were answered, and lets them be sampled.

        Args:
            queries: Their texts.
            mode: In which they were searched.
            best: Inner product of the best passage of each; empty where it is not known.
        """
        if self._good_score is not None and best:
            self._metrics.count_judged(
                queries=len(best),
                # Below, and not "not above": nan, of an index that found nothing, is no good hit either.
                without_good_hit=sum(math.isnan(score) or score < self._good_score for score in best),
            )
        if self._languages:
            for query in queries:
                language = language_of_text(query)
                self._metrics.count_language(
                    "undecided" if not language else "seen" if language in self._languages else "unseen"
                )
        if self._sampler is not None:
            self._sampler.offer(queries, mode=mode, version=self._version)

"""Our own protocol: passages of one query or of several."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from components.serve import answering
from components.serve.protocols.answers import HitAnswer, JSONResponse, ProvenanceAnswer, RankingAnswer, RankingsAnswer
from components.serve.protocols.bodies import SearchBatchBody, SearchBody
from components.serve.protocols.decoding import Decoder, check_text, check_texts
from components.serve.release import FoundPassage, Release
from components.serve.service import Service
from components.shared.dataset import Provenance
from components.shared.fusion.tuned import Mode


class SearchProtocol:
    """Answers /search and /search/batch."""

    def __init__(self, service: Service) -> None:
        self._service, self._limits = service, service.limits
        self._one = Decoder(SearchBody, self._limits)
        self._many = Decoder(SearchBatchBody, self._limits)

    async def search(self, request: Request) -> Response:
        """The ranking of one query."""
        wanted = self._one.decode(await answering.body_of(self._service, request))
        check_text("query", wanted.query)
        self._check(self._one, wanted)
        with self._service.release.used() as release:
            (ranking,) = await self._rankings(request, release, [wanted.query], wanted)
            return JSONResponse(ranking, headers=answering.answer_headers(request, release))

    async def search_batch(self, request: Request) -> Response:
        """The rankings of several queries."""
        wanted = self._many.decode(await answering.body_of(self._service, request))
        self._many.check_most(("queries",), len(wanted.queries), self._limits.max_texts, "texts")
        check_texts("queries", wanted.queries)
        self._check(self._many, wanted)
        with self._service.release.used() as release:
            answer: RankingsAnswer = {"results": await self._rankings(request, release, wanted.queries, wanted)}
            return JSONResponse(answer, headers=answering.answer_headers(request, release))

    def _check(
        self, decoder: Decoder[SearchBody] | Decoder[SearchBatchBody], wanted: SearchBody | SearchBatchBody
    ) -> None:
        if wanted.depth > self._limits.max_depth:
            decoder.refuse(("depth",), wanted.depth)
        for name in ("passage_ids", "exclude_passage_ids"):
            passage_ids = getattr(wanted, name) or ()
            decoder.check_most((name,), len(passage_ids), self._limits.max_filter_ids, "passage ids")

    async def _rankings(
        self, request: Request, release: Release, queries: Sequence[str], wanted: SearchBody | SearchBatchBody
    ) -> list[RankingAnswer]:
        mode = _chosen_mode(release, wanted.mode)
        token_ids: list[list[int]] = []
        if mode == "bm25":
            answering.check_size(self._service, request, release, [[] for _ in queries])
        else:
            token_ids = await answering.tokenized(
                self._service, request, release, queries, "query", truncate=wanted.truncate
            )
        rankings = await answering.limited(self._service, request, release.search(queries, token_ids, wanted, mode))
        return [
            {"query": query, "mode": mode, "hits": list(map(_hit, ranking))}
            for query, ranking in zip(queries, rankings, strict=True)
        ]


def _chosen_mode(release: Release, wanted: Mode | None) -> Mode:
    if wanted is None:
        return release.ranker.default_mode
    if wanted not in release.ranker.modes:
        raise HTTPException(
            400,
            f"mode: {wanted!r} needs the words of the passages, and this server has no dataset; leave it out for dense "
            "search, or start the server with --dataset-uri",
        )
    return wanted


def _hit(found_passage: FoundPassage) -> HitAnswer:
    hit, passage = found_passage.hit, found_passage.passage
    answer: HitAnswer = {"passage_id": hit.passage_id, "score": hit.score}
    if passage is not None:
        answer["title"], answer["text"] = passage.title, passage.text
    if found_passage.provenance is not None:
        answer["provenance"] = _provenance(found_passage.provenance)
    return answer


def _provenance(provenance: Provenance) -> ProvenanceAnswer:
    answer: ProvenanceAnswer = {
        "file": provenance.file,
        "headings": list(provenance.headings),
        "start": provenance.start,
        "end": provenance.end,
    }
    if provenance.record:
        answer["record"] = provenance.record
    if provenance.page:
        answer["page"] = provenance.page
    return answer

"""`retriever search`: a query's passages as a person reads them in a terminal, or as JSON."""

from __future__ import annotations

import dataclasses
import os
import textwrap

import orjson

from components.serve.client import Ranking, RetrieverClient, SearchMode, ServerError

KEY_VARIABLE = "RETRIEVER_API_KEY"


def search(
    query: str,
    *,
    url: str,
    depth: int,
    mode: SearchMode | None = None,
    passage_ids: tuple[str, ...] = (),
    truncate: bool = False,
) -> Ranking:
    """Asks the server; the API key comes from the environment, so that no shell history keeps it.

    Raises:
        ValueError: Where the server refuses or does not answer; says what to do.
    """
    with RetrieverClient(url, api_key=os.environ.get(KEY_VARIABLE, "")) as client:
        try:
            return client.search(query, depth=depth, mode=mode, passage_ids=passage_ids, truncate=truncate)
        except ServerError as error:
            remedy = f"; set {KEY_VARIABLE}" if error.status == 401 else ""
            raise ValueError(f"{url}: {error}{remedy}") from error


def readable(ranking: Ranking, *, width: int = 100, num_lines: int = 3) -> str:
    """Rank, score, title, provenance where there is one, and the beginning of each passage."""
    lines = []
    for rank, hit in enumerate(ranking.hits, start=1):
        lines.append(f"{rank:>3}. {hit.score:.4f}  {hit.title or hit.passage_id}  [{hit.passage_id}]")
        lines += [f"     {hit.provenance}"] if hit.provenance is not None else []
        lines += textwrap.wrap(
            hit.text,
            width=width,
            max_lines=num_lines,
            initial_indent="     ",
            subsequent_indent="     ",
            placeholder=" ...",
        )
    mode = f" ({ranking.mode})" if ranking.mode else ""
    return "\n".join(
        [*lines, f"{len(ranking.hits)} passages in {ranking.seconds * 1000:.0f} ms{mode}, release {ranking.version}"]
    )


def as_json(ranking: Ranking) -> str:
    """One JSON object on one line."""
    return orjson.dumps(dataclasses.asdict(ranking)).decode()

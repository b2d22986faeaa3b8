"""A typed client of the server, for programs that ask it; it imports httpx and nothing of the server.

    with RetrieverClient("http://localhost:8080") as client:
        for hit in client.search("how are spans recorded").hits:
            print(hit.score, hit.passage_id, hit.title)

A request that changes nothing may be sent again: refused ones (429, 503) after the time that the server names, broken
connections at once and then ever more slowly, all within `timeout_seconds`.
"""

from __future__ import annotations

import base64
import itertools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import numpy as np
from jaxtyping import Float32

Vectors = Float32[np.ndarray, "text dimension"]

SearchMode = Literal["dense", "bm25", "hybrid"]

# 0: no server was reached, or it hung up.
_AGAIN = (0, 429, 503)
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.1, 5.0


class ServerError(Exception):
    """The server's refusal: `status`, its words in `message`, and when to come back; status 0: no server answered."""

    def __init__(self, status: int, message: str, *, retry_seconds: float = 0.0) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status, self.message, self.retry_seconds = status, message, retry_seconds


@dataclass(frozen=True, slots=True)
class HitProvenance:
    """Where a passage was cut from.

    That is the file, the titles of its sections and the characters; of a file of records which one, of a PDF which page
    (0: none).
    """

    file: str
    headings: tuple[str, ...]
    start: int
    end: int
    record: str = ""
    page: int = 0

    def __str__(self) -> str:
        """As a person names it, such as `guide/install.md, characters 120-480`."""
        where = [self.file]
        where += [f"record {self.record}"] if self.record else []
        where += [f"page {self.page}"] if self.page else []
        return ", ".join([*where, f"characters {self.start}-{self.end}"])


@dataclass(frozen=True, slots=True)
class FoundHit:
    """A passage that was found; title and text are empty where the server has no dataset or none was asked for.

    There is a provenance where the passage was cut from a document.
    """

    passage_id: str
    score: float
    title: str = ""
    text: str = ""
    provenance: HitProvenance | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The hits of a query, best first, the release of the server that found them, and its mode; of old servers ''."""

    query: str
    hits: tuple[FoundHit, ...]
    version: str
    seconds: float
    mode: str = ""


class RetrieverClient:
    """Asks one server; threads may share it."""

    def __init__(
        self, url: str, *, api_key: str = "", timeout_seconds: float = 30.0, num_retries: int = 5, traceparent: str = ""
    ) -> None:
        """`timeout_seconds` bounds a call with all its retries; `traceparent` joins the calls to a trace."""
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        if traceparent:
            headers["traceparent"] = traceparent
        self._url, self._timeout_seconds, self._num_retries = url.rstrip("/"), timeout_seconds, num_retries
        self._http = httpx.Client(base_url=self._url, headers=headers)

    def __enter__(self) -> RetrieverClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def search(
        self,
        query: str,
        *,
        depth: int = 10,
        mode: SearchMode | None = None,
        include_text: bool = True,
        truncate: bool = False,
        passage_ids: Sequence[str] = (),
        exclude_passage_ids: Sequence[str] = (),
    ) -> Ranking:
        """The best passages of a query; without a mode in the one that is the server's default.

        Raises:
            ServerError: Where the server refuses it or does not answer in time.
        """
        fields = _search_fields(depth, mode, include_text, truncate, passage_ids, exclude_passage_ids)
        start = time.monotonic()
        answer, version = self._call("POST", "/search", {"query": query, **fields})
        return _ranking(answer, version, time.monotonic() - start)

    def search_batch(
        self,
        queries: Sequence[str],
        *,
        depth: int = 10,
        mode: SearchMode | None = None,
        include_text: bool = True,
        truncate: bool = False,
        passage_ids: Sequence[str] = (),
        exclude_passage_ids: Sequence[str] = (),
    ) -> list[Ranking]:
        """The best passages of each query, in one request; raises as `search`."""
        fields = _search_fields(depth, mode, include_text, truncate, passage_ids, exclude_passage_ids)
        start = time.monotonic()
        answer, version = self._call("POST", "/search/batch", {"queries": list(queries), **fields})
        seconds = time.monotonic() - start
        return [_ranking(result, version, seconds) for result in answer["results"]]

    def embed(
        self, texts: Sequence[str], *, input_type: Literal["query", "passage"] = "query", truncate: bool = False
    ) -> Vectors:
        """Vectors of the texts, in their order; raises as `search`."""
        body = {"input": list(texts), "input_type": input_type, "truncate": truncate, "encoding_format": "base64"}
        answer, _ = self._call("POST", "/v1/embeddings", body)
        embeddings = [base64.b64decode(row["embedding"]) for row in answer["data"]]
        return np.stack([np.frombuffer(content, dtype="<f4") for content in embeddings])

    def readiness(self) -> Mapping[str, Any]:
        """What /readyz says: ready, problem, version, passages, dimension; not to be ready is no error here."""
        try:
            answer = self._http.get("/readyz", timeout=self._timeout_seconds)
        except httpx.HTTPError as error:
            raise ServerError(0, f"{self._url} does not answer ({error}); start it or mend the URL") from error
        facts: Mapping[str, Any] = _json(answer)
        return facts

    def _call(self, method: str, path: str, body: Mapping[str, object]) -> tuple[Any, str]:
        deadline = time.monotonic() + self._timeout_seconds
        for attempt in itertools.count():
            try:
                answer = self._send(method, path, body, max(deadline - time.monotonic(), 0.001))
            except ServerError as error:
                pause = _pause(attempt, error)
                if attempt == self._num_retries or error.status not in _AGAIN or time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
            else:
                return _json(answer), answer.headers.get("retriever-version", "")
        raise AssertionError("the loop returns or raises")

    def _send(self, method: str, path: str, body: Mapping[str, object], seconds: float) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body, timeout=seconds)
        except httpx.HTTPError as error:
            raise ServerError(0, f"{self._url} does not answer ({error!r}); start it or mend the URL") from error
        if not answer.is_success:
            raise ServerError(answer.status_code, _message(answer), retry_seconds=_retry_seconds(answer))
        return answer


def _pause(attempt: int, error: ServerError) -> float:
    # Drawn from the whole range, so that clients which failed together do not come back together.
    return error.retry_seconds + random.uniform(0.0, min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt))


def _retry_seconds(answer: httpx.Response) -> float:
    try:
        return max(0.0, float(answer.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0  # a date, which a proxy may send


def _message(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]  # of a proxy between


def _json(answer: httpx.Response) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return answer.json()
    except ValueError as error:
        raise ServerError(
            answer.status_code, f"not an answer of a retriever: {answer.text[:100]!r}; mend the URL"
        ) from error


def _search_fields(
    depth: int,
    mode: SearchMode | None,
    include_text: bool,
    truncate: bool,
    passage_ids: Sequence[str],
    exclude_passage_ids: Sequence[str],
) -> dict[str, object]:
    fields: dict[str, object] = {"depth": depth, "include_text": include_text, "truncate": truncate}
    if mode is not None:
        fields["mode"] = mode
    if passage_ids:
        fields["passage_ids"] = list(passage_ids)
    if exclude_passage_ids:
        fields["exclude_passage_ids"] = list(exclude_passage_ids)
    return fields


def _ranking(answer: Mapping[str, Any], version: str, seconds: float) -> Ranking:
    hits = tuple(map(_hit, answer["hits"]))
    return Ranking(answer["query"], hits, version, seconds, answer.get("mode", ""))


def _hit(answer: Mapping[str, Any]) -> FoundHit:
    if "provenance" not in answer:
        return FoundHit(**answer)
    values = answer["provenance"]
    return FoundHit(**{**answer, "provenance": HitProvenance(**{**values, "headings": tuple(values["headings"])})})

"""The modes of /search: what each ranks by, what a filter changes, who is refused, and what the default is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.config import EvaluateConfig
from components.evaluate.job import evaluate
from components.prepare.config import PrepareConfig
from components.shared.bm25 import BM25, build_bm25
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.fusion.tuned import Fusion
from components.shared.manifest import artifact_writer
from components.shared.records import Qrel, Query
from tests.components.serve.served import PASSAGES, InProcess, Sources, write_sources
from tests.tiny_encoder import words_of, write_tiny_encoder, write_tiny_index

TUNED = Fusion(weight=0.4, default_mode="hybrid", reason="tuned here", tuned_on="digest")
# The first word stands in every passage.
QUERY = "told danger of a glacier"
MODES = ("dense", "bm25", "hybrid")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("tuned"), fusion=TUNED)


@pytest.fixture(scope="module")
def server(tuned: Sources) -> Iterator[InProcess]:
    server = InProcess(tuned.config(num_sessions=2, max_depth=1000))
    yield server
    server.close()


@pytest.fixture(scope="module")
def without_dataset(tuned: Sources) -> Iterator[InProcess]:
    server = InProcess(replace(tuned, dataset_uri="").config())
    yield server
    server.close()


def hits_of(server: InProcess, query: str = QUERY, **fields: Any) -> dict[str, float]:
    answer = server.post("/search", query=query, **fields)
    assert answer.status_code == 200, answer.text
    return {hit["passage_id"]: hit["score"] for hit in answer.json()["hits"]}


def test_a_release_does_what_its_index_was_tuned_to_and_says_so(server: InProcess) -> None:
    answer = server.post("/search", query=QUERY, depth=3).json()
    assert answer["mode"] == "hybrid"
    assert {hit["passage_id"]: hit["score"] for hit in answer["hits"]} == hits_of(server, depth=3, mode="hybrid")
    facts = server.get("/readyz").json()
    assert (facts["modes"], facts["default_mode"]) == (list(MODES), "hybrid")
    assert facts["fusion"] == {"method": "minmax", "weight": 0.4, "depth": 100, "reason": "tuned here"}
    parameters = server.get("/v2/models/encoder/config").json()["parameters"]
    assert parameters["default_search_mode"] == {"string_value": "hybrid"}


def test_bm25_gives_the_scores_of_the_datasets_index(server: InProcess, tuned: Sources) -> None:
    (expected,) = BM25(Dataset(Path(tuned.dataset_uri))).search([QUERY], 10)
    assert hits_of(server, mode="bm25") == {hit.passage_id: hit.score for hit in expected}
    assert hits_of(server, "qwz xqy", mode="bm25") == {}


def test_the_modes_rank_by_different_things_and_hybrid_scores_lie_between_0_and_1(server: InProcess) -> None:
    scores = {mode: hits_of(server, mode=mode, depth=30) for mode in MODES}
    assert len({tuple(hits) for hits in scores.values()}) == 3
    assert next(iter(scores["hybrid"])) == "glacier-danger"
    assert all(0 <= score <= 1 for score in scores["hybrid"].values())
    # The best in both has the whole of both shares.
    assert scores["hybrid"]["glacier-danger"] == pytest.approx(1.0)


@pytest.mark.parametrize("mode", MODES)
def test_only_named_passages_are_searched_and_each_is_scored(server: InProcess, mode: str) -> None:
    wanted = ["bakery-danger", "volcano-craft", "glacier-danger", "no-such-passage"]
    hits = hits_of(server, mode=mode, passage_ids=wanted)
    assert set(hits) == set(wanted[:3])
    assert next(iter(hits)) == "glacier-danger"
    assert set(hits_of(server, mode=mode, passage_ids=wanted, exclude_passage_ids=wanted[1:])) == {"bakery-danger"}


@pytest.mark.parametrize("mode", MODES)
def test_excluded_passages_are_no_hits_and_the_depth_is_filled_all_the_same(server: InProcess, mode: str) -> None:
    best, *others = hits_of(server, mode=mode, depth=3)
    if mode != "hybrid":  # where what is left out changes the scale of what is left
        assert list(hits_of(server, mode=mode, depth=2, exclude_passage_ids=[best])) == others
    assert best not in hits_of(server, mode=mode, depth=29, exclude_passage_ids=[best])
    assert len(hits_of(server, mode=mode, depth=29, exclude_passage_ids=[best])) == 29


def test_a_hybrid_filter_is_a_corpus_that_holds_nothing_else(server: InProcess) -> None:
    left_out = ["glacier-danger", "glacier-craft"]
    kept = [passage.passage_id for passage in PASSAGES if passage.passage_id not in left_out]
    assert hits_of(server, exclude_passage_ids=left_out) == hits_of(server, passage_ids=kept)


def test_a_query_that_is_too_long_for_the_encoder_is_searched_whole_by_words(server: InProcess) -> None:
    long = "danger " * 40 + "harbour"
    assert server.post("/search", query=long, mode="hybrid").status_code == 413
    assert "harbour-craft" in hits_of(server, long, mode="bm25", depth=30)
    cut = server.post("/search", query=long, mode="hybrid", truncate=True)
    assert (cut.status_code, cut.headers["retriever-truncated-texts"]) == (200, "1")


def test_a_batch_has_the_rankings_of_its_queries_alone(server: InProcess) -> None:
    queries = [QUERY, "craft of a violin", "season"]
    for mode in MODES:
        results = server.post("/search/batch", queries=queries, mode=mode).json()["results"]
        for query, result in zip(queries, results, strict=True):
            alone = hits_of(server, query, mode=mode)
            assert {hit["passage_id"]: hit["score"] for hit in result["hits"]} == pytest.approx(alone, abs=1e-6)
            assert result["mode"] == mode


def test_queries_are_counted_by_mode(tuned: Sources) -> None:
    server = InProcess(tuned.config())
    for mode, number in (("bm25", 3), ("dense", 2)):
        server.post("/search/batch", queries=["danger"] * number, mode=mode)
    text = server.get("/metrics").text
    server.close()
    # Three texts of warming up in every mode.
    counts = {
        mode: f'retriever_searches_total{{mode="{mode}"}} {3 + more}.0'
        for mode, more in zip(MODES, (2, 3, 0), strict=True)
    }
    assert all(line in text for line in counts.values()), text


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_without_a_dataset_there_are_no_words_to_search_by(without_dataset: InProcess, mode: str) -> None:
    for path, body in (("/search", {"query": QUERY}), ("/search/batch", {"queries": [QUERY]})):
        answer = without_dataset.post(path, **body, mode=mode)
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert f"mode: '{mode}' needs the words of the passages, and this server has no dataset" in message
        assert "--dataset-uri" in message


def test_without_a_dataset_dense_is_the_default(without_dataset: InProcess) -> None:
    assert without_dataset.post("/search", query=QUERY).json()["mode"] == "dense"
    facts = without_dataset.get("/readyz").json()
    assert (facts["modes"], facts["default_mode"]) == (["dense"], "dense")


def test_an_unknown_mode_is_refused_with_those_there_are(server: InProcess) -> None:
    answer = server.post("/search", query=QUERY, mode="sparse")
    assert answer.status_code == 400
    assert 'mode: "sparse" is not one of bm25, dense, hybrid' in answer.json()["error"]["message"]


def test_an_index_of_an_earlier_version_is_searched_dense_by_default(sources: Sources) -> None:
    server = InProcess(sources.config())
    answer = server.post("/search", query=QUERY).json()
    server.close()
    assert answer["mode"] == "dense"


@pytest.fixture
def evaluated(tmp_path: Path) -> EvaluateConfig:
    """Fifty test queries over the served passages, and everything that evaluate reads."""
    topics, aspects = ("volcano", "glacier", "violin", "bakery", "harbour"), ("history", "danger", "season", "craft")
    texts = [
        f"{aspect} of a {topic} {more}" for topic in topics for aspect in aspects for more in ("", "told", "plain")
    ]
    queries = [Query(f"q{number}", text) for number, text in enumerate(texts[:50])]
    dataset = tmp_path / "dataset"
    with artifact_writer("prepare", PrepareConfig(collection_uri="fifty", output_uri=str(dataset))) as artifact:
        writer = DatasetWriter(artifact.path, language="en")
        for passage in PASSAGES:
            writer.add_passage(passage)
        rows = [(Qrel(query.query_id, "glacier-danger", 1), "test") for query in queries]
        writer.finish([(query, "test") for query in queries], rows)
        build_bm25(Dataset(artifact.path), artifact.path / "bm25", scratch=artifact.scratch / "bm25")
    uris = {"dataset_uri": str(dataset), "output_uri": str(tmp_path / "evaluation")}
    words = words_of([passage.full_text for passage in PASSAGES])
    for seed, prefix in enumerate(("base_", "")):
        encoder = write_tiny_encoder(tmp_path / f"{prefix}encoder", seed, words)
        index = write_tiny_index(tmp_path / f"{prefix}index", dataset=dataset, encoder=encoder, fusion=TUNED)
        uris |= {f"{prefix}encoder_uri": str(encoder), f"{prefix}index_uri": str(index)}
    return EvaluateConfig(**uris, num_resamples=50)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "system"), [("hybrid", "hybrid_trained"), ("dense", "trained"), ("bm25", "bm25")])
def test_a_server_ranks_as_the_evaluation_did(evaluated: EvaluateConfig, mode: str, system: str) -> None:
    evaluate(evaluated)
    measured: dict[str, list[str]] = {}
    for line in (Path(evaluated.output_uri) / "runs" / f"{system}.trec").read_text().splitlines():
        query_id, _, passage_id, *_ = line.split(" ")
        measured.setdefault(query_id, []).append(passage_id)
    sources = Sources(evaluated.encoder_uri, evaluated.index_uri, evaluated.dataset_uri)
    server = InProcess(sources.config())
    served = {
        query.query_id: list(hits_of(server, query.text, mode=mode, depth=10))
        for query in Dataset(Path(evaluated.dataset_uri)).queries("test")
    }
    server.close()
    assert len(served) == 50
    assert served == {query_id: passage_ids[:10] for query_id, passage_ids in measured.items()}

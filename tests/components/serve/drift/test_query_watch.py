"""The server counts queries that are unlike those of its release, where the release says what those are like."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.shared.drift.expected import Expected
from components.shared.fusion.tuned import Fusion
from tests.components.serve.served import InProcess, write_sources

JUDGED, WITHOUT = "retriever_queries_judged_total", "retriever_queries_without_good_hit_total"
LANGUAGES = "retriever_query_languages_total"
GERMAN = "Warum ist die Flut am Abend nicht so hoch wie am Morgen?"
ENGLISH = "what is it that they told of the danger of a volcano"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    expected = Expected(0.6, 60, False, ["en"], "measured")
    folder = tmp_path_factory.mktemp("watched")
    sources = write_sources(folder, fusion=Fusion(weight=0.5, default_mode="hybrid"), expected=expected)
    server = InProcess(sources.config(sample_uri=str(folder / "sample")))
    yield server
    server.close()


def _numbers(server: InProcess) -> dict[str, float]:
    families = text_string_to_metric_families(server.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if not sample.name.endswith("_created")]
    return {sample.name + sample.labels.get("language", ""): sample.value for sample in samples}


def _counted(server: InProcess, *names: str, **body: object) -> list[float]:
    """By how much a search raises the counters."""
    before = _numbers(server)
    assert server.post("/search", **body).status_code == 200
    after = _numbers(server)
    return [after[name] - before[name] for name in names]


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_a_query_whose_best_score_is_below_that_of_the_releases_own_has_no_good_hit(
    server: InProcess, mode: str
) -> None:
    for query in ("danger of a volcano", "unheard"):
        (hit,) = server.post("/search", query=query, mode="dense", depth=1).json()["hits"]
        is_good = hit["score"] >= 0.6
        assert is_good == (query != "unheard"), hit
        assert _counted(server, JUDGED, WITHOUT, query=query, mode=mode) == [1, not is_good]


@pytest.mark.parametrize("body", [{"mode": "bm25"}, {"passage_ids": ["volcano-danger"]}])
def test_words_alone_and_a_choice_of_passages_are_not_judged(server: InProcess, body: dict[str, object]) -> None:
    assert _counted(server, JUDGED, WITHOUT, query="danger", **body) == [0, 0]


def test_a_language_of_no_passage_and_no_query_of_the_release_is_counted(server: InProcess) -> None:
    names = [f"{LANGUAGES}{name}" for name in ("seen", "unseen", "undecided")]
    assert _counted(server, *names, query=ENGLISH) == [1, 0, 0]
    assert _counted(server, *names, query=GERMAN) == [0, 1, 0]
    assert _counted(server, *names, query="volcano") == [0, 0, 1]


def test_a_release_that_does_not_say_is_not_counted_and_the_log_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = InProcess(write_sources(tmp_path).config())
    try:
        server.post("/search", query="volcano")
        assert not {JUDGED, WITHOUT, f"{LANGUAGES}seen"} & set(_numbers(server))
    finally:
        server.close()
    said = capsys.readouterr().err
    assert "queries without a good hit are not counted" in said
    assert "the index was made by an earlier version; build it again" in said


def test_the_counters_come_and_go_with_the_release(tmp_path: Path) -> None:
    expected = Expected(0.6, 60, False, [], "measured")
    with_it = write_sources(tmp_path / "with", expected=expected)
    without = write_sources(tmp_path / "without", seed=1)
    server = InProcess(without.config())
    try:
        assert JUDGED not in _numbers(server)
        service = server.service
        for sources, is_there in ((with_it, True), (without, False), (with_it, True)):
            service.config = replace(service.config, encoder_uri=sources.encoder_uri, index_uri=sources.index_uri)
            service.config = replace(service.config, dataset_uri=sources.dataset_uri)
            assert server.run(service.reload())
            assert (JUDGED in _numbers(server)) == is_there
            # Of languages it says nothing.
            assert f"{LANGUAGES}seen" not in _numbers(server)
    finally:
        server.close()


def test_answered_queries_are_sampled_and_our_own_warm_up_is_not(server: InProcess) -> None:
    sampler = server.service._sampler
    assert sampler is not None
    before = sampler._num_seen
    server.post("/search/batch", queries=["sampled one", "sampled two"])
    assert sampler._num_seen == before + 2
    assert not [query for query in sampler._kept if query.text.startswith("warm")]

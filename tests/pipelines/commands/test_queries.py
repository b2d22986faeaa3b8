"""When a run has an LLM write the queries, and what the estimate says of that."""

from pathlib import Path

import pytest

from pipelines.commands.queries import NUM_QUERIES, with_queries
from pipelines.settings import complete

_CORPUS = '{"_id": "p1", "title": "", "text": "words"}\n'


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus.jsonl").write_text(_CORPUS)
    return tmp_path


def test_a_collection_without_queries_is_asked_about(corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = complete({"ask": {"llm_uri": "llm"}})
    assert with_queries(settings, corpus)["ask"]["num_queries"] == NUM_QUERIES
    # The settings that were given stay as they are.
    assert settings["ask"]["num_queries"] == 0
    assert "an LLM will write them" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["queries.jsonl", "queries.jsonl.gz", "queries_unlabeled.jsonl", "queries.tsv"])
def test_a_collection_with_queries_is_left_alone_in_whatever_form_they_are(corpus: Path, name: str) -> None:
    (corpus / name).write_text("")
    settings = complete({})
    assert with_queries(settings, corpus) == settings


def test_who_says_how_many_is_obeyed(corpus: Path) -> None:
    settings = complete({"ask": {"llm_uri": "llm", "num_queries": 7}})
    assert with_queries(settings, corpus) == settings


def test_a_folder_that_is_not_there_is_for_prepare_to_refuse(tmp_path: Path) -> None:
    settings = complete({})
    assert with_queries(settings, tmp_path / "nowhere") == settings

"""What goes before texts: the user's word, else the folder's, else the makers'; nothing of it in silence."""

from pathlib import Path

import pytest

from components.shared import checkpoint
from components.shared.encoding.instructions import NO_PREFIX, Prefixes, chosen
from tests.offline_hub import HubCache, offline_hub  # noqa: F401 a fixture
from tests.tiny_checkpoint import write_tiny_checkpoint

_LIMITS = {"query_tokens": 32, "passage_tokens": 64}
_SEARCH = "Represent this sentence for searching relevant passages: "
_ASK = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("intfloat/e5-base-v2", "query: ", "passage: "),
        ("intfloat/multilingual-e5-small@main", "query: ", "passage: "),
        ("intfloat/multilingual-e5-large-instruct", f"{_ASK} ", ""),
        ("intfloat/e5-mistral-7b-instruct", f"{_ASK} ", ""),
        ("Alibaba-NLP/gte-Qwen2-1.5B-instruct", f"{_ASK} ", ""),
        ("Qwen/Qwen3-Embedding-0.6B", _ASK, ""),
        ("BAAI/bge-small-en-v1.5", _SEARCH, ""),
        ("BAAI/bge-m3", "", ""),
        ("mixedbread-ai/mxbai-embed-large-v1", _SEARCH, ""),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", _SEARCH, ""),
        ("Snowflake/snowflake-arctic-embed-m-v2.0", "query: ", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("nomic-ai/modernbert-embed-base", "search_query: ", "search_document: "),
        ("google/embeddinggemma-300m", "task: search result | query: ", "title: none | text: "),
        ("Alibaba-NLP/gte-modernbert-base", "", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("someone/e5-base-v2", "", ""),
    ],
)
def test_a_hub_name_gets_what_its_makers_put_before_texts(name: str, query: str, passage: str) -> None:
    assert chosen(name, asked=Prefixes(), of_folder=Prefixes()) == Prefixes(query, passage)


def test_the_users_word_counts_more_than_the_folders_and_that_more_than_the_makers() -> None:
    name, folder = "intfloat/e5-base-v2", Prefixes("folder: ", "")
    assert chosen(name, asked=Prefixes(), of_folder=folder) == folder
    assert chosen(name, asked=Prefixes("mine: "), of_folder=folder) == Prefixes("mine: ", "")
    assert chosen(name, asked=Prefixes("mine: "), of_folder=Prefixes()) == Prefixes("mine: ", "passage: ")
    assert chosen(name, asked=Prefixes(NO_PREFIX, NO_PREFIX), of_folder=folder) == Prefixes()


def test_a_hub_model_is_loaded_with_its_makers_prefixes_and_says_so(
    tmp_path: Path,
    offline_hub: HubCache,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    snapshot = offline_hub.add("intfloat/e5-small-v2", _bare(tmp_path / "model"))
    for uri in ("intfloat/e5-small-v2", str(snapshot)):
        settings = checkpoint.load(uri, **_LIMITS).settings
        assert (settings.query_prefix, settings.passage_prefix) == ("query: ", "passage: ")
        assert "prefixes that the model's makers name" in capsys.readouterr().err
    none = checkpoint.load("intfloat/e5-small-v2", query_prefix="none", passage_prefix="none", **_LIMITS).settings
    assert (none.query_prefix, none.passage_prefix) == ("", "")


def test_a_folder_with_the_name_of_such_a_model_is_warned_of_unless_prefixes_are_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(_bare(tmp_path / "e5-small-v2"))
    assert checkpoint.load(folder, **_LIMITS).settings.query_prefix == ""
    assert "whose makers put prefixes before texts, and does not say them" in capsys.readouterr().err
    checkpoint.load(folder, query_prefix="query: ", **_LIMITS)
    checkpoint.load(str(_bare(tmp_path / "mine")), **_LIMITS)
    assert "whose makers" not in capsys.readouterr().err


def _bare(folder: Path) -> Path:
    """A Hugging Face folder that says nothing of vectors or prefixes."""
    write_tiny_checkpoint(folder, ["ice", "query", "passage", ":"])
    for name in ("modules.json", "config_sentence_transformers.json", checkpoint.SETTINGS_NAME):
        (folder / name).unlink()
    return folder

"""Encoders are compared like for like, or the report says in its first line how they differ."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.config import EvaluateConfig
from components.evaluate.job import evaluate
from components.evaluate.likeness import check, find_differences, lower_cases, measure_cuts, properties
from components.evaluate.summary import summary_table
from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder
from components.shared.fusion.tuned import Fusion
from components.shared.index import IndexSettings
from components.shared.records import Passage, Query
from tests.components.evaluate.conftest import read_collection, write_dataset
from tests.tiny_encoder import write_tiny_encoder, write_tiny_encoder_files, write_tiny_index

INDEX = IndexSettings("digest", 32, "Flat", "", 30)


def properties_of(folder: Path, index: IndexSettings = INDEX, **settings: object) -> dict[str, Any]:
    folder.mkdir()
    write_tiny_encoder_files(folder, 0, ["one", "two"], **settings)  # type: ignore[arg-type]
    return properties(Encoder(folder, num_threads=1), folder, index, Fusion())


def with_other_encoder(config: EvaluateConfig, folder: Path, **settings: object) -> EvaluateConfig:
    """The trained encoder and its index, made again with other settings."""
    encoder = write_tiny_encoder(folder / "other-encoder", 1, ["volcano", "glacier"], **settings)  # type: ignore[arg-type]
    index = write_tiny_index(folder / "other-index", dataset=Path(config.dataset_uri), encoder=encoder)
    return replace(config, encoder_uri=str(encoder), index_uri=str(index))


def test_equal_settings_are_like_for_like_whatever_the_weights_and_the_dimension(tmp_path: Path) -> None:
    base, trained = (properties_of(tmp_path / f"{size}", dimension=size) for size in (8, 32))
    assert find_differences(base, trained) == []


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"passage_tokens": 140}, "passage_tokens 64 against 140"),
        ({"dimensions": 16}, "dimensions 0 against 16"),
        ({"query_tokens": 16}, "query_tokens 32 against 16"),
        ({"pooling": "cls"}, "pooling mean against cls"),
        ({"normalise": False}, "normalise yes against no"),
        ({"query_prefix": "query: "}, "query_prefix '' against 'query: '"),
        ({"passage_prefix": "passage: "}, "passage_prefix '' against 'passage: '"),
    ],
)
def test_each_setting_of_an_encoder_is_compared(tmp_path: Path, settings: dict[str, Any], difference: str) -> None:
    found = find_differences(properties_of(tmp_path / "base"), properties_of(tmp_path / "trained", **settings))
    assert found == [difference]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"variant": "int8"}, "passage_graph fp32 against int8"),
        ({"vector_dtype": "float16"}, "vector_dtype float32 against float16"),
        ({"factory": "IVF64,Flat"}, "index_factory Flat against 'IVF64,Flat'"),
    ],
)
def test_each_property_of_an_index_is_compared(tmp_path: Path, change: dict[str, Any], difference: str) -> None:
    base = properties_of(tmp_path / "base")
    assert find_differences(base, properties_of(tmp_path / "trained", replace(INDEX, **change))) == [difference]


def test_what_vectors_may_be_cut_to_may_differ(tmp_path: Path) -> None:
    base, trained = properties_of(tmp_path / "base"), properties_of(tmp_path / "trained", matryoshka=[16, 8])
    assert find_differences(base, trained) == []


def test_the_search_parameters_that_an_index_was_tuned_to_may_differ(tmp_path: Path) -> None:
    tuned = replace(INDEX, search_parameters="nprobe=8")
    assert find_differences(properties_of(tmp_path / "base"), properties_of(tmp_path / "trained", tuned)) == []


@pytest.mark.parametrize(
    ("normalizer", "lowers"),
    [
        (None, False),
        ({"type": "NFC"}, False),
        ({"type": "Lowercase"}, True),
        ({"type": "BertNormalizer", "lowercase": True}, True),
        ({"type": "BertNormalizer", "lowercase": False}, False),
        ({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}, True),
        ({"type": "Sequence", "normalizers": [{"type": "NFD"}]}, False),
    ],
)
def test_lower_casing_is_read_from_the_tokenizer(
    tmp_path: Path, normalizer: Mapping[str, Any] | None, lowers: bool
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"normalizer": normalizer}))
    assert lower_cases(path) is lowers


def test_a_property_that_only_one_of_them_has_is_a_difference() -> None:
    assert find_differences({"a": 1}, {"a": 1, "b": True}) == ["b not set against yes"]


def test_every_difference_is_named_with_the_remedy() -> None:
    check([], allowed=False)
    check(["a 1 against 2"], allowed=True)
    with pytest.raises(ValueError, match=r"not like for like: a 1 against 2; b x against y.*--allow-unlike yes"):
        check(["a 1 against 2", "b x against y"], allowed=False)


def test_an_unlike_comparison_is_refused_before_anything_is_searched(config: EvaluateConfig, tmp_path: Path) -> None:
    unlike = with_other_encoder(config, tmp_path, passage_tokens=140, query_prefix="query: ")
    with pytest.raises(
        ValueError, match=r"passage_tokens 64 against 140; query_prefix '' against 'query: '.*--allow-unlike yes"
    ):
        evaluate(unlike)
    assert not list(tmp_path.glob("evaluation*"))


def test_an_unlike_comparison_that_was_asked_for_says_so_in_every_first_line(
    config: EvaluateConfig, tmp_path: Path
) -> None:
    unlike = with_other_encoder(config, tmp_path, passage_tokens=140)
    evaluate(replace(unlike, allow_unlike="yes"))
    folder = Path(config.output_uri)
    metrics = json.loads((folder / "metrics.json").read_text())
    sentence = "Not like for like: passage_tokens 64 against 140 (base against trained)."
    assert metrics["headline"].startswith(f"{sentence} Training ")
    assert summary_table(metrics).splitlines()[0] == sentence
    body = (folder / "report.html").read_text().split("<main>")[1]
    assert body.index(sentence) < body.index("<h1>")
    assert json.loads((folder / "manifest.json").read_text())["metrics"]["like_for_like"] == 0


def test_a_like_for_like_comparison_says_nothing_of_it(config: EvaluateConfig) -> None:
    evaluate(config)
    folder = Path(config.output_uri)
    assert json.loads((folder / "metrics.json").read_text())["unlike"] == []
    assert "Not like for like" not in (folder / "report.html").read_text()


def test_texts_longer_than_the_encoder_reads_are_counted(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    # With [CLS] and [SEP] a text of n words has n + 2 tokens: of 8 tokens 6 words are read.
    passages = [Passage(f"{n}", "", " ".join(["one"] * n)) for n in range(1, 11)]
    queries = [Query("short", "one two"), Query("as long as can be", "one two one"), Query("cut", "one two one two")]
    dataset = make_dataset(passages, {"test": queries}, {})
    (tmp_path / "encoder").mkdir()
    write_tiny_encoder_files(tmp_path / "encoder", 0, ["one", "two"], query_tokens=5, passage_tokens=8)
    found = measure_cuts(Encoder(tmp_path / "encoder", num_threads=1), dataset, queries, seed=1)
    assert (found["num_queries"], found["queries"]) == (3, pytest.approx(1 / 3))
    assert (found["num_passages"], found["passages"]) == (10, pytest.approx(4 / 10))
    assert (found["query_tokens"], found["passage_tokens"]) == (5, 8)


def test_a_text_of_white_space_or_of_one_endless_word_is_not_cut(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    # Far more characters than the tokenizer is given at first, and hardly a token.
    passages = [Passage("a", "", "x" * 5000), Passage("b", "", " " * 5000 + "one"), Passage("c", "", "one " * 5000)]
    dataset = make_dataset(passages, {"test": [Query("q", "one")]}, {})
    (tmp_path / "encoder").mkdir()
    write_tiny_encoder_files(tmp_path / "encoder", 0, ["one"], passage_tokens=8)
    found = measure_cuts(Encoder(tmp_path / "encoder", num_threads=1), dataset, dataset.queries(), seed=1)
    assert found["passages"] == pytest.approx(1 / 3)


def test_a_large_corpus_is_sampled_by_the_seed(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    generator = random.Random(0)
    passages = [Passage(f"{n}", "", " ".join(["one"] * generator.choice((2, 20)))) for n in range(2500)]
    dataset = make_dataset(passages, {"test": [Query("q", "one")]}, {})
    (tmp_path / "encoder").mkdir()
    write_tiny_encoder_files(tmp_path / "encoder", 0, ["one"], passage_tokens=8)
    encoder = Encoder(tmp_path / "encoder", num_threads=1)
    first, again, other = (measure_cuts(encoder, dataset, dataset.queries(), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["passages"] != other["passages"]
    assert first["num_passages"] == 2000
    # Half of the corpus is cut; the standard error of a sample of 2,000 is below 0.012.
    assert first["passages"] == pytest.approx(0.5, abs=0.05)


def test_the_report_says_what_is_cut_and_what_bm25_does_not_find(tmp_path: Path, tiny_collection: Path) -> None:
    passages, queries, qrels = read_collection(tiny_collection)
    # Words that no passage holds: BM25 has no hit, an encoder always has.
    foreign = [replace(query, text="qwz xqy") for query in queries["test"][:3]]
    queries["test"] = foreign + queries["test"][3:]
    dataset = write_dataset(tmp_path / "dataset", passages, queries, qrels)
    uris = {}
    for seed, name in enumerate(("base", "trained")):
        encoder = write_tiny_encoder(tmp_path / f"{name}-encoder", seed, ["volcano"], passage_tokens=5)
        index = write_tiny_index(tmp_path / f"{name}-index", dataset=dataset, encoder=encoder)
        uris[name] = (str(encoder), str(index))
    config = EvaluateConfig(
        dataset_uri=str(dataset),
        base_encoder_uri=uris["base"][0],
        base_index_uri=uris["base"][1],
        encoder_uri=uris["trained"][0],
        index_uri=uris["trained"][1],
        output_uri=str(tmp_path / "evaluation"),
        num_resamples=50,
    )
    evaluate(config)
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert metrics["num_without_hits"] == {"bm25": 3, "base": 0, "trained": 0} | {
        f"hybrid_{name}": 0 for name in ("base", "trained")
    }
    assert ", which finds nothing at all for 50% of the queries" in metrics["headline"]
    assert any(note.startswith("BM25 finds no passage at all for 3 of 6 judged") for note in metrics["notes"])
    assert metrics["cut"]["base"] == metrics["cut"]["trained"]
    assert metrics["cut"]["trained"]["passages"] == 1.0
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "base encoder 0.0% of 6 queries (longer than 32 tokens) and 100.0% of 30 passages (longer than 5)" in page
    assert "Longer maximum lengths may change the result." in page

"""A data set of ir_datasets becomes a collection; those used here are registered by the test, nothing is fetched."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from components.prepare.catalogue.config import CatalogueConfig
from components.prepare.catalogue.job import fetch_collection
from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared.dataset import Dataset
from components.shared.launch import TransientError
from components.shared.manifest import open_artifact, read_manifest

NAME = "tiny/lakes/test"


class Titled(NamedTuple):
    doc_id: str
    title: str
    text: str


class Parted(NamedTuple):
    doc_id: str
    headline: str
    body: str

    def default_text(self) -> str:
        return f"{self.headline} {self.body}"


class Asked(NamedTuple):
    query_id: str
    text: str
    narrative: str
    answers: tuple[str, ...]

    def default_text(self) -> str:
        return self.text


DOCUMENTS = [
    Titled("d1", "Lake Constance", "It is fed by the Rhine."),
    Parted("d2", "Lake Geneva", "The Rhone flows through it."),
    Titled("d3", "", "A pond is no lake."),
]
QUERIES = [
    Asked("q1", "which river feeds lake constance", "The river's name.", ("Rhine", "the Rhine")),
    Asked("q2", "what flows through lake geneva", "", ()),
    Asked("q3", "what nobody judged", "", ()),
]
QRELS = [("q1", "d1", 2), ("q1", "d3", -2), ("q2", "d2", 1)]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """ir_datasets with a home of its own, which it makes when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IR_DATASETS_HOME", str(tmp_path_factory.mktemp("home")))
        yield pytest.importorskip("ir_datasets")


def register(catalogue: Any, name: str, documents: Any, queries: Any = QUERIES) -> None:
    """A data set that is in memory; its records come from functions, as from files that are read or downloaded."""
    formats = catalogue.formats

    class Documents(formats.BaseDocs):  # type: ignore[misc]
        def docs_iter(self) -> Iterator[Any]:
            return iter(documents())

        def docs_count(self) -> int:
            return len(DOCUMENTS)

    class Queries(formats.BaseQueries):  # type: ignore[misc]
        def queries_iter(self) -> Iterator[Any]:
            return iter(queries)

    class Qrels(formats.BaseQrels):  # type: ignore[misc]
        def qrels_iter(self) -> Iterator[Any]:
            return (formats.GenericQrel(*row) for row in QRELS)

    catalogue.registry._registered.pop(name, None)
    catalogue.registry.register(name, catalogue.Dataset(Documents(), Queries(), Qrels()))


def fetched(folder: Path, **changes: Any) -> Path:
    config = CatalogueConfig(**{"dataset_id": NAME, "output_uri": str(folder / "collection"), **changes})
    fetch_collection(config)
    return open_artifact(config.output_uri)


def test_an_id_becomes_a_collection_that_prepare_reads(catalogue: Any, tmp_path: Path) -> None:
    register(catalogue, NAME, lambda: DOCUMENTS)
    folder = fetched(tmp_path, split="dev")
    assert [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()] == [
        {"_id": "d1", "title": "Lake Constance", "text": "It is fed by the Rhine."},
        {"_id": "d2", "title": "", "text": "Lake Geneva The Rhone flows through it."},
        {"_id": "d3", "title": "", "text": "A pond is no lake."},
    ]
    metrics = read_manifest(str(folder)).metrics
    assert (metrics["num_passages"], metrics["num_queries"], metrics["num_judged_queries"]) == (3, 2, 2)
    prepare(PrepareConfig(collection_uri=str(folder), output_uri=str(tmp_path / "dataset")))
    dataset = Dataset(tmp_path / "dataset")
    # Grades below 0 are spam, which is as good as not relevant; a query that nobody judged is left out.
    assert dataset.qrels("dev") == {"q1": {"d1": 2, "d3": 0}, "q2": {"d2": 1}}
    assert [(query.query_id, query.answers) for query in dataset.queries("dev")] == [
        ("q1", ("Rhine", "the Rhine")),
        ("q2", ()),
    ]


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(ValueError, match=r"ir_datasets:tiny/lakes/test: .*not installed.*\[ir-datasets\].*BEIR layout"):
        fetched(tmp_path)


def test_an_id_that_nobody_knows_or_that_nobody_judged_is_refused(catalogue: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ir_datasets:tiny/seas: ir_datasets .* knows no such id"):
        fetched(tmp_path, dataset_id="tiny/seas")
    catalogue.registry._registered.pop("tiny/unjudged", None)
    catalogue.registry.register("tiny/unjudged", catalogue.Dataset(catalogue.formats.BaseDocs()))
    with pytest.raises(ValueError, match=r"tiny/unjudged: has no queries and no qrels"):
        fetched(tmp_path, dataset_id="tiny/unjudged")
    assert not (tmp_path / "collection").exists()
    with pytest.raises(ValueError, match="write the id alone"):
        CatalogueConfig(dataset_id=f"ir_datasets:{NAME}", output_uri="")


def test_without_a_network_it_says_what_is_needed_and_leaves_nothing_finished(catalogue: Any, tmp_path: Path) -> None:
    def cut_off() -> Iterator[Any]:
        yield DOCUMENTS[0]
        raise ConnectionError("no route to host")

    register(catalogue, NAME, cut_off)
    with pytest.raises(TransientError, match=r"cannot be downloaded \(ConnectionError: no route.*IR_DATASETS_HOME"):
        fetched(tmp_path)
    assert not (tmp_path / "collection").exists()
    register(catalogue, NAME, lambda: DOCUMENTS)
    assert fetched(tmp_path).is_dir()


def test_what_may_not_be_downloaded_is_told_apart_from_a_missing_network(catalogue: Any, tmp_path: Path) -> None:
    # At once, and not while its records are read: data sets do both.
    def by_hand() -> Iterator[Any]:
        raise FileNotFoundError("/home/lakes.tar.gz")

    register(catalogue, NAME, by_hand)
    with pytest.raises(ValueError, match=r"/home/lakes.tar.gz is not there, and ir_datasets may not download it"):
        fetched(tmp_path)

"""The recipe of catalogue: judgements first, then the queries that they judge, then every document.

A data set's records have the fields of their source. A document with `text` keeps its `title` apart; of any other the
text is what ir_datasets itself takes for one (`default_text`). Negative grades (spam) are left to prepare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from components.prepare.beir import CORPUS_NAME, QRELS_HEADER, QUERIES_NAME
from components.prepare.catalogue.config import CatalogueConfig
from components.prepare.layout import QRELS_FOLDER
from components.shared import log
from components.shared.launch import TransientError
from components.shared.manifest import artifact_writer

_WANTED = ("docs", "queries", "qrels")


def fetch_collection(config: CatalogueConfig) -> None:
    """Writes the data set of an id as a collection in BEIR layout.

    Raises:
        ValueError: Where ir_datasets is not installed, does not know the id, or the data set lacks a part.
        TransientError: Where it cannot be downloaded.
    """
    dataset = open_known(config.dataset_id)
    with artifact_writer("prepare.catalogue", config) as artifact:
        judged = _write_qrels(artifact.path / QRELS_FOLDER / f"{config.split}.tsv", dataset, config.dataset_id)
        queries = (_query(query) for query in _read(dataset.queries_iter, config.dataset_id))
        num_queries = _write_lines(artifact.path / QUERIES_NAME, (row for row in queries if row["_id"] in judged))
        (total,) = _read(lambda: [dataset.docs_count()], config.dataset_id)
        with log.Progress(f"writing {CORPUS_NAME}", total=total, unit="passages") as bar:
            documents = _read(dataset.docs_iter, config.dataset_id)
            num_passages = _write_lines(artifact.path / CORPUS_NAME, map(_passage, documents), bar)
        artifact.metrics |= {
            "dataset_id": config.dataset_id,
            "num_passages": num_passages,
            "num_queries": num_queries,
            "num_judged_queries": len(judged),
            "version": metadata.version("ir_datasets"),
        }


def open_known(dataset_id: str) -> Any:  # noqa: ANN401 ir_datasets ships no types
    """The data set of an id, nothing of it downloaded yet.

    Raises:
        ValueError: Where ir_datasets is not installed, does not know the id, or the data set lacks a part.
    """
    try:
        # Imported here: an extra that only this address needs.
        import ir_datasets
    except ImportError as error:
        raise ValueError(
            f"ir_datasets:{dataset_id}: ir_datasets is not installed; install the extra (pip install "
            "'retriever-pipeline[ir-datasets]'), or name a folder in BEIR layout"
        ) from error
    try:
        dataset = ir_datasets.load(dataset_id)
    except KeyError as error:
        raise ValueError(
            f"ir_datasets:{dataset_id}: ir_datasets {ir_datasets.__version__} knows no such id; "
            "https://ir-datasets.com lists those that there are"
        ) from error
    if missing := [part for part in _WANTED if not dataset.has(part)]:
        raise ValueError(
            f"ir_datasets:{dataset_id}: has no {' and no '.join(missing)}; name one of its subsets that is judged, "
            f"such as {dataset_id}/test where there is one"
        )
    return dataset


def _read(records: Callable[[], Iterable[Any]], dataset_id: str) -> Iterator[Any]:
    """The records; what fails while they are read has failed to be downloaded, or was never put there.

    They are asked for here and not by the caller, because some data sets are downloaded then and others at the first.
    """
    try:
        yield from records()
    except FileNotFoundError as error:
        raise ValueError(
            f"ir_datasets:{dataset_id}: {error} is not there, and ir_datasets may not download it; it says above "
            "how to get it"
        ) from error
    except (OSError, RuntimeError) as error:
        raise TransientError(
            f"ir_datasets:{dataset_id}: cannot be downloaded ({type(error).__name__}: {error}); this needs a network "
            "the first time. Without one, copy the folder IR_DATASETS_HOME (default ~/.ir_datasets) from where it was "
            "read before, or name a folder in BEIR layout"
        ) from error


def _write_qrels(path: Path, dataset: Any, dataset_id: str) -> set[str]:  # noqa: ANN401 ir_datasets ships no types
    """Writes the judgements and gives the ids of the queries that they judge."""
    path.parent.mkdir(exist_ok=True)
    judged: set[str] = set()
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{QRELS_HEADER}\n")
        for qrel in _read(dataset.qrels_iter, dataset_id):
            judged.add(qrel.query_id)
            file.write(f"{qrel.query_id}\t{qrel.doc_id}\t{qrel.relevance}\n")
    return judged


def _write_lines(path: Path, rows: Iterable[dict[str, Any]], bar: log.Progress | None = None) -> int:
    count = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps(row) + b"\n")
            count += 1
            if bar is not None:
                bar.add()
    return count


def _query(query: Any) -> dict[str, Any]:  # noqa: ANN401 ir_datasets ships no types
    answers = getattr(query, "answers", ())
    texts = [answer for answer in answers if isinstance(answer, str)] if isinstance(answers, list | tuple) else []
    return {"_id": query.query_id, "text": query.default_text()} | ({"answers": texts} if texts else {})


def _passage(document: Any) -> dict[str, Any]:  # noqa: ANN401 ir_datasets ships no types
    if isinstance(text := getattr(document, "text", None), str):
        title = getattr(document, "title", "")
        return {"_id": document.doc_id, "title": title if isinstance(title, str) else "", "text": text}
    return {"_id": document.doc_id, "title": "", "text": document.default_text()}

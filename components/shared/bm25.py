"""BM25 over a dataset: the lexical half of mining and of hybrid search, and the baseline of every evaluation.

Lucene's variant with k1 0.9 and b 0.4 over title and text, in English with the Porter stemmer and Lucene's stop words:
the setting whose figures the literature quotes. Other languages have their own stemmers, stop words and borders of
words; the language is the dataset's, and is kept with the index, so that queries are read as passages were.
Source: Robertson and Zaragoza 2009; parameters of Anserini's MS MARCO passage runs.

The index is a folder of the dataset's artifact, written by prepare and covered by the artifact's digest: every reader
opens it and none builds it. It is built in blocks on disk and searched through memory maps, so that 8.8 million
passages need neither the corpus nor the scores in memory: what stays resident is the vocabulary and one score a
passage. The layout is bm25s's own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# bm25s tries JAX at its import where there is one, and JAX takes three quarters of a GPU's memory at once.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
import bm25s
import numpy as np
import orjson
import pyarrow as pa
from jaxtyping import Float32, Int64

from components.shared import log
from components.shared.dataset import Dataset
from components.shared.language.detection import SAMPLE_TEXTS, detect_language
from components.shared.language.terms import Terms
from components.shared.language.words import RULES_VERSION
from components.shared.records import Hit

K1, B = 0.9, 0.4

# Folder of a dataset that holds its index.
BM25_NAME = "bm25"
# Passages tokenised at once, and what a killed build loses: their words as Python integers take about 50 MiB.
_BLOCK_PASSAGES = 16_384
_DATA, _INDICES, _INDPTR = "data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy"
_VOCABULARY, _PARAMETERS, _IDS = "vocab.index.json", "params.index.json", "passage_ids.arrow"
_RULES = "rules.json"
# A larger share of queries without a hit is a sign of another language or of broken texts.
_LARGEST_SHARE_WITHOUT_HIT = 0.05


class BM25:
    """The BM25 index of one dataset; equal scores rank in passage-id order.

    Attributes:
        language: Code of the language that passages and queries are read in.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Opens the index that lies in the dataset's folder.

        A dataset that an earlier version wrote has none, or one whose words were made by other rules: then it is built
        into a temporary folder, and a warning says so.
        """
        folder = dataset.folder / BM25_NAME
        if not _is_readable(folder):
            folder = self._build_temporary(dataset)
        self.language: str = orjson.loads((folder / _RULES).read_bytes())["language"]
        self._terms = Terms(self.language)
        self._retriever = bm25s.BM25.load(folder, mmap=True, show_progress=False)
        # Plain views into the same maps: numpy's add.at has its fast path for them only.
        for name in ("data", "indices", "indptr"):
            self._retriever.scores[name] = np.asarray(self._retriever.scores[name])
        # One gather for all hits of a query: looking each up in the dataset made a query three times as long.
        self._passage_ids = pa.ipc.open_file(pa.memory_map(str(folder / _IDS))).get_batch(0).column(0)

    @property
    def passage_ids(self) -> pa.Array:
        """The passage id of each row, in the dataset's order; a view into the memory map."""
        return self._passage_ids

    def unknown_terms(self, queries: Sequence[str]) -> list[list[str]]:
        """The terms of each query that no passage holds."""
        known = self._retriever.vocab_dict
        return [[term for term in terms if term not in known] for terms in self._terms.of(queries)]

    def search(self, queries: Sequence[str], depth: int) -> list[list[Hit]]:
        """The best `depth` passages with a score above 0 of each query, best first."""
        return [self._hits(*ranking) for ranking in self.search_rows(queries, depth)]

    def search_rows(
        self, queries: Sequence[str], depth: int
    ) -> list[tuple[Int64[np.ndarray, " _"], Float32[np.ndarray, " _"]]]:
        """As `search`, rows and scores in descending order; which of equal scores come first is not said."""
        if not queries:
            return []
        depth = min(depth, len(self._passage_ids))
        rows, scores = self._retriever.retrieve(self._terms.of(queries), k=depth, show_progress=False, n_threads=0)
        return [(row[score > 0].astype(np.int64), score[score > 0]) for row, score in zip(rows, scores, strict=True)]

    def scores_of(
        self, queries: Sequence[str], rows: Sequence[Int64[np.ndarray, " _"]]
    ) -> list[Float32[np.ndarray, " _"]]:
        """The score of each query with passages of its own, to the last bit that of `search`; 0 without a shared word.

        Each word's postings are searched for the rows instead of added up over the corpus.

        Args:
            queries: Texts.
            rows: For each query the rows of its passages in the dataset, in any order.
        """
        return [self._scores(terms, wanted) for terms, wanted in zip(self._terms.of(queries), rows, strict=True)]

    def _scores(self, terms: list[str], rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, " row"]:
        postings = self._retriever.scores
        scores = np.zeros(len(rows), dtype=np.float32)
        wanted = rows.astype(np.int32)
        # In the order of the query's words, as the search adds them: sums of float32 depend on it.
        for word in self._retriever.get_tokens_ids(terms):
            start, stop = postings["indptr"][word], postings["indptr"][word + 1]
            owners = postings["indices"][start:stop]
            places = np.searchsorted(owners, wanted)
            is_owner = places < len(owners)
            is_owner[is_owner] = owners[places[is_owner]] == wanted[is_owner]
            scores[is_owner] += postings["data"][start:stop][places[is_owner]]
        return scores

    def _build_temporary(self, dataset: Dataset) -> Path:
        log.warning(
            "the dataset has no BM25 index that this version reads, so one is built for this job alone; run prepare "
            "again, and it is built once",
            dataset=str(dataset.folder),
        )
        folder = Path(tempfile.mkdtemp(prefix="bm25-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        build_bm25(dataset, folder / "index", scratch=folder / "blocks")
        return folder / "index"

    def _hits(self, rows: Int64[np.ndarray, " depth"], scores: Float32[np.ndarray, " depth"]) -> list[Hit]:
        passage_ids = self._passage_ids.take(pa.array(rows)).to_pylist()
        hits = [
            Hit(passage_id, score) for passage_id, score in zip(passage_ids, scores.tolist(), strict=True) if score > 0
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.passage_id))


def warn_without_hit(num_without_hit: int, num_queries: int, *, language: str) -> None:
    """Logs a warning where more than one query in twenty has no lexical hit.

    Args:
        num_without_hit: Queries for which `search` returned an empty list.
        num_queries: Queries searched.
        language: That of the index.
    """
    if num_queries and num_without_hit > _LARGEST_SHARE_WITHOUT_HIT * num_queries:
        log.warning(
            "queries share no word with any passage; if passages or queries are in another language than the one named "
            "here, set prepare.language",
            num_without_hit=num_without_hit,
            num_queries=num_queries,
            share=round(num_without_hit / num_queries, 4),
            language=language,
        )


def _language(dataset: Dataset) -> str:
    """The dataset's own, or where it does not say, the one that a sample of its passages is in."""
    if dataset.language:
        return dataset.language
    step = max(1, dataset.num_passages // SAMPLE_TEXTS)
    return detect_language(dataset.passage_at(row).full_text for row in range(0, dataset.num_passages, step)).language


def _rules(language: str) -> dict[str, Any]:
    """What decides the words of a passage and what they weigh."""
    return {"language": language, "words": RULES_VERSION, "k1": K1, "b": B}


def _is_readable(folder: Path) -> bool:
    if not (folder / _RULES).is_file():
        return False
    rules = orjson.loads((folder / _RULES).read_bytes())
    return bool(rules == _rules(rules.get("language", "")))


def build_bm25(dataset: Dataset, folder: Path, *, scratch: Path) -> None:
    """Counts block by block, then writes the scores of all; a killed build finds its finished blocks again.

    Args:
        dataset: Its passages are indexed by title and text.
        folder: Where the index goes; half an index of a killed build is written over.
        scratch: Keeps the finished blocks until the index stands; the caller answers for its being of this corpus.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    language = _language(dataset)
    terms = Terms(language)
    blocks = []
    with log.Progress("counting words", total=dataset.num_passages, unit="passages") as bar:
        for start in range(0, dataset.num_passages, _BLOCK_PASSAGES):
            blocks.append(scratch / f"{start:012d}.npz")
            stop = min(start + _BLOCK_PASSAGES, dataset.num_passages)
            if not blocks[-1].is_file():
                _count_block(dataset, terms, start, stop, blocks[-1])
            bar.add(stop - start)
    _write_scores(blocks, dataset.num_passages, folder)
    _write_passage_ids(blocks, folder)
    (folder / _RULES).write_bytes(orjson.dumps(_rules(language)))
    shutil.rmtree(scratch)


def _count_block(dataset: Dataset, terms: Terms, start: int, stop: int, path: Path) -> None:
    """The block's terms, and for each in turn its passages (rows of the dataset) and how often it stands there."""
    passage_ids, texts = zip(
        *((passage.passage_id, passage.full_text) for passage in dataset.iter_passages(start, stop)), strict=True
    )
    numbers, names = terms.numbered(texts)
    lengths = np.array([len(row) for row in numbers], dtype=np.int32)
    words = np.fromiter((number for row in numbers for number in row), dtype=np.int64, count=int(lengths.sum()))
    owners = np.repeat(np.arange(len(lengths)), lengths)
    pairs, counts = np.unique(words * len(lengths) + owners, return_counts=True)
    held = path.with_suffix(".partial")
    with held.open("wb") as file:
        np.savez(
            file,
            names=np.frombuffer(orjson.dumps(names), dtype=np.uint8),
            passage_ids=np.frombuffer(orjson.dumps(passage_ids), dtype=np.uint8),
            num_passages=np.bincount(pairs // len(lengths), minlength=len(names)),
            rows=(pairs % len(lengths) + start).astype(np.int32),
            counts=counts.astype(np.int32),
            lengths=lengths,
        )
    held.rename(path)


def _write_scores(blocks: Sequence[Path], num_passages: int, folder: Path) -> None:
    """The files that bm25s loads: for each word its passages and its score in each, on the disk from the start."""
    vocabulary: dict[str, int] = {}
    frequencies = np.zeros(0, dtype=np.int64)
    num_words = 0
    for path in blocks:
        with np.load(path) as block:
            names = orjson.loads(block["names"].tobytes())
            ids = np.array([vocabulary.setdefault(name, len(vocabulary)) for name in names], dtype=np.int64)
            frequencies = np.concatenate([frequencies, np.zeros(len(vocabulary) - len(frequencies), dtype=np.int64)])
            frequencies[ids] += block["num_passages"]
            num_words += int(block["lengths"].sum())
    indptr = np.concatenate([[0], np.cumsum(frequencies)])
    # Source: Robertson and Zaragoza 2009, in the variant of Lucene 8 and later.
    idf = np.log(1 + (num_passages - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)
    size = max(1, int(indptr[-1]))
    data = np.lib.format.open_memmap(folder / _DATA, mode="w+", dtype=np.float32, shape=(size,))
    indices = np.lib.format.open_memmap(folder / _INDICES, mode="w+", dtype=np.int32, shape=(size,))
    heads = indptr[:-1].copy()
    average = num_words / max(1, num_passages)
    for start, path in zip(range(0, num_passages, _BLOCK_PASSAGES), blocks, strict=True):
        with np.load(path) as block:
            ids = np.array([vocabulary[name] for name in orjson.loads(block["names"].tobytes())], dtype=np.int64)
            here = block["num_passages"]
            # Every word's entries go behind those of the blocks before.
            places = np.repeat(heads[ids] - np.concatenate([[0], np.cumsum(here)[:-1]]), here) + np.arange(here.sum())
            rows, counts = block["rows"], block["counts"]
            lengths = block["lengths"][rows - start]
            indices[places] = rows
            data[places] = np.repeat(idf[ids], here) * (
                counts / (K1 * (1 - B + B * lengths / max(average, 1e-9)) + counts)
            )
            heads[ids] += here
    # bm25s asks for the empty word where a query has none that it knows.
    vocabulary.setdefault("", len(vocabulary))
    np.save(folder / _INDPTR, np.concatenate([indptr, indptr[-1:]]) if len(vocabulary) == len(indptr) else indptr)
    (folder / _VOCABULARY).write_bytes(orjson.dumps(vocabulary))
    parameters = {
        "k1": K1,
        "b": B,
        "delta": 0.5,
        "method": "lucene",
        "idf_method": "lucene",
        "dtype": "float32",
        "int_dtype": "int32",
    }
    (folder / _PARAMETERS).write_bytes(orjson.dumps({**parameters, "num_docs": num_passages, "backend": "numpy"}))


def _write_passage_ids(blocks: Sequence[Path], folder: Path) -> None:
    chunks = []
    for path in blocks:
        with np.load(path) as block:
            chunks.append(pa.array(orjson.loads(block["passage_ids"].tobytes()), type=pa.large_string()))
    batch = pa.record_batch([pa.concat_arrays(chunks)], names=["passage_id"])
    with pa.OSFile(str(folder / _IDS), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)

"""Good collections become datasets, with the counts their makers state; a killed job leaves nothing half-written."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.prepare.beir import CORPUS_NAME
from components.prepare.collection import check_corpus, find_repeated
from components.prepare.config import PrepareConfig
from components.prepare.files import TextFile
from components.prepare.job import prepare
from components.prepare.labels.splits import hash_split
from components.prepare.layout import find_layout
from components.prepare.problems import Problems
from components.shared import bm25
from components.shared.dataset import SPLITS, Dataset
from components.shared.manifest import open_artifact, read_manifest
from components.shared.records import Query

COLLECTIONS = (
    "climate-fever-sent",
    "msmarco-dl-pool",
    "scifact",
    "scifact-mini",
    "squad-mini",
    "trec-session",
    "wiki-openqa",
)


def prepared(collection: Path, output: Path) -> Dataset:
    prepare(PrepareConfig(collection_uri=str(collection), output_uri=str(output)))
    return Dataset(open_artifact(str(output)))


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_qrels(path: Path, *rows: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(line + "\n" for line in ("query-id\tcorpus-id\tscore", *rows)))


@pytest.fixture
def without_qrels(tmp_path: Path) -> Path:
    """Three passages p0-p2 and forty queries q0-q39."""
    folder = tmp_path / "collection"
    folder.mkdir()
    write_rows(folder / "corpus.jsonl", [{"_id": f"p{number}", "text": f"text {number}"} for number in range(3)])
    write_rows(folder / "queries.jsonl", [{"_id": f"q{number}", "text": f"query {number}"} for number in range(40)])
    return folder


@pytest.fixture(scope="module")
def real_datasets(retriever_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Prepares a real collection once, by its name."""
    folder = tmp_path_factory.mktemp("real")

    def dataset(name: str) -> Path:
        if not (folder / name).exists():
            prepare(PrepareConfig(collection_uri=str(retriever_data / name), output_uri=str(folder / name)))
        return folder / name

    return dataset


@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_real_collection_has_the_counts_its_source_states(
    retriever_data: Path, real_datasets: Callable[[str], Path], name: str
) -> None:
    dataset = Dataset(real_datasets(name))
    source = (retriever_data / name / "SOURCE.md").read_text()
    stated = {
        key: int(count)
        for key, count in re.findall(r"^- (documents|queries|queries_unlabeled\.jsonl): (\d+)", source, re.MULTILINE)
    }
    assert dataset.num_passages == len(list(dataset.iter_passages())) == stated["documents"]
    assert len(dataset.queries()) == stated["queries"] + stated.get("queries_unlabeled.jsonl", 0)
    splits = re.findall(
        r"^- qrels/(train|dev|test)\.tsv: (\d+) queries, (\d+) relevant pairs, (\d+) rows", source, re.MULTILINE
    )
    assert splits
    for split, num_queries, num_relevant, num_rows in splits:
        qrels = dataset.qrels(split)
        assert len(qrels) == int(num_queries)
        assert sum(map(len, qrels.values())) == int(num_rows)
        assert sum(map(len, dataset.positives(split).values())) == int(num_relevant)
    # What a real click log has; nothing else is left out.
    faults = {"clicks: passage shown twice": 18, "clicks: showing with ranks missing": 3}
    assert read_manifest(str(real_datasets(name))).metrics["skipped"] == (faults if name == "trec-session" else {})


def test_edge_cases_of_real_collections_are_kept_as_they_are(real_datasets: Callable[[str], Path]) -> None:
    sessions = list(Dataset(real_datasets("trec-session")).iter_passages())
    # Counted with grep in the file: 33 without title, 87 without text; never both.
    assert (sum(not passage.title for passage in sessions), sum(not passage.text for passage in sessions)) == (33, 87)
    climate = Dataset(real_datasets("climate-fever-sent")).qrels("test")
    assert sum(grade == 0 for grades in climate.values() for grade in grades.values()) == 1035 - 513
    squad = Dataset(real_datasets("squad-mini"))
    assert squad.query("sq-56beb4343aeaaa14008c925b").answers == ("308",)


def test_unjudged_queries_train_where_only_test_is_judged(real_datasets: Callable[[str], Path]) -> None:
    dataset = Dataset(real_datasets("msmarco-dl-pool"))
    assert {split: len(dataset.queries(split)) for split in (*SPLITS, "")} == {"train": 76, "dev": 0, "test": 53, "": 0}
    assert dataset.qrels("train") == {}


def test_the_qrels_file_that_names_a_query_is_its_split_and_others_train(tiny_collection: Path, tmp_path: Path) -> None:
    with (tiny_collection / "queries.jsonl").open("a") as file:
        file.write('{"_id": "nobody-judged", "text": "what else"}\n')
    write_qrels(
        tiny_collection / "qrels" / "all.tsv", "no-such-query\tno-such-passage\tx"
    )  # ignored beside split files
    dataset = prepared(tiny_collection, tmp_path / "dataset")
    assert {split: len(dataset.queries(split)) for split in (*SPLITS, "")} == {"train": 13, "dev": 6, "test": 6, "": 0}
    assert [query.query_id for query in dataset.queries("train")][12:] == ["nobody-judged"]
    metrics = read_manifest(str(tmp_path / "dataset")).metrics
    assert (metrics["num_train_queries"], metrics["num_judged_train_queries"]) == (13, 12)
    for split in SPLITS[1:]:
        assert [query.query_id for query in dataset.queries(split)] == list(dataset.qrels(split))


def test_a_collection_without_qrels_is_split_by_hash(without_qrels: Path, tmp_path: Path) -> None:
    dataset = prepared(without_qrels, tmp_path / "dataset")
    for split in SPLITS:
        assert [query.query_id for query in dataset.queries(split)] == [
            f"q{n}" for n in range(40) if hash_split(f"q{n}") == split
        ]
        assert dataset.qrels(split) == {}


@pytest.mark.parametrize("name", ["all.tsv", "judgements.tsv"])
def test_qrels_that_are_not_split_are_split_by_the_hash_of_the_query(
    without_qrels: Path, tmp_path: Path, name: str
) -> None:
    # Buckets of md5: q1 22 (train), q24 72 (dev), q15 98 (test).
    write_qrels(without_qrels / "qrels" / name, "q1\tp0\t1", "q24\tp1\t1", "q15\tp2\t1")
    dataset = prepared(without_qrels, tmp_path / "dataset")
    assert [dataset.qrels(split) for split in SPLITS] == [{"q1": {"p0": 1}}, {"q24": {"p1": 1}}, {"q15": {"p2": 1}}]
    # The 37 queries without a row train too, but the LLM has to annotate them.
    assert len(dataset.queries("train")) == 38


def test_grades_below_zero_become_zero_and_repeated_rows_one_both_counted(without_qrels: Path, tmp_path: Path) -> None:
    write_qrels(without_qrels / "qrels" / "train.tsv", "q0\tp0\t-2", "q0\tp1\t3", "q0\tp1\t3", "q1\tp0\t0")
    dataset = prepared(without_qrels, tmp_path / "dataset")
    assert dataset.qrels("train") == {"q0": {"p0": 0, "p1": 3}, "q1": {"p0": 0}}
    metrics = read_manifest(str(tmp_path / "dataset")).metrics
    assert {
        name: metrics[name] for name in ("num_qrels", "num_positive_qrels", "num_clamped_grades", "num_repeated_qrels")
    } == {
        "num_qrels": 3,
        "num_positive_qrels": 1,
        "num_clamped_grades": 1,
        "num_repeated_qrels": 1,
    }


def test_harmless_variety_is_accepted(without_qrels: Path, tmp_path: Path) -> None:
    rows = [
        b'{"text": "windows line end", "_id": "a", "metadata": {"url": "x"}}\r\n',
        b'{"_id": 12, "title": null, "text": "integer id"}\n',
        (
            '{"_id": "\u00e9\u4e2d", "title": "t", '
            '"text": "tab\\t, form feed\\f, line separator\u2028 and U+0085\u0085"}\n'
        ).encode(),
        b'{"_id": "last", "text": "no line end"}',
    ]
    (without_qrels / "corpus.jsonl").write_bytes(b"".join(rows))
    write_qrels(without_qrels / "qrels" / "test.tsv", "q0\t12\t+1\r", "q0\t\u00e9\u4e2d\t2")
    (without_qrels / "queries.jsonl").write_text(
        '{"_id": "q0", "text": "x", "answers": ["a", "b"]}\n{"_id": "q1", "text": "y", "answers": null}'
    )
    dataset = prepared(without_qrels, tmp_path / "dataset")
    assert [(passage.passage_id, passage.title) for passage in dataset.iter_passages()] == [
        ("a", ""),
        ("12", ""),
        ("\u00e9\u4e2d", "t"),
        ("last", ""),
    ]
    assert dataset.passage("\u00e9\u4e2d").text == "tab\t, form feed\f, line separator\u2028 and U+0085\u0085"
    assert dataset.qrels("test") == {"q0": {"12": 1, "\u00e9\u4e2d": 2}}
    assert dataset.queries() == [Query("q0", "x", ("a", "b")), Query("q1", "y", ())]


def test_the_same_collection_gives_the_same_bytes_whatever_the_hash_seed(tiny_collection: Path, tmp_path: Path) -> None:
    digests = set()
    for seed in ("0", "1"):
        output = tmp_path / seed
        assert run(tiny_collection, output, environment={"PYTHONHASHSEED": seed}).returncode == 0
        digests.add(read_manifest(str(output)).digest)
    assert len(digests) == 1


def test_equal_hashes_of_different_ids_are_no_duplicates(tmp_path: Path) -> None:
    lines = [b'{"_id": "%s", "text": "x"}\n' % name for name in (b"a", b"b", b"a", b"c", b"b", b"a")]
    path = tmp_path / CORPUS_NAME
    path.write_bytes(b"".join(lines))
    offsets = np.cumsum([0, *map(len, lines)])[:-1]
    # All six ids given the same hash: the ids themselves decide. Line 4 has no passage here, so it is not looked at.
    offsets[3] = -1
    assert find_repeated(TextFile(path, CORPUS_NAME), np.zeros(6, dtype=np.int64), offsets) == {
        3: ("a", 1),
        5: ("b", 2),
        6: ("a", 1),
    }


def test_checking_a_corpus_takes_bytes_not_passages(tmp_path: Path) -> None:
    num_passages = 5_000
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "x"}\n')
    write_rows(
        tmp_path / CORPUS_NAME, [{"_id": f"passage-{number}", "text": "word " * 200} for number in range(num_passages)]
    )
    problems = Problems(str(tmp_path), max_reported=20)
    layout = find_layout(str(tmp_path), problems)
    tracemalloc.start()
    corpus = check_corpus(layout, {"passage-7"}, problems)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (corpus.num_passages, corpus.named, corpus.repeated) == (num_passages, {"passage-7"}, set())
    # 16 bytes are held, three times that while sorting, and some buffers; the text of a passage is 1,000 bytes.
    assert peak_bytes / num_passages < 200


def run(
    collection: Path, output: Path, *flags: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "components.prepare",
        "--collection-uri",
        str(collection),
        "--output-uri",
        str(output),
        *flags,
    ]
    return subprocess.run(command, env=os.environ | (environment or {}), capture_output=True, text=True, check=False)


def test_the_command_exits_with_0_65_or_2(tiny_collection: Path, tmp_path: Path) -> None:
    assert run(tiny_collection, tmp_path / "dataset").returncode == 0
    again = run(tiny_collection, tmp_path / "dataset")
    assert (again.returncode, "unchanged, nothing to do" in again.stderr) == (0, True)
    with (tiny_collection / "corpus.jsonl").open("a") as file:
        file.write("{broken\n")
    refused = run(tiny_collection, tmp_path / "refused")
    assert refused.returncode == 65
    assert "corpus.jsonl:31: not JSON from column 2 on" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.glob("refused*"))
    skipped = run(tiny_collection, tmp_path / "skipped", "--on-problem", "skip")
    assert (skipped.returncode, "bad lines left out" in skipped.stderr) == (0, True)
    assert run(tiny_collection, tmp_path / "usage", "--on-problem", "ignore").returncode == 2
    assert run(tiny_collection, tmp_path / "usage", "--no-such-flag").returncode == 2


def test_a_killed_job_leaves_no_artifact_and_the_next_one_equals_an_undisturbed_one(tmp_path: Path) -> None:
    collection = tmp_path / "collection"
    collection.mkdir()
    write_rows(
        collection / "corpus.jsonl", [{"_id": str(number), "text": "some words " * 20} for number in range(60_000)]
    )
    write_rows(collection / "queries.jsonl", [{"_id": "q", "text": "words"}])
    output = tmp_path / "dataset"
    command = [
        sys.executable,
        "-m",
        "components.prepare",
        "--collection-uri",
        str(collection),
        "--output-uri",
        str(output),
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        half_written = tmp_path / "dataset.partial" / "corpus.arrow"
        while not (half_written.exists() and half_written.stat().st_size) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert half_written.exists()
    with pytest.raises(ValueError, match="no finished artifact here"):
        open_artifact(str(output))
    assert run(collection, output).returncode == 0
    assert run(collection, tmp_path / "undisturbed").returncode == 0
    assert read_manifest(str(output)).digest == read_manifest(str(tmp_path / "undisturbed")).digest
    assert Dataset(open_artifact(str(output))).num_passages == 60_000
    assert not half_written.exists()


def test_a_job_killed_while_it_builds_bm25_keeps_the_finished_blocks(
    tiny_collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared(tiny_collection, tmp_path / "undisturbed")
    real = bm25._write_scores

    def killed(*_: object) -> None:
        raise SystemExit(137)

    monkeypatch.setattr("components.shared.bm25._write_scores", killed)
    with pytest.raises(SystemExit):
        prepared(tiny_collection, tmp_path / "dataset")
    monkeypatch.setattr("components.shared.bm25._write_scores", real)

    def never(*_: object) -> None:
        raise AssertionError("a finished block is counted again")

    monkeypatch.setattr("components.shared.bm25._count_block", never)
    continued = prepared(tiny_collection, tmp_path / "dataset")
    assert [read_manifest(str(dataset.folder)).digest for dataset in (continued, whole)] == [
        read_manifest(str(whole.folder)).digest
    ] * 2


def test_the_bm25_index_is_part_of_the_dataset_and_of_its_digest(tiny_collection: Path, tmp_path: Path) -> None:
    folder = prepared(tiny_collection, tmp_path / "dataset").folder
    assert {"bm25/data.csc.index.npy", "bm25/passage_ids.arrow", "bm25/rules.json"} <= set(
        read_manifest(str(folder)).files
    )
    scores = folder / "bm25" / "data.csc.index.npy"
    scores.write_bytes(scores.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match=r"data\.csc\.index\.npy: content differs"):
        open_artifact(str(folder))


def test_a_corpus_alone_is_a_dataset_that_waits_for_its_queries(without_qrels: Path, tmp_path: Path) -> None:
    (without_qrels / "queries.jsonl").unlink()
    dataset = prepared(without_qrels, tmp_path / "dataset")
    assert [passage.passage_id for passage in dataset.iter_passages()] == ["p0", "p1", "p2"]
    assert dataset.queries() == []
    assert dataset.asked_ids == frozenset()
    assert read_manifest(str(tmp_path / "dataset")).metrics["num_queries"] == 0


def test_qrels_without_queries_are_a_mistake_and_no_corpus_alone(without_qrels: Path, tmp_path: Path) -> None:
    (without_qrels / "queries.jsonl").unlink()
    write_qrels(without_qrels / "qrels" / "test.tsv", "q1\tp1\t1")
    with pytest.raises(ValueError, match=r"queries\.jsonl: is missing"):
        prepared(without_qrels, tmp_path / "dataset")

"""Collections as other tools write them are read, and what was left out or read otherwise is counted."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.prepare.labels.qrels import read_grade
from components.shared.dataset import SPLITS, Dataset
from components.shared.manifest import read_manifest

CORPUS = b"".join(b'{"_id": "p%d", "text": "the text of passage %d"}\n' % (number, number) for number in range(30))
QUERIES = b"".join(
    b'{"_id": "q%d", "text": "what is the text of passage %d"}\n' % (number, number) for number in range(30)
)
ROWS = [(f"q{number}", f"p{number}", str(1 + number % 2)) for number in range(30)]
GRADES = {query: {passage: int(grade)} for query, passage, grade in ROWS}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def prepared(tmp_path: Path, files: dict[str, bytes], **settings: Any) -> tuple[Dataset, dict[str, Any]]:
    collection, output = write(tmp_path / "collection", files), tmp_path / "dataset"
    prepare(PrepareConfig(collection_uri=str(collection), output_uri=str(output), **settings))
    return Dataset(output), read_manifest(str(output)).metrics


def qrels(rows: list[tuple[str, str, str]] = ROWS, *, header: str = "", line: str = "{}\t{}\t{}") -> bytes:
    return "".join(f"{text}\n" for text in [*filter(None, [header]), *(line.format(*row) for row in rows)]).encode()


LAYOUTS = {
    "BEIR": ("test.tsv", qrels(header="query-id\tcorpus-id\tscore")),
    "underscores": ("test.tsv", qrels(header="query_id\tdoc_id\trelevance")),
    "other names": ("test.tsv", qrels(header="qid\tpid\tlabel")),
    "other order": ("test.tsv", qrels(header="score\tcorpus-id\tquery-id", line="{2}\t{1}\t{0}")),
    "a column more": ("test.tsv", qrels(header="query_id\titer\tdocno\trel", line="{}\t0\t{}\t{}")),
    "no header": ("test.tsv", qrels()),
    "TREC": ("test.txt", qrels(line="{} 0 {} {}")),
    "TREC, runs of spaces": ("test.qrels", qrels(line="{}  0   {} \t {}").replace(b"\t", b" ")),
    "MS MARCO": ("test.tsv", qrels(line="{}\t0\t{}\t{}")),
    "csv": ("test.csv", qrels(header="query_id,doc_id,score", line='{},"{}",{}')),
    "three columns by spaces": ("test.txt", qrels(line="{} {} {}")),
    "float grades": ("test.tsv", qrels(line="{}\t{}\t{}.0")),
    "Windows": ("test.tsv", qrels(header="query-id\tcorpus-id\tscore").replace(b"\n", b"\r\n")),
    "byte order mark": ("test.tsv", b"\xef\xbb\xbf" + qrels(header="query-id\tcorpus-id\tscore")),
    "byte order mark, no header": ("test.tsv", b"\xef\xbb\xbf" + qrels()),
    "blank lines": ("test.tsv", b"\n \n" + qrels(header="query-id\tcorpus-id\tscore").replace(b"\n", b"\n\n") + b"\n"),
    "gzip": ("test.tsv.gz", gzip.compress(qrels())),
    "zstd": ("test.tsv.zst", pa.compress(qrels(), codec="zstd", asbytes=True)),
}


@pytest.mark.parametrize(("name", "content"), LAYOUTS.values(), ids=LAYOUTS)
def test_qrels_of_other_tools_are_read(tmp_path: Path, name: str, content: bytes) -> None:
    files = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, f"qrels/{name}": content}
    dataset, metrics = prepared(tmp_path, files)
    assert dataset.qrels("test") == GRADES
    assert (metrics["num_qrels"], metrics["skipped"]) == (30, {})


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".bz2", ".xz"])
def test_compressed_files_are_read_as_plain_ones(tmp_path: Path, suffix: str) -> None:
    pack = {
        "": bytes,
        ".gz": gzip.compress,
        ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
    }[suffix]
    repeated = CORPUS + b'\n{"_id": "p7", "text": "again"}\n'
    files = {"corpus.jsonl": repeated, "queries.jsonl": QUERIES, "qrels/test.tsv": qrels()}
    dataset, metrics = prepared(
        tmp_path, {f"{name}{suffix}": pack(content) for name, content in files.items()}, on_problem="skip"
    )
    assert [passage.passage_id for passage in dataset.iter_passages()] == [f"p{number}" for number in range(30)]
    assert dataset.qrels("test") == GRADES
    assert metrics["skipped"] == {"duplicate id": 1}
    assert metrics["num_blank_lines"] == 1


def test_a_compressed_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    dataset, _ = prepared(tmp_path, {"corpus.jsonl": gzip.compress(CORPUS), "queries.jsonl": QUERIES})
    assert dataset.num_passages == 30


def test_blank_lines_are_nothing_and_counted(tmp_path: Path) -> None:
    files = {
        "corpus.jsonl": b"\n" + CORPUS.replace(b"\n", b"\n\r\n", 3) + b"\n \t\n",
        "queries.jsonl": QUERIES + b"\n",
        "qrels/test.tsv": qrels(header="query-id\tcorpus-id\tscore") + b"\n\n",
    }
    dataset, metrics = prepared(tmp_path, files)
    assert dataset.num_passages == 30
    assert dataset.qrels("test") == GRADES
    # One in front, three within and two behind the corpus; one behind the queries; two behind the qrels.
    assert metrics["num_blank_lines"] == 6 + 1 + 2


def test_line_numbers_count_blank_lines(tmp_path: Path) -> None:
    files = {"corpus.jsonl": b"\n\n" + CORPUS + b'\n{"_id": "p3", "text": "again"}\n', "queries.jsonl": QUERIES}
    with pytest.raises(ValueError, match=r'corpus.jsonl:34: "_id" "p3" stands in corpus.jsonl:6 already'):
        prepared(tmp_path, files)


@pytest.mark.parametrize(
    "empty", ['"text": ""', '"title": " ", "text": "\\n"', '"text": null', '"title": null, "text": " "']
)
def test_a_passage_without_text_stays_out_with_its_rows_and_a_warning(
    tmp_path: Path, empty: str, capfd: pytest.CaptureFixture[str]
) -> None:
    files = {
        "corpus.jsonl": CORPUS + f'{{"_id": "empty", {empty}}}\n'.encode(),
        "queries.jsonl": QUERIES,
        "qrels/test.tsv": qrels([*ROWS, ("q0", "empty", "1"), ("q1", "empty", "0")]),
    }
    dataset, metrics = prepared(tmp_path, files)
    assert dataset.num_passages == 30
    assert dataset.qrels("test") == GRADES
    assert metrics["skipped"] == {"empty passage": 1, "row of an empty passage": 2}
    warnings = [line for line in map(json.loads, capfd.readouterr().err.splitlines()) if line["level"] == "warning"]
    assert warnings[0]["by_kind"] == metrics["skipped"]
    assert 'corpus.jsonl:31: passage "empty" has neither title nor text' in warnings[0]["first"][0]


def test_a_few_unknown_ids_are_counted_and_many_are_refused(tmp_path: Path) -> None:
    files = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES}
    few = files | {"qrels/test.tsv": qrels([*ROWS, ("q0", "nowhere", "1")])}
    dataset, metrics = prepared(tmp_path / "few", few)
    assert dataset.qrels("test") == GRADES
    assert metrics["skipped"] == {"unknown passage": 1}
    # 2 of 32 rows are more than one in twenty.
    many = files | {"qrels/test.tsv": qrels([*ROWS, ("q0", "nowhere", "1"), ("nobody", "p0", "1")])}
    with pytest.raises(
        ValueError, match=r'test.tsv:32: query "nobody" is not in queries.jsonl(.|\n)*1 x unknown passage'
    ):
        prepared(tmp_path / "many", many)


FIELDS = {
    "Pyserini": ('{"id": "p", "contents": "text"}', {'"id" read as "_id"': 1, '"contents" read as "text"': 1}),
    "ir_datasets": ('{"doc_id": "p", "text": "text"}', {'"doc_id" read as "_id"': 1}),
    "MS MARCO": ('{"docid": 7, "body": "text", "url": "x"}', {'"docid" read as "_id"': 1, '"body" read as "text"': 1}),
    "metadata": ('{"_id": "p", "text": "text", "metadata": {"id": "other", "tags": [1]}}', {}),
    "both names": ('{"_id": "p", "id": "other", "text": "text"}', {}),
    "half a character": ('{"_id": "p", "text": "te\\ud83dxt"}', {"half characters read as U+FFFD": 1}),
    "a pair of surrogates": ('{"_id": "p", "text": "\\ud83d\\ude00"}', {}),
}


@pytest.mark.parametrize(("line", "read_as"), FIELDS.values(), ids=FIELDS)
def test_fields_of_other_tools_are_read_where_there_is_one_choice(
    tmp_path: Path, line: str, read_as: dict[str, int]
) -> None:
    dataset, metrics = prepared(tmp_path, {"corpus.jsonl": line.encode(), "queries.jsonl": QUERIES})
    (passage,) = dataset.iter_passages()
    assert passage.passage_id in ("p", "7")
    assert passage.text in ("text", "te\ufffdxt", "\U0001f600")
    assert metrics["read_as"] == read_as


def test_queries_of_other_tools_are_read(tmp_path: Path) -> None:
    queries = b'{"qid": 1, "query": "first"}\n{"query_id": "2", "question": "second"}\n'
    dataset, metrics = prepared(tmp_path, {"corpus.jsonl": CORPUS, "queries.jsonl": queries})
    assert [(query.query_id, query.text) for query in dataset.queries()] == [("1", "first"), ("2", "second")]
    assert sum(metrics["read_as"].values()) == 4


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        *(("1", 1), ("-2", -2), ("+3", 3), ("1.0", 1), ("2.", 2), ("1e0", 1)),
        *((refused, None) for refused in ("0.5", "", "x", "nan", "inf", "1_0", "1e10", "true")),
    ],
)
def test_a_grade_is_a_whole_number(text: str, grade: int | None) -> None:
    assert read_grade(text) == grade


def test_an_archive_that_ends_early_is_named_by_its_line(tmp_path: Path) -> None:
    # Random text cannot be packed well, so that the cut falls far behind the part that is looked at first.
    lines = b"".join(
        b'{"_id": "%d", "text": "%s"}\n' % (number, (number**300 % 10**300).__str__().encode())
        for number in range(2, 3000)
    )
    packed = gzip.compress(lines)
    with pytest.raises(ValueError, match=r"corpus.jsonl.gz:\d{3,4}: the compressed file is damaged or cut here"):
        prepared(tmp_path, {"corpus.jsonl.gz": packed[: len(packed) // 2], "queries.jsonl": QUERIES})
    assert not (tmp_path / "dataset").exists()


def test_the_language_is_detected_stored_and_can_be_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    german = b'{"_id": "p", "text": "Der Mond zieht an dem Wasser und die Flut steigt."}\n'
    files = {"corpus.jsonl": german, "queries.jsonl": QUERIES}
    dataset, metrics = prepared(tmp_path / "detected", files)
    assert (dataset.language, metrics["language"], metrics["language_shares"]) == ("de", "de", {"de": 1.0})
    # The queries are English.
    assert '"queries":"en","passages":"de"' in capfd.readouterr().err
    dataset, _ = prepared(tmp_path / "said", files, language="nl")
    assert dataset.language == "nl"
    assert "look like another language" in capfd.readouterr().err
    with pytest.raises(ValueError, match="language 'german': not a known code; write auto"):
        prepared(tmp_path / "wrong", files, language="german")


def test_without_a_folder_of_qrels_nothing_is_judged(tmp_path: Path) -> None:
    dataset, metrics = prepared(tmp_path, {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES})
    assert all(dataset.qrels(split) == {} for split in SPLITS)
    assert sum(metrics[f"num_{split}_queries"] for split in SPLITS) == 30
    assert sum(metrics[f"num_judged_{split}_queries"] for split in SPLITS) == 0

"""Every kind of bad line, with its exact message; bad lines can be skipped."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared.dataset import Dataset
from components.shared.manifest import read_manifest
from tests.components.prepare.broken_collections import CORPUS, GOOD, MENDING, QUERIES, TRAIN, refusal, write_files


@dataclass(frozen=True)
class BadLine:
    """A line added to a good file (the fourth of corpus and queries, the third of qrels), and what it gives."""

    file: str
    line: bytes
    kind: str
    message: str


BAD_LINES = [
    BadLine(
        CORPUS,
        b'{"_id": "p4", "text": unquoted}\n',
        "broken JSON",
        "corpus.jsonl:4: not JSON from column 23 on; write one JSON object a line, strings in double quotes",
    ),
    BadLine(
        CORPUS,
        b'{"_id": "p4", "text": "cut in the mid',
        "broken JSON",
        "corpus.jsonl:4: the file ends inside this record; it was cut while it was written or copied; copy it again",
    ),
    BadLine(
        CORPUS,
        b'["p4", "text"]\n',
        "not an object",
        'corpus.jsonl:4: ["p4","text"] is not a JSON object; write {"_id": ..., "text": ...}',
    ),
    BadLine(
        CORPUS,
        b'{"key": "p4", "text": "x"}\n',
        "missing id",
        'corpus.jsonl:4: no "_id"; give the line an "_id", a string',
    ),
    BadLine(
        CORPUS,
        b'{"_id": "", "text": "x"}\n',
        "missing id",
        'corpus.jsonl:4: "_id" is empty; give the line an "_id", a string',
    ),
    BadLine(CORPUS, b'{"_id": 4.0, "text": "x"}\n', "wrong type", 'corpus.jsonl:4: "_id" is 4.0; make it a string'),
    BadLine(CORPUS, b'{"_id": null, "text": "x"}\n', "wrong type", 'corpus.jsonl:4: "_id" is null; make it a string'),
    BadLine(CORPUS, b'{"_id": true, "text": "x"}\n', "wrong type", 'corpus.jsonl:4: "_id" is true; make it a string'),
    BadLine(
        CORPUS,
        b'{"_id": "p 4", "text": "x"}\n',
        "wrong id",
        'corpus.jsonl:4: "_id" "p 4" holds white space or a control character; replace it, here and in the qrels',
    ),
    BadLine(
        CORPUS,
        b'{"_id": "p1", "text": "again"}\n',
        "duplicate id",
        'corpus.jsonl:4: "_id" "p1" stands in corpus.jsonl:1 already; rename or delete one of the two',
    ),
    BadLine(
        CORPUS,
        b'{"_id": "3", "text": "again"}\n',
        "duplicate id",
        'corpus.jsonl:4: "_id" "3" stands in corpus.jsonl:3 already; rename or delete one of the two',
    ),
    BadLine(
        CORPUS,
        b'{"docid": "p4", "pid": "4", "text": "x"}\n',
        "two fields for one",
        'corpus.jsonl:4: no "_id", and both "docid" and "pid" could be it; rename the right one to "_id"',
    ),
    BadLine(
        CORPUS,
        b'{"_id": "p4\\ud83d", "text": "x"}\n',
        "wrong id",
        'corpus.jsonl:4: "_id" "p4\ufffd" holds a broken character; replace it, here and in the qrels',
    ),
    BadLine(
        CORPUS,
        b'{"_id": "p4", "text": "\\ud83d", "score": NaN}\n',
        "broken JSON",
        "corpus.jsonl:4: not JSON from column 24 on; write one JSON object a line, strings in double quotes",
    ),
    BadLine(
        CORPUS,
        b'{"_id": 123456789012345678901234567890, "text": "x"}\n',
        "wrong type",
        'corpus.jsonl:4: "_id" is 1.2345678901234568e+29; make it a string',
    ),
    BadLine(
        CORPUS,
        b'{"_id": "p4", "title": "x"}\n',
        "missing text",
        'corpus.jsonl:4: no "text"; give the line a "text", a string',
    ),
    BadLine(
        CORPUS, b'{"_id": "p4", "text": ["x"]}\n', "wrong type", 'corpus.jsonl:4: "text" is ["x"]; make it a string'
    ),
    BadLine(
        CORPUS,
        b'{"_id": "p4", "title": 7, "text": "x"}\n',
        "wrong type",
        'corpus.jsonl:4: "title" is 7; make it a string',
    ),
    BadLine(
        CORPUS,
        b'{"_id": "p4", "text": "caf\xe9"}\n',
        "bad UTF-8",
        "corpus.jsonl:4: byte 27 of the line (0xE9) is not UTF-8; "
        "convert the file, for example with iconv -f latin1 -t utf-8",
    ),
    BadLine(
        CORPUS,
        b'{"_id": "p4", "text": "\0\0\0"}\n',
        "control character",
        "corpus.jsonl:4: NUL byte at byte 24; the file is damaged; write it again",
    ),
    BadLine(
        CORPUS,
        b'{"_id": "p4", "text": "a\\u0000b"}\n',
        "control character",
        'corpus.jsonl:4: "text" holds control character U+0000 at character 2; remove it',
    ),
    BadLine(
        QUERIES,
        b'{"_id": "q4", "text": " "}\n',
        "empty query",
        'queries.jsonl:4: query "q4" has no text; delete the line or give it text',
    ),
    BadLine(
        QUERIES,
        b'{"_id": "q1", "text": "again"}\n',
        "duplicate id",
        'queries.jsonl:4: "_id" "q1" stands in queries.jsonl:1 already; rename or delete one of the two',
    ),
    BadLine(
        QUERIES,
        b'{"_id": "q4", "text": "x", "answers": "lava"}\n',
        "wrong type",
        'queries.jsonl:4: "answers" is "lava"; make it a list of strings',
    ),
    BadLine(
        TRAIN,
        b"q9\tp1\t1\n",
        "unknown query",
        'qrels/train.tsv:3: query "q9" is not in queries.jsonl, or its line is bad; add the query or delete the row',
    ),
    BadLine(
        TRAIN,
        b"q1\tp9\t1\n",
        "unknown passage",
        'qrels/train.tsv:3: passage "p9" is not in corpus.jsonl, or its line is bad; add the passage or delete the row',
    ),
    BadLine(
        TRAIN,
        b"q1 0 p2 1\n",
        "wrong columns",
        "qrels/train.tsv:3: 1 column(s), not 3; write all rows alike, here with tabs between the columns",
    ),
    BadLine(
        TRAIN,
        b"q1\tp2\t0.5\n",
        "wrong score",
        'qrels/train.tsv:3: score "0.5" is not a whole number; '
        "write a whole number: 0 not relevant, 1 or more relevant",
    ),
    BadLine(
        TRAIN,
        b"q1\tp2\tnan\n",
        "wrong score",
        'qrels/train.tsv:3: score "nan" is not a whole number; '
        "write a whole number: 0 not relevant, 1 or more relevant",
    ),
    BadLine(
        TRAIN,
        b"\tp2\t1\n",
        "missing id",
        "qrels/train.tsv:3: the query or the passage has no id; name both, or delete the row",
    ),
    BadLine(
        TRAIN,
        b"q1\tp1\t2\n",
        "two grades",
        "qrels/train.tsv:3: grade 2 where qrels/train.tsv:2 gives the same pair 1; delete one of the two rows",
    ),
    BadLine(
        TRAIN,
        b"q3\tp1\t1\n",
        "query in two splits",
        'qrels/train.tsv:3: query "q3" is judged in qrels/test.tsv:2 too, so train and test would share it; '
        "delete it from one of the two",
    ),
    BadLine(
        TRAIN,
        b"q1\t\xe9\t1\n",
        "bad UTF-8",
        "qrels/train.tsv:3: byte 4 of the line (0xE9) is not UTF-8; "
        "convert the file, for example with iconv -f latin1 -t utf-8",
    ),
]


@pytest.mark.parametrize("bad", BAD_LINES, ids=[f"{bad.kind}: {bad.line!r}" for bad in BAD_LINES])
def test_a_bad_line_is_refused_by_file_and_line(tmp_path: Path, bad: BadLine) -> None:
    collection = write_files(tmp_path / "collection", {bad.file: GOOD[bad.file] + bad.line})
    assert refusal(tmp_path, collection).splitlines() == [
        f"{collection}: this collection cannot be used; nothing was written",
        f"{collection}/{bad.message}",
        f"bad lines: 1 (1 x {bad.kind})",
        MENDING,
    ]


@pytest.mark.parametrize("bad", BAD_LINES, ids=[f"{bad.kind}: {bad.line!r}" for bad in BAD_LINES])
def test_a_bad_line_is_left_out_and_counted_where_the_user_says_skip(tmp_path: Path, bad: BadLine) -> None:
    collection = write_files(tmp_path / "collection", {bad.file: GOOD[bad.file] + bad.line})
    output = tmp_path / "dataset"
    prepare(PrepareConfig(collection_uri=str(collection), output_uri=str(output), on_problem="skip"))
    metrics = read_manifest(str(output)).metrics
    assert metrics["skipped"] == {bad.kind: 1}
    assert (metrics["num_passages"], metrics["num_queries"], metrics["num_qrels"], metrics["num_skipped"]) == (
        3,
        3,
        3,
        1,
    )
    dataset = Dataset(output)
    assert [passage.text for passage in dataset.iter_passages()] == ["lava", "", "bread"]
    assert [dataset.qrels(split) for split in ("train", "dev", "test")] == [
        {"q1": {"p1": 1}},
        {"q2": {"p2": 1}},
        {"q3": {"3": 2}},
    ]


def test_one_message_names_the_first_problems_and_counts_all_by_kind(tmp_path: Path) -> None:
    bad_corpus = GOOD[CORPUS] + b"{}\n" * 5 + b"[]\n"
    collection = write_files(tmp_path / "collection", {CORPUS: bad_corpus, QUERIES: GOOD[QUERIES] + b'{"_id": "q4"}\n'})
    assert refusal(tmp_path, collection, max_reported=3).splitlines() == [
        f"{collection}: this collection cannot be used; nothing was written",
        f'{collection}/queries.jsonl:4: no "text"; give the line a "text", a string',
        f'{collection}/corpus.jsonl:4: no "_id"; give the line an "_id", a string',
        f'{collection}/corpus.jsonl:5: no "_id"; give the line an "_id", a string',
        "... and 4 more lines",
        "bad lines: 7 (5 x missing id, 1 x missing text, 1 x not an object)",
        MENDING,
    ]


def test_skipped_lines_take_the_qrels_that_name_them_along(tmp_path: Path) -> None:
    collection = write_files(tmp_path / "collection", {CORPUS: b"broken\n" + GOOD[CORPUS].split(b"\n", 1)[1]})
    output = tmp_path / "dataset"
    prepare(PrepareConfig(collection_uri=str(collection), output_uri=str(output), on_problem="skip"))
    assert read_manifest(str(output)).metrics["skipped"] == {"broken JSON": 1, "unknown passage": 1}
    # q1 stays in the split of the file that judges it, although its only passage is gone.
    assert [query.query_id for query in Dataset(output).queries("train")] == ["q1"]


def test_a_query_in_two_splits_stays_in_the_held_out_one(tmp_path: Path) -> None:
    leaked = {TRAIN: GOOD[TRAIN] + b"q3\tp1\t1\nq2\tp1\t1\n"}
    output = tmp_path / "dataset"
    prepare(
        PrepareConfig(
            collection_uri=str(write_files(tmp_path / "collection", leaked)), output_uri=str(output), on_problem="skip"
        )
    )
    dataset = Dataset(output)
    assert {split: [query.query_id for query in dataset.queries(split)] for split in ("train", "dev", "test")} == {
        "train": ["q1"],
        "dev": ["q2"],
        "test": ["q3"],
    }
    assert read_manifest(str(output)).metrics["skipped"] == {"query in two splits": 2}

"""Every kind of broken collection, with its exact message; bad lines can be skipped, bad files cannot."""

import gzip
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared.dataset import Dataset
from components.shared.manifest import read_manifest

HEADER = b"query-id\tcorpus-id\tscore\n"
GOOD = {
    "corpus.jsonl": (
        b'{"_id": "p1", "title": "", "text": "lava"}\n'
        b'{"_id": "p2", "title": "ice", "text": ""}\n'
        b'{"_id": 3, "text": "bread"}\n'
    ),
    "queries.jsonl": (
        b'{"_id": "q1", "text": "what burns"}\n'
        b'{"_id": "q2", "text": "what is cold"}\n'
        b'{"_id": "q3", "text": "what rises"}\n'
    ),
    "qrels/train.tsv": HEADER + b"q1\tp1\t1\n",
    "qrels/dev.tsv": HEADER + b"q2\tp2\t1\n",
    "qrels/test.tsv": HEADER + b"q3\t3\t2\n",
}
MENDING = "mend the lines, or leave them out (--on-problem skip)"
CORPUS, QUERIES, TRAIN = "corpus.jsonl", "queries.jsonl", "qrels/train.tsv"


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

# Changes to the good files (None deletes one), and the lines of the message below its first.
BAD_FILES: dict[str, tuple[dict[str, bytes | None], list[str]]] = {
    "no corpus": ({CORPUS: None}, ["{uri}/corpus.jsonl: is missing; write it, one JSON object a line"]),
    "no queries": ({QUERIES: None}, ["{uri}/queries.jsonl: is missing; write it, one JSON object a line"]),
    "cut archive": (
        {CORPUS: None, "corpus.jsonl.gz": gzip.compress(GOOD[CORPUS])[:-12]},
        [
            "{uri}/corpus.jsonl.gz: is compressed and damaged "
            "(Compressed file ended before the end-of-stream marker was reached); copy it again"
        ],
    ),
    "two corpora": (
        {"corpus.jsonl.gz": gzip.compress(GOOD[CORPUS])},
        ["{uri}/corpus.jsonl: stands beside corpus.jsonl.gz; move one of the two away"],
    ),
    "zip": ({CORPUS: b"PK\x03\x04rest"}, ["{uri}/corpus.jsonl: is a zip archive; unpack it with unzip"]),
    "UTF-16 without a mark": (
        {CORPUS: GOOD[CORPUS].decode().encode("utf-16-le")},
        ["{uri}/corpus.jsonl: is UTF-16; convert it with iconv -f utf-16le -t utf-8"],
    ),
    "UTF-32": (
        {CORPUS: GOOD[CORPUS].decode().encode("utf-32")},
        ["{uri}/corpus.jsonl: is UTF-32; convert it with iconv -f utf-32 -t utf-8"],
    ),
    "lines of carriage returns": (
        {CORPUS: GOOD[CORPUS].replace(b"\n", b"\r")},
        ["{uri}/corpus.jsonl: ends its lines with carriage returns alone; convert it with tr '\\r' '\\n'"],
    ),
    "one JSON array": (
        {QUERIES: b'[{"_id": "q1", "text": "what burns"}]'},
        ["{uri}/queries.jsonl: is one JSON array; write one object a line, for example with jq -c '.[]' queries.jsonl"],
    ),
    "objects over several lines": (
        {QUERIES: b'{\n  "_id": "q1",\n  "text": "what burns"\n}\n'},
        [
            "{uri}/queries.jsonl: spreads an object over lines; "
            "write one object a line, for example with jq -c . queries.jsonl"
        ],
    ),
    "queries of MS MARCO": (
        {QUERIES: None, "queries.train.tsv": b"1\twhat burns\n"},
        [
            "{uri}/queries.jsonl: is missing; queries.train.tsv is there: convert it, for example with "
            "jq -Rc 'split(\"\\t\") | {_id: .[0], text: .[1]}' queries.train.tsv > queries.jsonl"
        ],
    ),
    "corpus as a table": (
        {CORPUS: None, "collection.parquet": b"PAR1"},
        ["{uri}/corpus.jsonl: is missing; collection.parquet is there: convert it"],
    ),
    "qrels beside the folder": (
        {TRAIN: None, "qrels/dev.tsv": None, "qrels/test.tsv": None, "qrels.tsv": GOOD[TRAIN]},
        [
            "{uri}/qrels.tsv: is not in the folder qrels; "
            "move it to qrels/test.tsv, or to qrels/all.tsv to have it split"
        ],
    ),
    "a run for qrels": (
        {TRAIN: b"q1 Q0 p1 1 12.5 bm25\n"},
        ["{uri}/qrels/train.tsv:1: is a run (the hits of a system) and holds no grades; put the human judgements here"],
    ),
    "a split twice": (
        {"qrels/train.txt": GOOD[TRAIN]},
        ["{uri}/qrels/train.tsv: stands beside qrels/train.txt; move one of the two away"],
    ),
    "UTF-16": (
        {QUERIES: GOOD[QUERIES].decode().encode("utf-16")},
        ["{uri}/queries.jsonl: is UTF-16; convert it with iconv -f utf-16 -t utf-8"],
    ),
    "wrong header": (
        {TRAIN: b"asked\tanswered\thow well\nq1\tp1\t1\n"},
        [
            '{uri}/qrels/train.tsv:1: the header is "asked\\tanswered\\thow well"; '
            "make it query-id, corpus-id, score with tabs between"
        ],
    ),
    "no grades": (
        {TRAIN: b"q1\tp1\n"},
        ['{uri}/qrels/train.tsv:1: the header is "q1\\tp1"; make it query-id, corpus-id, score with tabs between'],
    ),
    "qrels of no split": (
        {"qrels/valid.tsv": HEADER},
        [
            "{uri}/qrels/valid.tsv: is not the name of a split; "
            "rename it to train.tsv, dev.tsv, test.tsv or all.tsv (not split), or move it away"
        ],
    ),
    "empty corpus": (
        {CORPUS: b"", "qrels/train.tsv": None, "qrels/dev.tsv": None, "qrels/test.tsv": None},
        [
            "{uri}/corpus.jsonl: holds no passage that can be used; "
            'write one {"_id": ..., "title": ..., "text": ...} a line'
        ],
    ),
    "empty queries": (
        {QUERIES: b"", "qrels/train.tsv": None, "qrels/dev.tsv": None, "qrels/test.tsv": None},
        ['{uri}/queries.jsonl: holds no query that can be used; write one {"_id": ..., "text": ...} a line'],
    ),
    "nothing good in the corpus": (
        {CORPUS: b"{}\n", "qrels/train.tsv": None, "qrels/dev.tsv": None, "qrels/test.tsv": None},
        [
            "{uri}/corpus.jsonl: holds no passage that can be used; "
            'write one {"_id": ..., "title": ..., "text": ...} a line',
            '{uri}/corpus.jsonl:1: no "_id"; give the line an "_id", a string',
            "bad lines: 1 (1 x missing id)",
        ],
    ),
    "qrels without a row": (
        {"qrels/train.tsv": HEADER, "qrels/dev.tsv": None, "qrels/test.tsv": None},
        ["{uri}/qrels: no row can be used; mend the files, or move them away to go without human labels"],
    ),
    "two files at once": (
        {QUERIES: None, TRAIN: b""},
        [
            "{uri}/queries.jsonl: is missing; write it, one JSON object a line",
            "{uri}/qrels/train.tsv: is empty; write its rows, or delete it",
        ],
    ),
}


def write_files(folder: Path, changes: dict[str, bytes | None]) -> Path:
    for name, content in {**GOOD, **changes}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content)
    return folder


def refusal(tmp_path: Path, collection: Path, **settings: object) -> str:
    """The message of a refused collection, of which nothing was written."""
    with pytest.raises(ValueError, match=re.escape(str(collection))) as refused:
        prepare(PrepareConfig(collection_uri=str(collection), output_uri=str(tmp_path / "out" / "dataset"), **settings))
    assert not (tmp_path / "out").exists()
    return str(refused.value)


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


@pytest.mark.parametrize("on_problem", ["refuse", "skip"])
@pytest.mark.parametrize(("changes", "lines"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_whatever_the_user_says(
    tmp_path: Path, changes: dict[str, bytes | None], lines: list[str], on_problem: str
) -> None:
    collection = write_files(tmp_path / "collection", changes)
    expected = "\n".join(["{uri}: this collection cannot be used; nothing was written", *lines])
    assert refusal(tmp_path, collection, on_problem=on_problem) == expected.replace("{uri}", str(collection))


def test_a_collection_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    expected = f"{missing}: nothing here; name a folder with corpus.jsonl, queries.jsonl and, if there is one, qrels/"
    assert refusal(tmp_path, missing) == expected


def test_a_file_in_the_place_of_a_collection_is_named(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_bytes(GOOD[CORPUS])
    assert refusal(tmp_path, file) == f"{file}: is a file; name the folder that holds corpus.jsonl and queries.jsonl"


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

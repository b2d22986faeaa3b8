"""Every kind of bad file, with its exact message; bad files cannot be skipped."""

import gzip
from pathlib import Path

import pytest

from tests.components.prepare.broken_collections import CORPUS, GOOD, HEADER, QUERIES, TRAIN, refusal, write_files

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

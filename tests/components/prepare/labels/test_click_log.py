"""Every kind of broken click log, with its exact message; what is left is a table of the dataset."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.prepare.labels.clicks import check_clicks, read_click_rows
from components.prepare.problems import Problems
from components.shared.clicks import ClickLog, read_clicks
from components.shared.dataset import Dataset
from components.shared.manifest import read_manifest

HEADER = "session\tquery-id\tcorpus-id\trank\tclicked\tdwell-seconds\n"
# Two sessions see the same five passages for q1.
GOOD = [
    f"{session}\tq1\tp{rank}\t{rank}\t{int(rank == 2)}\t{2.5 if rank == 2 else 0}"
    for session in "ab"
    for rank in (1, 2, 3)
]
MENDING = "mend the lines, or leave them out (--on-problem skip)"


def written(folder: Path, rows: Iterable[str], header: str = HEADER) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "clicks.tsv").write_text(header + "".join(f"{row}\n" for row in rows), "latin-1")
    return folder


def checked(folder: Path, problems: Problems) -> ClickLog:
    """The log of a collection with the queries q1 and q2, the passages p1 to p5, and p6 without text."""
    raw = read_click_rows(folder, problems)
    assert raw is not None
    return check_clicks(
        raw, problems, query_ids={"q1", "q2"}, named={f"p{number}" for number in range(1, 6)}, empty={"p6"}
    )


def left(folder: Path, rows: Iterable[str]) -> tuple[ClickLog, dict[str, int]]:
    """The log without its warnings, and what was left out by kind."""
    problems = Problems(str(folder), max_reported=20)
    log = checked(written(folder, rows), problems)
    problems.settle("refuse")
    return log, dict(problems.skipped)


# Added to the six good rows, so line 8: the row, its kind, the problem and the remedy.
BROKEN = [
    (
        "c\tq1\tp\xe9\t1\t0\t0",
        "bad UTF-8",
        "byte 7 of the line (0xE9) is not UTF-8",
        "convert the file, for example with iconv -f latin1 -t utf-8",
    ),
    ("c\tq1\tp1\t1\t0", "wrong columns", "5 column(s), not 6", "write all rows alike, with tabs between the columns"),
    ("\tq1\tp1\t1\t0\t0", "missing id", "the session, query or passage has no id", "name all three"),
    ("c\tq1\tp1\t1\tyes\t0", "wrong click", 'clicked "yes" is neither 0 nor 1', "write 1 for a click"),
    (
        "c\tq1\tp1\t\t1\t3",
        "click without an impression",
        "a click on a passage that has no rank, so was not shown",
        "join it to its impression",
    ),
    ("c\tq1\tp1\tNULL\t0\t0", "missing rank", "the row has no rank", "write where the passage stood, from 1"),
    ("c\tq1\tp1\t0\t0\t0", "wrong rank", 'rank "0" is no whole number from 1 on', "count ranks from 1"),
    ("c\tq1\tp1\t1.5\t0\t0", "wrong rank", 'rank "1.5" is no whole number from 1 on', "count ranks from 1"),
    ("c\tq1\tp1\t1\t1\t-2", "wrong dwell", 'dwell "-2" is no time in seconds', "write seconds, 0 or more"),
    ("c\tq1\tp1\t1\t1\tinf", "wrong dwell", 'dwell "inf" is no time in seconds', "write seconds, 0 or more"),
    ("c\tq1\tp1\t1\t1\tlong", "wrong dwell", 'dwell "long" is no time in seconds', "write seconds, 0 or more"),
    (
        "c\tq1\tp1\t1\t0\t4",
        "dwell without a click",
        "4 seconds on a passage that was not clicked",
        "write 0, or 1 for the click",
    ),
    ("c\tq9\tp1\t1\t0\t0", "unknown query", 'query "q9" is not in queries.jsonl', "add the query or delete the row"),
    (
        "c\tq1\tp9\t1\t0\t0",
        "unknown passage",
        'passage "p9" is not in corpus.jsonl',
        "add the passage or delete the row",
    ),
    (
        "c\tq1\tp6\t1\t0\t0",
        "empty passage",
        'passage "p6" has neither title nor text',
        "give it text, or delete the row",
    ),
    ("a\tq1\tp1\t1\t0\t0", "repeated row", 'session "a" shows "p1" for "q1" in an earlier row', "delete the row"),
    (
        "a\tq1\tp1\t4\t0\t0",
        "passage shown twice",
        'session "a" shows "p1" for "q1" at another rank too',
        "delete the lower one",
    ),
    (
        "a\tq1\tp4\t3\t0\t0",
        "two passages at one rank",
        'session "a" shows two passages for "q1" at rank 3',
        "mend the rank",
    ),
    (
        "c\tq1\tp1\t2\t0\t0",
        "showing with ranks missing",
        'session "c" has no row for some rank above its last one of query "q1"',
        "log every result that was shown, clicked or not",
    ),
]


@pytest.mark.parametrize(("row", "kind", "problem", "remedy"), BROKEN, ids=[row for row, *_ in BROKEN])
def test_a_broken_row_is_named_or_left_out_and_counted(
    tmp_path: Path, row: str, kind: str, problem: str, remedy: str
) -> None:
    problems = Problems("here", max_reported=20)
    log = checked(written(tmp_path, [*GOOD, row]), problems)
    with pytest.raises(ValueError, match="cannot be used") as refused:
        problems.settle("refuse")
    assert str(refused.value).splitlines()[1:] == [
        f"here/clicks.tsv:8: {problem}; {remedy}",
        f"bad lines: 1 (1 x clicks: {kind})",
        MENDING,
    ]
    problems.settle("skip")
    assert log.num_rows == len(GOOD)


def test_a_session_that_clicks_everything_is_a_robot_and_only_a_warning(tmp_path: Path) -> None:
    log, skipped = left(tmp_path, [*GOOD, *(f"bot\tq2\tp{rank}\t{rank}\t1\t0" for rank in range(1, 6))])
    assert skipped == {"clicks: session with every result clicked": 1}
    assert log.session_ids == ("a", "b")
    assert log.query_ids == ("q1",)


def test_a_few_rows_that_every_log_has_are_warnings(tmp_path: Path) -> None:
    rows = [f"s{number}\tq1\tp{rank}\t{rank}\t0\t0" for number in range(10) for rank in (1, 2)]
    log, skipped = left(tmp_path, [*rows, "s0\tq1\tp9\t3\t0\t0"])
    assert skipped == {"clicks: unknown passage": 1}
    assert log.num_rows == 20


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("session\tquery-id\trank\tclicked\n", "names no column of passage"),
        ("", "names no column of query, passage, rank, clicked"),
    ],
)
def test_a_log_without_a_header_cannot_be_skipped(tmp_path: Path, header: str, problem: str) -> None:
    problems = Problems("here", max_reported=20)
    assert read_click_rows(written(tmp_path, GOOD, header), problems) is None
    with pytest.raises(ValueError, match=re.escape(problem)):
        problems.settle("skip")


def test_the_dataset_holds_the_log_and_the_topics(tmp_path: Path) -> None:
    collection = written(tmp_path / "in", GOOD)
    (collection / "corpus.jsonl").write_text("".join(f'{{"_id": "p{n}", "text": "text {n}"}}\n' for n in (1, 2, 3)))
    (collection / "queries.jsonl").write_text('{"_id": "q1", "text": "what", "topic": "t"}\n')
    prepare(PrepareConfig(collection_uri=str(collection), output_uri=str(tmp_path / "dataset")))
    log = read_clicks(tmp_path / "dataset")
    assert log is not None
    assert [log.session_ids[number] for number in log.sessions] == list("aaabbb")
    assert [log.passage_ids[number] for number in log.passages] == ["p1", "p2", "p3"] * 2
    assert (log.ranks.tolist(), log.clicked.tolist()) == ([1, 2, 3] * 2, [False, True, False] * 2)
    assert log.dwell_seconds.tolist() == [0.0, 2.5, 0.0] * 2
    assert log.of_queries({"q2"}).num_rows == 0
    assert Dataset(tmp_path / "dataset").query("q1").topic == "t"
    assert read_manifest(str(tmp_path / "dataset")).metrics["num_clicks"] == 2


def test_without_sessions_every_query_is_one(tmp_path: Path) -> None:
    rows = [row.split("\t", 1)[1] for row in GOOD[:3]]
    log = checked(written(tmp_path, rows, HEADER.split("\t", 1)[1]), Problems("here", max_reported=20))
    assert log.session_ids == ("q1",)

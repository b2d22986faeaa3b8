"""Queries and qrels may lie beside the documents; qrels name passages, records, or files for all of their passages."""

from pathlib import Path

import pytest

from tests.components.prepare.documents.folders import Files, prepared

HEADER = "query-id\tcorpus-id\tscore\n"
FILES: Files = {
    "tides.md": "# Tides\n\nThe moon pulls.\n\n## Sun\n\nThe sun pulls too.\n",
    "ice.txt": "Ice is cold.",
    "copy.txt": "Ice is cold.",
    "more.jsonl": '{"id": "r1", "text": "Bread rises."}\n{"id": "r2", "text": "Lava burns."}\n',
    "queries.jsonl": '{"_id": "q1", "text": "what pulls"}\n{"_id": "q2", "text": "what is cold"}\n',
}


def test_documents_alone_make_a_dataset_without_queries_and_say_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = prepared(tmp_path, {"a.txt": "Text."})
    assert result.dataset.queries() == []
    assert result.manifest.metrics["num_queries"] == 0
    assert "there are no queries: queries.jsonl beside the documents would hold them" in capfd.readouterr().err


def test_queries_beside_the_documents_are_no_documents(tmp_path: Path) -> None:
    result = prepared(tmp_path, {**FILES, "queries_unlabeled.jsonl": '{"_id": "q3", "text": "what else"}\n'})
    assert [query.query_id for query in result.dataset.queries()] == ["q1", "q2", "q3"]
    assert {v.file for _, v in result.passages} == {"copy.txt", "tides.md", "more.jsonl"}
    assert result.left_out == {}


def test_a_file_in_the_qrels_means_all_of_its_passages_and_a_record_itself(tmp_path: Path) -> None:
    rows = "q1\ttides.md\t1\nq1\tr2\t0\nq2\tice.txt\t2\n"
    result = prepared(tmp_path, {**FILES, "qrels/test.tsv": HEADER + rows})
    by_file: dict[str, list[str]] = {}
    for passage, provenance in result.passages:
        by_file.setdefault(provenance.file, []).append(passage.passage_id)
    # The text of ice.txt stands in copy.txt already, which comes first and is kept for both.
    assert result.dataset.qrels("test") == {
        "q1": {**dict.fromkeys(by_file["tides.md"], 1), "r2": 0},
        "q2": {by_file["copy.txt"][0]: 2},
    }
    assert result.manifest.metrics["num_qrels"] == 4


def test_a_row_of_one_passage_counts_before_a_row_of_its_file(tmp_path: Path) -> None:
    first = prepared(tmp_path, FILES)
    sun = next(p.passage_id for p, v in first.passages if v.headings == ("Tides", "Sun"))
    rows = f"q1\t{sun}\t3\nq1\ttides.md\t1\n"
    result = prepared(tmp_path, {"qrels/test.tsv": HEADER + rows})
    assert sorted(result.dataset.qrels("test")["q1"].values()) == [1, 3]
    assert result.dataset.qrels("test")["q1"][sun] == 3


def test_qrels_of_unknown_documents_and_qrels_without_queries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'passage "gone\.txt" is not in'):
        prepared(tmp_path, {**FILES, "qrels/test.tsv": HEADER + "q1\tgone.txt\t1\n"})
    (tmp_path / "docs" / "queries.jsonl").unlink()
    with pytest.raises(ValueError, match=r"queries\.jsonl: is missing; write it, or move qrels away"):
        prepared(tmp_path, {})


def test_a_corpus_file_makes_it_a_collection_in_beir_layout(tmp_path: Path) -> None:
    result = prepared(tmp_path, {**FILES, "corpus.jsonl": '{"_id": "p1", "text": "lava"}\n'})
    assert [p.passage_id for p in result.dataset.iter_passages()] == ["p1"]
    assert not result.dataset.has_provenance
    assert result.dataset.provenance("p1") is None

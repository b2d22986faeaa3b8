"""A folder goes into a bucket and comes out of it as it was."""

from pathlib import Path

import pytest

from pipelines.cluster.copying import copy


def test_a_folder_comes_back_as_it_was_and_replaces_what_stood_there(tmp_path: Path, s3_bucket: str) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "qrels").mkdir(parents=True)
    (corpus / "corpus.jsonl").write_text("{}\n")
    (corpus / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    assert copy(str(corpus), f"{s3_bucket}/copied/corpus") == 2
    assert copy(f"{s3_bucket}/copied/corpus", str(tmp_path / "back")) == 2
    assert (tmp_path / "back" / "qrels" / "test.tsv").read_text() == "query-id\tcorpus-id\tscore\n"
    (corpus / "corpus.jsonl").unlink()
    assert copy(str(corpus), f"{s3_bucket}/copied/corpus") == 1
    assert copy(f"{s3_bucket}/copied/corpus", str(tmp_path / "less")) == 1


def test_a_file_goes_both_ways(tmp_path: Path, s3_bucket: str) -> None:
    (tmp_path / "report.html").write_text("<html>")
    assert copy(str(tmp_path / "report.html"), f"{s3_bucket}/copied/report.html") == 1
    assert copy(f"{s3_bucket}/copied/report.html", str(tmp_path / "out")) == 1
    assert (tmp_path / "out" / "report.html").read_text() == "<html>"


def test_two_local_paths_are_refused_and_so_is_nothing(tmp_path: Path, s3_bucket: str) -> None:
    with pytest.raises(ValueError, match="one of the two is in a bucket"):
        copy(str(tmp_path), str(tmp_path / "other"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        copy(str(tmp_path / "nowhere"), f"{s3_bucket}/copied/nowhere")

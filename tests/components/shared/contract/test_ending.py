"""The reason of a failure stands where Kubernetes looks for it, and looking never breaks the job."""

from pathlib import Path

import pytest

from components.shared.contract.ending import tell_platform


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "termination-log"
    monkeypatch.setenv("RETRIEVER_TERMINATION_LOG", str(path))
    return path


def test_the_last_reason_is_kept_whole_and_alone(log: Path) -> None:
    log.write_text("an older and much longer reason")
    tell_platform("prepare: queries.tsv line 7: no tab")
    assert log.read_text() == "prepare: queries.tsv line 7: no tab"


def test_a_long_reason_is_cut_to_what_kubernetes_keeps_at_a_whole_character(log: Path) -> None:
    log.touch()
    # 1 byte and 2,100 times 2 bytes: the 4,096th byte is the first half of a character.
    tell_platform("a" + "é" * 2100)
    assert len(log.read_bytes()) == 4095
    assert log.read_bytes().decode() == "a" + "é" * 2047


def test_outside_a_pod_no_file_is_made(log: Path) -> None:
    tell_platform("reason")
    assert not log.exists()


def test_a_log_that_cannot_be_written_changes_nothing(log: Path) -> None:
    log.mkdir()
    tell_platform("reason")
    assert list(log.iterdir()) == []


def test_a_link_is_not_followed(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    log.symlink_to(other)
    tell_platform("reason")
    assert other.read_text() == "kept"

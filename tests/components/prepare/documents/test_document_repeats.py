"""What stands there twice is counted as the arithmetic beside each test says."""

from pathlib import Path

import numpy as np
import pytest

from components.prepare.documents.repeats import boilerplate_rows, compared
from tests.components.prepare.documents.folders import Files, prepared

WORDS = [f"word{number}" for number in range(60)]


def replaced(*positions: int) -> str:
    return " ".join("other" if position in positions else word for position, word in enumerate(WORDS))


def test_the_same_characters_are_one_passage_whatever_their_case_and_white_space(tmp_path: Path) -> None:
    files: Files = {
        "a.txt": "The tides rise and fall.",
        "b.md": "# Again\n\nThe *tides* rise\nand fall.",
        "c.html": "<p>THE TIDES rise\nand fall.",
        "d.txt": "The tides, rise and fall.",
    }
    dropped = prepared(tmp_path, files)
    assert [v.file for _, v in dropped.passages] == ["a.txt", "d.txt"]
    metrics = dropped.manifest.metrics
    assert (metrics["num_passages"], metrics["num_same_passages"], metrics["num_same_documents"]) == (2, 2, 2)
    kept = prepared(tmp_path, {}, duplicates="keep")
    metrics = kept.manifest.metrics
    assert (metrics["num_passages"], metrics["num_same_passages"], metrics["num_same_documents"]) == (4, 2, 2)


def test_nearly_the_same_means_four_of_five_runs_of_words_are_shared(tmp_path: Path) -> None:
    # Of 60 words 56 runs of five. One other word at 30 changes 5 of them: 51 shared of 61 is .84. Two words far apart
    # change 10: 46 shared of 66 is .70. At the very end one word changes 1: 55 of 57 is .96.
    files: Files = {
        "a.txt": replaced(),
        "b.txt": replaced(59),
        "c.txt": replaced(20, 40),
        "d.txt": "Something else altogether, and of its own.",
    }
    result = prepared(tmp_path, files)
    assert result.manifest.metrics["num_near_passages"] == 1
    assert result.manifest.metrics["num_same_passages"] == 0
    assert result.dataset.num_passages == 4


@pytest.mark.parametrize(("positions", "share"), [((59,), 55 / 57), ((30,), 51 / 61), ((20, 40), 46 / 66)])
def test_a_signature_estimates_the_share_of_runs(positions: tuple[int, ...], share: float) -> None:
    estimate = (compared(replaced())[1] == compared(replaced(*positions))[1]).mean()
    # 64 draws of a share have a standard deviation of at most 1/16.
    assert abs(estimate - share) < 3 / 16


def test_a_paragraph_that_many_documents_have_is_boilerplate(tmp_path: Path) -> None:
    licence = "This text may be copied freely by everybody who wants to."
    files: Files = {
        f"{number}.txt": f"{licence}\n\nOf number{number} alone there is something short." for number in range(4)
    }
    files["long.txt"] = f"{licence}\n\n" + " ".join(f"Sentence{number} says more about the sea." for number in range(9))
    result = prepared(tmp_path, files, boilerplate_documents=5)
    # The licence has 57 characters, what follows 48: it is most of four passages, and not of the long one.
    assert result.manifest.metrics["num_boilerplate_passages"] == 4
    assert prepared(tmp_path, {}, boilerplate_documents=6).manifest.metrics["num_boilerplate_passages"] == 0


def test_a_document_that_repeats_itself_has_no_boilerplate() -> None:
    # Block 1 stands in documents 0 and 1, block 2 three times in document 1 only.
    is_boilerplate = boilerplate_rows(
        np.array([1, 1, 2, 2, 2], np.uint64),
        np.array([10, 10, 10, 10, 10], np.uint32),
        np.array([0, 1, 2, 3, 4]),
        np.array([0, 1, 1, 1, 1]),
        min_documents=2,
    )
    assert is_boilerplate.tolist() == [True, True, False, False, False]


def test_ids_stay_when_files_come_and_go(tmp_path: Path) -> None:
    guide = "# Guide\n\nFirst part.\n\n## Install\n\nSecond part.\n"
    first = prepared(tmp_path, {"m/guide.md": guide})
    before = [p.passage_id for p, _ in first.passages]
    assert all(passage_id.startswith("m/guide.md#") for passage_id in before)
    more = prepared(tmp_path, {"a/new.txt": "New text.", "z.md": "# Other\n\nText.", "m/guide.rst": "Guide."})
    assert [p.passage_id for p, v in more.passages if v.file == "m/guide.md"] == before
    # A changed paragraph changes its own id and no other.
    changed = prepared(tmp_path, {"m/guide.md": guide.replace("Second", "Another")})
    after = [p.passage_id for p, v in changed.passages if v.file == "m/guide.md"]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


def test_the_same_text_twice_in_one_file_has_two_ids_where_both_are_kept(tmp_path: Path) -> None:
    files: Files = {"a.md": "# One\n\nThe same.\n\n# Two\n\nOther.\n\n# One\n\nThe same.\n"}
    result = prepared(tmp_path, files, duplicates="keep")
    ids = [p.passage_id for p, _ in result.passages]
    assert len(set(ids)) == 3
    assert ids[2] == f"{ids[0]}-2"

"""Files of sampled queries come back as they were written, and each server counts by what it had to answer."""

from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.drift.sample import SampledQuery, day_of, decoded, encoded, file_name, read_sample

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.builds(SampledQuery, _TEXTS, st.integers(0, 9), _TEXTS, _TEXTS)), st.integers(0, 10**9))
def test_what_is_written_comes_back(queries: list[SampledQuery], num_seen: int) -> None:
    assert decoded("x", encoded(queries, num_seen=num_seen)) == (queries, num_seen)


def _write(folder: Path, day: date, server: str, kept: int, num_seen: int) -> None:
    queries = [SampledQuery(f"{server} {number}", 9, "dense", "v") for number in range(kept)]
    (folder / file_name(day, server * 12)).write_bytes(encoded(queries, num_seen=num_seen))


def test_a_server_that_answered_nine_times_as_many_gives_nine_times_as_many(tmp_path: Path) -> None:
    day = date(2026, 11, 27)
    _write(tmp_path, day, "a", 90, 9000)
    _write(tmp_path, day, "b", 100, 1000)
    sample = read_sample(str(tmp_path), days=7, most=1000, seed=0)
    # The first kept one in a hundred, so of the second ten of its thousand may come.
    assert Counter(query.text[0] for query in sample.queries) == {"a": 90, "b": 10}
    assert (sample.num_seen, sample.num_files) == (10_000, 2)
    fewer = read_sample(str(tmp_path), days=7, most=50, seed=0)
    assert Counter(query.text[0] for query in fewer.queries) == {"a": 45, "b": 5}


def test_the_days_are_counted_back_from_the_newest_and_other_files_are_none(tmp_path: Path) -> None:
    for day in (19, 20, 21, 27):
        _write(tmp_path, date(2026, 11, day), "a", 3, 3)
    (tmp_path / "notes.txt").write_text("ours")
    (tmp_path / "queries-2026-13-40-aaaaaaaaaaaa.jsonl").write_text("no day")
    sample = read_sample(str(tmp_path), days=7, most=100, seed=0)
    assert (sample.first_day, sample.last_day, len(sample.queries)) == ("2026-11-21", "2026-11-27", 6)
    assert day_of("notes.txt") is None


def test_a_folder_without_samples_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no sampled queries; start serve with --sample-uri"):
        read_sample(str(tmp_path), days=7, most=100, seed=0)


@pytest.mark.parametrize("line", ['{"text": "x"}', "[]", "{", '"x"'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / file_name(date(2026, 11, 27), "a" * 12)
    path.write_text('{"seen": 2}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"aaaaaaaaaaaa.jsonl:2: no sampled query .*; remove the file"):
        read_sample(str(tmp_path), days=7, most=100, seed=0)

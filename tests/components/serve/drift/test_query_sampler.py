"""A sample is fair and bounded in memory, in the folder and in time, and costs no answer where it cannot be written."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from components.serve.config import ServeConfig
from components.serve.drift.sampling import QuerySampler
from components.shared.drift.sample import SampledQuery, decoded, file_name, read_sample

DAY = date(2026, 11, 27)


class _Calendar:
    """A day that a test may turn."""

    def __init__(self) -> None:
        self.day = DAY

    def __call__(self) -> date:
        return self.day


def _config(folder: Path | str, **settings: int) -> ServeConfig:
    return ServeConfig(sample_uri=str(folder), **settings)


def _sampler(folder: Path, today: Callable[[], date] = lambda: DAY, **settings: int) -> QuerySampler:
    return QuerySampler(_config(folder, **settings), today=today)


def _kept(folder: Path) -> list[SampledQuery]:
    return [query for path in sorted(folder.iterdir()) for query in decoded(str(path), path.read_bytes())[0]]


def test_every_query_of_a_day_is_kept_with_the_same_chance(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    for _ in range(400):
        sampler = _sampler(tmp_path, sample_queries=5)
        for number in range(20):
            sampler.offer([str(number)], mode="dense", version="v")
        counts.update(query.text for query in sampler._kept)
    # 400 draws of 5 in 20: 100 of each, standard deviation sqrt(400 x 1/4 x 3/4) = 8.7; 45 are more than five of them.
    assert len(counts) == 20
    assert all(abs(count - 100) < 45 for count in counts.values()), counts


def test_a_file_holds_the_beginning_of_a_query_its_length_mode_and_release_and_nothing_else(tmp_path: Path) -> None:
    sampler = _sampler(tmp_path)
    sampler.offer(["x" * 3000, "why do\ntides rise"], mode="hybrid", version="abc")
    sampler.write()
    assert _kept(tmp_path) == [
        SampledQuery("x" * 2000, 3000, "hybrid", "abc"),
        SampledQuery("why do\ntides rise", 17, "hybrid", "abc"),
    ]


def test_a_file_is_written_over_by_a_longer_one_and_a_day_has_its_own(tmp_path: Path) -> None:
    calendar = _Calendar()
    sampler = _sampler(tmp_path, calendar)
    for text in ("first", "second"):
        sampler.offer([text], mode="dense", version="v")
        sampler.write()
    calendar.day += timedelta(days=1)
    sampler.offer(["third"], mode="dense", version="v")
    sampler.write()
    assert [query.text for query in _kept(tmp_path)] == ["first", "second", "third"]
    assert read_sample(str(tmp_path), days=1, most=10, seed=0).queries[0].text == "third"


def test_what_is_too_old_is_removed_whoever_wrote_it_and_no_other_file_is(tmp_path: Path) -> None:
    old, young = (file_name(DAY - timedelta(days=days), "b" * 12) for days in (3, 2))
    for name in (old, young, "notes.txt", "queries-2026.jsonl"):
        (tmp_path / name).write_text('{"seen": 1}\n')
    sampler = _sampler(tmp_path, sample_days=3)
    sampler.offer(["text"], mode="dense", version="v")
    sampler.write()
    names = {path.name for path in tmp_path.iterdir()}
    assert old not in names
    assert {young, "notes.txt", "queries-2026.jsonl"} < names
    assert len(names) == 4


def test_a_full_folder_gets_nothing_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / file_name(DAY, "b" * 12)
    other.write_bytes(b"x" * (1 << 20))
    sampler = _sampler(tmp_path, sample_mebibytes=1)
    sampler.offer(["text"], mode="dense", version="v")
    sampler.write()
    assert list(tmp_path.iterdir()) == [other]
    assert "the folder of sampled queries is full" in capsys.readouterr().err


def test_what_could_not_be_written_is_written_later_also_the_day_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "sample"
    place.write_text("a file where a folder should be")
    calendar = _Calendar()
    sampler = _sampler(place, calendar)
    sampler.offer(["yesterday"], mode="dense", version="v")
    calendar.day += timedelta(days=1)
    sampler.offer(["today"], mode="dense", version="v")
    sampler.write()
    assert "sampled queries were not written" in capsys.readouterr().err
    place.unlink()
    sampler.write()
    assert [query.text for query in _kept(place)] == ["yesterday", "today"]


def test_a_server_that_ends_writes_what_is_left(tmp_path: Path) -> None:
    sampler = _sampler(tmp_path)
    sampler.start()
    sampler.offer(["last"], mode="dense", version="v")
    sampler.stop()
    assert [query.text for query in _kept(tmp_path)] == ["last"]


def test_it_works_in_a_bucket() -> None:
    uri = "memory://bucket/sampled"
    sampler = QuerySampler(replace(_config(uri), sample_queries=2), today=lambda: DAY)
    sampler.offer(["a", "b", "c"], mode="dense", version="v")
    sampler.write()
    sample = read_sample(uri, days=1, most=10, seed=0)
    assert (len(sample.queries), sample.num_seen) == (2, 3)

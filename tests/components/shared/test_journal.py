"""The journal keeps what it was given: over kill -9, torn lines, and any order of reading and writing."""

import errno
import hashlib
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.calls.journalled import from_value, is_completed, to_value
from components.shared.durable import storage
from components.shared.durable.journal import Journal, read_journal
from components.shared.engines.engine import Completion, Likelihood
from components.shared.hashing import content_key
from components.shared.records import RecordError

_FIRST = "calls-00000.jsonl"
_KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_VALUES = st.dictionaries(
    _KEYS, st.one_of(st.integers(-(2**53), 2**53), _KEYS, st.lists(_KEYS, max_size=2)), max_size=3
)


@settings(max_examples=150)
@given(st.lists(st.one_of(st.tuples(_KEYS, _VALUES), st.just("reopen"), _KEYS), max_size=15), st.binary(max_size=20))
def test_a_journal_is_a_dictionary_that_keeps_the_first_value(
    tmp_path_factory: pytest.TempPathFactory, acts: list[Any], torn: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    expected: dict[str, dict[str, Any]] = {}
    journal = Journal(folder)
    for act in acts:
        if isinstance(act, tuple):
            journal.append(*act)
            expected.setdefault(*act)
        elif act == "reopen":
            journal.close()
            # What a kill in the middle of a write leaves: part of a line, without its end.
            with (folder / _FIRST).open("ab") as file:
                file.write(torn.replace(b"\n", b""))
            journal = Journal(folder)
        else:
            assert journal.get(act) == expected.get(act)
    assert list(journal) == list(expected)
    assert len(journal) == len(expected)
    assert {key: journal.get(key) for key in journal} == expected
    journal.close()


def test_equal_calls_have_equal_keys() -> None:
    assert content_key("model", {"b": 1, "a": 2}) == content_key("model", {"a": 2, "b": 1})
    assert content_key("model", 1) != content_key("model", "1")
    assert content_key("a", "b") != content_key("ab")


_WRITER = """
import sys
from pathlib import Path
from components.shared.durable.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(len(journal), 10**9):
    journal.append(f"key-{number}", {"number": number, "text": "x" * 2000})
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for attempt in range(5):
        with (tmp_path / "seen").open("wb") as seen:
            writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=seen)
            deadline = time.monotonic() + 20
            while (tmp_path / "seen").stat().st_size < 200 and time.monotonic() < deadline:
                time.sleep(0.01 * (attempt + 1))
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        appended = [int(line) for line in (tmp_path / "seen").read_text().split("\n")[:-1]]
        with Journal(path) as journal:
            assert len(journal) >= appended[-1] + 1
            for number in appended:
                record = journal.get(f"key-{number}")
                assert record is not None
                assert record["number"] == number


@pytest.mark.parametrize(
    "line", ["{", "{}", "[]", "7", '{"key": 7, "value": {}}', '{"key": "k", "value": 7}', '{"value": {}}', ""]
)
def test_damage_before_the_last_line_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / _FIRST
    path.write_text(f'{{"key": "a", "value": {{}}}}\n{line}\n{{"key": "b", "value": {{}}}}\n')
    for read in (lambda: Journal(tmp_path), lambda: list(read_journal(str(tmp_path)))):
        with pytest.raises(RecordError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}:2: not a journal record")
        assert "delete this line to make the call again" in str(caught.value)


def test_a_torn_last_line_is_cut_and_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / _FIRST
    path.write_text('{"key": "a", "value": {}}\n{"key": "b", "val')
    with Journal(tmp_path) as journal:
        assert list(journal) == ["a"]
        journal.append("b", {"again": True})
        assert journal.get("b") == {"again": True}
    assert "torn last line" in capfd.readouterr().err
    assert path.read_text() == '{"key": "a", "value": {}}\n{"key":"b","value":{"again":true}}\n'


def test_writers_at_once_have_files_of_their_own_and_read_all(tmp_path: Path) -> None:
    with Journal(tmp_path) as first:
        first.append("a", {"by": 1})
        with Journal(tmp_path) as second:
            assert second.get("a") == {"by": 1}
            second.append("a", {"by": 2})
            second.append("b", {"by": 2})
            with (tmp_path / _FIRST).open("ab") as file:
                file.write(b'{"key": "c", "val')
            # A line that the first is still writing is neither read nor cut.
            with Journal(tmp_path) as third:
                assert list(third) == ["a", "b"]
    assert dict(read_journal(str(tmp_path))) == {"a": {"by": 1}, "b": {"by": 2}}
    with Journal(tmp_path) as later:
        assert {key: later.get(key) for key in later} == {"a": {"by": 1}, "b": {"by": 2}}
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [_FIRST, "calls-00001.jsonl", "calls-00002.jsonl"]


def test_many_records_are_found_in_little_memory(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for number in range(6_000):
            journal.append(f"key-{number}", {"number": number})
        assert len(journal) == 6_000
        assert [journal.get(f"key-{number}") for number in range(6_000)] == [
            {"number": number} for number in range(6_000)
        ]
        assert journal.get("key-6000") is None
        table = journal._table
        assert (len(table._hashes) + len(table._values)) * 8 <= 48 * 6_000
    with Journal(tmp_path) as journal:
        assert len(journal) == 6_000


def test_keys_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.shared.durable.journal._hash", lambda content: len(content))
    with Journal(tmp_path) as journal:
        for number in range(50):
            journal.append(f"key-{number}", {"number": number})
        assert journal.get("key-31") == {"number": 31}
        assert "key-50" not in journal


_FULL = """
import sys
from components.shared.durable.journal import Journal
journal = Journal(sys.argv[1])
try:
    for number in range(10**6):
        journal.append(f"key-{number}", {"number": number, "text": "x" * 2000})
except OSError as error:
    print(error.errno, number)
"""


def test_a_full_disk_leaves_whole_records_and_a_journal_that_continues(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a disk that fills up needs the right to mount one")
    try:
        said = subprocess.run(
            [sys.executable, "-c", _FULL, disk / "journal"], capture_output=True, text=True, check=True
        ).stdout.split()
        assert int(said[0]) == errno.ENOSPC
        last = int(said[1])
        assert last > 50
        with Journal(disk / "journal") as journal:
            assert len(journal) == last
            assert f"key-{last}" not in journal
            assert (disk / "journal" / _FIRST).read_bytes().endswith(b"\n")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_segments_in_a_bucket_are_shared_and_immutable(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{bucket}/{tmp_path.name}/journal"
    for machine, key in (("one", "a"), ("two", "b"), ("one", "c")):
        monkeypatch.setenv("HOME", str(tmp_path / machine))
        with Journal(uri) as journal:
            journal.append(key, {"by": machine})
    contents = {name: storage.read_bytes(f"{uri}/{name}") for name in storage.list_files(uri)}
    assert len(contents) == 3
    assert all(name == f"{hashlib.sha256(content).hexdigest()[:24]}.jsonl" for name, content in contents.items())
    expected = {"a": {"by": "one"}, "b": {"by": "two"}, "c": {"by": "one"}}
    assert dict(read_journal(uri)) == expected
    monkeypatch.setenv("HOME", str(tmp_path / "three"))
    with Journal(uri) as journal:
        assert {key: journal.get(key) for key in journal} == expected
        journal.append("d", {"by": "three"})
        monkeypatch.setattr("components.shared.durable.journal._UPLOAD_SECONDS", 0.0)
        journal.sync()
        assert len(storage.list_files(uri)) == 4
        assert journal.get("d") == {"by": "three"}
        journal.append("e", {"by": "three"})
        assert set(journal) == {*expected, "d", "e"}
    # Nothing new: no empty segment.
    with Journal(uri):
        pass
    assert len(storage.list_files(uri)) == 5


def test_what_a_kill_kept_from_the_bucket_goes_there_next_time(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{bucket}/{tmp_path.name}/journal"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    journal = Journal(uri)
    journal.append("a", {"by": "killed"})
    # A kill closes the files and uploads nothing.
    journal._close_files()
    assert storage.list_files(uri) == []
    with Journal(uri) as journal:
        assert journal.get("a") == {"by": "killed"}
    assert dict(read_journal(uri)) == {"a": {"by": "killed"}}


# As version 0.6 wrote it: finish reasons in our words, of which abort stood for every word that was unknown.
_OLD = (
    b'{"key":"c1","value":{"text":"[1]","finish_reason":"stop","prompt_tokens":20,"completion_tokens":3,'
    b'"cached_tokens":5,"engine_seconds":0.5,"template":"relevance_selection","template_version":"paper.1@0f3a9c",'
    b'"rung":"first","query_id":"q0","artifact":"a"}}\n'
    b'{"key":"c2","value":{"text":"[2]","finish_reason":"abort","prompt_tokens":20,"completion_tokens":3,'
    b'"cached_tokens":0,"engine_seconds":0.5,"template":"relevance_selection","template_version":"paper.1@0f3a9c",'
    b'"rung":"first","query_id":"q0","artifact":"a"}}\n'
    b'{"key":"l1","value":{"logprobs":[-1.5,-2.0],"prompt_tokens":9,"cached_tokens":0,"engine_seconds":0.1,'
    b'"template":"query_likelihood","template_version":"likelihood.1@0f3a9c","rung":"first","query_id":"q0",'
    b'"artifact":"a"}}\n'
)


def test_a_journal_of_the_version_before_is_read_and_its_unknown_ends_are_asked_again(tmp_path: Path) -> None:
    (tmp_path / _FIRST).write_bytes(_OLD)
    with Journal(tmp_path, accepts=is_completed) as journal:
        assert from_value("c1", journal.get("c1") or {}) == Completion("c1", "[1]", "stop", 20, 3)
        assert from_value("l1", journal.get("l1") or {}) == Likelihood("l1", (-1.5, -2.0), 9)
        assert "c2" not in journal
        assert len(journal) == 2
        journal.append("c2", to_value(Completion("c2", "[2]", "eos_token", 20, 3)))
        assert len(journal) == 3
        # What was paid for is not forgotten.
        assert [key for key, _ in journal.records()] == ["c1", "c2", "l1", "c2"]
    with Journal(tmp_path, accepts=is_completed) as journal:
        assert from_value("c2", journal.get("c2") or {}) == Completion("c2", "[2]", "eos_token", 20, 3)
        assert len(journal) == 3


@pytest.mark.parametrize(
    "value",
    [
        {"logprobs": [-1.0, math.nan]},
        {"logprobs": [-math.inf]},
        {"a": {"b": [1, {2, 3}]}},
        {"a": b"bytes"},
        {"a": 2**70},
        {"a": {1: "number as name"}},
        {"a": object()},
        {"a": complex(1, 2)},
    ],
    ids=["nan", "infinity", "set", "bytes", "too large", "number as name", "object", "complex"],
)
def test_what_could_not_be_read_back_is_refused_on_its_way_in(tmp_path: Path, value: dict[str, Any]) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(ValueError, match=r"journal: record 'k'\S* is .*could not be read back"):
            journal.append("k", value)
        assert "k" not in journal
        journal.append("k", {"again": 1})
    assert dict(read_journal(str(tmp_path))) == {"k": {"again": 1}}
    assert (tmp_path / _FIRST).read_bytes().count(b"\n") == 1


def test_halves_of_surrogate_pairs_are_repaired_and_counted(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append("a", {"text": "tide \ud83d", "parts": ("x", "\udc00")})
        journal.append("b", {"text": "\U0001f30a"})
        assert journal.num_repaired == 2
        assert journal.get("a") == {"text": "tide ?", "parts": ["x", "?"]}
        with pytest.raises(ValueError, match="is no text that can be written"):
            journal.append("\ud83d", {})
    with Journal(tmp_path) as journal:
        assert journal.get("a") == {"text": "tide ?", "parts": ["x", "?"]}
        assert journal.get("b") == {"text": "\U0001f30a"}

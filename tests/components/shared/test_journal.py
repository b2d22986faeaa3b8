"""The journal keeps what it was given: over kill -9, torn lines, and any order of reading and writing."""

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

from components.shared.journal import Journal, content_key
from components.shared.records import RecordError

_KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_VALUES = st.dictionaries(_KEYS, st.one_of(st.integers(-(2**53), 2**53), _KEYS, st.lists(_KEYS, max_size=2)), max_size=3)


@settings(max_examples=150)
@given(st.lists(st.one_of(st.tuples(_KEYS, _VALUES), st.just("reopen"), _KEYS), max_size=15), st.binary(max_size=20))
def test_a_journal_is_a_dictionary_that_keeps_the_first_value(
    tmp_path_factory: pytest.TempPathFactory, acts: list[Any], torn: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "calls.jsonl"
    expected: dict[str, dict[str, Any]] = {}
    journal = Journal(path)
    for act in acts:
        if isinstance(act, tuple):
            journal.append(*act)
            expected.setdefault(*act)
        elif act == "reopen":
            journal.close()
            # What a kill in the middle of a write leaves: part of a line, without its end.
            with path.open("ab") as file:
                file.write(torn.replace(b"\n", b""))
            journal = Journal(path)
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
from components.shared.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(len(journal), 10**9):
    journal.append(f"key-{number}", {"number": number, "text": "x" * 2000})
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
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


@pytest.mark.parametrize("line", ["{", "{}", "[]", "7", '{"key": 7, "value": {}}', '{"key": "k", "value": 7}', '{"value": {}}', ""])
def test_damage_before_the_last_line_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(f'{{"key": "a", "value": {{}}}}\n{line}\n{{"key": "b", "value": {{}}}}\n')
    with pytest.raises(RecordError) as caught:
        Journal(path)
    assert str(caught.value).startswith(f"{path}:2: not a journal record")
    assert "delete this line to make the call again" in str(caught.value)


def test_a_torn_last_line_is_cut_and_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"key": "a", "value": {}}\n{"key": "b", "val')
    with Journal(path) as journal:
        assert list(journal) == ["a"]
        journal.append("b", {"again": True})
        assert journal.get("b") == {"again": True}
    assert "torn last line" in capfd.readouterr().err
    assert path.read_text() == '{"key": "a", "value": {}}\n{"key":"b","value":{"again":true}}\n'


def test_a_journal_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "calls.jsonl"), pytest.raises(OSError, match=r"calls\.jsonl: another process is writing this journal"):
        Journal(tmp_path / "calls.jsonl")
    with Journal(tmp_path / "calls.jsonl") as journal:
        assert len(journal) == 0

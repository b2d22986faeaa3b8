"""Merging a journal's files: whatever is killed when, every line is there once, and few files stay open."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from components.shared.durable import storage
from components.shared.durable.journal import Journal, read_journal
from components.shared.durable.journal_files import MOST_FILES
from components.shared.records import RecordError


def write_segments(folder: Path, number: int, *, records: int = 2) -> dict[str, int]:
    """So many files as earlier versions left them, each with a few records; returns what they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, int] = {}
    for segment in range(number):
        lines = b""
        for record in range(records):
            held[f"key-{segment}-{record}"] = segment
            lines += orjson.dumps({"key": f"key-{segment}-{record}", "value": {"segment": segment}}) + b"\n"
        (folder / f"calls-{segment:05}.jsonl").write_bytes(lines)
    return held


def held_in(folder: Path) -> list[tuple[str, int]]:
    return sorted((key, value["segment"]) for key, value in read_journal(str(folder)))


_FEW_DESCRIPTORS = r"""
import re, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from components.shared.durable.journal import Journal
start = time.monotonic()
with Journal(sys.argv[1]) as journal:
    seconds = time.monotonic() - start
    assert journal.get("key-4999-1") == {"segment": 4999}
    # Not ru_maxrss: a child's begins with what its parent held when it was forked.
    peak = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]
    print(len(journal), sum(1 for _ in journal.records()), seconds, peak)
"""


@pytest.mark.slow
def test_five_thousand_segments_open_with_few_descriptors(tmp_path: Path) -> None:
    held = write_segments(tmp_path / "journal", 5000)
    command = [sys.executable, "-c", _FEW_DESCRIPTORS, str(tmp_path / "journal")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    print("records, seconds, kilobytes:", *said)  # noqa: T201 the figures belong to the test's record
    assert [int(count) for count in said[:2]] == [10_000, 10_000]
    assert len(list((tmp_path / "journal").glob("*.jsonl"))) <= MOST_FILES + 1
    assert held_in(tmp_path / "journal") == sorted(held.items())
    # Peak memory of the process, most of it the interpreter's.
    assert int(said[3]) < 200_000


_OPEN = """
import sys
from components.shared.durable.journal import Journal
print("open", flush=True)
Journal(sys.argv[1]).close()
"""


@pytest.mark.slow
def test_kill_9_while_files_are_merged_loses_and_doubles_nothing(tmp_path: Path) -> None:
    held = sorted(write_segments(tmp_path, 400, records=20).items())
    moments = random.Random(5)
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-c", _OPEN, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert held_in(tmp_path) == held
    with Journal(tmp_path) as journal:
        assert sorted((key, value["segment"]) for key, value in journal.records()) == held
        assert len(journal) == len(held)
    assert not list(tmp_path.glob(".*.partial"))


def test_a_kill_between_the_new_file_and_the_removal_of_the_old_ones_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = sorted(write_segments(tmp_path, 40).items())

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            Journal(tmp_path)
    assert len(list(tmp_path.glob("*.jsonl"))) == 41
    assert held_in(tmp_path) == held
    with Journal(tmp_path) as journal:
        assert sorted((key, value["segment"]) for key, value in journal.records()) == held
    assert held_in(tmp_path) == held


_SHARD = """
import sys
from components.shared.durable.journal import Journal
shard = sys.argv[2]
for attempt in range(4):
    with Journal(sys.argv[1]) as journal:
        for number in range(30):
            journal.append(f"{shard}-{attempt}-{number}", {"segment": number})
        assert all(journal.get(f"key-{segment}-0") for segment in range(60))
"""


@pytest.mark.slow
def test_processes_that_open_write_and_merge_at_once_share_one_folder(tmp_path: Path) -> None:
    held = write_segments(tmp_path, 60)
    command = [sys.executable, "-c", _SHARD, str(tmp_path)]
    shards = [subprocess.Popen([*command, str(shard)]) for shard in range(4)]
    assert [shard.wait() for shard in shards] == [0] * 4
    written = {f"{shard}-{attempt}-{n}": n for shard in range(4) for attempt in range(4) for n in range(30)}
    assert held_in(tmp_path) == sorted((held | written).items())


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    with Journal(tmp_path) as writer:
        write_segments(tmp_path / "others", 30)
        for path in sorted((tmp_path / "others").iterdir()):
            path.rename(tmp_path / f"calls-1{path.name[-10:]}")
        writer.append("a", {"segment": -1})
        with Journal(tmp_path) as other:
            assert other.get("a") == {"segment": -1}
        writer.append("b", {"segment": -1})
        assert (tmp_path / "calls-00000.jsonl").read_bytes().count(b"\n") == 2
    assert {key for key, _ in held_in(tmp_path)} >= {"a", "b", "key-29-1"}


def test_damage_is_named_before_anything_is_merged(tmp_path: Path) -> None:
    write_segments(tmp_path, 30)
    (tmp_path / "calls-00007.jsonl").write_bytes(b'{"key": "a", "value": {}}\nbroken\n')
    for _ in range(2):
        with pytest.raises(RecordError, match=r"calls-00007.jsonl:2: not a journal record"):
            Journal(tmp_path)
    assert len(list(tmp_path.glob("calls-*.jsonl"))) == 30


def test_two_values_of_one_key_are_told_apart_alike_in_every_order_of_files(tmp_path: Path) -> None:
    lines = [orjson.dumps({"key": "a", "value": {"by": shard}}) + b"\n" for shard in range(3)]
    values = []
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        folder = tmp_path / "".join(map(str, order))
        folder.mkdir()
        for number, shard in enumerate(order):
            (folder / f"calls-{number:05}.jsonl").write_bytes(lines[shard])
        with Journal(folder) as journal:
            assert (len(journal), sum(1 for _ in journal.records())) == (1, 3)
            values.append(journal.get("a"))
    assert values == [values[0]] * 3


def test_segments_of_a_bucket_come_into_few_files_and_are_not_fetched_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{bucket}/{tmp_path.name}/journal"
    for segment in range(50):
        line = orjson.dumps({"key": f"key-{segment}", "value": {"segment": segment}}) + b"\n"
        storage.write_bytes(f"{uri}/{segment:024x}.jsonl", line)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with Journal(uri) as journal:
        assert len(journal) == 50
        journal.append("own", {"segment": 50})
        assert len(journal._files) <= MOST_FILES + 1
    fetched: list[str] = []
    read_bytes = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda address: (fetched.append(address), read_bytes(address))[1])
    with Journal(uri) as journal:
        assert len(journal) == 51
        assert sum(1 for _ in journal.records()) == 51
    assert fetched == []
    assert len(storage.list_files(uri)) == 51


def test_a_long_job_with_a_bucket_keeps_its_number_of_open_files(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{bucket}/{tmp_path.name}/journal"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("components.shared.durable.journal._UPLOAD_SECONDS", 0.0)
    with Journal(uri) as journal:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for number in range(30):
            journal.append(f"key-{number}", {"segment": number})
            journal.sync()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
        assert len(storage.list_files(uri)) == 30
    assert len(dict(read_journal(uri))) == 30

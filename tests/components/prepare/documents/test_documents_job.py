"""The whole job on folders: killed and run again, in several processes, in flat memory, and through to a search."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.index.config import IndexConfig
from components.index.job import build_index
from components.shared.dataset import Dataset
from components.shared.manifest import read_manifest
from components.shared.roles import Role, role_of
from pipelines.commands.search import readable
from tests.components.prepare.documents.folders import prepared, write
from tests.components.serve.served import Process, Sources
from tests.tiny_encoder import words_of, write_tiny_encoder

GUIDE = """# Guide

Read this first.

## Install

On Linux the *package manager* installs everything; `sudo` is needed.

## Remove

The same program removes it again.
"""
PAGE = "<title>News</title><main><h1>News</h1><p>Version two has a faster engine.</main>"


def command(docs: Path, output: Path, *flags: str) -> list[str]:
    places = [f"--collection-uri={docs}", f"--output-uri={output}"]
    return [sys.executable, "-m", "components.prepare", *places, *flags]


def write_many(folder: Path, num_files: int) -> Path:
    """Files of which every one has words of its own."""
    for number in range(num_files):
        text = "\n\n".join(f"Sentence{number} and{line} tells of tides and moons." for line in range(40))
        write(folder, {f"{number % 10}/{number}.md": f"# Number {number}\n\n{text}\n"})
    return folder


def test_a_killed_job_goes_on_behind_its_last_part_and_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    docs = write_many(tmp_path / "docs", 900)
    output = tmp_path / "dataset"
    process = subprocess.Popen(
        command(docs, output, "--processes=1"), stderr=subprocess.PIPE, process_group=0, env=os.environ
    )
    parts = tmp_path / "dataset.partial" / ".scratch" / "parts"
    deadline = time.monotonic() + 60
    while not (parts / "000001").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not output.exists()
    finished = {path.name: path.stat().st_mtime_ns for path in parts.iterdir() if path.name.isdigit()}
    assert {"000000", "000001"} <= finished.keys() < {f"{number:06}" for number in range(5)}
    # The parts that were finished are not read again: the next attempt finds them as they are.
    again = subprocess.run(command(docs, output), capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in again.stderr.splitlines()]
    (read,) = (event for event in events if event["event"] == "reading documents")
    assert (read["done"], read["total"]) == (900, 900)
    undisturbed = tmp_path / "undisturbed"
    subprocess.run(command(docs, undisturbed, "--processes=1"), capture_output=True, check=True)
    assert read_manifest(str(output)).digest == read_manifest(str(undisturbed)).digest
    assert read_manifest(str(output)).metrics == read_manifest(str(undisturbed)).metrics


def test_the_number_of_processes_is_no_part_of_what_is_made() -> None:
    from components.prepare.config import PrepareConfig

    roles = {name: role_of(field) for name, field in PrepareConfig.__dataclass_fields__.items()}
    assert roles["processes"] is Role.OPERATION
    assert {roles[name] for name in ("cut_tokens", "cut_overlap_tokens", "duplicates")} == {Role.SETTING}


def peak_mebibytes(docs: Path, output: Path) -> float:
    """Largest resident memory of a job."""
    process = subprocess.Popen(command(docs, output, "--processes=1"), stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 1024


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["txt", "md", "html", "jsonl"])
def test_a_file_a_hundred_times_as_large_takes_hardly_more_memory(tmp_path: Path, suffix: str) -> None:
    form = {
        "txt": "{}\n\n",
        "md": "# Part {0:.8}\n\n{0}\n\n",
        "html": "<h1>Part {0:.8}</h1><p>{0}</p>\n",
        "jsonl": '{{"text": "{}"}}\n',
    }
    peaks = []
    for name, num_paragraphs in (("small", 300), ("large", 30_000)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / f"a.{suffix}").open("w") as file:
            for number in range(num_paragraphs):
                words = (f"w{number * 7919 % 9973}x{position * number % 97}" for position in range(30))
                file.write(form[suffix].format(f"{number} {' '.join(words)}"))
        peaks.append(peak_mebibytes(tmp_path / name, tmp_path / f"{name}-dataset"))
    small, large = peaks
    # 8 MB of text instead of .08: what grows is a batch of the dataset (16,384 passages) and numbers of fixed size.
    assert large - small < 80, peaks


def test_from_a_folder_to_hits_with_their_provenance(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    records = "".join(json.dumps({"id": f"r{number}", "text": f"Bread rises {number}."}) + "\n" for number in range(12))
    result = prepared(tmp_path, {"docs/guide.md": GUIDE, "news.html": PAGE, "more.jsonl": records})
    encoder, index = tmp_path / "encoder", tmp_path / "index"
    write_tiny_encoder(encoder, 0, words_of([passage.full_text for passage, _ in result.passages]))
    places = {"dataset_uri": str(tmp_path / "dataset"), "encoder_uri": str(encoder), "output_uri": str(index)}
    build_index(IndexConfig(**places, factory="Flat", num_threads=1))  # type: ignore[arg-type]
    server = Process(*Sources(str(encoder), str(index), str(tmp_path / "dataset")).flags())
    try:
        from components.serve.client import RetrieverClient

        with RetrieverClient(server.url) as client:
            ranking = client.search("Guide > Install On Linux the package manager installs everything", depth=20)
            bare = client.search("Guide", depth=1, include_text=False)
            rows = client.search("Bread rises", passage_ids=["r1"])
    finally:
        server.terminate()
        assert server.exit_code() == 0
    hit = next(hit for hit in ranking.hits if hit.title == "Guide > Install")
    assert hit.provenance is not None
    assert (hit.provenance.file, hit.provenance.headings) == ("docs/guide.md", ("Guide", "Install"))
    source = GUIDE[hit.provenance.start : hit.provenance.end]
    assert source == "On Linux the *package manager* installs everything; `sudo` is needed."
    assert bare.hits[0].provenance is None
    assert rows.hits[0].provenance is not None
    assert str(rows.hits[0].provenance) == "more.jsonl, record r1, characters 0-14"
    assert f"     docs/guide.md, characters {hit.provenance.start}-{hit.provenance.end}" in readable(ranking)


def test_a_dataset_of_before_has_no_provenance_and_opens(tiny_collection: Path, tmp_path: Path) -> None:
    output = tmp_path / "dataset"
    subprocess.run(command(tiny_collection, output), check=True, capture_output=True)
    dataset = Dataset(output)
    assert not (output / "provenance.arrow").exists()
    assert dataset.provenance_at(0) is None

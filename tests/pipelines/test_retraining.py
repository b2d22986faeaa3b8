"""The story of two corpora: promoted to gs://, retrained from what is served, switched under load, rolled back."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import yaml

from components.shared.durable import storage
from components.shared.manifest import read_manifest
from components.shared.records import Annotation, read_records
from tests.components.serve.served import Process
from tests.components.serve.test_reload import until
from tests.tiny_world import grow_collection, write_tiny_world

pytestmark = pytest.mark.slow

# Six test queries prove nothing, and these runs are to be promoted.
_POLICY = 'candidate = "trained"\nproduction = "base"\n[quality]\nmax_loss = 0.9\nwhen_unclear = "pass"\n'
# No search is as fast as that.
_CLOSED = _POLICY + "[latency]\nmax_p95_ms = 0.000001\n"
_QUERY = "the danger of a volcano"


@dataclass
class Story:
    """A corpus, its runs, and the store that they promote to."""

    folder: Path
    store: str
    outcomes: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)

    def run(self, name: str, *more: str) -> str:
        places = ["--data", f"{self.folder}/collection", "--workdir", f"{self.folder}/home"]
        arguments = ["run", *places, "--params", f"{self.folder}/params.yaml", "--continue-from", self.store, *more]
        return self.call(name, *arguments)

    def call(self, name: str, *arguments: str) -> str:
        """What the command prints."""
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
        self.outcomes[name] = done
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def pointer(self) -> dict[str, object]:
        values: dict[str, object] = json.loads(storage.read_bytes(f"{self.store}/pointer.json"))
        return values

    def labelled_pairs(self) -> set[tuple[str, str]]:
        rows = read_records(self.folder / "home" / "annotations" / "annotations.jsonl", Annotation)
        return {(row.query_id, passage_id) for row in rows for passage_id in row.passage_ids}

    def calls(self) -> tuple[int, int]:
        """The LLM's calls of the last run: made, and taken from the journal."""
        metrics = read_manifest(str(self.folder / "home" / "annotations")).metrics
        return int(metrics["calls_made"]), int(metrics["calls_from_journal"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, bucket: str) -> Story:
    """The first run, which promotes."""
    folder = tmp_path_factory.mktemp("story")
    write_tiny_world(folder)
    values = {
        "encoder": {"checkpoint_uri": str(folder / "base")},
        # An encoder with random weights scores everything alike, which the audit would refuse.
        "mine": {"num_bm25": 4, "num_dense": 0, "max_suspected_share": 1.0},
        "annotate": {"llm_uri": str(folder / "llm"), "engine": "transformers", "method": "query_likelihood"},
        "train": {
            "curriculum": [{"name": "llm", "labels": "llm", "epochs": 2, "learning_rate": 1e-3}],
            "batch_queries": 4,
            "group_size": 3,
            "loss_temperature": 0.1,
        },
        "evaluate": {"depth": 10, "num_resamples": 200, "policy_uri": str(folder / "policy.toml")},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "policy.toml").write_text(_POLICY)
    made = Story(folder, f"{bucket}/store")
    made.run("first")
    assert made.outcomes["first"].returncode == 0, made.outcomes["first"].stderr
    return made


@contextmanager
def _asked(server: Process) -> Iterator[tuple[list[str], list[object]]]:
    """Sends searches, a hundred a second at most; the releases that answered, and what went wrong."""
    ended, seen, wrong = threading.Event(), list[str](), list[object]()

    def send() -> None:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            while not ended.wait(0.03):
                try:
                    answer = client.post("/search", json={"query": _QUERY, "depth": 3})
                except httpx.HTTPError as error:
                    wrong.append(repr(error))
                    continue
                seen.append(answer.headers.get("retriever-version", ""))
                if answer.status_code != 200 or len(answer.json()["hits"]) != 3:
                    wrong.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield seen, wrong
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_the_story_of_two_corpora(story: Story, record_property: Callable[[str, object], None]) -> None:
    first = story.pointer()
    assert (first["release"], first["action"], first["before"]) == (1, "promote", 0)
    made, _ = story.calls()
    assert made > 0
    record_property("calls of the first run", made)
    before = story.labelled_pairs()
    server = Process(f"--pointer-uri={story.store}/pointer.json", "--pointer-seconds=0.2")
    with _asked(server) as (seen, wrong):
        assert "release 1, which is served, was made of it; nothing to do" in story.run("unchanged")
        assert "running" not in story.outcomes["unchanged"].stderr

        grow_collection(story.folder / "collection")
        story.run("second")
        errors = story.outcomes["second"].stderr
        assert story.outcomes["second"].returncode == 0, errors
        assert f'"checkpoint":"{first["checkpoint_uri"]}"' in errors
        second = story.pointer()
        assert (second["release"], second["before"], second["action"]) == (2, 1, "promote")
        # The base encoder of this run is the one that was served, weight for weight, on the new corpus.
        base = read_manifest(f"{story.folder}/home/base-encoder")
        assert base.inputs["checkpoint"] == read_manifest(str(first["checkpoint_uri"])).digest
        # The LLM was asked about what is new alone: one call for each pair that nobody had judged.
        made, kept = story.calls()
        new = len(story.labelled_pairs() - before)
        record_property("calls of the second run, made, taken from the journal, and new pairs", (made, kept, new))
        assert 0 < made <= 2 * new + 2, (made, new)
        assert kept > made
        until(lambda: len(set(seen)) == 2)

        (story.folder / "policy.toml").write_text(_CLOSED)
        _grow_once_more(story.folder / "collection")
        story.run("planted")
        assert story.pointer() == second
        closed = json.loads((story.folder / "home" / "release" / "release.json").read_bytes())
        assert closed["verdict"] == "fail"

        said = story.call("rollback", "rollback", "--store", story.store)
        assert "release 3 serves what release 1 was, in the place of 2" in said
        until(lambda: seen[-1] == seen[0])
        # The step of the closed gate is not done again, and says what it found.
        said = story.call("promote", "promote", "--store", story.store, "--workdir", f"{story.folder}/home")
        assert "the gate is closed, so nothing was promoted" in said
        assert story.outcomes["promote"].returncode == 1
    server.terminate()
    assert server.exit_code() == 0
    assert wrong == []
    assert len(seen) > 100
    record_property("requests answered", len(seen))
    table = story.call("releases", "releases", "--store", story.store, "--keep", "1", "--grace-hours", "0")
    assert re.findall(r"(promote|rollback to 1)", table) == ["rollback to 1", "promote", "promote"]
    assert f"{second['digest']}" in table
    assert "nobody points to it; --remove" in table
    assert "removed" in story.call(
        "clean", "releases", "--store", story.store, "--keep", "1", "--grace-hours", "0", "--remove"
    )
    left = storage.list_files(f"{story.store}/retrievers")
    assert not any(name.startswith(f"{second['digest']}/") for name in left)
    assert any(name.startswith(f"{first['digest']}/") for name in left)


def _grow_once_more(collection: Path) -> None:
    with (collection / "corpus.jsonl").open("a") as corpus:
        corpus.write(json.dumps({"_id": "newer", "title": "late", "text": "What came later."}) + "\n")

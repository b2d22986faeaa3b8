"""A corpus and nothing else, on one machine, with the real small LLM: every page says that it is synthetic."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.ask.records import read_asked
from components.prepare.config import DocsConfig
from components.prepare.docs import collect_docs
from components.shared.dataset import SPLITS, Dataset
from components.shared.manifest import read_manifest
from pipelines.packaged import find_llm
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.tiny_encoder import words_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred passages of Python's documentation, a tiny encoder, and a finished run in `done`."""
    try:
        find_llm()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("corpus-only")
    collect_docs(DocsConfig(output_uri=str(folder / "docs"), packages="stdlib", num_passages=200, num_queries=50))
    (folder / "collection").mkdir()
    corpus = (folder / "docs" / "corpus.jsonl").read_text()
    (folder / "collection" / "corpus.jsonl").write_text(corpus)
    rows = [json.loads(line) for line in corpus.splitlines()]
    words = words_of([f"{row['title']} {row['text']}" for row in rows])
    write_tiny_checkpoint(folder / "base", words, num_layers=0)
    llm = {"llm_uri": "packaged:SmolLM2-135M-Instruct", "engine": "transformers"}
    values = {
        "encoder": {"checkpoint_uri": str(folder / "base")},
        "ask": {**llm, "num_queries": 60, "passage_words": 40, "query_tokens": 24, "styles": "question=1"},
        "mine": {"num_bm25": 2, "num_dense": 1, "num_queries": 10, "max_suspected_share": 1.0},
        "annotate": {**llm, "method": "query_likelihood", "passage_words": 20},
        "train": {"batch_queries": 4, "group_size": 3, "loss_temperature": 0.1, "dev_passages": 100},
        "evaluate": {"depth": 10, "num_resamples": 200},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    outcome = run(folder)
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    (folder / "said").write_text(outcome.stdout)
    return folder


def run(world: Path) -> subprocess.CompletedProcess[str]:
    places = [f"--{name}={world / part}" for name, part in (("data", "collection"), ("workdir", "done"))]
    command = [sys.executable, "-m", "pipelines.cli", "run", *places, f"--params={world / 'params.yaml'}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)


def test_queries_of_an_llm_train_and_measure_the_retriever(world: Path) -> None:
    dataset = Dataset(world / "done" / "asked")
    assert dataset.num_passages == 200
    assert dataset.asked_ids == {query.query_id for query in dataset.queries()}
    assert all(dataset.positives(split) for split in SPLITS)
    table = read_manifest(str(world / "done" / "asked")).metrics["filters"]["all"]
    assert table["asked"] == 60
    # A model of 135 million parameters writes much that is no good, and the filters see it.
    assert 10 < table["kept"] < 60
    assert all(one.calls for one in read_asked(world / "done" / "asked"))


def test_every_page_and_number_says_that_it_is_synthetic(world: Path) -> None:
    done = world / "done"
    assert "! Queries and judgements are synthetic" in (world / "said").read_text()
    metrics = json.loads((done / "evaluation" / "metrics.json").read_text())
    assert metrics["judge"] == {"kind": "asked"}
    assert metrics["headline"].startswith("On synthetic queries")
    assert "queries and judgements are synthetic" in (done / "evaluation" / "report.html").read_text()
    assert "These queries are synthetic" in (done / "asked" / "logs" / "asked.html").read_text()
    assert "of these queries are synthetic" in (done / "annotations" / "logs" / "quality.html").read_text()
    used = read_manifest(str(done / "checkpoint")).metrics["human_labels"]
    assert used["synthetic"]["positives"] > 0
    # Of these no person gave any.
    assert used["dev"] == 0
    assert read_manifest(str(done / "evaluation")).metrics["synthetic"] == 1


def test_a_second_run_asks_nothing(world: Path) -> None:
    before = (world / "done" / "journal").stat().st_mtime_ns
    outcome = run(world)
    assert "steps were done already" in outcome.stdout
    assert (world / "done" / "journal").stat().st_mtime_ns == before

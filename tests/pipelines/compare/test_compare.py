"""`retriever compare` as a person runs it: real steps in real processes, on tiny models."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from components.shared.manifest import read_manifest
from pipelines.cli import main
from tests.components.evaluate.test_evaluate_report import Page
from tests.tiny_world import write_tiny_world

pytestmark = pytest.mark.slow

_ARMS = "base,hybrid,human,both"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collection, base model, LLM, parameter file, and a comparison that was killed twice before it ended."""
    folder = tmp_path_factory.mktemp("world")
    write_tiny_world(folder)
    values = {
        "encoder": {"checkpoint_uri": str(folder / "base")},
        # An encoder with random weights scores everything alike, which the audit would refuse.
        "mine": {"num_bm25": 2, "num_dense": 2, "max_suspected_share": 1.0},
        "annotate": {"llm_uri": str(folder / "llm"), "engine": "transformers", "method": "query_likelihood"},
        "train": {"batch_queries": 4, "group_size": 3, "loss_temperature": 0.1, "checkpoint_steps": 1},
        "evaluate": {"depth": 10, "num_resamples": 200},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    for step in ("annotate", "train"):
        _kill_during(folder, step, 1.0)
    outcome = run(folder)
    assert outcome.returncode == 0, outcome.stderr
    return folder


def command(world: Path, *more: str) -> list[str]:
    given = {"data": world / "collection", "workdir": world / "work", "params": world / "params.yaml", "arms": _ARMS}
    flags = [f"--{name}={value}" for name, value in given.items()]
    return [sys.executable, "-m", "pipelines.cli", "compare", *flags, "--seeds=1", *more]


def run(world: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(world, *more), capture_output=True, text=True, timeout=600, check=False)


def _kill_during(world: Path, step: str, seconds: float) -> None:
    process = subprocess.Popen(command(world), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(rf"\] {step}: running", line):
            break
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_comparison_ends_with_a_table_and_a_page(world: Path) -> None:
    content = json.loads((world / "work" / "compare.json").read_bytes())
    rows = ["BM25", "base", "hybrid(base)", "human", "hybrid(human)", "both", "hybrid(both)"]
    for split in ("dev", "test"):
        assert [row["name"] for row in content["splits"][split]["rows"]] == rows
        added = [row["ingredient"] for row in content["splits"][split]["ingredients"]]
        assert added[0] == "BM25 beside the untrained encoder"
        assert [text.startswith("the LLM's labels before") for text in added[1:]] == [True, True]
    page = Page((world / "work" / "compare.html").read_text())
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "iframe", "object", "embed"})
    assert content["lead"] in page.text
    assert str(world) not in page.text
    assert content["lead"] in (world / "work" / "compare.md").read_text()


def test_an_arm_pays_for_what_it_uses_only(world: Path) -> None:
    costs = json.loads((world / "work" / "compare.json").read_bytes())["costs"]
    assert costs["human"]["llm_calls"] == 0
    # Twelve train queries with pools of four, and one judged again; each passage is one call.
    assert costs["both"]["llm_calls"] >= 48
    assert costs["both"]["prompt_tokens"] > costs["both"]["llm_calls"]
    # A fifth of twelve queries with one label each.
    assert {cost["human_labels"] for cost in costs.values()} == {2}


def test_however_often_it_is_killed_no_call_is_made_twice(world: Path) -> None:
    calls = [
        key
        for path in (world / "work" / "journal").glob("*.jsonl")
        for key in re.findall(r'"key":"(\w+)"', path.read_text())
    ]
    assert calls
    assert len(calls) == len(set(calls))


def test_a_second_call_executes_no_step_and_says_so(world: Path) -> None:
    before = (world / "work" / "compare.json").read_bytes()
    outcome = run(world)
    assert "nothing to do: all" in outcome.stdout
    assert "running" not in outcome.stderr
    assert (world / "work" / "compare.json").read_bytes() == before


def test_an_arm_s_folder_holds_all_that_serve_reads(world: Path) -> None:
    folder = world / "work" / "arms" / "both-seed1"
    components = {name: read_manifest(str(folder / name)).component for name in ("dataset", "encoder", "index")}
    assert components == {"dataset": "prepare", "encoder": "export", "index": "index"}
    assert {path.name for path in folder.iterdir()} >= {"annotations", "evaluation-dev", "evaluation-test"}


def test_another_arm_runs_only_what_is_its_own_and_test_can_stay_unread(world: Path) -> None:
    outcome = run(world, f"--arms={_ARMS},teacher", "--test=none")
    assert outcome.returncode == 0, outcome.stderr
    assert re.findall(r"\] ([\w ()]+): running", outcome.stderr) == ["train", "export", "index", "evaluate"]
    content = json.loads((world / "work" / "compare.json").read_bytes())
    assert list(content["splits"]) == ["dev"]
    assert "teacher" in content["costs"]
    reads = (world / "work" / "test_reads.jsonl").read_text()
    assert '"teacher"' not in reads


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--arms=bass"], "--arms bass: no such arm; did you mean base?"),
        (["--seeds=0"], "--seeds 0: must be at least 1"),
        (["--set", "train.batch_querys=3"], "did you mean batch_queries?"),
    ],
)
def test_a_user_s_mistake_is_one_clear_line(
    world: Path,
    arguments: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["retriever", *command(world)[3:], *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capfd.readouterr().err.count(problem) == 1

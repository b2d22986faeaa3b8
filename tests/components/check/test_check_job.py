"""A run seen from outside: what would stop it is named at once, and what came of it is what its tasks left."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from components.check import addresses
from components.check.config import CheckConfig
from components.check.job import check
from components.shared.contract.outcome import leave_failure, write_record
from components.shared.durable import storage
from components.shared.manifest import read_manifest


def _config(folder: Path, moment: str, **settings: Any) -> CheckConfig:
    places = {"output_uri": str(folder / moment), "records_uri": str(folder / "records")}
    return CheckConfig(**{**places, "run_id": "run-1", "moment": moment, **settings})  # type: ignore[arg-type]


def _outcome(folder: Path, **settings: Any) -> dict[str, Any]:
    check(_config(folder, "after", **settings))
    written: dict[str, Any] = json.loads((folder / "after" / "outcome.json").read_text())
    recorded = json.loads((folder / "records" / "runs" / "run-1" / "outcome.json").read_text())
    # The record that stays beside the state says the same.
    assert {name: value for name, value in recorded.items() if name != "time"} == written
    return written


def test_everything_that_would_stop_a_run_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    config = _config(
        tmp_path,
        "before",
        readable="prepare.collection_uri=memory://bucket/nothing encoder.checkpoint_uri=/no/such/folder",
        writable="state-uri=az://bucket/state",
        variables="HF_TOKEN",
    )
    with pytest.raises(ValueError, match=r"state-uri: az://") as caught:
        check(config)
    problems = str(caught.value)
    assert "prepare.collection_uri: memory://bucket/nothing: nothing lies there" in problems
    assert "encoder.checkpoint_uri: /no/such/folder: no pod finds this" in problems
    assert "variable HF_TOKEN is empty" in problems
    assert not (tmp_path / "records").exists()


def test_a_run_that_can_work_is_let_through_with_the_digest_of_its_collection(tmp_path: Path) -> None:
    collection = tmp_path / "collection"
    collection.mkdir()
    (collection / "corpus.jsonl").write_text("{}\n")
    readable = f"prepare.collection_uri={collection} mine.previous_uri= encoder.checkpoint_uri=org/model"
    config = _config(tmp_path, "before", readable=readable, writable=f"state-uri={tmp_path}", watched=str(collection))
    check(config)
    first = read_manifest(config.output_uri).metrics["digest"]
    assert first == storage.content_digest(str(collection))
    assert [path.name for path in tmp_path.glob(".check*")] == []
    # Another content under the same address is another digest: what a cache must know.
    (collection / "corpus.jsonl").write_text("{} \n")
    check(config)
    assert read_manifest(config.output_uri).metrics["digest"] != first


def test_weights_are_added_up_before_a_gpu_is_paid_for(tmp_path: Path) -> None:
    # Holes take no room on the disk.
    for name, size in (("model-1.safetensors", 10 << 30), ("model-2.safetensors", 10 << 30), ("other.json", 1 << 40)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    # 20 GiB of weights: three quarters of 24 are 18, of 80 they are 60.
    (problem,) = addresses.too_large(str(tmp_path), 24.0)
    assert "20 GiB of weights, a GPU of 24 GiB has room for 18" in problem
    assert list(addresses.too_large(str(tmp_path), 80.0)) == []
    assert list(addresses.too_large("org/llm", 1.0)) == []
    assert list(addresses.too_large(str(tmp_path), 0.0)) == []


def test_a_run_that_came_through_says_what_was_measured(tmp_path: Path) -> None:
    check(_config(tmp_path, "before"))
    write_record(f"{tmp_path}/records", "runs/run-1/finished", {"metrics": {"trained_ndcg_10": 0.5}})
    outcome = _outcome(tmp_path)
    assert outcome["run_succeeded"] == 1
    assert outcome["reason"] == ""
    assert outcome["run_trained_ndcg_10"] == 0.5
    assert outcome["run_seconds"] >= 0


def test_a_run_that_failed_says_which_task_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVER_RECORDS", str(tmp_path / "records"))
    monkeypatch.setenv("RETRIEVER_TASK", "annotate")
    monkeypatch.setenv("HOSTNAME", "pod-0")
    # Of an earlier run.
    leave_failure("annotate", 65, "an old reason")
    time.sleep(0.01)
    check(_config(tmp_path, "before"))
    monkeypatch.setenv("HOSTNAME", "pod-1")
    leave_failure("annotate", 75, "the endpoint is away")
    outcome = _outcome(tmp_path)
    assert outcome["run_succeeded"] == 0
    assert outcome["reason"] == "annotate: the endpoint is away"


def test_the_word_of_a_platform_that_can_be_trusted_decides(tmp_path: Path) -> None:
    check(_config(tmp_path, "after", status="Succeeded"))
    succeeded = json.loads((tmp_path / "after" / "outcome.json").read_bytes())
    assert (succeeded["run_succeeded"], succeeded["reason"]) == (1, "")
    check(_config(tmp_path, "after", status="Error"))
    failed = json.loads((tmp_path / "after" / "outcome.json").read_bytes())
    assert (failed["run_succeeded"], failed["reason"]) == (
        0,
        "the workflow run-1 ended with Error; its failed nodes say why",
    )


def test_a_run_that_nobody_gives_a_reason_for_is_no_success(tmp_path: Path) -> None:
    check(_config(tmp_path, "before"))
    outcome = _outcome(tmp_path)
    assert outcome["run_succeeded"] == 0
    assert "no task left a reason: a pod was lost" in outcome["reason"]


def test_a_run_that_never_began_still_has_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVER_RECORDS", str(tmp_path / "records"))
    monkeypatch.setenv("RETRIEVER_TASK", "check")
    leave_failure("check", 65, "prepare.collection_uri: nothing lies there")
    assert _outcome(tmp_path)["reason"] == "check: prepare.collection_uri: nothing lies there"


def test_the_end_of_a_run_records_the_numbers_of_its_evaluation(tmp_path: Path) -> None:
    check(_config(tmp_path, "before"))
    # Any artifact with numbers will do for an evaluation.
    check(_config(tmp_path, "end", evaluation_uri=str(tmp_path / "before")))
    assert _outcome(tmp_path)["run_succeeded"] == 1


def test_a_failure_that_cannot_be_recorded_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "records").write_text("a file where a folder should be")
    monkeypatch.setenv("RETRIEVER_RECORDS", str(tmp_path / "records"))
    leave_failure("train", 1, "reason")
    monkeypatch.delenv("RETRIEVER_RECORDS")
    leave_failure("train", 1, "reason")


def test_a_check_without_a_run_is_refused() -> None:
    with pytest.raises(ValueError, match="a run without an identifier leaves no record"):
        CheckConfig(output_uri="o", records_uri="r", run_id="", moment="after")
    with pytest.raises(ValueError, match="readable 'x': write name=address"):
        CheckConfig(output_uri="o", records_uri="r", run_id="1", moment="before", readable="x")

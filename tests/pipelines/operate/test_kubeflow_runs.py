"""submit, schedule, status and watch on Kubeflow, against a server that speaks the five endpoints of its API."""

from typing import Any

import pytest

from components.shared.contract.outcome import write_record
from tests.bucket import free_ports
from tests.pipelines.operate.kubeflow_server import KubeflowServer, detail, failure
from tests.pipelines.operate.typed import ON_KUBEFLOW, Typed

pytestmark = pytest.mark.usefixtures("quick_stacks")

_SUBMIT = f"submit {ON_KUBEFLOW}"
_SCHEDULE = f"schedule {ON_KUBEFLOW}"
_REASON = "main: Error (exit code 1): mine: queries.tsv line 7: bad"


def _names(kubeflow: KubeflowServer, kind: str) -> list[str]:
    return [one["display_name"] for one in kubeflow.kept[kind].values()]


def _run(kubeflow: KubeflowServer, state: str, *details: dict[str, Any], name: str = "squad-1") -> dict[str, Any]:
    ended = {} if state in ("RUNNING", "PENDING") else {"finished_at": "2026-11-27T03:01:01Z"}
    config = {"parameters": {"state_uri": "memory://runs/squad/state"}}
    run = kubeflow.put("runs", {"display_name": name, "runtime_config": config})
    run |= {"state": state, "run_details": {"task_details": list(details)}, **ended}
    return run


def _failed() -> list[dict[str, Any]]:
    """As the API tells it: drivers, tasks and executors below a frame, the reason in the executor alone."""
    return [
        detail("r", "squad-abcde", "FAILED"),
        detail("root-driver", "root-driver", "SUCCEEDED", "r"),
        detail("root", "root", "FAILED", "r", error=failure("child 'x' failed")),
        detail("1", "prepare-driver", "SUCCEEDED", "root"),
        detail("2", "prepare", "SUCCEEDED", "1"),
        detail("3", "executor", "SUCCEEDED", "2"),
        detail("4", "mine-driver", "SUCCEEDED", "root"),
        detail("5", "mine", "FAILED", "4", error=failure("child failed")),
        detail("6", "executor", "FAILED", "5", error=failure(_REASON)),
        detail("7", "outcome", "SUCCEEDED", "r"),
    ]


def test_submit_uploads_the_pipeline_and_starts_a_run_of_that_version(kubeflow: KubeflowServer, typed: Typed) -> None:
    said = typed(_SUBMIT)
    (run,) = kubeflow.kept["runs"].values()
    name = run["display_name"]
    assert said.out.splitlines() == [f"started {name}", f"watch it: retriever watch {name}"]
    (version,) = kubeflow.kept["pipeline_versions"].values()
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert run["runtime_config"]["parameters"]["prepare_collection_uri"] == "memory://corpora/squad"
    assert _names(kubeflow, "pipelines") == _names(kubeflow, "experiments") == ["squad"]


def test_the_same_is_run_once_and_uploaded_once(kubeflow: KubeflowServer, typed: Typed) -> None:
    typed(_SUBMIT)
    (name,) = _names(kubeflow, "runs")
    said = typed(_SUBMIT)
    assert said.code == 0
    assert f"{name} is there already: waiting" in said.out
    assert typed(_SUBMIT, "--again").out.startswith(f"started {name}-2\n")
    assert _names(kubeflow, "runs") == [name, f"{name}-2"]
    assert len(kubeflow.kept["pipeline_versions"]) == 1


def test_a_changed_pipeline_is_another_version_of_it(kubeflow: KubeflowServer, typed: Typed) -> None:
    typed(_SUBMIT)
    typed(_SUBMIT, "--set", "mine.num_bm25=7")
    assert len(kubeflow.kept["pipelines"]) == 1
    assert len(set(_names(kubeflow, "pipeline_versions"))) == 2
    assert len(set(_names(kubeflow, "runs"))) == 2


def test_a_schedule_has_six_fields_one_run_at_a_time_and_makes_up_for_none(
    kubeflow: KubeflowServer, typed: Typed
) -> None:
    assert typed(_SCHEDULE, "--cron", "0 3 * * *").out == "scheduled squad at '0 0 3 * * *'; it is new\n"
    (recurring,) = kubeflow.kept["recurringruns"].values()
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert int(recurring["max_concurrency"]) == 1
    assert recurring["no_catchup"] is True
    assert recurring["mode"] == "ENABLE"


def test_a_recurring_run_of_that_name_is_replaced_only_when_asked(kubeflow: KubeflowServer, typed: Typed) -> None:
    typed(_SCHEDULE, "--cron", "0 3 * * *")
    said = typed(_SCHEDULE, "--cron", "30 0 4 * * *")
    assert said.code == 65
    assert "recurring run squad is there already, with schedule '0 0 3 * * *'; add --replace" in said.err
    said = typed(_SCHEDULE, "--cron", "30 0 4 * * *", "--replace")
    assert "it replaces schedule '0 0 3 * * *'" in said.out
    (recurring,) = kubeflow.kept["recurringruns"].values()
    assert recurring["trigger"]["cron_schedule"]["cron"] == "30 0 4 * * *"


def test_what_kubeflow_cannot_schedule_is_refused(kubeflow: KubeflowServer, typed: Typed) -> None:
    said = typed(_SCHEDULE, "--cron", "0 3 * * *", "--timezone", "Europe/Berlin")
    assert said.code == 2
    assert "leave it out" in said.err
    assert typed(_SCHEDULE, "--cron", "0 3").code == 2
    assert kubeflow.requests == []


def test_status_has_a_row_a_run_with_its_tasks_although_a_list_has_none(kubeflow: KubeflowServer, typed: Typed) -> None:
    _run(kubeflow, "FAILED", *_failed(), name="squad-bad")
    _run(kubeflow, "RUNNING", detail("1", "mine", "RUNNING"), name="squad-now")
    _, now, bad = typed("status").out.splitlines()
    assert now.split()[:2] == ["squad-now", "running"]
    assert now.split()[-1] == "mine"
    assert bad.split()[:2] == ["squad-bad", "failed"]
    assert bad.endswith(f"mine: {_REASON}")


def test_a_run_that_the_platform_calls_good_failed_where_a_task_did(kubeflow: KubeflowServer, typed: Typed) -> None:
    # An exit handler hides the failure of what it stands around.
    _run(kubeflow, "SUCCEEDED", *_failed())
    said = typed("watch squad-1 --poll-seconds 0")
    assert said.code == 1
    assert said.out.splitlines()[:2] == ["squad-1: failed after 1m00s", f"  mine: {_REASON}"]


def test_a_run_is_over_with_its_exit_task_whatever_the_platform_says(kubeflow: KubeflowServer, typed: Typed) -> None:
    # A condition that was not taken leaves the platform at RUNNING.
    _run(kubeflow, "RUNNING", detail("1", "prepare", "SUCCEEDED"), detail("2", "outcome", "SUCCEEDED"))
    assert typed("watch squad-1 --poll-seconds 0").code == 0


def test_a_task_that_came_through_at_the_second_attempt_did_not_fail(kubeflow: KubeflowServer, typed: Typed) -> None:
    first = detail("2", "executor(0)", "FAILED", "1", error=failure("pod deleted"))
    second = detail("3", "executor(1)", "SUCCEEDED", "1", start_time="2026-11-27T03:00:30Z")
    _run(kubeflow, "SUCCEEDED", detail("1", "mine", "SUCCEEDED"), first, second)
    assert typed("watch squad-1 --poll-seconds 0").code == 0


def test_a_driver_that_failed_is_its_tasks_failure(kubeflow: KubeflowServer, typed: Typed) -> None:
    _run(kubeflow, "FAILED", detail("1", "train-driver", "FAILED", error=failure("no such artifact")))
    assert "  train: no such artifact" in typed("watch squad-1 --poll-seconds 0").out


def test_shards_are_told_apart(kubeflow: KubeflowServer, typed: Typed) -> None:
    turns = [detail(f"turn-{turn}", "iteration-item", "RUNNING") for turn in (0, 1)]
    tasks = [
        detail("0", "annotate", "SUCCEEDED", "turn-0"),
        detail("1", "annotate", "FAILED", "turn-1", error=failure("out of memory")),
    ]
    _run(kubeflow, "FAILED", *turns, *tasks)
    out = typed("watch squad-1 --poll-seconds 0")
    assert "annotate  succeeded" in out.err
    assert "annotate(1)  failed, out of memory" in out.err


def test_retry_has_kubeflow_run_the_failed_tasks_again(kubeflow: KubeflowServer, typed: Typed) -> None:
    run = _run(kubeflow, "FAILED", *_failed())

    def controller() -> None:
        if kubeflow.retried:
            run["state"], run["finished_at"] = "SUCCEEDED", "2026-11-27T03:02:01Z"
            run["run_details"] = {"task_details": [detail("1", "mine", "SUCCEEDED")]}

    kubeflow.meanwhile = controller
    said = typed("watch squad-1 --poll-seconds 0 --retry 2")
    assert said.code == 0
    assert kubeflow.retried == [run["run_id"]]
    assert f"squad-1 failed (mine: {_REASON}); what failed runs again as squad-1" in said.err


def test_watch_ends_with_what_the_run_recorded_of_its_outcome(kubeflow: KubeflowServer, typed: Typed) -> None:
    run = _run(kubeflow, "SUCCEEDED", detail("1", "mine", "SUCCEEDED"))
    facts = {"run_succeeded": 1, "reason": "", "run_gate_passed": 0, "run_trained_ndcg_10": 0.61234}
    write_record("memory://runs/squad/state/records", f"runs/{run['run_id']}/outcome", facts)
    said = typed("watch squad-1 --poll-seconds 0")
    assert said.code == 0
    assert said.out.splitlines()[1:] == ["gate: fail", "trained_ndcg_10: 0.6123"]


@pytest.mark.parametrize("command", [_SUBMIT, "status", "watch squad-1"])
def test_a_server_that_does_not_answer_ends_with_75(
    command: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://127.0.0.1:{port}")
    said = typed(command)
    assert said.code == 75
    assert f"Kubeflow Pipelines at http://127.0.0.1:{port}: greet: no answer" in said.err
    assert "--host names it as this machine reaches it" in said.err


@pytest.mark.parametrize("command", [_SUBMIT, "status", "watch squad-1"])
def test_wrong_credentials_end_with_65_at_once(command: str, kubeflow: KubeflowServer, typed: Typed) -> None:
    kubeflow.token = "right"
    said = typed(command)
    assert said.code == 65
    assert "the credentials are not accepted (Request header error: there is no user identity header)" in said.err
    assert "set RETRIEVER_KFP_TOKEN" in said.err


def test_a_token_is_sent(kubeflow: KubeflowServer, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeflow.token = "right"
    monkeypatch.setenv("RETRIEVER_KFP_TOKEN", "right")
    assert typed("status").out == "no runs; `retriever submit` starts one\n"


def test_a_missing_permission_ends_with_65(kubeflow: KubeflowServer, typed: Typed) -> None:
    kubeflow.forbidden = {"POST /runs"}
    said = typed(_SUBMIT)
    assert said.code == 65
    assert "permission denied (User 'ann' is not authorized with reason: none); ask for the right" in said.err


def test_a_run_that_is_not_there_ends_with_65(kubeflow: KubeflowServer, typed: Typed) -> None:
    said = typed("watch squad-1")
    assert said.code == 65
    assert "there is no run squad-1; `retriever status` lists them" in said.err

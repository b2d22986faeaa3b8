"""submit, schedule, status and watch on Argo, against a server that speaks the Kubernetes API."""

import base64
import gzip
import json
from pathlib import Path

import orjson
import pytest
import yaml

from components.shared.durable import storage
from components.shared.durable.storage import MANIFEST_NAME
from components.shared.manifest import SCHEMA_VERSION
from pipelines.operate import watching
from tests.pipelines.operate.conftest import CORPUS
from tests.pipelines.operate.kubernetes_server import KubernetesServer
from tests.pipelines.operate.typed import ON_ARGO, Typed
from tests.pipelines.operate.workflow_objects import REASON, done, failed_in_a_shard, working

_SUBMIT = f"submit {ON_ARGO}"
_SCHEDULE = f"schedule {ON_ARGO}"
_WATCH = "watch squad --target argo --poll-seconds 0"


def _put(cluster: KubernetesServer, name: str, status: dict[str, object], template: str = "squad") -> None:
    labels = {"app.kubernetes.io/part-of": "retriever", "retriever/run": name}
    spec = {"workflowTemplateRef": {"name": template}}
    cluster.put("workflows", {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status})


def test_submit_puts_the_template_and_starts_one_run_of_it(cluster: KubernetesServer, typed: Typed) -> None:
    said = typed(_SUBMIT)
    (name,) = cluster.of("workflows")
    assert said.code == 0
    assert said.out.splitlines() == [f"started {name}", f"watch it: retriever watch {name} --target argo"]
    assert cluster.of("workflows")[name]["spec"] == {"workflowTemplateRef": {"name": "squad"}}
    assert cluster.of("workflowtemplates")["squad"]["spec"]["entrypoint"] == "retriever"


def test_submit_puts_exactly_what_compile_writes(cluster: KubernetesServer, typed: Typed, tmp_path: Path) -> None:
    typed(_SUBMIT)
    typed(f"compile {ON_ARGO} --output {tmp_path}/argo.yaml")
    (written,) = yaml.safe_load_all((tmp_path / "argo.yaml").read_text())
    assert cluster.of("workflowtemplates")["squad"]["spec"] == written["spec"]


def test_the_same_corpus_and_settings_are_run_once(cluster: KubernetesServer, typed: Typed) -> None:
    typed(_SUBMIT)
    (name,) = cluster.of("workflows")
    cluster.of("workflows")[name]["status"] = working()
    said = typed(_SUBMIT)
    assert said.code == 0
    assert said.out.startswith(f"{name} is there already: running;")
    assert list(cluster.of("workflows")) == [name]


@pytest.mark.parametrize("change", ["corpus", "setting", "image"])
def test_another_corpus_setting_or_image_is_another_run(
    change: str, cluster: KubernetesServer, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(_SUBMIT)
    if change == "corpus":
        storage.write_bytes(f"{CORPUS}/more.jsonl", b"one more")
    if change == "image":
        monkeypatch.setenv("TAG", "0.2.0")
    typed(_SUBMIT, *(["--set", "mine.num_bm25=7"] if change == "setting" else []))
    assert len(cluster.of("workflows")) == 2
    storage.delete(f"{CORPUS}/more.jsonl")


def test_what_decides_speed_only_is_the_same_run(cluster: KubernetesServer, typed: Typed) -> None:
    typed(_SUBMIT)
    assert "is there already" in typed(_SUBMIT, "--set", "annotate.num_in_flight=3", "--queue", "night").out
    assert len(cluster.of("workflows")) == 1


def test_again_starts_another_run_of_the_same(cluster: KubernetesServer, typed: Typed) -> None:
    typed(_SUBMIT)
    (name,) = cluster.of("workflows")
    assert typed(_SUBMIT, "--again").out.startswith(f"started {name}-2\n")
    assert typed(_SUBMIT, "--again").out.startswith(f"started {name}-3\n")
    # The newest is what is there.
    assert typed(_SUBMIT).out.startswith(f"{name}-3 is there already: waiting")


def test_a_run_that_failed_is_not_started_again_by_itself_and_says_what_helps(
    cluster: KubernetesServer, typed: Typed
) -> None:
    typed(_SUBMIT)
    (name,) = cluster.of("workflows")
    cluster.of("workflows")[name]["status"] = failed_in_a_shard()
    said = typed(_SUBMIT)
    assert f"{name} is there already: failed (mine(1:1): {REASON})" in said.out
    assert f"retriever watch {name} --target argo --retry 1" in said.out


def test_a_corpus_that_this_machine_cannot_read_has_a_version_instead(cluster: KubernetesServer, typed: Typed) -> None:
    elsewhere = ("--set", "prepare.collection_uri=s3://only-in-the-cluster/corpus")
    typed(_SUBMIT, *elsewhere, "--corpus-version", "monday")
    typed(_SUBMIT, *elsewhere, "--corpus-version", "monday")
    assert len(cluster.of("workflows")) == 1
    typed(_SUBMIT, *elsewhere, "--corpus-version", "tuesday")
    assert len(cluster.of("workflows")) == 2


def test_schedule_puts_template_and_cron_workflow(cluster: KubernetesServer, typed: Typed) -> None:
    said = typed(_SCHEDULE, "--cron", "0 3 * * *", "--timezone", "Europe/Berlin")
    assert said.out == "scheduled squad at '0 3 * * *' (Europe/Berlin); it is new\n"
    spec = cluster.of("cronworkflows")["squad"]["spec"]
    assert (spec["schedules"], spec["timezone"]) == (["0 3 * * *"], "Europe/Berlin")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert "squad" in cluster.of("workflowtemplates")


def test_a_schedule_that_is_there_is_replaced_only_when_asked(cluster: KubernetesServer, typed: Typed) -> None:
    typed(_SCHEDULE, "--cron", "0 3 * * *")
    changes = cluster.changes()
    said = typed(_SCHEDULE, "--cron", "0 4 * * *")
    assert said.code == 65
    assert "CronWorkflow squad is there already, with schedule '0 3 * * *' (Etc/UTC); add --replace" in said.err
    # Not even the template is touched.
    assert cluster.changes() == changes
    said = typed(_SCHEDULE, "--cron", "0 4 * * *", "--replace")
    assert "it replaces schedule '0 3 * * *'" in said.out
    assert cluster.of("cronworkflows")["squad"]["spec"]["schedules"] == ["0 4 * * *"]


@pytest.mark.parametrize("cron", ["0 0 3 * * *", "every day"])
def test_a_cron_that_argo_cannot_read_is_refused_before_the_cluster_is_asked(
    cron: str, cluster: KubernetesServer, typed: Typed
) -> None:
    said = typed(_SCHEDULE, "--cron", cron)
    assert said.code == 2
    assert "write cron's five fields" in said.err
    assert cluster.requests == []


def test_status_is_a_table_of_runs_the_newest_first(cluster: KubernetesServer, typed: Typed) -> None:
    _put(cluster, "squad-old", done())
    _put(cluster, "other-new", failed_in_a_shard(), template="other")
    _put(cluster, "squad-now", working())
    cluster.put("workflows", {"metadata": {"name": "a stranger's"}, "spec": {}, "status": working()})
    header, *rows = typed("status --target argo").out.splitlines()
    assert header.split() == ["NAME", "STATE", "STARTED", "DURATION", "TASK", "REASON"]
    assert [row.split()[:2] for row in rows] == [
        ["squad-now", "running"],
        ["other-new", "failed"],
        ["squad-old", "succeeded"],
    ]
    assert rows[0].split()[-1] == "mine"
    assert rows[1].endswith(f"30s       -     mine(1:1): {REASON}")
    assert "2026-11-27 12:07:05Z  30s" in rows[2]
    assert [row.split()[0] for row in typed("status --target argo --name squad").out.splitlines()[1:]] == [
        "squad-now",
        "squad-old",
    ]


def test_watch_writes_a_line_for_every_change_and_none_twice(
    cluster: KubernetesServer, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(cluster, "squad", working())
    cluster.logs["squad-mine-5"] = '{"event": "progress", "task": "mining", "done": 3, "total": 20}\nnot json\n'
    states = iter([working(), working(), done()])
    monkeypatch.setattr(watching.time, "sleep", lambda _: _put(cluster, "squad", next(states)))
    said = typed(_WATCH)
    assert said.code == 0
    lines = [line.partition("  ")[2] for line in said.err.splitlines()]
    assert lines == [
        "squad  running",
        "squad  prepare  succeeded after 13s",
        "squad  mine  running, mining: 3/20",
        "squad  succeeded",
        "squad  mine  succeeded after 10s",
    ]


def test_watch_says_why_a_task_failed_and_ends_with_1(cluster: KubernetesServer, typed: Typed) -> None:
    _put(cluster, "squad", failed_in_a_shard())
    said = typed(_WATCH)
    assert said.code == 1
    assert said.out.splitlines() == ["squad: failed after 30s", f"  mine(1:1): {REASON}"]
    assert f"squad  mine(1:1)  failed, {REASON}" in said.err
    assert "squad  train  skipped" in said.err


def test_retry_runs_what_failed_again_as_a_run_on_the_same_artifacts(cluster: KubernetesServer, typed: Typed) -> None:
    _put(cluster, "squad", failed_in_a_shard())
    spec = {"workflowTemplateRef": {"name": "squad"}, "arguments": {"parameters": [{"name": "a", "value": "b"}]}}
    cluster.of("workflows")["squad"]["spec"] = {**spec, "shutdown": "Terminate"}

    def controller() -> None:
        for name, status in (("squad-retry-1", failed_in_a_shard()), ("squad-retry-2", done())):
            if ("workflows", name) in cluster.objects:
                cluster.objects["workflows", name]["status"] = status

    cluster.meanwhile = controller
    said = typed(f"{_WATCH} --retry 3")
    assert said.code == 0
    assert said.out.startswith("squad-retry-2: succeeded")
    assert sorted(cluster.of("workflows")) == ["squad", "squad-retry-1", "squad-retry-2"]
    for name in ("squad-retry-1", "squad-retry-2"):
        retry = cluster.of("workflows")[name]
        assert retry["spec"] == spec
        assert retry["metadata"]["labels"]["retriever/run"] == "squad"


def test_retries_end(cluster: KubernetesServer, typed: Typed) -> None:
    def controller() -> None:
        for workflow in cluster.of("workflows").values():
            workflow["status"] = failed_in_a_shard()

    _put(cluster, "squad", failed_in_a_shard())
    cluster.meanwhile = controller
    assert typed(f"{_WATCH} --retry 2").code == 1
    assert sorted(cluster.of("workflows")) == ["squad", "squad-retry-1", "squad-retry-2"]


def test_watch_ends_with_the_verdict_and_the_figures(cluster: KubernetesServer, typed: Typed) -> None:
    metrics = {"verdict": "fail", "trained_ndcg_10": 0.61234, "base_ndcg_10": 0.5, "gate_passed": 0, "num_queries": 6}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "component": "evaluate",
        "identity": "i",
        "config": {},
        "settings": {},
    }
    manifest |= {"inputs": {}, "versions": {}, "seconds": 1.0, "created": "now", "metrics": metrics, "files": {}}
    evaluation = "memory://runs/squad/evaluation"
    gate = {"verdict": "fail", "reasons": ["nDCG@10 is not better than that of production"]}
    storage.write_bytes(f"{evaluation}/gate.json", orjson.dumps(gate))
    storage.write_bytes(f"{evaluation}/{MANIFEST_NAME}", orjson.dumps(manifest))
    _put(cluster, "squad", done())
    said = typed(_WATCH)
    assert said.code == 0
    assert said.out.splitlines()[1:] == [
        "gate: fail",
        "- nDCG@10 is not better than that of production",
        "trained_ndcg_10: 0.6123",
        "base_ndcg_10: 0.5",
        "report: memory://runs/squad/evaluation/report.html",
    ]
    storage.delete(f"{evaluation}/{MANIFEST_NAME}")


def test_figures_that_cannot_be_read_from_here_are_no_failure(cluster: KubernetesServer, typed: Typed) -> None:
    _put(cluster, "squad", done())
    said = typed(_WATCH)
    assert said.code == 0
    assert "figures: cannot be read from here" in said.out


def test_watch_goes_on_after_a_server_that_was_away(
    cluster: KubernetesServer, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(cluster, "squad", working())

    def pause(_: float) -> None:
        cluster.broken = 1 if ("workflows", "squad") in cluster.objects and not seen else 0
        seen.append(1)
        if len(seen) > 1:
            _put(cluster, "squad", done())

    seen: list[int] = []
    monkeypatch.setattr(watching.time, "sleep", pause)
    said = typed(_WATCH)
    assert said.code == 0
    assert "the API does not answer; asking again" in said.err


def test_a_workflow_of_many_pods_is_read_packed_too(cluster: KubernetesServer, typed: Typed) -> None:
    status = failed_in_a_shard()
    nodes = status.pop("nodes")
    packed = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    _put(cluster, "squad", {**status, "compressedNodes": packed})
    assert f"mine(1:1): {REASON}" in typed(_WATCH).out

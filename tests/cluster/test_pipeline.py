"""README's commands, from an empty cluster to an answered search, while pods are killed in the middle.

The commands run as they stand there, but for the namespace of the workflow (where this cluster's Argo looks), the two
local ports, and settings that make the corpus's run a matter of minutes.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.shared.durable import storage
from components.shared.durable.journal import read_journal
from components.shared.manifest import read_manifest
from tests.bucket import free_ports
from tests.cluster import readme
from tests.cluster.argo import begin, compiled, retriever
from tests.cluster.argo_runs import Node, Workflow
from tests.cluster.conftest import give_volume, wait_for_store
from tests.cluster.given_cluster import Site, cannot
from tests.cluster.kube import Kube, until
from tests.cluster.llm_pod import counts, llm_server
from tests.cluster.settings import values, write_base, write_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

_ROOT_URI = "s3://retriever/runs/first"
_RELEASES, _POLICY_URI = "s3://retriever/releases", "s3://retriever/policy.toml"
# Six queries prove nothing, and this run is to be promoted.
_POLICY = 'candidate = "trained"\nproduction = "base"\n[quality]\nmax_loss = 0.5\nwhen_unclear = "pass"\n'
_JOURNAL, _STATE = f"{_ROOT_URI}/state/journal", f"{_ROOT_URI}/state/train"
_CALL_SECONDS = 1.2


@dataclass
class Killed:
    """A pod that was killed, and what was durable then."""

    pod: str
    kept: int
    asked: int = 0


@dataclass
class Run:
    """The finished run, and what happened on the way."""

    workflow: Workflow
    server: Kube
    phase: str
    annotate: Killed
    train: Killed
    counts: dict[str, int]
    found: str
    key: str


def _shell(command: str) -> str:
    done = subprocess.run(["bash", "-c", command], cwd=readme.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done.stdout


@contextmanager
def _background(command: str, port: int) -> Iterator[None]:
    """Runs a command that ends with an ampersand while the block runs, from the moment in which its port answers."""
    process = subprocess.Popen(shlex.split(command.removesuffix("&")), stdout=subprocess.DEVNULL)
    try:
        until(60, command, lambda: _answers(port), 0.2)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def empty(kube: Kube, site: Site, argo: Kube) -> Iterator[ExitStack]:
    """A cluster without our namespace; what the commands make in it goes at the end."""
    if not kube.attempt("get", "namespace", "retriever").returncode:
        cannot("the namespace `retriever` is there already; README's commands are tried on a cluster without it")
    with ExitStack() as stack:
        give_volume(kube, stack, "retriever", site.python_image)
        stack.callback(
            kube.run, "delete", "namespace", "retriever", "--ignore-not-found", "--timeout=120s", seconds=150
        )
        yield stack


@pytest.fixture(scope="module")
def run(empty: ExitStack, site: Site, argo: Kube, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The section's commands, in their order."""
    folder, server = tmp_path_factory.mktemp("readme"), Kube("retriever")
    store_port, server_port = free_ports(2)
    _shell(readme.command("overlays/kind/pipeline"))
    secrets = readme.command("secret generic retriever-store")
    _shell(secrets)
    # The tasks run where Argo looks, and read the same Secret there.
    _shell(secrets.split(" && ")[0].replace("--namespace retriever", f"--namespace {argo.namespace}"))
    empty.callback(argo.run, "delete", "secret", "retriever-store")
    wait_for_store(server)
    forward = readme.command("port-forward", "8333").replace(" 8333 &", f" {store_port}:8333 &")
    empty.enter_context(_background(forward, store_port))
    _use_store(empty, store_port)
    copy = readme.command("retriever copy").replace("8333", str(store_port))
    corpus = write_corpus(folder / "corpus")
    until(60, "the bucket", lambda: _copied(copy.replace("my-corpus", str(corpus))), 2)
    storage.publish(write_base(folder / "base", corpus), "s3://retriever/models/base")
    workflow, killed, counts = _train_it(empty, site, argo, folder)
    _shell(readme.command("overlays/kind", "rollout status"))
    forward = readme.command("port-forward", "8080").replace("8080:80", f"{server_port}:80")
    empty.enter_context(_background(forward, server_port))
    search = readme.command("retriever search")
    found = retriever(f"{search} --url http://127.0.0.1:{server_port}")
    key = search.split()[0].partition("=")[2]
    return Run(workflow, server, workflow.phase(), *killed, counts, found, key)


def _use_store(stack: ExitStack, port: int) -> None:
    """This process reads the bucket too."""
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    lines = (readme.ROOT / "k8s" / "store" / "store.env.example").read_text().split()
    for name, value in (line.split("=", 1) for line in lines):
        patch.setenv(name, value)
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")


def _copied(command: str) -> bool:
    try:
        retriever(command, RETRIEVER_STORE_SECONDS="5")
    except AssertionError:
        return False
    return True


def _train_it(
    stack: ExitStack, site: Site, argo: Kube, folder: Path
) -> tuple[Workflow, tuple[Killed, Killed], dict[str, int]]:
    """Compiles, applies and starts the flow, kills two of its pods, and waits for its end."""
    llm = stack.enter_context(llm_server(argo, site, _CALL_SECONDS))
    command = re.sub(r" --output \S+$", "", readme.command("retriever compile"))
    chosen = values("s3://retriever/models/base", f"http://llm.{argo.namespace}.svc:8000/v1")
    storage.write_bytes(_POLICY_URI, _POLICY.encode())
    chosen |= {"promote.store": _RELEASES, "evaluate.policy_uri": _POLICY_URI}
    manifest = compiled(command, folder / "retriever.yaml", site, values=chosen)
    apply, create, wait = readme.command("k8s/argo/run.yaml").split(" && ")
    here = f"--namespace {argo.namespace}"
    _shell(apply.replace("--namespace retriever", here).replace("retriever.yaml", str(manifest)))
    stack.callback(argo.run, "delete", f"--filename={manifest}", "--ignore-not-found")
    name = _shell(create.replace("--namespace retriever", here)).split()[0].rpartition("/")[2]
    stack.callback(argo.run, "delete", "workflow", name, "--ignore-not-found")
    workflow = Workflow(argo, name)
    annotate = _kill_annotate(workflow, llm)
    train = _kill_train(workflow)
    _shell(wait.replace("--namespace retriever", here).replace("24h", "900s"))
    return workflow, (annotate, train), counts(llm)


def _kill_annotate(workflow: Workflow, llm: str) -> Killed:
    """Kills the pod without a word once the bucket has some of its calls, as a node does that is lost."""
    node = until(600, "annotate", lambda: _going(workflow, "annotate"), 2)
    kept = until(240, "calls in the bucket", _num_kept, 2)
    workflow.kube.run("delete", "pod", node.pod, "--grace-period=0", "--force")
    return Killed(node.pod, kept, counts(llm)["different"])


def _num_kept() -> int:
    """Calls that the bucket has."""
    return len({key for key, _ in read_journal(_JOURNAL)}) if storage.list_files(_JOURNAL) else 0


def _kill_train(workflow: Workflow) -> Killed:
    """Deletes the pod once the bucket has a state of it, as a drain of its node does."""
    node = until(600, "train", lambda: _going(workflow, "train"), 2)
    states = until(240, "a state in the bucket", lambda: storage.list_files(_STATE), 1)
    assert workflow.running("train"), "train ended before it could be killed; give it more epochs"
    workflow.kube.run("delete", "pod", node.pod)
    return Killed(node.pod, len(states))


def _going(workflow: Workflow, template: str) -> Node | None:
    assert workflow.phase() not in ("Failed", "Error"), workflow.nodes()
    return workflow.running(template)


def test_the_run_succeeds_although_pods_were_killed(run: Run) -> None:
    failures = [node for node in run.workflow.nodes() if node.phase not in ("Succeeded", "Omitted")]
    assert run.phase == "Succeeded", failures
    # Only what was killed had a second attempt; a pod that is gone before Argo looked is made again without one.
    assert {node.template for node in failures} <= {"annotate", "train"}
    assert len(failures) <= 2


def test_no_call_that_was_in_the_bucket_is_asked_again(run: Run, figures: Callable[[str], None]) -> None:
    again = run.counts["calls"] - run.counts["different"]
    figures(
        f"annotate's pod killed without a word after {run.annotate.asked} calls, of which the bucket had "
        f"{run.annotate.kept}: {again} calls made again, {run.counts['different'] - again} not"
    )
    assert run.annotate.kept > 0
    assert again <= run.annotate.asked - run.annotate.kept + 1


def test_training_went_on_from_its_state(run: Run, figures: Callable[[str], None]) -> None:
    (second,) = [node for node in run.workflow.nodes() if node.template == "train" and node.phase == "Succeeded"]
    lines = [
        json.loads(line) for line in run.workflow.kube.logs(second.pod, "main").splitlines() if line.startswith("{")
    ]
    (resumed,) = [line for line in lines if line["event"] == "resuming training"]
    total = read_manifest(f"{_ROOT_URI}/checkpoint").metrics["num_steps"]
    figures(f"train's pod deleted: its second attempt went on at step {resumed['step']} of {total}")
    assert 0 < resumed["step"] < total


def test_what_was_trained_is_measured_and_searched_through_the_service(run: Run) -> None:
    metrics = json.loads(storage.read_bytes(f"{_ROOT_URI}/evaluation/metrics.json"))
    assert metrics["num_queries"] == 6
    assert {"bm25", "base", "trained"} <= set(metrics["systems"])
    assert "3 passages in" in run.found


def test_what_the_gate_lets_through_is_what_servers_are_pointed_at(run: Run) -> None:
    (node,) = [node for node in run.workflow.nodes() if node.template == "promote"]
    assert node.phase == "Succeeded"
    pointer = json.loads(storage.read_bytes(f"{_RELEASES}/pointer.json"))
    for name in ("encoder", "index", "dataset"):
        promoted, made = read_manifest(pointer[f"{name}_uri"]), read_manifest(f"{_ROOT_URI}/{name}")
        assert promoted.digest == made.digest


def test_every_task_says_what_it_took(run: Run, figures: Callable[[str], None]) -> None:
    nodes = [node for node in run.workflow.nodes() if node.phase == "Succeeded"]
    working = sum(node.seconds for node in nodes)
    for node in nodes:
        figures(f"{node.name}: {node.seconds:.0f} s from its pod's creation to its end")
    artifacts = ("dataset", "base-encoder", "base-index", "pools", "annotations", "checkpoint", "encoder", "index")
    jobs = sum(read_manifest(f"{_ROOT_URI}/{name}").seconds for name in (*artifacts, "evaluation"))
    figures(f"{len(nodes)} tasks: pods {working:.0f} s, of which the jobs' own work {jobs:.0f} s")
    figures(f"the whole run, two pods killed: {run.workflow.seconds():.0f} s")
    assert len(nodes) >= len(artifacts) + 1


def test_an_unchanged_run_does_nothing_again_and_a_closed_gate_promotes_nothing(
    run: Run, argo: Kube, figures: Callable[[str], None]
) -> None:
    kept = ("dataset", "pools", "annotations", "checkpoint", "encoder", "index")
    created = {name: read_manifest(f"{_ROOT_URI}/{name}").created for name in kept}
    pointer = storage.read_bytes(f"{_RELEASES}/pointer.json")
    # No search is as fast as that: the one thing that changed is what the gate asks.
    storage.write_bytes(_POLICY_URI, (_POLICY + "[latency]\nmax_p95_ms = 0.000001\n").encode())
    start = time.monotonic()
    again = begin(argo, "retriever")
    assert again.ended(600) == "Succeeded", again.message()
    figures(f"the same run with another gate, all else unchanged: {time.monotonic() - start:.0f} s")
    assert {name: read_manifest(f"{_ROOT_URI}/{name}").created for name in kept} == created
    assert read_manifest(f"{_ROOT_URI}/evaluation").metrics["verdict"] == "fail"
    assert [node.name for node in again.nodes() if node.template == "promote"] == []
    assert storage.read_bytes(f"{_RELEASES}/pointer.json") == pointer
    argo.run("delete", "workflow", again.name)

"""The story of two corpora on a cluster: a schedule that does nothing, retrains, is refused, promotes; and a way back.

One schedule of every minute makes all runs but the first. The server follows the store's pointer from the first
release on, and is searched through its Service while the second takes its place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.shared.durable import storage
from components.shared.durable.journal import read_journal
from components.shared.manifest import read_manifest
from components.shared.records import Annotation, read_records
from tests.cluster import readme
from tests.cluster.argo import begin, compiled, read, retriever
from tests.cluster.argo_runs import Workflow
from tests.cluster.conftest import Server, Store, roll_out, store_variables
from tests.cluster.given_cluster import Site
from tests.cluster.kube import Kube, until
from tests.cluster.llm_pod import counts, llm_server
from tests.cluster.load_pod import answers_of
from tests.cluster.overlays import write_overlay
from tests.cluster.settings import values, write_base, write_corpus
from tests.tiny_world import grow_collection

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

_HOME = "s3://retriever/story"
_ROOT_URI, _CORPUS, _BASE, _STORE = (f"{_HOME}/{name}" for name in ("run", "corpus", "base", "releases"))
_POLICY_URI = f"{_HOME}/policy.toml"
# Six queries prove nothing, and these runs are to be promoted.
_OPEN = 'candidate = "trained"\nproduction = "base"\n[quality]\nmax_loss = 0.9\nwhen_unclear = "pass"\n'
# No search is as fast as that.
_CLOSED = _OPEN + "[latency]\nmax_p95_ms = 0.000001\n"
_STAGE = {"name": "llm", "labels": "llm", "loss": "disj_infonce", "positives": "all", "epochs": 4}


@dataclass
class Story:
    """What is told: the flow's runs, and what stood in the store and the journal after each of them."""

    kube: Kube
    flow: str
    llm: str
    folder: Path
    names: set[str] = field(default_factory=set)

    def pointer(self) -> dict[str, Any]:
        return dict(json.loads(storage.read_bytes(f"{_STORE}/pointer.json")))

    def scheduled(self, *, after: Workflow) -> Workflow:
        """The next run that the schedule makes by itself."""
        self.names |= {after.name}
        return until(150, "the schedule", lambda: self._new(self.names), 2)

    def ended(self, run: Workflow) -> Workflow:
        """The same run when it has succeeded."""
        assert run.ended(600) == "Succeeded", (run.message(), run.nodes())
        return run

    def _new(self, known: set[str]) -> Workflow | None:
        selector = f"workflows.argoproj.io/cron-workflow={self.flow}"
        names = {one["metadata"]["name"] for one in self.kube.items("workflow", selector=selector)} - known
        return Workflow(self.kube, min(names)) if names else None


def _calls() -> set[str]:
    return {key for key, _ in read_journal(f"{_ROOT_URI}/state/journal")}


def _pairs() -> set[tuple[str, str]]:
    rows = read_records(storage.fetch(f"{_ROOT_URI}/annotations") / "annotations.jsonl", Annotation)
    return {(row.query_id, passage_id) for row in rows for passage_id in row.passage_ids}


@pytest.fixture(scope="module")
def story(
    argo: Kube, store: Store, site: Site, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """The flow with its schedule, which is not applied yet, and its first run, which is not the schedule's."""
    folder, flow = tmp_path_factory.mktemp("story"), f"{namespace}-story"
    corpus = write_corpus(folder / "corpus")
    storage.publish(write_base(folder / "base", corpus), _BASE)
    storage.publish(_copy(corpus, folder / "first"), _CORPUS)
    storage.write_bytes(_POLICY_URI, _OPEN.encode())
    argo.secret(flow, **store_variables(store.inside))
    command = readme.command("retriever compile").rpartition(" --output ")[0]
    command = command.replace("retriever-store:", f"{flow}:").replace("s3://retriever/runs/first", _ROOT_URI)
    chosen = values(_BASE, f"http://llm.{argo.namespace}.svc:8000/v1")
    chosen |= {"prepare.collection_uri": _CORPUS, "evaluate.policy_uri": _POLICY_URI}
    chosen |= {"train.curriculum": json.dumps([{**_STAGE, "learning_rate": 1e-3}])}
    more = f"--name {flow} --continue-from {_STORE} --schedule '* * * * *'"
    path = compiled(command, folder / "argo.yaml", site, values=chosen, more=more)
    argo.apply(read(path)[0])
    with llm_server(argo, site, 0.02) as llm:
        yield Story(argo, flow, llm, folder)
    selectors = (f"workflows.argoproj.io/cron-workflow={flow}", f"workflows.argoproj.io/workflow-template={flow}")
    argo.run("delete", "cronworkflow", flow, "--ignore-not-found")
    for selector in selectors:
        argo.run("delete", "workflow", f"--selector={selector}", "--ignore-not-found")
    argo.run("delete", "workflowtemplate", flow)
    argo.run("delete", "secret", flow)


def _copy(folder: Path, target: Path) -> Path:
    """Publishing moves a folder, and the corpus is written on."""
    for path in folder.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


def _version(server: Server) -> str:
    with server.kube.forwarded("service/retriever-serve", 80) as url:
        return str(httpx.get(f"{url}/readyz").json()["version"])


def _told(workflow: Workflow) -> str:
    """Its tasks and their seconds, for the figures."""
    return ", ".join(f"{node.template} {node.seconds:.0f}" for node in workflow.nodes() if node.finished)


def test_the_story_of_two_corpora(
    story: Story,
    server: Server,
    site: Site,
    client: Callable[..., str],
    figures: Callable[[str], None],
    tmp_path: Path,
) -> None:
    begun = time.monotonic()
    first = begin(story.kube, story.flow)
    assert first.ended(600) == "Succeeded", (first.message(), first.nodes())
    promoted = story.pointer()
    assert (promoted["release"], promoted["before"]) == (1, 0)
    figures(f"first run: {first.seconds():.0f} s, {len(_calls())} calls of the LLM; {_told(first)}")
    _follow(server, site, tmp_path)
    before = _version(server)
    unchanged = _comes_for_nothing(story, first, figures)
    assert story.pointer() == promoted
    refused = _retrains_and_is_refused(story, unchanged, figures)
    assert story.pointer() == promoted
    assert _version(server) == before
    _is_let_through_under_load(story, refused, server, client, figures)
    start = time.monotonic()
    assert "serves what release 1 was" in retriever(f".venv/bin/retriever rollback --store {_STORE}")
    until(60, "the server to go back", lambda: _version(server) == before, 1)
    figures(f"rolled back: {time.monotonic() - start:.0f} s to the first release in the server")
    figures(f"the whole story: {time.monotonic() - begun:.0f} s")


def _comes_for_nothing(story: Story, first: Workflow, figures: Callable[[str], None]) -> Workflow:
    """The schedule comes, and finds that what is served was made of this very corpus."""
    llm_calls = counts(story.llm)["calls"]
    story.kube.apply(read(story.folder / "argo.yaml")[1])
    unchanged = story.ended(story.scheduled(after=first))
    assert {node.template for node in unchanged.nodes()} == {"start"}
    assert counts(story.llm)["calls"] == llm_calls
    figures(f"the schedule's run on an unchanged corpus: {unchanged.seconds():.0f} s, no call; {_told(unchanged)}")
    return unchanged


def _retrains_and_is_refused(story: Story, before: Workflow, figures: Callable[[str], None]) -> Workflow:
    """The corpus changes while the gate lets nothing through: the schedule's next run retrains, and is refused."""
    llm_calls, asked, pairs = counts(story.llm)["calls"], _calls(), _pairs()
    storage.write_bytes(_POLICY_URI, _CLOSED.encode())
    grow_collection(story.folder / "corpus")
    storage.publish(_copy(story.folder / "corpus", story.folder / "second"), _CORPUS)
    run = before
    while "evaluate" not in {node.template for node in run.nodes()}:
        # One may have begun before the corpus changed.
        run = story.ended(story.scheduled(after=run))
    made, new_calls, new_pairs = counts(story.llm)["calls"] - llm_calls, _calls() - asked, _pairs() - pairs
    figures(
        f"the schedule's run on a changed corpus: {run.seconds():.0f} s, {made} calls of the LLM for {len(new_pairs)} "
        f"new pairs of {len({query for query, _ in new_pairs})} queries, {len(asked)} were in the journal; {_told(run)}"
    )
    assert made == len(new_calls)
    # A prompt holds the whole pool of a query, and two are sent for each. A pool of the same passages in another order
    # is another prompt too.
    assert 0 < made <= 2 * len({query for query, _ in new_pairs}) + 4
    assert made < len(asked)
    served = read_manifest(story.pointer()["checkpoint_uri"])
    assert read_manifest(f"{_ROOT_URI}/base-encoder").inputs["checkpoint"] == served.digest
    assert read_manifest(f"{_ROOT_URI}/evaluation").metrics["verdict"] == "fail"
    assert "promote" not in {node.template for node in run.nodes()}
    return run


def _is_let_through_under_load(
    story: Story, refused: Workflow, server: Server, client: Callable[..., str], figures: Callable[[str], None]
) -> None:
    """The gate is mended: nothing is trained again, and the running server changes over while it is searched."""
    storage.write_bytes(_POLICY_URI, _OPEN.encode())
    before, asked, trained = _version(server), _calls(), read_manifest(f"{_ROOT_URI}/checkpoint").created
    run = story.scheduled(after=refused)
    until(300, "its evaluation", lambda: "evaluate" in {node.template for node in run.nodes()}, 1)
    pod = client(seconds=75, threads=1)
    story.ended(run)
    # Suspended and not deleted: with a schedule go the runs that it made.
    story.kube.run("patch", "cronworkflow", story.flow, "--type=merge", '--patch={"spec":{"suspend":true}}')
    second = story.pointer()
    assert (second["release"], second["before"]) == (2, 1)
    assert read_manifest(f"{_ROOT_URI}/checkpoint").created == trained
    assert _calls() == asked
    until(60, "the server to follow", lambda: _version(server) != before, 2)
    answers, versions = answers_of(server.kube, pod, 150)
    again = answers.pop("sent again", 0)
    failed = sum(count for outcome, count in answers.items() if outcome != "200")
    figures(
        f"the schedule's run behind a mended gate: {run.seconds():.0f} s, nothing asked or trained; the server "
        f"switched under load: {answers['200']} requests served, {failed} failed, {again} sent again; {_told(run)}"
    )
    assert failed == 0, answers
    # The load met both releases, so it was really there when one took over from the other.
    assert len(versions) == 2, versions


def _follow(server: Server, site: Site, folder: Path) -> None:
    """The Deployment follows the pointer from now on."""
    places = {"POINTER_URI": f"{_STORE}/pointer.json"}
    overlay = write_overlay(
        folder,
        "overlays/kind",
        site,
        namespace=server.kube.namespace,
        artifacts=places,
        components=["follow"],
    )
    server.kube.run("apply", f"--kustomize={overlay}")
    roll_out(server.kube)

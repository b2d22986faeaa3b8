"""The pipeline as it is compiled for a cluster, in real containers: a killed shard, a refused shard, a closed gate.

Three runs after one another on one state in a bucket, each with KFP's exit handler round the flow. The containers may
write to their artifacts and to memory only. Finished tasks are in KFP's cache, as on a cluster. Every attempt is the
last one: half a minute passes before KFP's second.
"""

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from docker.client import DockerClient
from docker.models.containers import Container
from docker.types import Mount

from components.shared.durable import storage
from components.shared.durable.journal import read_journal
from components.shared.manifest import read_manifest
from pipelines.cluster.deployment import Deployment
from pipelines.kubeflow import arguments, compile_to
from pipelines.settings import complete
from tests.bucket import S3_KEY, S3_SECRET
from tests.pipelines.docker_local import HARDENED, run_compiled
from tests.pipelines.operate.answering import Answer, Asked, serving
from tests.tiny_world import write_tiny_world

pytestmark = [pytest.mark.docker, pytest.mark.slow]

_BUCKET = "s3://tests/guarded"
_STATE, _STORE = f"{_BUCKET}/state", f"{_BUCKET}/releases"
_STAGE = {"name": "llm", "labels": "llm", "epochs": 1, "learning_rate": 2e-3}
# Before the kill a call takes this long: a journal goes into the bucket every half minute, and both shards have some.
_CALL_SECONDS, _NUM_SHARDS, _NUM_KEPT = 4.0, 2, 8


@dataclass
class Llm:
    """The server of an LLM, a fake of an outside thing: slow until the kill; it counts its answers, and may refuse."""

    requests: list[Asked] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    killed: threading.Event = field(default_factory=threading.Event)
    is_refusing: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked, authorization: str) -> Answer:
        assert authorization == ""
        if asked.method != "POST":
            return Answer(200, {"data": [{"id": "llm", "object": "model"}]})
        if self.is_refusing:
            return Answer(401, {"error": {"message": "the key is not known"}})
        self.killed.wait(_CALL_SECONDS)
        with self._lock:
            self.answers[str(orjson.loads(asked.body)["messages"])] += 1
        message = {"role": "assistant", "content": "[1]"}
        usage = {"prompt_tokens": 9, "completion_tokens": 3}
        return Answer(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})


class Kill(NamedTuple):
    """Calls that were answered when a shard was killed, and those of them that the bucket had."""

    num_answered: int
    num_kept: int


@dataclass
class Story:
    """What the three runs left."""

    killed: dict[str, Any]
    refused: dict[str, Any]
    closed: dict[str, Any]
    kill: Kill
    num_answers: dict[str, int]
    answers: Counter[str]
    num_from_journal: int
    tasks: set[str]


@pytest.fixture(scope="module")
def bucket(s3_server: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3_server)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", S3_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
        yield


@pytest.fixture(scope="module")
def story(
    bucket: None,
    images: Mapping[str, str],
    thin_mounts: dict[str, Path],
    docker_daemon: DockerClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    folder = tmp_path_factory.mktemp("guarded")
    settings, llm = complete(_values(folder)), Llm()
    variables = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    deployment = Deployment(state_uri=_STATE, env=tuple(f"{name}={os.environ[name]}" for name in variables))
    pipeline = folder / "pipeline.yaml"
    compile_to(pipeline, settings, "kind", deployment)
    pipeline.write_text(re.sub(r"maxRetryCount: \d+", "maxRetryCount: 0", pipeline.read_text()))
    mounts = [Mount(target=place, source=str(path), type="bind", read_only=True) for place, path in thin_mounts.items()]

    def run(url: str) -> dict[str, Any]:
        before = set(_outcomes())
        given = arguments(settings, deployment) | {"annotate_endpoint_uri": f"{url}/v1"}
        try:
            run_compiled(
                pipeline, given, folder / "root", is_cached=True, network_mode="host", mounts=mounts, **HARDENED
            )
            failure = ""
        except RuntimeError as error:
            failure = str(error)
        (name,) = set(_outcomes()) - before
        return {**orjson.loads(storage.read_bytes(f"{_STATE}/records/runs/{name}")), "failure": failure}

    with serving(llm) as url, ThreadPoolExecutor(1) as pool:
        over = threading.Event()
        kill = pool.submit(_kill_a_shard, docker_daemon, images["annotate"], llm, over)
        killed = run(url)
        over.set()
        num_answers = {"killed": llm.answers.total()}
        llm.is_refusing = True
        refused = run(url)
        num_answers["refused"] = llm.answers.total()
        llm.is_refusing = False
        closed = run(url)
    tasks = {path.name for path in (folder / "root").glob("*/*")}
    # Of the shard that was killed: the other one's is in KFP's cache.
    *_, last = sorted((folder / "root").glob("*/**/annotations/manifest.json"), key=lambda path: path.stat().st_mtime)
    from_journal = int(read_manifest(str(last.parent)).metrics["calls_from_journal"])
    return Story(killed, refused, closed, kill.result(), num_answers, llm.answers, from_journal, tasks)


def _values(folder: Path) -> dict[str, dict[str, Any]]:
    collection = write_tiny_world(folder)
    for name, source in {"collection": collection, "base": folder / "base"}.items():
        storage.publish(source, f"{_BUCKET}/{name}")
    return {
        "prepare": {"collection_uri": f"{_BUCKET}/collection"},
        "encoder": {"checkpoint_uri": f"{_BUCKET}/base"},
        # An encoder with random weights scores everything alike, which the audit would refuse.
        "mine": {"num_bm25": 2, "num_dense": 1, "max_suspected_share": 1.0},
        "annotate": {"llm_uri": "llm", "engine": "endpoint", "endpoint_uri": "http://llm.search:8000/v1"}
        | {"method": "utility_selection", "num_shards": _NUM_SHARDS, "num_in_flight": 1},
        "train": {"curriculum": [_STAGE], "batch_queries": 4, "group_size": 3, "loss_temperature": 0.1},
        "index": {"min_recall": 1.0},
        "evaluate": {"depth": 10, "measures": "nDCG@10 RR@10", "num_resamples": 100},
        "promote": {"store": _STORE},
    }


def _outcomes() -> list[str]:
    names = storage.list_files(f"{_STATE}/records/runs")
    return [name for name in names if name.endswith("/outcome.json")]


def _num_kept() -> int:
    """Calls that the bucket has."""
    journal = f"{_STATE}/journal"
    return len({key for key, _ in read_journal(journal)}) if storage.list_files(journal) else 0


def _kill_a_shard(client: DockerClient, image: str, llm: Llm, over: threading.Event) -> Kill:
    """Kills a container without a word once the bucket has calls of both."""
    while (kept := _num_kept()) < _NUM_KEPT:
        assert not over.is_set(), f"the run was over when the bucket had {kept} calls"
        time.sleep(0.5)
    shards: list[Container] = [
        container
        for container in client.containers.list(filters={"ancestor": image})
        if "components.annotate" in container.attrs["Config"]["Cmd"]
    ]
    assert len(shards) == _NUM_SHARDS
    answered = llm.answers.total()
    shards[0].kill("KILL")
    llm.killed.set()
    return Kill(answered, kept)


def test_a_run_whose_shard_was_killed_has_failed_and_its_exit_handler_says_that_nothing_was_said(story: Story) -> None:
    assert "annotate" in story.killed["failure"]
    assert story.killed["run_succeeded"] == 0
    assert story.killed["reason"].startswith("no task left a reason: a pod was lost")


def test_a_shard_that_fails_is_named_with_its_reason_by_the_exit_handler(story: Story) -> None:
    assert "annotate" in story.refused["failure"]
    assert story.refused["run_succeeded"] == 0
    assert story.refused["reason"].startswith("annotate: ")
    assert "the key is not known" in story.refused["reason"]


def test_calls_that_the_bucket_had_are_not_made_again(story: Story) -> None:
    assert story.kill.num_kept >= _NUM_KEPT
    assert story.num_from_journal >= 3
    # Refusals are no answers, and the shard that was not killed had all that it needs.
    assert story.num_answers["refused"] == story.num_answers["killed"]
    # What the bucket did not have yet, and what was in flight when the shard was killed.
    num_again = story.answers.total() - len(story.answers)
    assert num_again <= story.kill.num_answered - story.kill.num_kept + 2


def test_behind_a_closed_gate_nothing_is_promoted_and_the_run_says_so(story: Story) -> None:
    assert (story.closed["failure"], story.closed["run_succeeded"]) == ("", 1)
    assert story.closed["run_gate_passed"] == 0
    assert {"evaluate", "came-through", "outcome"} <= story.tasks
    assert not {name for name in story.tasks if "promote" in name}
    assert not storage.exists(f"{_STORE}/pointer.json")

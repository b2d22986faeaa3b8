"""Every query of every dashboard has an answer in a Prometheus that scraped a real run and a real server."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from components.shared.drift.expected import Expected
from tests.bucket import free_ports
from tests.components.serve.served import Process, write_sources
from tests.components.shared.pushgateway import pushgateway
from tests.k8s.built import K8S
from tests.k8s.monitoring.prometheus import Prometheus, prometheus
from tests.tiny_world import write_tiny_world

_FOLDER = K8S / "components" / "dashboards"
# Long enough to tell its language.
_QUERY = "what is it that they told of the danger of a glacier"
_NAMES = sorted(path.stem for path in _FOLDER.glob("*.json"))


def _queries(name: str) -> dict[str, list[str]]:
    """Title of a panel -> its queries."""
    panels = json.loads((_FOLDER / f"{name}.json").read_text())["panels"]
    return {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, float]]:
    """A Prometheus that saw a run of the whole flow and a server under load, and when that began."""
    folder = tmp_path_factory.mktemp("scraped")
    start = time.time()
    (task_port,) = free_ports(1)
    expected = Expected(0.6, 60, False, ["en"], "measured")
    server = Process(*write_sources(folder / "served", expected=expected).flags())
    with pushgateway() as gateway:
        ports = [urlsplit(url).port or 0 for url in (server.url, gateway)]
        targets = {"serve": ports[0], "pushgateway": ports[1], "tasks": task_port}
        with prometheus(folder, targets) as scraping:
            over = threading.Event()
            client = threading.Thread(target=_search, args=(server.url, over))
            client.start()
            try:
                _run_flow(folder, METRICS_PORT=str(task_port), PUSHGATEWAY_URL=gateway)
            finally:
                over.set()
                client.join()
            yield scraping, start
    server.terminate()
    server.exit_code()


def _search(url: str, over: threading.Event) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        while not over.wait(0.1):
            assert client.post("/search", json={"query": _QUERY, "depth": 3}).status_code == 200


def _run_flow(folder: Path, **environment: str) -> None:
    write_tiny_world(folder)
    # Only a stage of human labels is measured on the dev queries.
    stages = [{"name": name, "labels": name, "epochs": 2, "learning_rate": 1e-3} for name in ("llm", "human")]
    values = {
        "encoder": {"checkpoint_uri": str(folder / "base")},
        # An encoder with random weights scores everything alike, which the audit would refuse.
        "mine": {"num_bm25": 4, "num_dense": 0, "max_suspected_share": 1.0},
        "annotate": {"llm_uri": str(folder / "llm"), "engine": "transformers", "method": "query_likelihood"},
        "train": {"curriculum": stages, "batch_queries": 4, "group_size": 3, "loss_temperature": 0.1},
        "evaluate": {"depth": 10, "num_resamples": 200},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    places = ["--data", f"{folder}/collection", "--workdir", f"{folder}/work", "--params", f"{folder}/params.yaml"]
    command = [sys.executable, "-m", "pipelines.cli", "run", *places]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", _NAMES)
def test_every_query_of_a_dashboard_has_an_answer(name: str, scraped: tuple[Prometheus, float]) -> None:
    server, start = scraped
    queries = [
        (title, query.replace("$__rate_interval", "5s")) for title, panel in _queries(name).items() for query in panel
    ]
    empty = [query for query in queries if not _numbers(server, query[1], start)]
    assert empty == []


def _numbers(server: Prometheus, query: str, start: float) -> list[str]:
    return [value for series in server.series(query, start=start) for _, value in series["values"] if value != "NaN"]


@pytest.mark.slow
def test_a_query_of_a_metric_that_is_not_there_would_be_seen(scraped: tuple[Prometheus, float]) -> None:
    server, start = scraped
    assert _numbers(server, "sum(rate(retriever_request_total[5s]))", start) == []


def test_grafana_finds_the_dashboards_by_their_label_and_they_are_all_there() -> None:
    made = yaml.safe_load((_FOLDER / "kustomization.yaml").read_text())["configMapGenerator"][0]
    assert made["options"]["labels"]["grafana_dashboard"] == "1"
    assert made["files"] == [f"{name}.json" for name in _NAMES] == ["annotate.json", "run.json", "serve.json"]


def test_dashboards_and_panels_have_names_of_their_own() -> None:
    boards = [json.loads((_FOLDER / f"{name}.json").read_text()) for name in _NAMES]
    assert len({board["uid"] for board in boards}) == len(boards)
    for board in boards:
        assert len({panel["title"] for panel in board["panels"]}) == len(board["panels"])
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])

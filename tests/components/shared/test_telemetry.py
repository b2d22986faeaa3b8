"""What a job tells a monitoring system, over real HTTP; a failure to tell never fails the job."""

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.shared import log
from components.shared.telemetry import JobTelemetry, MetricLines
from tests.bucket import free_ports
from tests.components.shared.pushgateway import pushed_groups, pushgateway


class _Gateway(HTTPServer):
    """A Pushgateway's side of a push: it keeps path and body, and answers as told."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.answer = answer
        self.pushes: list[tuple[str, str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Take(BaseHTTPRequestHandler):
    server: _Gateway

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.pushes.append((self.command, self.path, body))
        self.wfile.write(self.server.answer)

    do_POST = do_PUT = _take  # noqa: N815 - the names that BaseHTTPRequestHandler looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass


@pytest.fixture(params=[b"HTTP/1.0 200 OK\r\n\r\n"])
def gateway(request: pytest.FixtureRequest) -> Iterator[_Gateway]:
    server = _Gateway(request.param)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _values(text: str) -> dict[str, float]:
    return {
        sample.labels.get("name", sample.name): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_outcome_is_pushed_under_pipeline_and_component_only(
    gateway: _Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHGATEWAY_URL", gateway.url)
    JobTelemetry("index").finish(succeeded=True, metrics={"recall_at_10": 0.98, "num_passages": 30.0})
    ((verb, path, body),) = gateway.pushes
    assert verb == "POST"  # adds to what other components pushed; PUT would replace it
    # The grouping key: no run, no pod, no shard, which would leave a group behind at every run.
    assert path == "/metrics/job/retriever/component/index/pipeline/retriever"
    values = _values(body)
    assert values["recall_at_10"] == 0.98
    assert values["num_passages"] == 30
    assert values["retriever_job_last_success"] == 1
    assert values["retriever_job_last_success_timestamp_seconds"] > 1.7e9
    assert values["retriever_job_last_duration_seconds"] > 0


def test_a_failure_does_not_look_like_a_success(gateway: _Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHGATEWAY_URL", gateway.url)
    JobTelemetry("index").finish(succeeded=False, metrics={})
    values = _values(gateway.pushes[0][2])
    assert values["retriever_job_last_success"] == 0
    assert values["retriever_job_last_failure_timestamp_seconds"] > 1.7e9
    # A zero would erase the time of an earlier success in the gateway.
    assert "retriever_job_last_success_timestamp_seconds" not in values


@pytest.fixture
def real_gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Prometheus Pushgateway on loopback, empty."""
    with pushgateway() as url:
        monkeypatch.setenv("PUSHGATEWAY_URL", url)
        yield url


def test_a_failure_keeps_the_time_of_the_last_success_and_the_other_way(real_gateway: str) -> None:
    JobTelemetry("index").finish(succeeded=True, metrics={"num_passages": 30.0})
    (succeeded,) = pushed_groups(real_gateway).values()
    JobTelemetry("index").finish(succeeded=False, metrics={})
    (failed,) = pushed_groups(real_gateway).values()
    assert failed["last_success"] == 0
    assert failed["last_success_timestamp_seconds"] == succeeded["last_success_timestamp_seconds"]
    assert failed["last_failure_timestamp_seconds"] > succeeded["last_success_timestamp_seconds"]
    assert failed["num_passages"] == 30
    JobTelemetry("index").finish(succeeded=True, metrics={"num_passages": 31.0})
    (again,) = pushed_groups(real_gateway).values()
    assert again["last_success"] == 1
    assert again["last_success_timestamp_seconds"] > failed["last_failure_timestamp_seconds"]
    assert again["last_failure_timestamp_seconds"] == failed["last_failure_timestamp_seconds"]
    assert again["num_passages"] == 31


def test_pipelines_and_tasks_of_one_component_do_not_erase_each_other(
    real_gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pipeline, task in (("news", "export"), ("news", "export-base"), ("law", "export")):
        monkeypatch.setenv("RETRIEVER_PIPELINE", pipeline)
        monkeypatch.setenv("RETRIEVER_TASK", task)
        JobTelemetry("export").finish(succeeded=task == "export", metrics={})
    groups = pushed_groups(real_gateway)
    assert {group: metrics["last_success"] for group, metrics in groups.items()} == {
        ("export", "news", "export"): 1,
        ("export", "news", "export-base"): 0,
        ("export", "law", "export"): 1,
    }


def test_shards_push_nothing(real_gateway: str) -> None:
    JobTelemetry("annotate", is_shard=True).finish(succeeded=True, metrics={"num_calls": 7.0})
    assert pushed_groups(real_gateway) == {}


@pytest.mark.parametrize("ending", [RuntimeError("boom"), SystemExit(143), KeyboardInterrupt()])
def test_a_job_that_leaves_without_a_word_has_failed(real_gateway: str, ending: BaseException) -> None:
    def job() -> None:
        with JobTelemetry("train") as telemetry:
            telemetry.set("train_loss", 0.5)
            raise ending

    with pytest.raises(type(ending)):
        job()
    (metrics,) = pushed_groups(real_gateway).values()
    assert metrics["last_success"] == 0
    assert metrics["train_loss"] == 0.5


def test_an_outcome_is_pushed_once(gateway: _Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHGATEWAY_URL", gateway.url)
    with JobTelemetry("train") as telemetry:
        telemetry.finish(succeeded=True, metrics={})
    assert len(gateway.pushes) == 1


def test_a_measure_keeps_its_name_as_a_label(gateway: _Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHGATEWAY_URL", gateway.url)
    JobTelemetry("evaluate").finish(succeeded=True, metrics={"trained nDCG@10": 0.5, "R(rel=2)@100": 0.9})
    values = _values(gateway.pushes[0][2])
    assert values["trained nDCG@10"] == 0.5
    assert values["R(rel=2)@100"] == 0.9


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://", "nonsense", "http://[", "ftp://127.0.0.1"])
def test_a_gateway_that_is_not_there_never_fails_a_job(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PUSHGATEWAY_URL", url)
    JobTelemetry("index").finish(succeeded=True, metrics={})
    assert "metrics were not pushed" in capfd.readouterr().err


@pytest.mark.parametrize(
    "gateway", [b"HTTP/1.0 500 No\r\n\r\n", b"HTTP/1.0 400 No\r\n\r\n", b"hello\r\n", b""], indirect=True
)
def test_a_gateway_that_refuses_never_fails_a_job(
    gateway: _Gateway, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PUSHGATEWAY_URL", gateway.url)
    JobTelemetry("index").finish(succeeded=True, metrics={})
    assert "metrics were not pushed" in capfd.readouterr().err


def test_nothing_is_pushed_where_no_gateway_is_named(gateway: _Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUSHGATEWAY_URL", raising=False)
    JobTelemetry("index").finish(succeeded=True, metrics={})
    assert gateway.pushes == []


def test_a_running_job_can_be_scraped(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("METRICS_PORT", str(port))
    telemetry = JobTelemetry("train")
    telemetry.set("train_loss", 0.25)
    telemetry.set("train_loss", 0.125)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        assert _values(response.read().decode())["retriever_job_train_loss"] == 0.125
    telemetry.close()


def test_the_progress_of_a_running_job_is_scraped_and_never_pushed(
    real_gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("METRICS_PORT", str(port))
    with JobTelemetry("annotate") as telemetry:
        bar = log.Progress("annotating", total=4, unit="queries")
        bar.add(3)
        bar.close()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            scraped = response.read().decode()
        telemetry.finish(succeeded=True, metrics={})
    labels = '{activity="annotating",unit="queries"}'
    assert f"retriever_job_progress_units{labels} 3.0" in scraped
    assert f"retriever_job_progress_planned_units{labels} 4.0" in scraped
    # Those of the process and of libraries are there too.
    assert "process_resident_memory_bytes" in scraped
    # A job that is over makes no progress, and is not stuck.
    (pushed,) = pushed_groups(real_gateway).values()
    assert not [name for name in pushed if name.startswith("progress")]


def test_a_port_that_is_taken_never_fails_a_job(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        monkeypatch.setenv("METRICS_PORT", str(taken.getsockname()[1]))
        JobTelemetry("train").close()
    assert "metrics are not served" in capfd.readouterr().err


def test_metric_lines_are_added_to_those_of_an_earlier_attempt(tmp_path: Path) -> None:
    for step in (1, 2):
        lines = MetricLines(tmp_path / "metrics.jsonl")
        lines.write(step=step, loss=0.5 / step)
        lines.close()
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert written == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]

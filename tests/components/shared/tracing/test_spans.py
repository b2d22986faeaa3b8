"""Spans reach a real collector over OTLP/HTTP, keep to the caller's trace, and cost nothing where nobody asked."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components.prepare.config import PrepareConfig
from components.shared.launch import EXIT_BAD_DATA, EXIT_OK, launch
from components.shared.manifest import artifact_writer
from components.shared.roles import OUTPUT, SETTING
from components.shared.tracing.spans import RUN_VARIABLE, Tracer, parent_variables, process_span, span
from pipelines.local import LocalStep, StepError, run_steps
from tests.bucket import free_ports
from tests.components.serve.served import InProcess, Sources, write_sources
from tests.components.shared.tracing.collector import Collector, collector
from tests.conftest import write_collection

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID, CALLER_ID = CALLER.split("-")[1:3]


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as kept:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", kept.url)
        yield kept


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("traced"))


def _answers(sources: Sources, headers: dict[str, str], **body: object) -> tuple[int, str]:
    """Status and traceparent of one search; the server has ended when this returns."""
    server = InProcess(sources.config(max_depth=10))
    try:
        answer = server.request("POST", "/search", json=body, headers=headers)
        assert server.get("/healthz").status_code == 200
        return answer.status_code, answer.headers["traceparent"]
    finally:
        server.close()


def test_a_search_is_a_span_of_the_callers_trace_with_its_stages_below(collected: Collector, sources: Sources) -> None:
    status, traceparent = _answers(sources, {"traceparent": CALLER}, query="danger of a volcano", depth=3)
    assert status == 200
    request = collected.named("POST /search")
    assert (request.trace_id, request.parent_id, request.kind) == (TRACE_ID, CALLER_ID, "SERVER")
    assert traceparent == f"00-{TRACE_ID}-{request.span_id}-01"
    assert request.service == "retriever-serve"
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/search",
        "http.response.status_code": 200,
    }
    stages = [collected.named(name) for name in ("tokenize", "encode", "search")]
    assert {(stage.trace_id, stage.parent_id) for stage in stages} == {(TRACE_ID, request.span_id)}
    assert sum(stage.nanoseconds for stage in stages) <= request.nanoseconds
    assert stages[2].attributes["mode"] == "dense"
    # Warm-up is no request, and a probe is nothing to look at.
    assert len(collected.spans) == 4


@pytest.mark.parametrize("headers", [{}, {"traceparent": "00-0-0-01"}])
def test_without_a_caller_a_trace_begins_and_a_refusal_is_no_error_of_the_server(
    collected: Collector, sources: Sources, headers: dict[str, str]
) -> None:
    status, traceparent = _answers(sources, headers, query="x", depth=11)
    request = collected.named("POST /search")
    assert (status, request.failed, request.parent_id) == (400, False, "")
    assert traceparent.split("-")[1:3] == [request.trace_id, request.span_id]


def test_a_caller_that_samples_not_is_heeded(collected: Collector, sources: Sources) -> None:
    _, traceparent = _answers(sources, {"traceparent": f"{CALLER[:-2]}00"}, query="volcano")
    assert traceparent.split("-")[1] == TRACE_ID
    assert collected.spans == []


def test_nothing_of_opentelemetry_is_imported_where_no_collector_is_named() -> None:
    code = (
        "import sys; from components.shared.tracing.spans import Tracer, note, parent_variables, process_span, span\n"
        "with process_span('s', 'n'), span('x'): note(a=1)\n"
        "assert parent_variables() == {} and Tracer.open('s') is None\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_without_the_extra_one_line_says_what_to_install_and_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    # How Python itself says that a module is not to be had.
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with process_span("s", "n"), span("x"):
        # Processes that are started from here say it no second time.
        assert parent_variables() == {"OTEL_SDK_DISABLED": "true"}
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["level"]) == ("no traces are sent", "warning")
    assert line["remedy"].startswith("pip install 'retriever-pipeline[traces]'")


def test_a_collector_that_is_away_is_said_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with process_span("s", "n"):
        pass
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines
    assert all(line["event"].startswith("traces: ") for line in lines), lines


@dataclass(frozen=True, kw_only=True)
class _Config:
    output_uri: str = field(metadata=OUTPUT)
    size: int = field(default=1, metadata=SETTING)


def _job(config: _Config) -> None:
    if config.size < 0:
        raise ValueError("size: negative")
    with artifact_writer("promote", config), span("inside", size=config.size):
        pass


@pytest.mark.parametrize(("size", "code"), [(1, EXIT_OK), (-1, EXIT_BAD_DATA)])
def test_a_job_is_a_span_of_its_run_with_its_exit_code(
    collected: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, code: int
) -> None:
    monkeypatch.setenv("TRACEPARENT", CALLER)
    with pytest.raises(SystemExit) as stop:
        launch("promote", _Config, _job, [f"--output-uri={tmp_path / 'out'}", f"--size={size}"])
    assert stop.value.code == code
    job = collected.named("job promote")
    assert (job.trace_id, job.parent_id, job.service) == (TRACE_ID, CALLER_ID, "retriever-promote")
    assert (job.attributes["exit_code"], job.failed) == (code, code != EXIT_OK)
    if code == EXIT_OK:
        assert collected.named("inside").parent_id == job.span_id


def test_all_pods_of_a_run_make_the_same_trace_of_its_id(collected: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_VARIABLE, "3f0c5a1e-9b7d-4c1e-8a52-7f4f3c9e1d20")
    for name in ("first", "second"):
        with process_span("pod", name):
            pass
    digest = hashlib.sha256(b"3f0c5a1e-9b7d-4c1e-8a52-7f4f3c9e1d20").hexdigest()
    assert {(seen.trace_id, seen.parent_id) for seen in collected.spans} == {(digest[:32], digest[32:48])}


def test_a_local_run_is_one_trace_with_a_span_a_step_and_its_job_below(
    collected: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    collection = write_collection(tmp_path / "collection")
    config = PrepareConfig(collection_uri=str(collection), output_uri=str(tmp_path / "dataset"))
    good = LocalStep("prepare it", "components.prepare", config)
    run_steps([good])
    run, step, job = (collected.named(name) for name in ("run", "prepare it", "job prepare"))
    assert (step.parent_id, job.parent_id) == (run.span_id, step.span_id)
    assert len({seen.trace_id for seen in collected.spans}) == 1
    collected.spans.clear()
    run_steps([good])
    assert collected.named("prepare it").attributes["skipped"] is True
    assert collected.names() == ["prepare it", "run"]


def test_a_step_that_fails_is_a_span_that_failed(collected: Collector, tmp_path: Path) -> None:
    broken = tmp_path / "out"
    config = _Config(output_uri=str(broken))
    with artifact_writer("promote", config) as artifact:
        (artifact.path / "x").write_text("whole")
    (broken / "x").write_text("cut")
    with pytest.raises(StepError):
        run_steps([LocalStep("damaged", "components.promote", config)])
    assert [collected.named(name).failed for name in ("damaged", "run")] == [True, True]
    assert Tracer._running is None

"""vLLM itself, in this process and behind its server, beside transformers: the same labels whichever engine makes them.

Runs in the environment that tests/vllm_env.sh makes: `.venv-vllm/bin/pytest -m vllm`.
"""

import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from components.shared.engines.config import LoadOptions
from components.shared.engines.dialect import Dialect
from components.shared.engines.endpoint import EndpointEngine
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    Engine,
    Likelihood,
    LikelihoodRequest,
    Refusal,
    Request,
    Result,
    Turn,
)
from components.shared.engines.opening import open_engine
from components.shared.engines.vllm import VllmEngine, engine_arguments
from tests.components.shared.engines.openai_server import Answer, FakeOpenAI

pytest.importorskip("vllm", reason="vLLM is not installed here; tests/vllm_env.sh makes an environment that has it")
# vLLM's own imports warn (deprecated torch and pydantic calls).
pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

_PASSAGES = (
    "Tides in the harbour rise and fall twice a day because the moon pulls on the sea.",
    "A glacier is a slow river of ice that carves valleys and carries moraine down the mountain.",
    "Ebbe und Flut folgen dem Mond; \u6f6e\u6c50\u662f\u6d77\u6c34\u7684\u6da8\u843d \U0001f30a na\u00efve caf\u00e9.",
    "x = [1, 2, 3]\n\n\tprint(sum(x))  # 6",
)
_QUERIES = (
    " why do tides rise?",
    " what carves valleys",
    " \u6f6e\u6c50\u662f\u4ec0\u4e48\uff1f",
    "sum of a list",
    " a",
)
_LIKELIHOODS = [
    LikelihoodRequest(f"{p}-{q}", f"Passage: {passage}\nQuery:", query)
    for p, passage in enumerate(_PASSAGES)
    for q, query in enumerate(_QUERIES)
]
_QUESTIONS = (
    "What is the capital of France?",
    "Name three colours.",
    "Why do tides rise and fall?",
    "Write a haiku about ice.",
)
_COMPLETIONS = [CompletionRequest(f"c{n}", (Turn("user", text),), 24, 0.0, 7) for n, text in enumerate(_QUESTIONS)]
_ALL: list[Request] = [*_LIKELIHOODS, *_COMPLETIONS]


def _run(engine: Engine, requests: Sequence[Request]) -> dict[str, Result]:
    for request in requests:
        engine.submit(request)
    results: dict[str, Result] = {}
    while batch := engine.collect():
        results |= {result.key: result for result in batch if not isinstance(result, Refusal)}
    return results


@pytest.fixture(scope="module")
def llm_path() -> Path:
    from pipelines.packaged import find_llm

    return find_llm()


@pytest.fixture(scope="module")
def of_transformers(llm_path: Path) -> dict[str, Result]:
    return _run(open_engine("transformers", llm_uri=str(llm_path)), _ALL)


@pytest.fixture(scope="module")
def vllm_engine(llm_path: Path) -> Iterator[Engine]:
    # Half of what the model could take.
    engine = open_engine("vllm", llm_uri=str(llm_path), seed=1, options=LoadOptions(max_model_tokens=4096))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def of_vllm(vllm_engine: Engine) -> dict[str, Result]:
    return _run(vllm_engine, _ALL)


@pytest.fixture(scope="module")
def endpoint_uri(llm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's OpenAI server on a free port of this machine, with the same weights."""
    import httpx

    from components.shared.engines.loading import loading

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with loading(str(llm_path)) as folder:
        options = [
            "--model",
            folder,
            "--served-model-name",
            "smollm2",
            "--dtype",
            "float32",
            "--enforce-eager",
            "--port",
            str(port),
        ]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + 600
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(1.0)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def of_endpoint(endpoint_uri: str) -> dict[str, Result]:
    engine = open_engine("endpoint", llm_uri="smollm2", endpoint_uri=endpoint_uri)
    try:
        return _run(engine, _ALL)
    finally:
        engine.close()


def _check_likelihoods(ours: dict[str, Result], reference: dict[str, Result]) -> None:
    for request in _LIKELIHOODS:
        likelihood, expected = ours[request.key], reference[request.key]
        assert isinstance(likelihood, Likelihood)
        assert isinstance(expected, Likelihood)
        assert likelihood.prompt_tokens == expected.prompt_tokens
        assert likelihood.logprobs == pytest.approx(expected.logprobs, abs=1e-3), request


def _check_completions(ours: dict[str, Result], reference: dict[str, Result]) -> None:
    assert [ours[request.key] for request in _COMPLETIONS] == [reference[request.key] for request in _COMPLETIONS]


def test_vllm_weighs_every_token_as_transformers_does(
    of_vllm: dict[str, Result], of_transformers: dict[str, Result]
) -> None:
    _check_likelihoods(of_vllm, of_transformers)


def test_vllm_completes_greedily_as_transformers_does(
    of_vllm: dict[str, Result], of_transformers: dict[str, Result]
) -> None:
    _check_completions(of_vllm, of_transformers)


def test_vllm_knows_every_option_under_its_name() -> None:
    from vllm import EngineArgs

    options = LoadOptions(revision="v2", quantization="fp8", max_model_tokens=512)
    assert set(engine_arguments(options)) <= {field.name for field in dataclasses.fields(EngineArgs)}


def test_a_late_short_request_overtakes_a_long_one(vllm_engine: Engine) -> None:
    vllm_engine.submit(CompletionRequest("long", (Turn("user", _QUESTIONS[2]),), 60, 0.0, 7))
    vllm_engine.submit(LikelihoodRequest("first", "The moon", " pulls"))
    assert [result.key for result in vllm_engine.collect()] == ["first"]
    vllm_engine.submit(LikelihoodRequest("second", "The moon", " pulls"))
    assert [result.key for result in vllm_engine.collect()] == ["second"]
    (last,) = vllm_engine.collect()
    assert last.key == "long"
    assert vllm_engine.collect() == []


def test_a_seed_gives_the_same_sample_again_and_another_another(vllm_engine: Engine) -> None:
    texts = []
    for seed in (11, 11, 12):
        result = _run(vllm_engine, [CompletionRequest("a", (Turn("user", _QUESTIONS[3]),), 24, 1.0, seed)])["a"]
        assert isinstance(result, Completion)
        texts.append(result.text)
    assert texts[0] == texts[1] != texts[2]


def test_what_does_not_fit_into_the_model_is_refused(vllm_engine: Engine) -> None:
    with pytest.raises(ValueError, match=r"request 'a' needs \d+ tokens, the model takes 4096; use a smaller window"):
        vllm_engine.submit(CompletionRequest("a", (Turn("user", _QUESTIONS[0]),), 4096, 0.0, 7))
    assert vllm_engine.collect() == []


def test_a_folder_of_pointers_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")
    with pytest.raises(ValueError, match=r"model\.safetensors: pointers of Git LFS"):
        VllmEngine(str(tmp_path), seed=0)


def test_a_vllm_server_weighs_every_token_as_transformers_does(
    of_endpoint: dict[str, Result], of_transformers: dict[str, Result]
) -> None:
    _check_likelihoods(of_endpoint, of_transformers)


def test_a_vllm_server_completes_greedily_as_transformers_does(
    of_endpoint: dict[str, Result], of_transformers: dict[str, Result]
) -> None:
    _check_completions(of_endpoint, of_transformers)


def test_without_tokenize_the_border_is_found_in_the_echoed_text(
    endpoint_uri: str, of_transformers: dict[str, Result]
) -> None:
    """The same server behind a gateway that passes on /v1 only, as most do; ASCII text, whose tokens spell it."""
    import httpx

    root = endpoint_uri.removesuffix("/v1")
    requests = [request for request in _LIKELIHOODS if f"{request.context}{request.continuation}".isascii()]

    def forward(path: str, body: dict[str, object]) -> Answer | None:
        if path == "/tokenize":
            return None
        response = httpx.post(f"{root}{path}", json=body, timeout=300)
        return Answer(response.status_code, response.content)

    gateway = FakeOpenAI(can_tokenize=False, fault=forward)
    gateway.start()
    engine = EndpointEngine(gateway.endpoint_uri, "smollm2")
    try:
        results = _run(engine, requests)
    finally:
        engine.close()
        gateway.stop()
    assert len(requests) == 12
    for request in requests:
        likelihood, expected = results[request.key], of_transformers[request.key]
        assert isinstance(likelihood, Likelihood)
        assert isinstance(expected, Likelihood)
        assert likelihood.logprobs == pytest.approx(expected.logprobs, abs=1e-3), request


def test_a_model_that_the_server_does_not_have_is_refused(endpoint_uri: str) -> None:
    engine = EndpointEngine(endpoint_uri, "gpt-9")
    engine.submit(_COMPLETIONS[0])
    with pytest.raises(ValueError, match=r"status 404, .*gpt-9.*llm_uri must be a name that GET /models lists"):
        engine.collect()
    engine.close()


def test_a_prompt_too_long_for_the_server_is_refused_with_its_words_and_the_next_is_served(endpoint_uri: str) -> None:
    engine = EndpointEngine(endpoint_uri, "smollm2")
    engine.submit(CompletionRequest("a", (Turn("user", "moon " * 9000),), 10, 0.0, 7))
    (refusal,) = engine.collect()
    assert isinstance(refusal, Refusal)
    assert re.search(r"status 400, .*8192", refusal.words)
    engine.submit(_COMPLETIONS[0])
    (result,) = engine.collect()
    assert isinstance(result, Completion)
    assert result.is_counted
    engine.close()


def test_prompt_logprobs_give_the_same_likelihoods_as_the_echo(
    endpoint_uri: str, of_transformers: dict[str, Result]
) -> None:
    """What a user does whose gateway refuses `echo`."""
    dialect = Dialect.read(omit="echo", rename="logprobs=prompt_logprobs")
    engine = EndpointEngine(endpoint_uri, "smollm2", dialect=dialect)
    results = _run(engine, _LIKELIHOODS)
    engine.close()
    _check_likelihoods(results, of_transformers)


_SCRAPED = """
import sys, urllib.request
from components.shared.engines.engine import CompletionRequest, Turn
from components.shared.engines.opening import open_engine
from components.shared.telemetry import JobTelemetry

with JobTelemetry("annotate"):
    engine = open_engine("vllm", llm_uri=sys.argv[1], seed=1)
    engine.submit(CompletionRequest("a", (Turn("user", "Name three colours."),), 8, 0.0, 7))
    while engine.collect():
        pass
    sys.stdout.write(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[2]}/metrics").read().decode())
    engine.close()
"""


def test_a_task_that_is_scraped_shows_the_metrics_of_vllm_itself(llm_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # A process of its own: vLLM's metrics belong to a process, and decide when it starts.
    environment = {**os.environ, "METRICS_PORT": port, "VLLM_CPU_KVCACHE_SPACE": "1"}
    command = [sys.executable, "-c", _SCRAPED, str(llm_path), port]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (generated,) = re.findall(r"^vllm:generation_tokens_total\{.*\} (\S+)$", done.stdout, re.MULTILINE)
    assert float(generated) == 8

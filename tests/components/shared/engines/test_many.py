"""Several engines answer as one does, and outlive each other."""

import os
import signal

import pytest

from components.shared.engines.engine import Likelihood, LikelihoodRequest, Result
from components.shared.engines.many import ManyEngines, _devices
from components.shared.engines.opening import open_engine
from components.shared.launch import TransientError
from tests.tiny_llm import write_tiny_llm

WORDS = ["moon", "tide", "ice", "valley", "bee", "hive"]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    llm = write_tiny_llm(tmp_path_factory.mktemp("llm"), WORDS)
    return {"engine": "transformers", "llm_uri": str(llm), "batch_tokens": 8}


def requests(count: int) -> list[LikelihoodRequest]:
    return [LikelihoodRequest(str(n), f"{WORDS[n % 6]} {WORDS[n % 5]}", f" {WORDS[n % 4]}") for n in range(count)]


def drain(engine: ManyEngines) -> dict[str, Result]:
    results: dict[str, Result] = {}
    while batch := engine.collect():
        assert not results.keys() & {result.key for result in batch}
        results |= {result.key: result for result in batch}
    return results


@pytest.mark.slow
def test_engines_answer_as_one_and_outlive_each_other(arguments: dict[str, object]) -> None:
    alone = open_engine(**arguments)  # type: ignore[arg-type]
    for request in requests(300):
        alone.submit(request)
    expected: dict[str, Result] = {}
    while batch := alone.collect():
        expected |= {result.key: result for result in batch}
    many = ManyEngines(2, open_engine, **arguments)
    try:
        assert many.model == alone.model
        assert many.can_constrain
        for request in requests(300):
            many.submit(request)
        results = {result.key: result for result in many.collect()}
        first, second = many._processes.values()
        os.kill(first.pid, signal.SIGKILL)
        results |= drain(many)
        assert set(results) == set(expected)
        for key, its in results.items():
            theirs = expected[key]
            assert isinstance(its, Likelihood)
            assert isinstance(theirs, Likelihood)
            assert its.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)
        for request in requests(300):
            many.submit(request)
        os.kill(second.pid, signal.SIGKILL)
        with pytest.raises(TransientError, match="the last engine died"):
            drain(many)
    finally:
        many.close()


@pytest.mark.slow
def test_an_engine_that_cannot_be_opened_says_why() -> None:
    with pytest.raises(ValueError, match=r"llm_uri '/nowhere' cannot be loaded"):
        ManyEngines(2, open_engine, engine="transformers", llm_uri="/nowhere")


def test_each_engine_has_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _devices(3) == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert _devices(2) == ["4", "6"]
    with pytest.raises(ValueError, match="num_engines 4 of 1 GPUs, but CUDA_VISIBLE_DEVICES names 3; ask for 4 GPUs"):
        _devices(4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert _devices(2, 2) == ["0,1", "2,3"]

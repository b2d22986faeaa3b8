"""The annotate component with vLLM itself and the packaged model, which follows no instructions: ladder, likelihoods.

Runs in the environment that tests/vllm_env.sh makes.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.annotate import job
from components.annotate.job import annotate
from components.shared.durable.journal import read_journal
from components.shared.engines.engine import CompletionRequest, Engine, Turn
from components.shared.engines.opening import open_engine
from components.shared.manifest import read_manifest
from components.shared.records import Annotation, Quarantined, read_records
from tests.components.annotate.inputs import job_config, write_inputs

pytest.importorskip("vllm", reason="vLLM is not installed here; tests/vllm_env.sh makes an environment that has it")
# vLLM's own imports warn (deprecated torch and pydantic calls).
pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def llm_uri() -> str:
    from pipelines.packaged import find_llm

    return str(find_llm())


class _Open:
    """An engine whose end is put off: loading the model costs a minute of each test's time."""

    def __init__(self, engine: Engine) -> None:
        self.model, self.can_constrain = engine.model, engine.can_constrain
        self.submit, self.collect = engine.submit, engine.collect

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def engine(llm_uri: str) -> Iterator[Engine]:
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    engine = open_engine("vllm", llm_uri=llm_uri, seed=1)
    yield _Open(engine)
    engine.close()


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_inputs(tmp_path, num_queries=5, pool_size=4, with_answers=True)
    return tmp_path


def annotations(folder: Path) -> list[Annotation]:
    return list(read_records(folder / "annotations.jsonl", Annotation))


def test_selection_of_a_model_that_cannot_follow_instructions_is_recovered_or_quarantined(
    inputs: Path, engine: Engine, llm_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "open_engine_of", lambda *_, **__: engine)
    config = job_config(inputs, llm_uri=llm_uri, answer_tokens=24)
    annotate(config)
    labelled = annotations(inputs / "annotations")
    quarantined = list(read_records(inputs / "annotations" / "quarantine.jsonl", Quarantined))
    assert len(labelled) + len(quarantined) == 5
    exchanges = [exchange for its in (*labelled, *quarantined) for exchange in its.exchanges]
    constrained = Counter(its.outcome for its in exchanges if its.rung == "constrained")
    # Prose at first; every reply that was held to the pattern can be read.
    assert any(its.outcome not in ("ok", "repaired") for its in exchanges if its.rung == "first")
    assert constrained
    assert set(constrained) <= {"ok", "ok_empty", "repaired"}
    assert not quarantined
    records = dict(read_journal(f"{config.output_uri}.journal"))
    assert {key for its in labelled for key in its.calls} == set(records)
    metrics = read_manifest(config.output_uri).metrics
    assert sum(record["prompt_tokens"] for record in records.values()) == metrics["prompt_tokens"]
    assert sum(record["engine_seconds"] for record in records.values()) == pytest.approx(
        metrics["engine_seconds"], abs=0.01
    )


@pytest.mark.parametrize("method", ["query_likelihood", "replug"])
def test_likelihood_annotations_are_those_of_transformers(
    inputs: Path, engine: Engine, llm_uri: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate(job_config(inputs, "alone", llm_uri=llm_uri, engine="transformers", method=method))
    monkeypatch.setattr(job, "open_engine_of", lambda *_, **__: engine)
    annotate(job_config(inputs, llm_uri=llm_uri, method=method))
    for ours, theirs in zip(annotations(inputs / "annotations"), annotations(inputs / "alone"), strict=True):
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-3)
        assert ours.labels == theirs.labels
        assert ours.prompt_tokens == theirs.prompt_tokens
    # The journals hold the tokens' log-likelihoods one by one.
    pairs = [dict(read_journal(str(inputs / f"{name}.journal"))) for name in ("annotations", "alone")]
    ours_all, theirs_all = ([logprob for record in its.values() for logprob in record["logprobs"]] for its in pairs)
    assert sorted(ours_all) == pytest.approx(sorted(theirs_all), abs=1e-3)


def test_the_cached_layout_is_found_in_the_prefix_cache(
    inputs: Path, engine: Engine, llm_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "open_engine_of", lambda *_, **__: engine)
    # Passages that no test before has put into the cache.
    write_inputs(inputs / "new", num_queries=5, pool_size=4, num_passages=37)
    shares = {}
    for layout in ("paper", "cached"):
        annotate(job_config(inputs / "new", layout, llm_uri=llm_uri, layout=layout, answer_tokens=24))
        made = [its for _, its in read_journal(str(inputs / "new" / f"{layout}.journal"))]
        later = [its for its in made if its["template"] == "utility_selection" and its["rung"] == "first"]
        assert later
        shares[layout] = sum(its["cached_tokens"] for its in later) / sum(its["prompt_tokens"] for its in later)
    assert shares["cached"] > 0.5
    assert shares["cached"] > 3 * shares["paper"]


def test_a_pattern_holds_for_every_seed(engine: Engine) -> None:
    for seed in range(4):
        turns = (Turn("user", "Name two numbers."),)
        engine.submit(
            CompletionRequest(f"s{seed}", turns, 40, 1.0, seed, pattern=r"(None|\[(1|2)\](, \[(1|2)\]){0,3})")
        )
    results = []
    while batch := engine.collect():
        results += batch
    import regex

    assert len(results) == 4
    assert all(regex.fullmatch(r"None|\[[12]\](, \[[12]\]){0,3}", result.text) for result in results)

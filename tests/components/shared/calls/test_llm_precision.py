"""The precision of an LLM's weights: measured, bounded, settled once a journal, and part of every call's key."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from components.annotate.config import AnnotateConfig
from components.shared.calls import precision
from components.shared.calls.journalled import journal_model
from components.shared.durable.journal import Journal
from components.shared.encoding.engines import processor
from components.shared.engines.engine import Likelihood, LikelihoodRequest, model_name
from components.shared.engines.opening import open_engine_of
from components.shared.engines.transformers import TransformersEngine, to_bf16
from tests.tiny_llm import write_tiny_llm

_WORDS = ["Passage", "Question", "the", "moon", "sea", "water", "a", "in", "of", "ships", ":"]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llm(tmp_path_factory.mktemp("llm"), _WORDS)


@pytest.fixture
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"avx2", "amx_bf16"}))


@pytest.fixture
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"avx2"}))


def _config(llm: Path, **values: Any) -> AnnotateConfig:
    places = {"dataset_uri": "d", "pools_uri": "p", "output_uri": "o", "llm_uri": str(llm)}
    return AnnotateConfig(**{**places, "engine": "transformers", **values})


def test_bf16_must_be_near_and_faster() -> None:
    assert precision.verdict(2.0, 0.1, 0.01)[0] == "bf16"
    assert precision.verdict(1.09, 0.1, 0.01)[0] == "fp32"
    for too_far in ((0.26, 0.01), (0.1, 0.031), (math.nan, 0.01), (0.1, math.nan)):
        chosen, reason = precision.verdict(9.0, *too_far)
        assert (chosen, "at most 0.25 and 0.03 are allowed" in reason) == ("fp32", True)


def test_differences_are_of_the_worst_token_and_the_worst_mean() -> None:
    # Row 0: tokens differ by .1 and -.1, means not at all; row 1: by .06 and .02, means by .04.
    ours, theirs = [[-1.0, -2.0], [-3.0, -4.0]], [[-1.1, -1.9], [-3.06, -4.02]]
    assert precision.differences(ours, theirs) == (pytest.approx(0.1), pytest.approx(0.04))


def test_bf16_weights_weigh_nearly_as_fp32_and_say_so_in_the_name(llm: Path) -> None:
    fp32 = TransformersEngine(str(llm), batch_tokens=256)
    bf16 = TransformersEngine(str(llm), batch_tokens=256, precision="bf16")
    assert (fp32.model, bf16.model) == (llm.name, f"{llm.name};precision bf16")
    rows = [[row.logprobs for row in precision.weighed(engine)] for engine in (fp32, bf16)]
    token_nats, _ = precision.differences(*rows)
    assert 0 < token_nats < 0.05


def test_embeddings_that_the_vocabulary_shares_become_bf16_and_the_vocabulary_stays(llm: Path) -> None:
    config = AutoConfig.from_pretrained(llm)
    config.tie_word_embeddings = True
    model = AutoModelForCausalLM.from_config(config).eval()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    to_bf16(model)
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model.get_output_embeddings().weight.dtype == torch.float32
    assert model(torch.tensor([[2, 3, 4]])).logits.dtype == torch.float32


@pytest.mark.usefixtures("without_bf16")
def test_where_bf16_is_emulated_auto_is_fp32_and_the_journal_keeps_it(llm: Path, tmp_path: Path) -> None:
    engine = open_engine_of(_config(llm, llm_precision="auto"), journal_uri=str(tmp_path))
    assert engine.model == llm.name
    (path,) = tmp_path.glob("precision-*.json")
    assert json.loads(path.read_bytes())["reason"] == "bf16 is emulated here (avx2)"


@pytest.mark.usefixtures("with_bf16")
def test_what_was_measured_is_kept_beside_the_calls(llm: Path, tmp_path: Path) -> None:
    chosen = precision.settled(str(llm), revision="", batch_tokens=256, journal_uri=str(tmp_path))
    assert chosen.tokens_per_second is not None
    assert set(chosen.tokens_per_second) == {"fp32", "bf16"}
    assert chosen.token_nats is not None
    assert 0 < chosen.token_nats < 0.05
    assert "times as fast as fp32, with log-likelihoods within" in chosen.reason
    assert precision.kept(str(llm), revision="", journal_uri=str(tmp_path)) == chosen
    # Of another revision, or without a journal, nothing is settled.
    assert precision.kept(str(llm), revision="v2", journal_uri=str(tmp_path)) is None


@pytest.mark.usefixtures("without_bf16")
def test_who_shares_a_journal_shares_its_precision_on_whatever_machine(
    llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(llm, llm_precision="auto")
    open_engine_of(config, journal_uri=str(tmp_path))
    (path,) = tmp_path.glob("precision-*.json")
    path.write_bytes(path.read_bytes().replace(b'"fp32"', b'"bf16"'))
    engine = open_engine_of(config, journal_uri=str(tmp_path))
    assert engine.model == f"{llm.name};precision bf16"
    assert "go on in it, slowly here" in capsys.readouterr().err
    # The file is none of the journal's own, and survives its opening.
    with Journal(tmp_path) as journal:
        assert len(journal) == 0
    assert path.exists()


def test_a_call_in_another_precision_is_another_call() -> None:
    names = [model_name("org/model", precision=name) for name in ("fp32", "bf16")]
    keys = [journal_model(name, "org/model") for name in names]
    assert keys[0] != keys[1]
    # Calls of earlier versions, which knew fp32 only, are still found.
    assert keys[0] == journal_model("org/model", "org/model")


def test_only_transformers_can_be_told(llm: Path) -> None:
    with pytest.raises(ValueError, match=r"llm_precision 'auto': engine vllm has a precision of its own"):
        _config(llm, engine="vllm", llm_precision="auto")


@pytest.mark.slow
def test_the_packaged_model_in_bf16_says_nearly_what_it_says_in_fp32() -> None:
    from pipelines.packaged import find_llm

    engines = [TransformersEngine(str(find_llm()), batch_tokens=512, precision=name) for name in ("fp32", "bf16")]  # type: ignore[arg-type]
    rows = [[row.logprobs for row in precision.weighed(engine)] for engine in engines]
    token_nats, mean_nats = precision.differences(*rows)
    # Whether that is near enough is for `auto` to say; weights that were turned wrongly are whole nats away.
    assert 0 < token_nats < 0.5
    assert 0 < mean_nats < 0.1
    request = LikelihoodRequest("a", "The capital of France is", " Paris")
    engines[1].submit(request)
    (result,) = engines[1].collect()
    assert isinstance(result, Likelihood)
    assert result.logprobs[0] > -1.0

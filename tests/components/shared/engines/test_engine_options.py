"""How an engine loads its LLM: vLLM's own names for it, what decides a label, and what contradicts the engine."""

from typing import Any

import pytest

from components.annotate.config import AnnotateConfig
from components.shared.calls.journalled import journal_model
from components.shared.engines.config import LoadOptions
from components.shared.engines.engine import model_name
from components.shared.engines.vllm import engine_arguments
from components.shared.roles import IDENTITY, names

_PLACES = {"dataset_uri": "d", "pools_uri": "p", "output_uri": "o"}


def _config(**values: Any) -> AnnotateConfig:
    return AnnotateConfig(**{**_PLACES, "llm_uri": "org/model", **values})


def test_what_is_not_asked_for_keeps_vllms_default() -> None:
    assert engine_arguments(LoadOptions()) == {"tensor_parallel_size": 1, "gpu_memory_utilization": 0.9}


def test_every_setting_reaches_vllm_under_its_own_name() -> None:
    config = _config(
        llm_revision="v2",
        vllm_quantization="fp8",
        vllm_max_model_tokens=4096,
        vllm_tensor_parallel_size=2,
        vllm_gpu_memory_share=0.5,
    )
    assert engine_arguments(LoadOptions.of(config)) == {
        "revision": "v2",
        "tokenizer_revision": "v2",
        "quantization": "fp8",
        "max_model_len": 4096,
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.5,
    }


def test_what_decides_a_label_is_part_of_its_identity_and_what_decides_speed_is_not() -> None:
    decides = set(names(AnnotateConfig, *IDENTITY))
    assert {"llm_revision", "vllm_quantization", "vllm_max_model_tokens"} <= decides
    assert not {"vllm_tensor_parallel_size", "vllm_gpu_memory_share"} & decides


def test_a_call_to_other_weights_is_another_call() -> None:
    called = [
        journal_model(model_name("org/model", **weights), "org/model")
        for weights in ({}, {"revision": "v2"}, {"quantization": "fp8"}, {"revision": "v2", "quantization": "fp8"})
    ]
    assert len(set(called)) == 4
    # Calls of earlier versions, which knew neither, are still found.
    assert called[0] == journal_model("org/model", "org/model")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"engine": "transformers", "vllm_quantization": "fp8"}, "vllm_quantization 'fp8': engine transformers is not"),
        ({"engine": "transformers", "vllm_max_model_tokens": 9}, "vllm_max_model_tokens 9: engine transformers is not"),
        (
            {"llm_uri": "s3://bucket/llm", "llm_revision": "v2"},
            "llm_revision 'v2': only a model that this engine loads",
        ),
        ({"llm_uri": "./llm", "llm_revision": "v2"}, "llm_revision 'v2': only a model that this engine loads"),
        (
            {"engine": "endpoint", "endpoint_uri": "http://llm/v1", "llm_revision": "v2"},
            "llm_revision 'v2': only a model that this engine loads",
        ),
        ({"vllm_gpu_memory_share": 1.5}, "vllm_gpu_memory_share 1.5: must be at most 1"),
        ({"vllm_tensor_parallel_size": 0}, "vllm_tensor_parallel_size 0: must be at least 1"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _config(**values)

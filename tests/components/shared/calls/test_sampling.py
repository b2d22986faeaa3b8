"""How each family of models is sampled, pinned: a change here changes every label made with that family."""

import pytest

from components.shared.calls.sampling import profile_of

# model, profile, temperature, top_p, top_k, thinking tokens, chat options
GOLDEN: tuple[tuple[str, str, float, float, int, int, dict[str, bool]], ...] = (
    ("Qwen/Qwen2.5-32B-Instruct-GPTQ-Int8", "greedy", 0.0, 1.0, 0, 0, {}),
    ("meta-llama/Llama-3.1-8B-Instruct", "greedy", 0.0, 1.0, 0, 0, {}),
    ("SmolLM2-135M-Instruct.Q4_1.gguf", "greedy", 0.0, 1.0, 0, 0, {}),
    ("Qwen/Qwen3-8B", "qwen3", 0.0, 1.0, 0, 0, {"enable_thinking": False}),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-instruct", 0.0, 1.0, 0, 0, {}),
    ("Qwen/Qwen3-30B-A3B-Thinking-2507", "qwen3-thinking", 0.6, 0.95, 20, 8192, {"enable_thinking": True}),
    ("Qwen/QwQ-32B", "qwq", 0.6, 0.95, 20, 8192, {}),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek-r1", 0.6, 0.95, 0, 8192, {}),
    ("openai/gpt-oss-20b", "gpt-oss", 1.0, 1.0, 0, 4096, {}),
    ("mistralai/Magistral-Small-2507", "magistral", 0.7, 0.95, 0, 8192, {}),
    ("HuggingFaceTB/SmolLM3-3B", "smollm3", 0.0, 1.0, 0, 0, {"enable_thinking": False}),
)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden[0])
def test_a_family_is_sampled_as_written(golden: tuple[str, str, float, float, int, int, dict[str, bool]]) -> None:
    model, name, sampling_temperature, top_p, top_k, thinking_tokens, chat_options = golden
    profile = profile_of(model)
    assert (profile.name, profile.sampling_temperature, profile.top_p, profile.top_k) == (
        name,
        sampling_temperature,
        top_p,
        top_k,
    )
    assert (profile.thinking_tokens, dict(profile.chat_options)) == (thinking_tokens, chat_options)


def test_a_profile_can_be_named_and_its_temperature_set() -> None:
    assert profile_of("Qwen/Qwen3-8B", "qwen3-thinking").thinking_tokens == 8192
    assert profile_of("Qwen/QwQ-32B", sampling_temperature=0.0).sampling_temperature == 0.0
    with pytest.raises(ValueError, match="sampling_profile 'hot' is unknown; known are auto, qwen3-thinking"):
        profile_of("fake", "hot")

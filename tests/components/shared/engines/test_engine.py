"""The transformers engine on a tiny random model, and on the packaged one; what all engines share."""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.shared.engines.engine import (
    BusyTime,
    Completion,
    CompletionRequest,
    Engine,
    Likelihood,
    LikelihoodRequest,
    Request,
    Result,
    Turn,
)
from components.shared.engines.opening import open_engine
from components.shared.engines.transformers import TransformersEngine

_TEXT = """Tides in the harbour rise and fall twice a day because the moon pulls on the sea.
A glacier is a slow river of ice. Honey bees dance in the hive to tell the others
in which direction the flowers are, and how far: 1, 2, 3 kilometres."""
_CHAT_TEMPLATE = (
    "{% for turn in messages %}"
    "{% if turn.role == 'system' and not loop.first %}{{ raise_exception('system first') }}{% endif %}"
    "<|{{ turn.role }}|>{{ turn.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights that has two tokens which end a reply; 64 positions."""
    folder = tmp_path_factory.mktemp("tiny-llm")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|stop|>", "<|user|>", "<|system|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([_TEXT], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=_CHAT_TEMPLATE)
    wrapped.save_pretrained(folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=[0, 1],
    )
    model = LlamaForCausalLM(config)
    # What vendors ship, and what must not bend the labels.
    model.generation_config.update(
        repetition_penalty=1.9, do_sample=True, temperature=0.6, top_k=3, eos_token_id=[0, 1]
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def engine(tiny_llm: Path) -> TransformersEngine:
    return TransformersEngine(str(tiny_llm), batch_tokens=128)


def _run(engine: Engine, requests: Sequence[Request]) -> dict[str, Result]:
    for request in requests:
        engine.submit(request)
    results: dict[str, Result] = {}
    while batch := engine.collect():
        results |= {result.key: result for result in batch}
    return results


def _weigh_alone(tokenizer: Any, model: Any, request: LikelihoodRequest) -> list[float]:
    """One unpadded forward pass over all logits: what the batched path has to equal."""
    context = tokenizer(request.context)["input_ids"]
    tokens = context + tokenizer(request.continuation, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logprobs = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return [float(logprobs[place - 1, tokens[place]]) for place in range(len(context), len(tokens))]


def _likelihoods(count: int) -> list[LikelihoodRequest]:
    """Contexts of 1 to 12 words and continuations of 1 to 5, so that every batch is padded."""
    source, words = random.Random(5), _TEXT.split()
    return [
        LikelihoodRequest(
            str(number),
            " ".join(source.choices(words, k=1 + number % 12)),
            " " + " ".join(source.choices(words, k=1 + number % 5)),
        )
        for number in range(count)
    ]


def _chat(
    key: str, text: str = "the moon", max_tokens: int = 12, sampling_temperature: float = 0.0, seed: int = 1
) -> CompletionRequest:
    return CompletionRequest(key, (Turn("user", text),), max_tokens, sampling_temperature, seed)


def test_a_padded_batch_weighs_as_one_unpadded_pass(engine: TransformersEngine, tiny_llm: Path) -> None:
    requests = _likelihoods(30)
    results = _run(engine, requests)
    assert len(results) == 30
    tokenizer, model = (
        AutoTokenizer.from_pretrained(tiny_llm),
        AutoModelForCausalLM.from_pretrained(tiny_llm, dtype=torch.float32).eval(),
    )
    for request in requests:
        result = results[request.key]
        assert isinstance(result, Likelihood)
        assert result.logprobs == pytest.approx(_weigh_alone(tokenizer, model, request), abs=1e-4)


def test_a_batch_never_exceeds_its_tokens(engine: TransformersEngine) -> None:
    requests = _likelihoods(40)
    for request in requests:
        engine.submit(request)
    batches = []
    while batch := engine.collect():
        longest = max(result.prompt_tokens for result in batch if isinstance(result, Likelihood))
        batches.append(longest * len(batch))
    assert all(padded <= 128 for padded in batches)
    assert len(batches) < 40


def test_the_oldest_request_is_served_next_however_many_longer_ones_follow(engine: TransformersEngine) -> None:
    short = LikelihoodRequest("short", "the", " moon")
    engine.submit(short)
    for number in range(50):
        engine.submit(LikelihoodRequest(str(number), " ".join(_TEXT.split()[: 10 + number % 3]), " moon"))
    assert "short" in {result.key for result in engine.collect()}


def test_greedy_completions_do_not_depend_on_the_batch(engine: TransformersEngine) -> None:
    requests = [
        _chat(str(number), text)
        for number, text in enumerate(("the moon", "a glacier is a slow river", "bees", "1, 2, 3"))
    ]
    together = _run(engine, requests)
    for request in requests:
        assert _run(engine, [request])[request.key] == together[request.key]


def test_greedy_is_greedy_whatever_the_model_ships_as_defaults(engine: TransformersEngine, tiny_llm: Path) -> None:
    result = _run(engine, [_chat("a", max_tokens=12)])["a"]
    assert isinstance(result, Completion)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(tiny_llm),
        AutoModelForCausalLM.from_pretrained(tiny_llm, dtype=torch.float32).eval(),
    )
    tokens = tokenizer("<|user|>the moon<|end|><|assistant|>")["input_ids"]
    expected: list[int] = []
    with torch.inference_mode():
        while len(expected) < 12 and not {0, 1} & set(expected):
            expected.append(int(model(torch.tensor([tokens + expected])).logits[0, -1].argmax()))
    assert result.text == tokenizer.decode(
        [token for token in expected if token not in (0, 1)], skip_special_tokens=True
    )
    assert (result.prompt_tokens, result.completion_tokens) == (len(tokens), len(expected))


def test_every_end_token_is_a_stop_and_max_tokens_a_cut(engine: TransformersEngine) -> None:
    # Sampled at a high temperature, this model ends replies with both of its end tokens within 30 tokens.
    texts = [_chat(str(seed), max_tokens=30, sampling_temperature=5.0, seed=seed) for seed in range(10)]
    results = [result for result in _run(engine, texts).values() if isinstance(result, Completion)]
    assert {result.finish_reason for result in results} == {"stop", "length"}
    for result in results:
        assert (result.completion_tokens == 30) or result.finish_reason == "stop"
        assert "<|" not in result.text


def test_a_seed_gives_the_same_sample_again_and_another_another(engine: TransformersEngine) -> None:
    first, again, other = (
        _run(engine, [_chat("a", max_tokens=20, sampling_temperature=1.0, seed=seed)])["a"] for seed in (11, 11, 12)
    )
    assert first == again
    assert first != other


def test_requests_of_both_kinds_and_of_different_sampling_share_the_queue(engine: TransformersEngine) -> None:
    requests: list[Request] = [
        *_likelihoods(5),
        _chat("c1"),
        _chat("c2", max_tokens=3),
        _chat("c3", sampling_temperature=1.0),
    ]
    results = _run(engine, requests)
    assert set(results) == {request.key for request in requests}
    assert isinstance(results["c2"], Completion)
    assert results["c2"].completion_tokens <= 3
    assert engine.collect() == []


@pytest.mark.parametrize(("context", "continuation"), [("", " moon"), ("the", ""), ("", "")])
def test_a_border_needs_a_token_on_both_sides(engine: TransformersEngine, context: str, continuation: str) -> None:
    with pytest.raises(ValueError, match=r"request 'a': context has \d+ tokens, continuation \d+; both need one"):
        engine.submit(LikelihoodRequest("a", context, continuation))


def test_what_does_not_fit_into_the_model_is_refused(engine: TransformersEngine) -> None:
    with pytest.raises(ValueError, match=r"request 'a' needs \d+ tokens, the model takes 64; use a smaller window"):
        engine.submit(_chat("a", max_tokens=64))
    with pytest.raises(ValueError, match=r"request 'b' needs \d+ tokens, the model takes 64"):
        engine.submit(LikelihoodRequest("b", _TEXT, _TEXT))


def test_turns_that_the_chat_template_refuses_are_named(engine: TransformersEngine) -> None:
    turns = (Turn("user", "the moon"), Turn("system", "be brief"))
    with pytest.raises(ValueError, match=r"no chat template for turns \['user', 'system'\]: system first"):
        engine.submit(CompletionRequest("a", turns, 5, 0.0, 1))


@pytest.mark.parametrize("llm_uri", ["/nowhere/llm", "./missing.gguf"])
def test_a_missing_model_is_named_with_the_remedy(llm_uri: str) -> None:
    with pytest.raises(ValueError, match=f"llm_uri '{llm_uri}' cannot be loaded .*; check the path"):
        open_engine("transformers", llm_uri=llm_uri)


def test_an_endpoint_needs_a_url_and_the_others_take_none(tiny_llm: Path) -> None:
    with pytest.raises(ValueError, match="engine 'endpoint', but endpoint_uri is empty"):
        open_engine("endpoint", llm_uri="tiny")
    with pytest.raises(ValueError, match="engine 'transformers', but endpoint_uri 'http://host/v1' is given"):
        open_engine("transformers", llm_uri=str(tiny_llm), endpoint_uri="http://host/v1")


def test_the_name_of_a_local_model_says_nothing_of_the_machine(engine: TransformersEngine, tiny_llm: Path) -> None:
    assert engine.model == tiny_llm.name


def test_a_pattern_holds_whatever_the_model_would_say(engine: TransformersEngine) -> None:
    pattern = r"(None|\[(1|2)\](, \[(1|2)\]){0,2})"
    turns = (Turn("user", "the moon"),)
    requests = [
        CompletionRequest(str(seed), turns, 30, 1.5 if seed else 0.0, seed, pattern=pattern) for seed in range(8)
    ]
    results = [result for result in _run(engine, requests).values() if isinstance(result, Completion)]
    assert len(results) == 8
    assert all(re.fullmatch(pattern, result.text) and result.finish_reason == "stop" for result in results)
    # It is held to the pattern, not to one reply.
    assert len({result.text for result in results}) > 1


def test_the_seconds_of_calls_at_once_add_up_to_the_busy_time() -> None:
    ticks = iter([0.0, 10.0, 12.0, 15.0, 16.0, 20.0, 21.0])
    busy = BusyTime(lambda: next(ticks))
    first = busy.start()  # at 10, alone until 12
    second = busy.start()  # at 12, two until 15
    of_first = busy.stop(first)  # 2 + 3 / 2
    of_second = busy.stop(second)  # 3 / 2 + 1
    assert (of_first, of_second) == (3.5, 2.5)
    # Idle from 16 to 20 belongs to nobody.
    assert busy.stop(busy.start()) == 1.0


@pytest.mark.slow
def test_the_packaged_model_weighs_and_answers_as_transformers_alone() -> None:
    from pipelines.packaged import find_llm

    engine = open_engine("transformers", llm_uri=str(find_llm()), batch_tokens=256)
    words = _TEXT.split()
    requests = [
        LikelihoodRequest(str(n), f"Passage: {' '.join(words[: 3 * n + 1])}\nQuery:", " why do tides rise?")
        for n in range(8)
    ]
    results = _run(engine, [*requests, _chat("c", "What is the capital of France?", max_tokens=16)])
    path = find_llm()
    # Straight from the .gguf file: what the engine's unpacked copy must not have changed.
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    for request in requests:
        result = results[request.key]
        assert isinstance(result, Likelihood)
        assert result.logprobs == pytest.approx(_weigh_alone(tokenizer, model, request), abs=1e-4)
    assert isinstance(results["c"], Completion)
    assert "Paris" in results["c"].text

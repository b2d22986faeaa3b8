"""The dry run of an asker: tokens as a real tokenizer counts them, and what is paid is not counted again."""

from pathlib import Path

import pytest

from components.shared.calls.asks import Ask, Asker
from components.shared.calls.dry import Dry, PrefixCache
from components.shared.calls.journalled import Paid, call_key, to_value
from components.shared.durable.journal import Journal
from components.shared.engines.engine import Completion, CompletionRequest, LikelihoodRequest, Tokenizer, Turn
from tests.tiny_llm import write_tiny_llm


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    from transformers import AutoTokenizer

    folder = write_tiny_llm(tmp_path_factory.mktemp("llm"), ["one", "two", "three"])
    loaded = AutoTokenizer.from_pretrained(folder)
    loaded.chat_template = "{% for message in messages %}{{ message.content }} {% endfor %}"
    tokenizer: Tokenizer = loaded
    return tokenizer


_ASKED = CompletionRequest("", (Turn("user", "one two three"),), 8, 0.0, 0)


def asker() -> Asker[str]:
    """Asks for a text, then weighs it twice."""
    ((written,),) = yield [Ask("q", "write", "1", "first", (), (_ASKED,))]
    assert isinstance(written, Completion)
    weigh = LikelihoodRequest("", "one two", f" {written.text}")
    yield [Ask("q", "weigh", "1", "first", (), (weigh, weigh))]
    return written.text


def test_an_asker_gets_all_that_it_asks_for_and_tokens_are_counted_by_template(tokenizer: Tokenizer) -> None:
    dry = Dry(tokenizer, lambda *_: "two three")
    assert dry.run(asker()) == "two three"
    assert {name: (tally.calls, tally.prompt_tokens) for name, tally in dry.tallies.items()} == {
        "write": (1, 3),
        "weigh": (2, 8),
    }
    # Two words, and the token that ends them; a likelihood writes nothing.
    assert dry.tallies["write"].completion_tokens == 3
    assert dry.tallies["weigh"].completion_tokens == 0


def test_a_call_of_the_journal_costs_nothing_and_says_what_comes_after_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        journal.append(call_key(_ASKED, "m"), to_value(Completion("", "one", "stop", 3, 2)))
        dry = Dry(tokenizer, lambda *_: "two three", Paid(journal, "m"))
        assert dry.run(asker()) == "one"
    assert dry.num_paid == 1
    assert {name: tally.prompt_tokens for name, tally in dry.tallies.items()} == {"weigh": 6}


def test_a_prefix_that_the_cache_would_hold_is_counted_in_whole_blocks() -> None:
    cache = PrefixCache()
    assert cache.num_cached(list(range(40))) == 0
    # 40 tokens are two blocks of 16; the third is not full.
    assert cache.num_cached(list(range(40))) == 32
    assert cache.num_cached([*range(20), *range(100, 120)]) == 16
    assert cache.num_cached(list(range(1, 41))) == 0
    cache.clear()
    assert cache.num_cached(list(range(40))) == 0

"""How much a limit of tokens cuts off."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from components.shared.dataset import Dataset, DatasetWriter
from components.shared.encoding.cuts import Cuts, count_tokens, measure_cuts, measure_passages, warn_of_cuts
from components.shared.encoding.encoder import Encoder
from components.shared.records import Passage
from tests.tiny_encoder import write_tiny_encoder


def test_shares_of_texts_and_tokens_and_the_length_that_would_do() -> None:
    # 20 texts of 1 .. 20 tokens, 210 in all; 10 are longer than 10, by 1 + ... + 10 = 55; 95 % have at most 19.
    cuts = measure_cuts(range(1, 21), 10)
    assert cuts == Cuts(10, 20, 0.5, 55 / 210, 19)
    assert measure_cuts([], 10) == Cuts(10, 0, 0.0, 0.0, 10)
    assert measure_cuts([3, 3], 3).cut_share == 0.0


def test_all_words_of_a_long_text_are_counted(tmp_path: Path) -> None:
    encoder = Encoder(write_tiny_encoder(tmp_path / "encoder", 1, ["cat"], passage_tokens=8, passage_prefix="cat: "))
    texts = ["", "cat", "cat " * 900, "cat" * 900]
    # Around every text: two special tokens, and the prefix's word and colon. A word of 2,700 letters is one token.
    assert count_tokens(texts, partial(encoder.tokenize_passages, truncate=False), limit=8) == [4, 5, 904, 5]


def test_the_cuts_of_a_dataset_are_those_of_a_sample_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = DatasetWriter(tmp_path)
    for number in range(50):
        writer.add_passage(Passage(str(number), "a title", "cat " * 900))
    writer.finish([], [])
    monkeypatch.setattr("components.shared.encoding.cuts.SAMPLE_PASSAGES", 20)
    encoder = Encoder(write_tiny_encoder(tmp_path / "encoder", 1, ["cat"], passage_tokens=64))
    cuts = measure_passages(Dataset(tmp_path), partial(encoder.tokenize_passages, truncate=False), limit=64, seed=1)
    assert cuts == Cuts(64, 20, 1.0, (904 - 64) / 904, 904)


@pytest.mark.parametrize(("lengths", "warned"), [([10] * 19 + [99], 0), ([10] * 18 + [99, 98], 1)])
def test_more_than_one_passage_in_twenty_cut_is_a_warning(
    lengths: Sequence[int], warned: int, capfd: pytest.CaptureFixture[str]
) -> None:
    warn_of_cuts(measure_cuts(lengths, 64))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == warned
    for line in lines:
        assert "raise encoder.passage_tokens" in line
        # 69 of 377 tokens lie behind the limit; the longest but one has 98.
        assert '"cut_passages_share":0.1,"lost_tokens_share":0.183,"passage_tokens_for_95_percent":98' in line

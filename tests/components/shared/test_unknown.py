"""How much of a corpus an encoder has no token for."""

from pathlib import Path

import pytest

from components.shared.dataset import Dataset, DatasetWriter
from components.shared.encoding.encoder import TOKENIZER_NAME, Encoder
from components.shared.encoding.unknown import unknown_share, warn_of_unknown
from components.shared.records import Passage
from pipelines.packaged import find_encoder
from tests.tiny_encoder import write_tiny_encoder


def _dataset(folder: Path, *texts: str) -> Dataset:
    folder.mkdir()
    writer = DatasetWriter(folder)
    for number, text in enumerate(texts):
        writer.add_passage(Passage(str(number), "", text))
    writer.finish([], [])
    return Dataset(folder)


def test_prefix_and_special_tokens_are_no_words(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "dataset", "cat dog cat cat", "cat owl")
    encoder = Encoder(write_tiny_encoder(tmp_path / "encoder", 1, ["cat", "a"], passage_prefix="a "))
    assert unknown_share(dataset, encoder, seed=1) == 2 / 6
    with_all = Encoder(write_tiny_encoder(tmp_path / "other", 1, ["cat", "dog", "owl"]))
    assert unknown_share(dataset, with_all, seed=1) == 0.0


def test_a_corpus_without_words_knows_all(tmp_path: Path) -> None:
    encoder = Encoder(write_tiny_encoder(tmp_path / "encoder", 1, ["cat"]))
    assert unknown_share(_dataset(tmp_path / "dataset"), encoder, seed=1) == 0.0


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("The enzyme inhibits the naive T-cell response in mice (p < 0.05).", 0.0, 0.0),
        ("Größere Städte zählen über Jahrzehnte; l'été, señor, smørrebrød.", 0.0, 0.0),
        ("ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ᎠᏂᏣᎳᎩ", 1.0, 1.0),
        ("አማርኛ የኢትዮጵያ ቋንቋ ነው", 0.8, 1.0),
    ],
)
def test_an_english_encoder_does_not_know_scripts_it_was_not_made_for(
    text: str, least: float, most: float, tmp_path: Path
) -> None:
    folder = write_tiny_encoder(tmp_path / "encoder", 1, ["cat"])
    # Its tokenizer alone is looked at.
    (folder / TOKENIZER_NAME).write_bytes((find_encoder() / TOKENIZER_NAME).read_bytes())
    assert least <= unknown_share(_dataset(tmp_path / "dataset", text), Encoder(folder), seed=1) <= most


def test_more_than_one_token_in_twenty_is_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    warn_of_unknown(0.05)
    assert capfd.readouterr().err == ""
    warn_of_unknown(0.4321)
    assert '"unknown_tokens_share":0.4321' in capfd.readouterr().err

"""An LLM's folder that is not whole is refused by name: its answers would look like any others."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from components.shared.engines.transformers import TransformersEngine
from tests.tiny_llm import write_tiny_llm


def _cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-20])


def _pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")


def _without_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


def _without(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights.pop(name)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def _not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _other_tokenizer(folder: Path) -> None:
    write_tiny_llm(folder.parent / "other", ["one", "two", "three", "four", "five"])
    (folder / "tokenizer.json").write_bytes((folder.parent / "other" / "tokenizer.json").read_bytes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_cut, "a file of weights is damaged or was cut: get the model again, whole"),
        (_pointer, r"model\.safetensors: pointers of Git LFS"),
        (_without_tokenizer, "cannot be loaded .* tokenizer"),
        (
            _without("lm_head.weight"),
            r"its files lack 1 tensors \(lm_head\.weight.*likelihoods and completions",
        ),
        (_without("model.layers.0.mlp.up_proj.weight"), "its files lack 1 tensors"),
        (_not_finite, r"model\.norm\.weight holds numbers that are not finite"),
        (_other_tokenizer, "its tokenizer has 3 tokens beyond the 4 rows of the model's embeddings"),
    ],
    ids=["cut", "pointer", "no tokenizer", "no head", "no layer", "not finite", "another model's tokenizer"],
)
def test_an_llm_that_is_not_whole_is_refused(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    folder = write_tiny_llm(tmp_path / "llm", ["yes", "no"])
    change(folder)
    with pytest.raises(ValueError, match=message) as refused:
        TransformersEngine(str(folder), batch_tokens=64)
    assert str(folder) in str(refused.value)


def test_a_whole_one_is_loaded(tmp_path: Path) -> None:
    engine = TransformersEngine(str(write_tiny_llm(tmp_path / "llm", ["yes", "no"])), batch_tokens=64)
    engine.close()

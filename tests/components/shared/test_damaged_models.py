"""A model's folder that was cut, emptied, half fetched or put together of two models is refused by name, or said."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.shared import checkpoint
from tests.tiny_checkpoint import write_tiny_checkpoint

_POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
)
_WORDS = ["ice", "river", "stone", "cat"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("whole") / "model", _WORDS)


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "model")
    return tmp_path / "model"


def _cut(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


def _pointer(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(_POINTER)

    return change


def _without_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    (folder / "vocab.txt").unlink(missing_ok=True)


def _as_bin(folder: Path, content: bytes | None = None) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if content is None:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(content)


def _fewer_rows(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (name,) = [name for name in weights if name.endswith("word_embeddings.weight")]
    rows = len(weights[name]) - 2
    save_file({**weights, name: weights[name][:rows].clone()}, folder / "model.safetensors", metadata={"format": "pt"})
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace(f'"vocab_size": {rows + 2}', f'"vocab_size": {rows}'))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_cut("model.safetensors"), "a file of weights is damaged or was cut: get the model again, whole"),
        (_cut("tokenizer.json"), r"tokenizer\.json: not JSON"),
        (_cut("tokenizer_config.json"), r"tokenizer_config\.json: not JSON"),
        (_pointer("model.safetensors"), r"model\.safetensors: pointers of Git LFS and not the files; fetch them"),
        (_pointer("tokenizer.json"), r"tokenizer\.json: pointers of Git LFS"),
        (lambda folder: _as_bin(folder, _POINTER.encode()), r"pytorch_model\.bin: pointers of Git LFS"),
        (lambda folder: _as_bin(folder, b""), "a file of weights is damaged or was cut"),
        (_without_tokenizer, "its tokenizer knows no word, 5 special tokens only; tokenizer.json .* is missing"),
        (_fewer_rows, "its tokenizer has 2 tokens beyond the .* rows of the model's embeddings, up to 'cat'"),
    ],
    ids=["cut weights", "cut tokenizer", "cut settings", "LFS weights", "LFS tokenizer", "LFS bin", "empty bin",
         "no tokenizer", "other tokenizer"],
)  # fmt: skip
def test_a_damaged_folder_is_refused_by_name(model: Path, change: Callable[[Path], None], message: str) -> None:
    change(model)
    with pytest.raises(ValueError, match=message):
        checkpoint.load(str(model))


def test_what_was_fetched_in_the_older_form_is_read(model: Path) -> None:
    expected = checkpoint.load(str(model)).state_dict()
    _as_bin(model)
    loaded = checkpoint.load(str(model)).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_a_pointer_that_nobody_reads_changes_nothing(model: Path) -> None:
    (model / "model.onnx").write_text(_POINTER)
    (model / "pytorch_model.bin").write_text(_POINTER)
    checkpoint.load(str(model))


def test_no_name_is_no_folder() -> None:
    with pytest.raises(ValueError, match="no model is named"):
        checkpoint.load("")

"""What must hold of the weights that were loaded: all of them there, all of them used, all of them numbers.

transformers fills a missing tensor with random numbers and passes over one that it does not know; both give vectors
that look like any others.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from components.shared import log
from components.shared.encoding.sentence_transformers import read_json

# Never read on the way to the last hidden states, so a file may lack them.
_MAY_BE_MISSING = (
    r"(.*\.)?pooler\..*",
    r".*\.?position_ids",
    r".*\.?token_type_ids",
    r".*inv_freq",
)
# Heads that a model was trained with for other tasks, and buffers that are computed: a file may hold them.
_MAY_BE_LEFT_OVER = (
    *_MAY_BE_MISSING,
    r"lm_head\..*",
    r"cls\..*",
    r"(mlm|vocab)_(head|transform|projector|layer_norm)\..*",
    r"predictions\..*",
    r"sop_classifier\..*",
    r"(generator|discriminator)_(predictions|lm_head).*",
    r"generator_lm_head\..*",
    r"(lm|mask)_predictions\..*",
    r"qa_outputs\..*",
    r"(pre_)?classifier\..*",
    r"score\..*",
    r"head\.(dense|norm)\..*",
    r"decoder\.(bias|weight)",
    r".*\.attn\.(masked_)?bias",
)
_ENCODER_OF_PAIR = (*_MAY_BE_LEFT_OVER, r"decoder\..*")
_SHOWN = 6
# How files of weights fail to be read that are cut, or are something else.
DAMAGED = (SafetensorError, pickle.UnpicklingError, EOFError)
# What a clone without Git LFS holds in place of a large file.
_POINTER = b"version https://git-lfs"
# JSON that transformers reads.
_READ = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)


def check_whole(uri: str, files: Path) -> None:
    """Refuses a folder where a file that is read is a pointer of Git LFS, or JSON that was cut.

    Raises:
        ValueError: Naming the files.
    """
    weights = sorted(files.glob("*.safetensors")) or sorted(files.glob("*.bin"))
    settings = [
        path for path in sorted(files.glob("*.json")) if path.name in _READ or path.name.endswith(".index.json")
    ]
    words = [path for path in sorted(files.iterdir()) if path.suffix in (".txt", ".model") and path.is_file()]
    if pointers := [path.name for path in (*settings, *weights, *words) if _begins(path, _POINTER)]:
        raise ValueError(
            f"{uri}: {_shown(pointers)}: pointers of Git LFS and not the files; fetch them with git lfs pull, or "
            "download the model"
        )
    for path in settings:
        read_json(path)


def remedy(error: Exception) -> str:
    """What to do about a model that could not be loaded."""
    if isinstance(error, DAMAGED):
        return "a file of weights is damaged or was cut: get the model again, whole"
    return "give a folder or a hub name"


def _begins(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


def check_tensors(uri: str, report: Mapping[str, Any], *, is_encoder_of_pair: bool, wrong: str = "vectors") -> None:
    """Refuses a model of whose tensors some are missing or left over, but for those that change no vector.

    Args:
        uri: The model, for messages.
        report: What `from_pretrained(output_loading_info=True)` says.
        is_encoder_of_pair: True where the file also holds a decoder that is not used.
        wrong: What would be wrong of such a model.

    Raises:
        ValueError: Naming the tensors.
    """
    left_over = _ENCODER_OF_PAIR if is_encoder_of_pair else _MAY_BE_LEFT_OVER
    missing, harmless_missing = _split(report["missing_keys"], _MAY_BE_MISSING)
    unexpected, harmless_unexpected = _split(report["unexpected_keys"], left_over)
    problems = [
        f"{problem} {len(names)} tensors ({_shown(names)})"
        for problem, names in (
            ("its files lack", missing),
            ("its config has no use for", unexpected),
            ("its config has another shape for", sorted(str(key[0]) for key in report["mismatched_keys"])),
        )
        if names
    ]
    if problems:
        raise ValueError(f"{uri}: {'; '.join(problems)}; {wrong} would be wrong, so get or save the model again, whole")
    if harmless_missing or harmless_unexpected:
        log.event(
            "tensors without an influence on vectors",
            missing=_shown(harmless_missing),
            left_over=_shown(harmless_unexpected),
        )


def check_finite(uri: str, model: nn.Module) -> None:
    """Refuses weights that are not numbers.

    Raises:
        ValueError: Naming the first tensor with one, and its row.
    """
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
            continue
        rows = (~torch.isfinite(tensor)).reshape(len(tensor) if tensor.ndim else 1, -1).any(1).nonzero().flatten()
        raise ValueError(
            f"{uri}: {name} holds numbers that are not finite (nan or inf) in {len(rows)} of its rows, "
            f"the first is row {int(rows[0])}; get or train the model again"
        )


def _split(names: Iterable[str], harmless: Iterable[str]) -> tuple[list[str], list[str]]:
    pattern = re.compile("|".join(f"(?:{one})" for one in harmless))
    names = sorted(names)
    return [n for n in names if not pattern.fullmatch(n)], [n for n in names if pattern.fullmatch(n)]


def _shown(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")

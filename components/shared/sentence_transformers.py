"""The settings files of a sentence-transformers folder: what a checkpoint reads from users' models and writes for their tools.

Only the files; the package itself is not needed. What its modules do that we cannot repeat (a dense layer, max pooling)
is refused, because vectors made without it would be silently wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

Pooling = Literal["cls", "mean", "last"]
# Their names of a pooling: in the older files a flag each, in the newer ones one word.
_POOLINGS: dict[str, Pooling] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_OLD_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
}
_NO_LIMIT = 1 << 30
# The names that every version of the package reads.
_TYPES = {
    "Transformer": "sentence_transformers.models.Transformer",
    "Pooling": "sentence_transformers.models.Pooling",
    "Normalize": "sentence_transformers.models.Normalize",
}


@dataclass(frozen=True)
class ModuleSettings:
    """What the modules of a folder do, in our words; `transformer_path` is the Hugging Face folder inside it."""

    pooling: Pooling
    normalise: bool = False
    query_prefix: str = ""
    passage_prefix: str = ""
    max_tokens: int = _NO_LIMIT
    dimension: int = 0
    transformer_path: str = ""


def read_settings(folder: Path) -> ModuleSettings | None:
    """The settings of a sentence-transformers folder; None where it is none.

    Raises:
        ValueError: Where a module does what a dual encoder of ours cannot; names it.
    """
    if not (folder / "modules.json").is_file():
        return None
    paths = {
        module["type"].rsplit(".", 1)[-1]: module["path"]
        for module in orjson.loads((folder / "modules.json").read_bytes())
    }
    if unknown := sorted(set(paths) - set(_TYPES)):
        raise ValueError(
            f"{folder}: its modules {', '.join(unknown)} cannot be trained or exported here; known are {', '.join(_TYPES)}"
        )
    transformer = paths.get("Transformer", "")
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    limit = _json(folder / transformer / "sentence_bert_config.json").get("max_seq_length") or _NO_LIMIT
    return ModuleSettings(
        pooling=_pooling(folder / paths["Pooling"] / "config.json") if "Pooling" in paths else "mean",
        normalise="Normalize" in paths,
        query_prefix=prompts.get("query") or "",
        passage_prefix=prompts.get("document") or prompts.get("passage") or "",
        max_tokens=int(limit),
        transformer_path=transformer,
    )


def write_settings(folder: Path, settings: ModuleSettings) -> None:
    """Makes a Hugging Face folder one that `SentenceTransformer(folder)` loads; `encode_query` and `encode_document` add the prefixes."""
    names = ["Transformer", "Pooling", *(["Normalize"] if settings.normalise else [])]
    places = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": number, "name": str(number), "path": place, "type": _TYPES[name]}
        for number, (name, place) in enumerate(zip(names, places, strict=False))
    ]
    (mode,) = (name for name, pooling in _POOLINGS.items() if pooling == settings.pooling)
    old_flags = {flag: name == mode for flag, name in _OLD_NAMES.items()}
    _write(folder / "modules.json", modules)
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": settings.dimension, **old_flags})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": settings.max_tokens, "do_lower_case": False})
    prompts = {"query": settings.query_prefix, "document": settings.passage_prefix}
    _write(folder / "config_sentence_transformers.json", {"prompts": prompts, "similarity_fn_name": "dot"})


def _pooling(path: Path) -> Pooling:
    config = _json(path)
    modes = [config["pooling_mode"]] if "pooling_mode" in config else []
    modes = modes or [
        _OLD_NAMES.get(name, name) for name, on in config.items() if name.startswith("pooling_mode_") and on is True
    ]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ValueError(f"{path}: pooling {'+'.join(map(str, modes)) or 'unknown'}; known are {', '.join(_POOLINGS)}")
    return _POOLINGS[modes[0]]


def _json(path: Path) -> dict[str, Any]:
    return dict(orjson.loads(path.read_bytes())) if path.is_file() else {}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))

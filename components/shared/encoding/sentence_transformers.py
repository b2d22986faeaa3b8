"""The settings files of a sentence-transformers folder: what a checkpoint reads from users' models, and what it writes.

Only the files; the package itself is not needed. Every field of every file is either repeated exactly, or refused by
its name, or named in a warning with the reason why it changes no vector: a field that is passed over in silence would
give other vectors than the people who made the model had.

Source: the modules of sentence-transformers 6.2 and the files that versions 0.3 to 6.2 write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from components.shared import log
from components.shared.encoding.matryoshka import DECLARED_NAMES, declared_cuts

# How their files name a way of pooling, and how we do. Several at once are joined by "+", in this order.
POOLINGS = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
# Older files hold a flag for each way.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Modules that may follow the pooling.
HEAD_KINDS = ("Dense", "LayerNorm", "Dropout", "Normalize")
_PACKAGE = "sentence_transformers."
_WRITTEN_PACKAGE = "sentence_transformers.models."
_TRANSFORMER_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
NO_LIMIT = 1 << 30
_REASONS = {
    "Router": "it sends queries and passages through different models",
    "Asym": "it sends queries and passages through different models",
    "WeightedLayerPooling": "it mixes the states of all layers",
    "StaticEmbedding": "it has no transformer",
    "WordEmbeddings": "it has no transformer",
    "BoW": "it has no transformer",
    "CLIPModel": "it encodes images",
}


@dataclass(frozen=True)
class HeadModule:
    """A module after the pooling: its kind (one of HEAD_KINDS), its folder and the content of its config.json."""

    kind: str
    path: str
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModuleSettings:
    """What the modules of a folder do, in our words.

    Attributes:
        pooling: Names of POOLINGS' values, joined by "+" where their vectors are joined.
        normalise: True where the last module scales vectors to unit length.
        query_prefix, passage_prefix: Put before each text.
        include_prompt: False where the tokens of the prefix are read but not pooled.
        query_limit, passage_limit: Most tokens of a text, special tokens included.
        dimension: Length of the transformer's states, which is what the pooling reads; 0: not said.
        truncate_dimension: Components of a vector that are kept; 0: all.
        matryoshka: Numbers of components that the folder says vectors may be cut to, the largest first.
        transformer_path: The Hugging Face folder inside the folder.
        lower_case: True where texts are put into lower case before they are tokenised.
        head: Modules between the pooling and the final scaling.
        tokenizer_arguments, config_arguments: Given to the tokenizer and the transformer's config when they load.
        similarity: How vectors are meant to be compared; empty: not said.
    """

    pooling: str
    normalise: bool = False
    query_prefix: str = ""
    passage_prefix: str = ""
    include_prompt: bool = True
    query_limit: int = NO_LIMIT
    passage_limit: int = NO_LIMIT
    dimension: int = 0
    truncate_dimension: int = 0
    matryoshka: tuple[int, ...] = ()
    transformer_path: str = ""
    lower_case: bool = False
    head: tuple[HeadModule, ...] = ()
    tokenizer_arguments: dict[str, Any] = field(default_factory=dict)
    config_arguments: dict[str, Any] = field(default_factory=dict)
    similarity: str = ""


def read_settings(folder: Path) -> ModuleSettings | None:
    """The settings of a sentence-transformers folder; None where it is none.

    Raises:
        ValueError: Where a file holds something that a dual encoder of ours cannot repeat; names file, field and value.
    """
    if not (folder / "modules.json").is_file():
        return None
    transformer, pooling, *head = _modules(folder)
    modes, include_prompt, dimension = _read_pooling(folder / pooling.path / "config.json")
    head = [_with_config(folder, module) for module in head]
    normalise = bool(head) and head[-1].kind == "Normalize"
    return ModuleSettings(
        pooling=modes,
        normalise=normalise,
        include_prompt=include_prompt,
        dimension=dimension,
        transformer_path=transformer.path,
        head=tuple(head[:-1] if normalise else head),
        **_read_transformer(folder / transformer.path),
        **_read_model(folder / "config_sentence_transformers.json"),
    )


def write_settings(folder: Path, settings: ModuleSettings) -> None:
    """Makes a Hugging Face folder one that `SentenceTransformer(folder)` loads.

    `encode_query` and `encode_document` add the prefixes. Such a folder knows one length for all texts: the larger of
    both. Weights of head modules are not written here.
    """
    kinds = ["Transformer", "Pooling", *(module.kind for module in settings.head)]
    kinds += ["Normalize"] if settings.normalise else []
    paths = ["", *(module_path(number, kind) for number, kind in enumerate(kinds) if number)]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{_WRITTEN_PACKAGE}{kind}"}
        for number, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", _pooling_content(settings))
    for path, module in zip(paths[2:], settings.head, strict=False):
        write_json(folder / path / "config.json", module.config)
    limit = max(settings.query_limit, settings.passage_limit)
    write_json(folder / _TRANSFORMER_FILES[0], {"max_seq_length": limit, "do_lower_case": False})
    prompts = {"query": settings.query_prefix, "document": settings.passage_prefix}
    content: dict[str, object] = {"prompts": prompts, "similarity_fn_name": "dot"}
    if settings.truncate_dimension:
        content["truncate_dim"] = settings.truncate_dimension
    if settings.matryoshka:
        content[DECLARED_NAMES[0]] = list(settings.matryoshka)
    write_json(folder / "config_sentence_transformers.json", content)


def module_path(number: int, kind: str) -> str:
    """The folder of a module inside a folder that we write; modules are counted from the transformer, which is 0."""
    return f"{number}_{kind}"


def write_json(path: Path, content: object) -> None:
    """Writes a settings file, and its folder where there is none yet."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _pooling_content(settings: ModuleSettings) -> dict[str, object]:
    chosen = settings.pooling.split("+")
    in_order = [name for name in POOLINGS.values() if name in chosen]
    dimension = {"word_embedding_dimension": settings.dimension}
    prompt = {} if settings.include_prompt else {"include_prompt": False}
    if chosen == in_order:
        # Flags, because every version of the package reads them.
        return {**dimension, **{flag: POOLINGS[mode] in chosen for flag, mode in _FLAGS.items()}, **prompt}
    theirs = {ours: mode for mode, ours in POOLINGS.items()}
    return {**dimension, "pooling_mode": [theirs[name] for name in chosen], **prompt}


def _modules(folder: Path) -> list[HeadModule]:
    path = folder / "modules.json"
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) and {"type", "path"} <= set(row) for row in rows):
        raise ValueError(f"{path}: not a list of modules with type and path; save the model again")
    modules = []
    for row in rows:
        kind = _kind(path, str(row["type"]))
        _warn_unknown(path, row, {"idx", "name", "path", "type", "kwargs"})
        modules.append(HeadModule(kind, _inside(path, str(row["path"]))))
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= set(HEAD_KINDS):
        raise ValueError(
            f"{path}: its modules are {', '.join(kinds) or 'none'}; a dual encoder is one Transformer, one Pooling, "
            f"then any of {', '.join(HEAD_KINDS)}"
        )
    return modules


def _kind(path: Path, type_name: str) -> str:
    kind = type_name.rsplit(".", 1)[-1]
    if not type_name.startswith(_PACKAGE):
        raise ValueError(
            f"{path}: module {type_name} is code of the model's own, which is never run here; "
            f"known are Transformer, Pooling, {', '.join(HEAD_KINDS)} of sentence-transformers"
        )
    if kind not in ("Transformer", "Pooling", *HEAD_KINDS):
        reason = f" ({_REASONS[kind]})" if kind in _REASONS else ""
        raise ValueError(
            f"{path}: module {kind} cannot be trained or exported here{reason}; "
            f"known are Transformer, Pooling, {', '.join(HEAD_KINDS)}"
        )
    return kind


def _inside(path: Path, name: str) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{path}: the module path {name!r} leads out of the folder; save the model again")
    return name


def _with_config(folder: Path, module: HeadModule) -> HeadModule:
    path = folder / module.path / "config.json"
    known = {
        "Dense": {"in_features", "out_features", "bias", "activation_function", "use_residual"},
        "LayerNorm": {"dimension"},
        "Dropout": {"dropout"},
        "Normalize": set[str](),
    }[module.kind]
    # A Normalize of an older version has no folder at all.
    config = read_object(path) if path.is_file() else {}
    for name in ("module_input_name", "module_output_name"):
        if config.pop(name, None) not in (None, "sentence_embedding"):
            raise ValueError(
                f"{path}: {name} is not sentence_embedding; only modules that change a text's vector are known"
            )
    _refuse_unknown(path, config, known)
    return HeadModule(module.kind, module.path, config)


def _read_pooling(path: Path) -> tuple[str, bool, int]:
    if not path.is_file():
        raise ValueError(f"{path}: missing, so nobody knows how token states become a vector; save the model again")
    config = read_object(path)
    dimensions = {"word_embedding_dimension", "embedding_dimension"}
    _refuse_unknown(path, config, {*_FLAGS, *dimensions, "pooling_mode", "include_prompt"})
    modes = config.get("pooling_mode") or [mode for flag, mode in _FLAGS.items() if config.get(flag)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if unknown := [str(mode) for mode in modes if mode not in POOLINGS]:
        raise ValueError(f"{path}: pooling_mode {'+'.join(unknown)}; known are {', '.join(POOLINGS)}")
    dimension = next((int(config[name]) for name in sorted(dimensions) if config.get(name)), 0)
    return "+".join(POOLINGS[mode] for mode in modes), bool(config.get("include_prompt", True)), dimension


def _read_transformer(folder: Path) -> dict[str, Any]:
    """What sentence_bert_config.json (or its older names) says, as fields of ModuleSettings."""
    path = next((folder / name for name in _TRANSFORMER_FILES if (folder / name).is_file()), None)
    if path is None:
        return {}
    config = {name: value for name, value in read_object(path).items() if value is not None}
    lengths = {"max_seq_length", "query_length", "document_length"}
    _refuse_unknown(path, config, {*lengths, "do_lower_case", *_ARGUMENTS, *_NEUTRAL, *_REFUSED})
    for name, (accepted, reason) in _REFUSED.items():
        if name in config and config[name] not in accepted:
            raise ValueError(f"{path}: {name} {config[name]!r} cannot be repeated here: {reason}")
    if neutral := sorted(_NEUTRAL & set(config)):
        log.event("settings without an influence on vectors", file=str(path), names=", ".join(neutral))
    arguments = {name: dict(config.get(old) or config.get(new) or {}) for old, (new, name) in _BY_OLD_NAME.items()}
    for values in arguments.values():
        # A folder never decides whether its own code is run.
        values.pop("trust_remote_code", None)
    _check_model_arguments(path, arguments.pop("model_arguments"))
    of_tokenizer = arguments["tokenizer_arguments"].pop("model_max_length", None)
    limit = int(of_tokenizer or config.get("max_seq_length") or NO_LIMIT)
    return {
        "lower_case": bool(config.get("do_lower_case", False)),
        "query_limit": min(int(config.get("query_length", limit)), NO_LIMIT),
        "passage_limit": min(int(config.get("document_length", limit)), NO_LIMIT),
        **arguments,
    }


# What the package hands on when it loads: the name in older files -> in newer files, and ours.
_BY_OLD_NAME = {
    "model_args": ("model_kwargs", "model_arguments"),
    "tokenizer_args": ("processor_kwargs", "tokenizer_arguments"),
    "config_args": ("config_kwargs", "config_arguments"),
}
_ARGUMENTS = {*_BY_OLD_NAME, *(new for new, _ in _BY_OLD_NAME.values())}
# Speed or format only.
_NEUTRAL = {"unpad_inputs"}
_TEXT_ONLY = {"method": "forward", "method_output_name": "last_hidden_state"}
_REFUSED: dict[str, tuple[Sequence[object], str]] = {
    "transformer_task": (("feature-extraction",), "only the last hidden states are read (feature-extraction)"),
    "modality_config": (({"text": _TEXT_ONLY},), "only plain text through the last hidden states is read"),
    "module_output_name": (("token_embeddings",), "only token states are pooled (token_embeddings)"),
    "processing_kwargs": (({},), "texts are tokenised with the tokenizer's own defaults"),
    "query_expansion": ((), "queries are not padded with further tokens"),
    "tokenizer_name_or_path": ((), "the tokenizer is read from the model's own folder; put it there"),
}


def _check_model_arguments(path: Path, arguments: dict[str, Any]) -> None:
    neutral = {"attn_implementation", "add_pooling_layer", "use_safetensors", "low_cpu_mem_usage"}
    types = {"dtype", "torch_dtype"}
    _refuse_unknown(path, arguments, neutral | types)
    for name in sorted(types & set(arguments)):
        if str(arguments[name]).removeprefix("torch.") not in ("float32", "auto"):
            log.warning("weights are computed with in float32", file=str(path), setting=name, says=str(arguments[name]))


def _read_model(path: Path) -> dict[str, Any]:
    """What config_sentence_transformers.json says, as fields of ModuleSettings."""
    config = read_object(path) if path.is_file() else {}
    known = {"__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim"}
    _warn_unknown(path, config, {*known, *DECLARED_NAMES, "requirements"})
    if (kind := config.get("model_type") or "SentenceTransformer") != "SentenceTransformer":
        raise ValueError(f"{path}: model_type {kind} is no dual encoder; known is SentenceTransformer")
    similarity = config.get("similarity_fn_name") or ""
    if similarity not in ("", "cosine", "dot", "euclidean"):
        raise ValueError(
            f"{path}: similarity_fn_name {similarity}: search here is by inner product, which ranks otherwise; "
            "delete the field to search by inner product all the same"
        )
    query_prefix, passage_prefix = _prompts(path, config)
    return {
        "query_prefix": query_prefix,
        "passage_prefix": passage_prefix,
        "similarity": similarity,
        "truncate_dimension": int(config.get("truncate_dim") or 0),
        "matryoshka": declared_cuts(path, config),
    }


def _prompts(path: Path, config: Mapping[str, Any]) -> tuple[str, str]:
    prompts: dict[str, str] = {name: text or "" for name, text in (config.get("prompts") or {}).items()}
    passage_name = next((name for name in ("document", "passage", "corpus") if prompts.get(name)), "document")
    used = {"query", passage_name}
    if unused := sorted(name for name, text in prompts.items() if text and name not in used):
        log.warning(
            "prompts that neither queries nor passages get; set query_prefix and passage_prefix where they should",
            file=str(path),
            names=", ".join(unused),
            default_prompt_name=config.get("default_prompt_name"),
        )
    return prompts.get("query", ""), prompts.get(passage_name, "")


def read_json(path: Path) -> Any:  # noqa: ANN401 whatever a user's file holds
    """The content of a JSON file.

    Raises:
        ValueError: Where it is not JSON; names the file.
    """
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error}); save the model again") from error


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file with settings by their names.

    Raises:
        ValueError: Where it is not one; names the file.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a JSON object with settings; save the model again")
    return content


def _refuse_unknown(path: Path, config: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(config) - known):
        values = ", ".join(f"{name} {config[name]!r}" for name in unknown)
        raise ValueError(
            f"{path}: {values}: nobody here knows what this does to a vector; known are {', '.join(sorted(known))}"
        )


def _warn_unknown(path: Path, config: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(config) - known):
        log.warning("fields that sentence-transformers does not read either", file=str(path), names=", ".join(unknown))

"""What a tokenizer must do to a text: the steps that its folder names, also those that transformers passes over."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import orjson
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from transformers import PreTrainedTokenizerBase

from components.shared import log
from components.shared.encoding.sentence_transformers import read_object

_TEMPLATE = "TemplateProcessing"
# Makers pad the table of embeddings by a few rows, or by some hundred that later training may use.
_FEWEST_SHARE = 0.9


def check_tokenizer(uri: str, tokenizer: PreTrainedTokenizerBase, *, num_rows: int) -> None:
    """Refuses a tokenizer that an export cannot take along, that cuts texts elsewhere, or that is of another model.

    Raises:
        ValueError: Naming the file or the setting.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ValueError(
            f"{uri}: {type(tokenizer).__name__} has no tokenizer.json, which is what an exported encoder tokenises "
            "with; give a model whose tokenizer has a fast form"
        )
    if tokenizer.truncation_side != "right":
        raise ValueError(
            f"{uri}: tokenizer_config.json: truncation_side {tokenizer.truncation_side}; "
            "texts are cut at their end here"
        )
    check_vocabulary(uri, tokenizer, num_rows=num_rows)


def check_vocabulary(uri: str, tokenizer: PreTrainedTokenizerBase, *, num_rows: int) -> None:
    """Refuses a tokenizer without words, or of another model.

    Where a folder holds no tokenizer, transformers makes one that knows the special tokens only, so that all texts are
    alike.

    Args:
        uri: The model, for messages.
        tokenizer: What transformers made of its files.
        num_rows: Rows of the model's table of token embeddings.

    Raises:
        ValueError: Saying what is wrong, and what to do.
    """
    vocabulary = tokenizer.get_vocab()
    if not set(vocabulary) - set(tokenizer.all_special_tokens):
        raise ValueError(
            f"{uri}: its tokenizer knows no word, {len(vocabulary)} special tokens only; tokenizer.json (or vocab.txt, "
            "tokenizer.model) is missing or empty: get the model again, whole"
        )
    if beyond := sorted(((row, token) for token, row in vocabulary.items() if row >= num_rows), reverse=True):
        raise ValueError(
            f"{uri}: its tokenizer has {len(beyond)} tokens beyond the {num_rows} rows of the model's embeddings, up "
            f"to {beyond[0][1]!r} ({beyond[0][0]}), so the two do not belong together; get both from one place"
        )
    if len(vocabulary) < _FEWEST_SHARE * num_rows:
        log.warning(
            "the tokenizer has far fewer tokens than the model has embeddings; are both of one model, and whole?",
            num_tokens=len(vocabulary),
            num_embeddings=num_rows,
            model=uri,
        )


def put_into_lower_case(tokenizer: PreTrainedTokenizerBase) -> None:
    """Puts lower case before all that the tokenizer does to a text, unless it is there.

    Source: Transformer of sentence-transformers 6.2.
    """
    backend = tokenizer.backend_tokenizer
    steps: list[Any] = [] if backend.normalizer is None else [backend.normalizer]
    if steps and isinstance(steps[0], Normalizers):
        # Its stubs do not know that it can be listed.
        steps = list(cast(Any, steps[0]))
    if not any(isinstance(step, Lowercase) for step in steps):
        backend.normalizer = Normalizers([Lowercase(), *steps])


def end_with_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes the tokenizer end every text with the end-of-text token, also a truncated one: the token that is pooled.

    Source: the embedding models made from decoders (E5-Mistral, Qwen3-Embedding) do so; their generators'
        tokenizers do not.
    """
    end = tokenizer.eos_token_id
    if end is not None and tokenizer("a")["input_ids"][-1:] != [end]:
        _add(tokenizer, str(tokenizer.eos_token), end, at_end=True)


def add_what_is_said(uri: str, path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes the tokenizer add the tokens around a text that tokenizer_config.json says it adds.

    transformers 5 passes over add_bos_token and add_eos_token where there is a tokenizer.json, so a decoder whose last
    token is pooled would end every text in another token than its makers trained it with.
    """
    config = read_object(path) if path.is_file() else {}
    ids = tokenizer("a")["input_ids"]
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    if config.get("add_bos_token") is True and begin is not None and ids[:1] != [begin]:
        _add(tokenizer, str(tokenizer.bos_token), begin, at_end=False)
        log.event("texts begin with the token that tokenizer_config.json names", token=tokenizer.bos_token, model=uri)
    if config.get("add_eos_token") is True and end is not None and ids[-1:] != [end]:
        _add(tokenizer, str(tokenizer.eos_token), end, at_end=True)
        log.event("texts end with the token that tokenizer_config.json names", token=tokenizer.eos_token, model=uri)


def _add(tokenizer: PreTrainedTokenizerBase, token: str, token_id: int, *, at_end: bool) -> None:
    """Puts a token around every text.

    Into the template that the tokenizer has: of two in a sequence, tokenizers applies the first only.
    """
    backend = tokenizer.backend_tokenizer
    state = orjson.loads(backend.to_str())
    template = _template(state)
    for name, sequence in (("single", "A"), ("pair", "B")):
        pieces = template[name]
        place = next(place for place, piece in enumerate(pieces) if piece.get("Sequence", {}).get("id") == sequence)
        pieces.insert(place + 1 if at_end else place, {"SpecialToken": {"id": token, "type_id": 0}})
    template["special_tokens"][token] = {"id": token, "ids": [token_id], "tokens": [token]}
    backend.post_processor = Tokenizer.from_str(orjson.dumps(state).decode()).post_processor


def _template(state: dict[str, Any]) -> dict[str, Any]:
    """The template of a tokenizer's state, put there where there is none."""
    first = state["post_processor"]
    steps: list[dict[str, Any]] = (
        first["processors"] if first and first["type"] == "Sequence" else [first] * bool(first)
    )
    for step in steps:
        if step["type"] == _TEMPLATE:
            return step
    sequences = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    template = {"type": _TEMPLATE, "single": sequences[:1], "pair": sequences, "special_tokens": {}}
    state["post_processor"] = {"type": "Sequence", "processors": [*steps, template]} if steps else template
    return template

"""Where a local engine's weights come from: a folder, a hub name, or a .gguf file that is unpacked once."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from components.shared import log
from components.shared.contract.ending import TransientError
from components.shared.contract.patience import passes_by_itself, wait_out
from components.shared.durable import storage
from components.shared.durable.stores import StoreError
from components.shared.hashing import file_digest

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@contextmanager
def loading(llm_uri: str, *, revision: str = "") -> Iterator[str]:
    """Gives what transformers and vLLM can load: a local folder, or the hub name itself, at a revision of the hub.

    Raises:
        ValueError: Where the block cannot load it; a library's OSError says neither what to do nor whose mistake it is.
        TransientError: Where the hub, or the store it lies in, did not answer as long as we waited.
    """
    try:
        source = str(storage.fetch(llm_uri)) if storage.is_remote(llm_uri) else llm_uri
        _await_hub(source, revision or None)
        yield str(_unpacked_gguf(Path(source))) if source.endswith(".gguf") else source
    except (TransientError, StoreError):
        raise
    except OSError as error:
        problem = str(error).strip().split("\n", 1)[0]
        if passes_by_itself(error):
            raise TransientError(f"llm_uri {llm_uri!r}: the hub does not answer ({problem})") from error
        remedy = (
            "check the path"
            if Path(llm_uri).is_absolute() or llm_uri.startswith(".")
            else "check the name, or give a local folder"
        )
        raise ValueError(f"llm_uri {llm_uri!r} cannot be loaded ({problem}); {remedy}") from error


def load_causal(llm_uri: str, source: str, *, revision: str = "") -> tuple[Any, Any]:
    """The tokenizer and the model in fp32, ready to infer, and both whole.

    A model without one of its tensors, or with another model's tokenizer, answers like any other; only its labels are
    noise. transformers fills the first with random numbers, and makes up the second where there is none.

    Args:
        llm_uri: What the user named, for messages.
        source: A folder, or a hub name.
        revision: Of the hub; empty: its default.

    Raises:
        ValueError: Naming what is missing or damaged.
        OSError: Where there is no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from components.shared.checkpoint.tokenizer import check_vocabulary
    from components.shared.checkpoint.weights import DAMAGED, check_finite, check_tensors, check_whole, remedy

    where = f"llm_uri {llm_uri!r}"
    if Path(source).is_dir():
        check_whole(where, Path(source))
    chosen = {"revision": revision} if revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **chosen)
        model, report = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **chosen
        )
    except (*DAMAGED, ValueError, KeyError) as error:
        problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"{where} cannot be loaded ({problem}); {remedy(error)}") from error
    check_tensors(where, report, is_encoder_of_pair=False, wrong="likelihoods and completions")
    check_vocabulary(where, tokenizer, num_rows=int(model.get_input_embeddings().weight.shape[0]))
    check_finite(where, model)
    return tokenizer, model.eval()


def _await_hub(name: str, revision: str | None) -> None:
    """Waits until the hub answers for a name that it must be asked for; what else it says is for the library to tell.

    Raises:
        TransientError: Where it did not answer as long as we waited.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE or Path(name).exists() or _HUB_NAME.fullmatch(name) is None:
        return
    if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
        return

    def ask() -> None:
        try:
            HfApi().model_info(name, revision=revision, timeout=30)
        except HfHubHTTPError as error:
            if passes_by_itself(error):
                raise

    wait_out(f"model {name} on the hub", ask)


def _unpacked_gguf(path: Path) -> Path:
    """A Hugging Face folder (fp32 safetensors, tokenizer) with the content of a .gguf file, made once on a machine.

    Reading the .gguf costs 57 CPU seconds at 135M parameters (27 with `_parsed_once`), the folder 3; vLLM reads folders
    only. It takes 4 bytes a parameter under ~/.cache/retriever.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

    folder = Path.home() / ".cache" / "retriever" / "gguf" / f"{file_digest(path)[:16]}-transformers-{__version__}"
    if folder.exists():
        return folder
    log.event("unpacking a .gguf file, once on this machine", file=path.name, into=folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, _parsed_once():
        partial = Path(scratch) / folder.name
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(partial)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        # Saved by an empty model of the same shape: the loaded one's config says that its weights are quantised, which
        # they no longer are.
        config = type(model.config)(
            **{name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
        )
        with torch.device("meta"):
            empty = type(model)(config)
        empty.save_pretrained(partial, state_dict=model.state_dict())
        # Another process may have been faster; its folder has the same content.
        with suppress(OSError):
            partial.rename(folder)
    return folder


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Makes transformers parse the file once instead of three times, and build its map of tensor names only once."""
    import gguf

    originals: dict[str, Callable[..., Any]] = {
        "GGUFReader": gguf.GGUFReader,
        "get_tensor_name_map": gguf.get_tensor_name_map,
    }
    vars(gguf).update({name: cache(function) for name, function in originals.items()})
    try:
        yield
    finally:
        vars(gguf).update(originals)

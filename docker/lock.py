"""Writes <component>.lock and cuda.lock: exact versions of all that an image holds, from one resolution for all images.

One resolution, so that the encoder that export writes meets the same numpy, tokenizers and onnxruntime in index,
evaluate and serve. Run it where pip reaches an index, for Linux on x86-64 and the Python of the images (3.11): `python
docker/lock.py`. It takes minutes, because pip downloads what it has to look into (vLLM among it), and installs nothing.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent
PROJECT = "retriever-pipeline"
# A room with a __main__ is a component.
COMPONENTS = tuple(sorted(path.parent.name for path in (FOLDER.parent / "components").glob("*/__main__.py")))
# Every image reads gs://; train's settings offer LoRA and TensorBoard.
_EVERY_IMAGE, _MORE_EXTRAS = "gcs", {"train": ("lora", "tensorboard")}
# annotate's default engine is vLLM, which no extra installs on a person's machine.
_BESIDE_EXTRAS = {"annotate": ("vllm==0.32.0",)}

_HEADER = """\
# Written by docker/lock.py; do not edit. All that the {component} image holds, from one resolution for all images.
"""
_CUDA_HEADER = """\
# Written by docker/lock.py; do not edit. Constraints, not requirements: the CUDA libraries that the index's torch asks
# for. A torch built for CPUs asks for none of them, and then none is installed.
"""


def resolve() -> list[dict[str, Any]]:
    """Metadata of every distribution that all images together would install."""
    beside = [name for names in _BESIDE_EXTRAS.values() for name in names]
    extras = ",".join((*COMPONENTS, _EVERY_IMAGE, *chain.from_iterable(_MORE_EXTRAS.values())))
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        # Isolated: a machine's own wheel folders must not decide what the images hold.
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--isolated",
            "--dry-run",
            "--ignore-installed",
            # What people run and what images hold are the same versions.
            "--constraint",
            str(FOLDER.parent / "constraints.txt"),
            "--report",
            report.name,
        ]
        subprocess.run([*pip, f"{FOLDER.parent}[{extras}]", *beside], check=True)
        return [entry["metadata"] for entry in json.load(report)["install"]]


def needed(distributions: dict[str, dict[str, Any]], roots: Iterable[str]) -> set[str]:
    """Names of all distributions that the root requirements pull in, directly or not."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        name = str(canonicalize_name(requirement.name))
        for extra in ("", *requirement.extras):
            if (name, extra) not in found:
                found.add((name, extra))
                waiting.extend(_required(distributions[name], extra))
    return {name for name, _ in found} - {PROJECT}


def _required(distribution: dict[str, Any], extra: str) -> Iterator[Requirement]:
    for line in distribution.get("requires_dist", ()):
        requirement = Requirement(line)
        if requirement.marker is None:
            if not extra:
                yield requirement
        elif requirement.marker.evaluate({"extra": extra}):
            yield requirement


def is_cuda(name: str) -> bool:
    """True for NVIDIA's libraries and torch's compiler for them."""
    return name.startswith(("nvidia-", "cuda-")) or name == "triton"


def lock_texts(metadata: list[dict[str, Any]]) -> dict[str, str]:
    """File name -> content."""
    distributions = {str(canonicalize_name(each["name"])): each for each in metadata}

    def lines(names: Iterable[str]) -> str:
        # Without the local part (+cpu): which build of torch is taken is a matter of the wheels, not of the lock.
        return "".join(f"{name}=={distributions[name]['version'].partition('+')[0]}\n" for name in sorted(names))

    texts = {"cuda.lock": _CUDA_HEADER + lines(filter(is_cuda, distributions))}
    for component in COMPONENTS:
        extras = ",".join((component, _EVERY_IMAGE, *_MORE_EXTRAS.get(component, ())))
        roots = (f"{PROJECT}[{extras}]", *_BESIDE_EXTRAS.get(component, ()))
        names = (name for name in needed(distributions, roots) if not is_cuda(name))
        texts[f"{component}.lock"] = _HEADER.format(component=component) + lines(names)
    return texts


if __name__ == "__main__":
    for file_name, text in lock_texts(resolve()).items():
        (FOLDER / file_name).write_text(text)

"""Writes <component>.lock, cuda.lock and traces.lock: exact versions of what images hold, those of constraints.txt.

One resolution for all images, so that the encoder that export writes meets the same numpy, tokenizers and onnxruntime
in index, evaluate and serve; only ask, annotate and answer have their own, because vLLM takes no newer numpy and
transformers. Run it where pip reaches an index, for Linux on x86-64 and the Python of the images (3.11): `python
docker/lock.py`. It takes minutes, because pip downloads what it has to look into (vLLM among it), and installs nothing.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent
PROJECT = "retriever-pipeline"
# A room with a __main__ is a component.
COMPONENTS = tuple(sorted(path.parent.name for path in (FOLDER.parent / "components").glob("*/__main__.py")))
# train's settings offer LoRA and TensorBoard; a folder of documents may hold PDF. Only promote needs more for gs:// and
# s3:// than pyarrow, which all have: it writes under a condition.
_MORE_EXTRAS = {"prepare": ("pdf",), "train": ("lora", "tensorboard")}
_WITH_VLLM = ("ask", "annotate", "answer")
# The default engine of these is vLLM, which no extra installs on a person's machine.
_BESIDE_EXTRAS = dict.fromkeys(_WITH_VLLM, ("vllm==0.32.0",))
# What these need in other versions than constraints.txt has: vLLM 0.32 wants numpy < 2.4 and transformers < 5.20.
APART = dict.fromkeys(_WITH_VLLM, ("numpy", "transformers"))

_HEADER = """\
# Written by docker/lock.py; do not edit. All that the {component} image holds.
"""
_CUDA_HEADER = """\
# Written by docker/lock.py; do not edit. Constraints, not requirements: the CUDA libraries that the index's torch asks
# for. A torch built for CPUs asks for none of them, and then none is installed.
"""

_TRACES_HEADER = """\
# Written by docker/lock.py; do not edit. What TRACES=1 adds to the images that do not hold it already (vLLM's do).
"""


def resolve(components: Iterable[str], *beside_them: str) -> list[dict[str, Any]]:
    """Metadata of every distribution that the images of these components, and further extras, would install."""
    chosen = tuple(components)
    beside = [name for component in chosen for name in _BESIDE_EXTRAS.get(component, ())]
    apart = {name for component in chosen for name in APART.get(component, ())}
    more = (extra for component in chosen for extra in _MORE_EXTRAS.get(component, ()))
    extras = ",".join((*chosen, *more, *beside_them))
    with tempfile.TemporaryDirectory() as folder:
        report, constraints = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        lines = (FOLDER.parent / "constraints.txt").read_text().splitlines()
        constraints.write_text("\n".join(line for line in lines if line.partition("==")[0] not in apart))
        # Isolated: a machine's own wheel folders must not decide what the images hold.
        pip = [sys.executable, "-m", "pip", "install", "--isolated", "--dry-run", "--ignore-installed"]
        pip += ["--constraint", str(constraints), "--report", str(report)]
        subprocess.run([*pip, f"{FOLDER.parent}[{extras}]", *beside], check=True)
        return [entry["metadata"] for entry in json.loads(report.read_text())["install"]]


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


def lock_texts(metadata: list[dict[str, Any]], components: Iterable[str]) -> dict[str, str]:
    """File name -> content, of these components' locks and of the CUDA constraints, from one resolution."""
    distributions = {str(canonicalize_name(distribution["name"])): distribution for distribution in metadata}

    def lines(names: Iterable[str]) -> str:
        # Without the local part (+cpu): which build of torch is taken is a matter of the wheels, not of the lock.
        return "".join(f"{name}=={distributions[name]['version'].partition('+')[0]}\n" for name in sorted(names))

    texts = {"cuda.lock": _CUDA_HEADER + lines(filter(is_cuda, distributions))}
    for component in components:
        extras = ",".join((component, *_MORE_EXTRAS.get(component, ())))
        roots = (f"{PROJECT}[{extras}]", *_BESIDE_EXTRAS.get(component, ()))
        names = (name for name in needed(distributions, roots) if not is_cuda(name))
        texts[f"{component}.lock"] = _HEADER.format(component=component) + lines(names)
    return texts


def traces_text(metadata: list[dict[str, Any]]) -> str:
    """Content of traces.lock, from a resolution with that extra: what it needs, and nothing that all images have."""
    distributions = {str(canonicalize_name(distribution["name"])): distribution for distribution in metadata}
    names = needed(distributions, map(str, _required(distributions[PROJECT], "traces")))
    return _TRACES_HEADER + "".join(f"{name}=={distributions[name]['version']}\n" for name in sorted(names))


def write_locks() -> None:
    """Writes all lock files; those of the components that need versions of their own first, for one cuda.lock."""
    alike = [component for component in COMPONENTS if component not in APART]
    # Those that need them need the same ones: one resolution, so that their images share what they can.
    for group in (list(APART), alike):
        resolved = resolve(group, *(["traces"] if group is alike else []))
        for file_name, text in lock_texts(resolved, group).items():
            (FOLDER / file_name).write_text(text)
    (FOLDER / "traces.lock").write_text(traces_text(resolved))


if __name__ == "__main__":
    write_locks()

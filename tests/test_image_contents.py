"""The images without torch, built without a network and run as a cluster runs them: what they hold, that it works."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.components.serve.served import write_sources
from tests.light_images import DOCKER, LIGHT, TAG, locked

pytestmark = [pytest.mark.docker, pytest.mark.slow]

every_image = pytest.mark.parametrize("component", LIGHT)
# As the manifests have it: no right at all, nothing to write to but memory, a user that the image does not know.
_HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--tmpfs=/home/retriever",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=12345:12345",
)
# Imports the room but what runs by being imported and what asks a server from elsewhere; then says what else is there.
_LOOK_ROUND = """
import importlib, importlib.util, os, pathlib, pkgutil, shutil, sys
room = importlib.import_module(f"components.{sys.argv[1]}")
names = [module.name for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
for name in names:
    if not name.endswith("__main__") and name != "components.serve.client":
        importlib.import_module(name)
rooms = sorted(path.name for path in pathlib.Path("/app/components").iterdir())
heavy = [name for name in ("torch", "transformers", "kfp", "pip", "setuptools") if importlib.util.find_spec(name)]
print(len(names), rooms, heavy, shutil.which("pip"), shutil.which("gcc"), os.getuid(), sys.version_info[:2])
"""


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(image: str, *command: str) -> str:
    return docker("run", "--rm", "--network=none", *_HARDENED, image, *command)


@cache
def _inspected(image: str) -> dict[str, Any]:
    (facts,) = json.loads(docker("image", "inspect", image))
    return dict(facts)


@every_image
def test_an_image_holds_its_room_only_and_imports_all_of_it_as_anybody_on_a_read_only_root(
    component: str, light_images: Mapping[str, str]
) -> None:
    num_modules, _, rest = run(light_images[component], "python", "-c", _LOOK_ROUND, component).partition(" ")
    assert int(num_modules) >= 3
    rooms = sorted(["__init__.py", "shared", component])
    assert rest == f"{rooms} [] None None 12345 (3, 11)"


@every_image
def test_an_image_says_what_it_is_and_runs_as_nobody(component: str, light_images: Mapping[str, str]) -> None:
    config = _inspected(light_images[component])["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert (labels["title"], labels["version"], labels["licenses"]) == (f"retriever {component}", TAG, "Apache-2.0")
    code = ["docker", "components/__init__.py", "components/shared", f"components/{component}"]
    last = subprocess.run(
        ["git", "log", "-1", "--format=%H", "--", *code], capture_output=True, text=True, cwd=DOCKER.parent
    )
    assert labels["revision"] == (last.stdout.strip() or "unknown")
    assert (config["User"], config["Entrypoint"]) == ("10001:10001", None)
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    # Where GKE mounts the driver of its GPUs.
    assert environment["LD_LIBRARY_PATH"].split(":")[0] == "/usr/local/nvidia/lib64"
    assert environment["PATH"].split(":")[-1] == "/usr/local/nvidia/bin"
    assert environment["VLLM_USE_FLASHINFER_SAMPLER"] == "0"


@every_image
def test_the_sbom_lists_exactly_what_is_installed(component: str, light_images: Mapping[str, str]) -> None:
    image = light_images[component]
    document = json.loads(run(image, "cat", "/opt/venv/sbom.cdx.json"))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    listed = [entry for entry in document["components"] if entry.get("purl", "").startswith("pkg:pypi/")]
    lines = [line for line in (DOCKER / f"{component}.lock").read_text().splitlines() if "==" in line]
    assert sorted(_as_line(entry) for entry in listed) == sorted(lines)
    assert [entry["name"] for entry in listed if not entry["licenses"]] == []
    # On the disk too, whatever Python finds of it.
    script = "find /opt -name '*.dist-info' -printf '%f\\n'; dpkg-query --show --showformat='${Package} ${Version}\\n'"
    lines = run(image, "sh", "-c", script).splitlines()
    folders = {line.lower().replace("_", "-") for line in lines if line.endswith(".dist-info")}
    assert folders == {f"{name}-{version}.dist-info" for name, version in locked(component).items()}
    debian = [entry for entry in document["components"] if entry.get("purl", "").startswith("pkg:deb/")]
    assert {f"{entry['name']} {entry['version']}" for entry in debian} == {line for line in lines if " " in line}


def _as_line(entry: dict[str, Any]) -> str:
    ((hashed),) = entry["hashes"]
    return f"{entry['name']}=={entry['version']} --hash=sha256:{hashed['content']}"


def test_images_share_the_layers_of_what_they_hold_alike(light_images: Mapping[str, str]) -> None:
    layers = {component: _inspected(image)["RootFS"]["Layers"] for component, image in light_images.items()}
    # The base image's, that of the home folder, and that of the packages that all have.
    num_base = len(_inspected("retriever-base:bookworm")["RootFS"]["Layers"])
    assert len({tuple(chosen[: num_base + 2]) for chosen in layers.values()}) == 1
    # And images with one lock differ in code alone.
    assert layers["mine"][: num_base + 3] == layers["index"][: num_base + 3] != layers["serve"][: num_base + 3]


def test_the_serve_image_serves_as_a_cluster_would_run_it(light_images: Mapping[str, str], tmp_path: Path) -> None:
    write_sources(tmp_path)
    tmp_path.chmod(0o755)
    flags = [f"--{name}-uri=/artifacts/{name}" for name in ("encoder", "index", "dataset")]
    command = ["python", "-m", "components.serve", "--port=0", "--drain-seconds=0.5", *flags]
    mounted = f"--volume={tmp_path}:/artifacts:ro"
    container = docker("run", "--detach", "--network=host", *_HARDENED, mounted, light_images["serve"], *command)
    try:
        url = _url(container)
        assert httpx.get(f"{url}/readyz").status_code == 200
        answer = httpx.post(f"{url}/search", json={"query": "season of a beehive", "depth": 1}).json()
        assert answer["hits"][0]["passage_id"] == "beehive-season"
        docker("kill", "--signal=TERM", container)
        assert docker("wait", container) == "0"
    finally:
        docker("rm", "--force", container)


def _url(container: str) -> str:
    """Where the server listens, from its log."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done = subprocess.run(["docker", "logs", container], capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        for line in lines:
            if line["event"] == "serving":
                return str(line["url"])
            assert line["level"] != "error", lines
        time.sleep(0.2)
    raise AssertionError(f"the container did not serve within 60 s; its log: {lines}")
